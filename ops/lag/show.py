"""`sluice lag`: which consumers keep up, which do not, and why; looks until it is sure."""

from __future__ import annotations

import time
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Final, Never

import typer
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from ops.brokers import asking
from ops.lag.model import Row, Verdict
from ops.lag.system import make_collector
from ops.lag.verdict import duration
from ops.running import find_running
from ops.stopping import ending_in_order
from ops.terminal import Fitted, Json, print_json, terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import RenderableType

    from ops.lag.collector import Collector

_LOOK_EVERY_S: Final = 2.0
_AT_MOST_S: Final = 16.0
_COLOURS: Final = {
    Verdict.OK: "green",
    Verdict.BEHIND: "yellow",
    Verdict.FALLING_BEHIND: "dark_orange",
    Verdict.STALLED: "red",
    Verdict.STOPPED: "red",
    Verdict.GAP: "bold red",
}


def show(
    group: Annotated[str | None, typer.Argument(help="Only groups whose name contains this.")] = None,
    *,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every two seconds until Ctrl-C; with --json a line a look.")
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="Each partition, also where all is well.")] = False,
    as_json: Json = False,
) -> None:
    """Print how far each consumer group is behind, in records and seconds, and a verdict; exit 1 if one is not ok.

    Rates need two looks, and that something stands still some seconds more: it looks for up to 16 s where it must.
    """
    running = find_running()
    collector = make_collector(running, only=group or "")

    def look() -> list[Row]:
        with asking(running):
            return collector.collect()

    if watch:
        with ending_in_order("Stopped watching."):
            _write(look) if as_json else _watch(look, every=every)
    rows = _look_until_certain(collector, look)
    if as_json:
        print_json(rows)
    else:
        terminal().print(_drawn(rows, every=every))
    if any(row.verdict is not Verdict.OK for row in rows):
        raise typer.Exit(1)


def _look_until_certain(collector: Collector, look: Callable[[], list[Row]]) -> list[Row]:
    deadline = time.monotonic() + _AT_MOST_S
    rows = look()
    while not collector.is_certain(rows) and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY_S)
        rows = look()
    return rows


def _write(look: Callable[[], list[Row]]) -> Never:
    while True:
        print_json(look(), indent=None)
        time.sleep(_LOOK_EVERY_S)


def _watch(look: Callable[[], list[Row]], *, every: bool) -> Never:
    with Live(console=terminal(), auto_refresh=False, screen=terminal().is_terminal) as live:
        while True:
            live.update(_drawn(look(), every=every), refresh=True)
            time.sleep(_LOOK_EVERY_S)


def _drawn(rows: Sequence[Row], *, every: bool) -> RenderableType:
    if not rows:
        return "There is no consumer group."
    table = Table(box=None, pad_edge=False)
    for name in ("group", "topic"):
        table.add_column(name)
    for name in ("partition", "behind", "wait", "in/s", "out/s", "done in"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    table.add_column("why", overflow="fold")
    for _, found in groupby(rows, key=lambda row: (row.group, row.topic)):
        lines = list(found)
        for row in lines if every else [row for row in lines if row.verdict is not Verdict.OK]:
            _add(table, row, str(row.partition))
        well = [row for row in lines if row.verdict is Verdict.OK]
        if well and not every:
            _add(table, together(well), "all" if len(well) == len(lines) else f"{len(well)} others")
    return Fitted(table)


def together(rows: Sequence[Row], worst: Row | None = None) -> Row:
    """Return one row for several partitions of a group: all are well, unless the worst of them is given.

    When they are done is known where it is known of each that has work: one that stands still may never be.
    """
    first = rows[0]
    etas = [row.eta_seconds for row in rows if row.lag] or [0.0]
    return Row(
        first.group,
        first.topic,
        first.partition,
        lag=sum(row.lag for row in rows),
        lag_seconds=max(row.lag_seconds for row in rows),
        rate_in=_sum([row.rate_in for row in rows]),
        rate_out=_sum([row.rate_out for row in rows]),
        eta_seconds=None if None in etas else max(eta for eta in etas if eta is not None),
        owner=None,
        verdict=Verdict.OK if worst is None else worst.verdict,
        why=next((row.why for row in rows if row.why), "") if worst is None else worst.why,
    )


def _sum(values: Sequence[float | None]) -> float | None:
    return None if None in values else sum(value for value in values if value is not None)


def _add(table: Table, row: Row, partition: str) -> None:
    colour = _COLOURS[row.verdict]
    table.add_row(
        escape(row.group),
        escape(row.topic),
        partition,
        f"{row.lag:,}",
        f"{row.lag_seconds:,.1f} s" if row.lag else "",
        _rate(row.rate_in),
        _rate(row.rate_out),
        duration(row.eta_seconds) if row.lag and row.eta_seconds is not None else "",
        f"[{colour}]{row.verdict}[/]",
        escape(row.why),
    )


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{rate:,.1f}"
