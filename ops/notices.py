"""`sluice notices`: what became of everything that people were to be told, for people and for programs."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ops.console import Json, console, print_json
from ops.database import connect
from ops.moments import moment_text
from ops.running import find_running
from services.notify import records

if TYPE_CHECKING:
    from rich.console import Console

    from services.notify.records import Accounting


def show(
    event: Annotated[str | None, typer.Option(help="Only those of the event with this ce_id.")] = None,
    customer: Annotated[str | None, typer.Option(help="Only those for this customer.")] = None,
    broadcast: Annotated[
        str | None, typer.Option(help="Only those of the broadcast with this notification_id.")
    ] = None,
    limit: Annotated[int, typer.Option(help="List so many, the latest.", min=0, max=1_000_000)] = 50,
    *,
    as_json: Json = False,
) -> None:
    """Print how many notices stand where, and the latest with why and every attempt."""
    if event is not None and broadcast is not None:
        raise typer.BadParameter("name an event or a broadcast, not both", param_hint="--broadcast")
    said = asyncio.run(_read(event or broadcast, customer, limit))
    if as_json:
        print_json(asdict(said))
    else:
        _print(console(), said)


async def _read(event: str | None, customer: str | None, limit: int) -> Accounting:
    async with connect(find_running(), "notify") as connection:
        return await records.account(connection, event, customer, limit)


def _print(out: Console, said: Accounting) -> None:
    if not said.accepted:
        out.print("There is no such notice.")
        return
    counts = {"delivered": said.delivered, "sent": said.sent, "failed": said.failed}
    counts |= {"suppressed": said.suppressed, "pending": said.pending}
    parts = ", ".join(f"{count:,} {status}" for status, count in counts.items() if count)
    out.print(f"{said.accepted:,} notices: {parts}.")
    table = Table("time", "customer", "told of", "channel", "became", "why", "attempts")
    for item in said.items:
        attempts = "; ".join(map(_attempt, item["attempts"]))
        became = (item["status"], item["why"] or "", attempts)
        table.add_row(moment_text(item["created_at"]), item["customer_id"], item["template"], item["channel"], *became)
    out.print(table)
    if said.accepted > len(said.items):
        out.print(f"The latest {len(said.items):,} of {said.accepted:,}; --limit lists more.")


def _attempt(attempt: dict[str, Any]) -> str:
    said = attempt["why"] or attempt["code"]
    outcome = attempt["outcome"] or "no answer yet"
    return f"{attempt['gateway']}: {outcome}" + (f" ({said})" if said else "")
