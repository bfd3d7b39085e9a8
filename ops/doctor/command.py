"""`sluice doctor`: looks at everything once, and says of each thing whether it is well, or what to do about it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final

import typer
from rich.markup import escape
from rich.table import Table

from local.secrets import kept_keys
from local.settings import load_local_settings
from ops.doctor.brokers import check_brokers
from ops.doctor.databases import check_database
from ops.doctor.here import check_disk, check_services, check_settings, in_order
from ops.doctor.model import Check, State
from ops.running import find_running
from ops.terminal import Json, print_json, terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.running import Running

_COLOURS: Final = {State.OK: "green", State.ADVICE: "yellow", State.WRONG: "red", State.UNKNOWN: "magenta"}


def examine(*, as_json: Json = False) -> None:
    """Check engines, clocks, settings, topics, migrations, permissions, services and the monitor.

    It makes a topic of its own, with a group that reads it, and removes both; else it changes nothing.
    Exit 1 where something is wrong, 2 where something could not be looked at.
    """
    checks = asyncio.run(look(find_running()))
    if as_json:
        print_json(checks)
    else:
        _print(checks)
    states = {check.state for check in checks}
    if State.UNKNOWN in states:
        raise typer.Exit(2)
    if State.WRONG in states:
        raise typer.Exit(1)


async def look(running: Running) -> list[Check]:
    """Return everything that is found, by area."""
    home = load_local_settings().home
    keys = kept_keys(home)
    checks = [*check_settings(running, keys), *check_disk(home)]
    of_brokers = asyncio.to_thread(check_brokers, running)
    found = await asyncio.gather(of_brokers, check_database(running, keys), check_services(running))
    return list(in_order([*checks, *(check for part in found for check in part)]))


def _print(checks: Sequence[Check]) -> None:
    out = terminal()
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        told = f"{check.found}; {check.todo}" if check.todo else check.found
        table.add_row(check.area, f"[{_COLOURS[check.state]}]{check.state}[/]", escape(told))
    out.print(table)
    out.print(_summary(checks))


def _summary(checks: Sequence[Check]) -> str:
    counts = Counter(check.state for check in checks)
    told = {
        State.WRONG: "is wrong" if counts[State.WRONG] == 1 else "are wrong",
        State.UNKNOWN: "could not be looked at",
        State.ADVICE: "could be better",
    }
    parts = [f"{counts[state]} {what}" for state, what in told.items() if counts[state]]
    if not parts:
        return "All is well."
    said = f"of {len(checks)} things {', '.join(parts)}."
    return f"O{said[1:]}" if counts[State.WRONG] or counts[State.UNKNOWN] else f"Nothing is wrong; {said}"
