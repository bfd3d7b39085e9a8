"""`sluice trace`: what happened to one thing, a line each, and where the time went."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.markup import escape
from rich.table import Table

from ops.errors import UserError
from ops.moments import moment_text
from ops.money import amount_text
from ops.running import find_running
from ops.terminal import Fitted, Json, print_json, terminal
from ops.trace.following import asked_for, trace
from services.runtime.calendar import BUSINESS_ZONE

if TYPE_CHECKING:
    from datetime import datetime

    from rich.console import Console

    from ops.trace.story import Line, Story

_WORTH_SAYING: Final = timedelta(seconds=1)
_SHORT: Final = 8


class NoId(UserError):
    """What is asked about has no id."""


def show(
    id: Annotated[  # noqa: A002 - the command's word
        str, typer.Argument(help="Of a transfer, refund, case, window, clearance, customer, notice, event or command.")
    ],
    days: Annotated[int, typer.Option(help="Of a customer, so many days.", min=1, max=400)] = 7,
    within: Annotated[
        float, typer.Option(help="Where no service knows the id: search the topics so many hours back.", min=0, max=72)
    ] = 1,
    *,
    as_json: Json = False,
) -> None:
    """Print everything that happened to one thing, in time order."""
    if not id.strip():
        raise NoId("Say of what: an id of what `sluice trace --help` lists.")
    running = find_running()
    asked = asked_for(running, id.strip(), timedelta(days=days), timedelta(hours=within))
    story = asyncio.run(trace(running, asked))
    if as_json:
        print_json(story)
    else:
        print_story(terminal(), story)


def print_story(out: Console, story: Story) -> None:
    """Print a line a thing; what took longer than a second since the line before is said first."""
    kinds = ", ".join(f"{subject.kind} {subject.id}" for subject in story.found) or "of no service, but in topics"
    out.print(f"[bold]{escape(story.id)}[/bold]: {escape(kinds)}; times of {BUSINESS_ZONE.key}")
    if story.followed:
        out.print(f"  with {escape(', '.join(f'{subject.kind} {subject.id}' for subject in story.followed))}")
    numbers = {correlation: f"[{number}]" for number, correlation in enumerate(story.correlations, 1)}
    for correlation, number in numbers.items():
        out.print(escape(f"  {number} is correlation {correlation}"))
    table = Table(box=None, pad_edge=False)
    for name in ("after", "time", "service", "what", "which", "state", "amount", "of", "detail"):
        table.add_column(name, justify="right" if name in {"after", "amount"} else "left")
    table.columns[-1].overflow = "fold"
    before: datetime | None = None
    for line in story.lines:
        table.add_row(_delay(before, line.at), *map(escape, _cells(line, numbers)))
        before = line.at
    out.print(Fitted(table))
    for note in story.notes:
        out.print(escape(note))


def _delay(before: datetime | None, at: datetime) -> str:
    passed = timedelta() if before is None else at - before
    if passed <= _WORTH_SAYING:
        return ""
    return f"+{passed.total_seconds():.1f} s" if passed < timedelta(minutes=2) else f"+{str(passed).partition('.')[0]}"


def _cells(line: Line, numbers: dict[str, str]) -> tuple[str, ...]:
    amount = "" if line.amount_minor is None or line.currency is None else amount_text(line.amount_minor, line.currency)
    state = ": ".join(filter(None, (line.status, line.why)))
    of = f"{line.about[-_SHORT:]} {numbers.get(line.correlation or '', '')}".rstrip()
    time = f"{moment_text(line.at)}.{line.at.microsecond // 1000:03d}"
    return time, line.service, line.what, line.name, state, amount, of, line.detail or ""
