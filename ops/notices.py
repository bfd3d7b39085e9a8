"""`sluice notices`: what became of everything that people were to be told, for people and for programs."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Column, Table

from ops.counts import count_text
from ops.database import connect
from ops.errors import UserError
from ops.moments import moment_text
from ops.running import find_running
from ops.terminal import Fitted, Json, print_json, terminal
from services.notify import records

if TYPE_CHECKING:
    from rich.console import Console

    from ops.running import Running
    from services.notify.records import Accounting, Broadcast


class NoSuchNotice(UserError):
    """There is no notice or broadcast like that; the text says so."""

    exit_code = 1


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
    running = find_running()
    said = asyncio.run(read_notices(running, event or broadcast, customer, limit))
    goes = None if broadcast is None else asyncio.run(_read_broadcast(running, broadcast))
    if broadcast is not None and goes is None:
        raise NoSuchNotice(f"There is no broadcast {broadcast!r}.")
    if not said.accepted and goes is None and (event is not None or customer is not None):
        raise NoSuchNotice("There is no such notice.")
    if as_json:
        print_json(asdict(said) | ({} if goes is None else {"broadcast": asdict(goes)}))
    else:
        _print(terminal(), said, goes)


async def read_notices(running: Running, event: str | None, customer: str | None, limit: int) -> Accounting:
    """Return what became of the notices of an event, of a customer, of both, or of all."""
    async with connect(running, "notify") as connection:
        return await records.account(connection, event, customer, limit)


async def _read_broadcast(running: Running, broadcast: str) -> Broadcast | None:
    async with connect(running, "notify") as connection:
        return await records.look_at_broadcast(connection, broadcast)


def _print(out: Console, said: Accounting, goes: Broadcast | None) -> None:
    if goes is not None:
        people = count_text(goes.reached, "person", "people")
        out.print(f"The broadcast is {goes.state}: {people} reached, of about {goes.expected:,}.")
    if not said.accepted:
        out.print("Nobody was to be told anything yet.")
        return
    counts = {"delivered": said.delivered, "sent": said.sent, "failed": said.failed}
    counts |= {"suppressed": said.suppressed, "pending": said.pending}
    parts = ", ".join(f"{count:,} {status}" for status, count in counts.items() if count)
    out.print(f"{count_text(said.accepted, 'notice')}: {parts}.")
    attempts = Column("attempts", overflow="fold")
    table = Table("time", "customer", "told of", "channel", "became", "why", attempts, box=None, pad_edge=False)
    for item in said.items:
        tried = "; ".join(map(_attempt, item["attempts"]))
        told = (item["customer_id"], item["template"], item["channel"], item["status"], item["why"] or "", tried)
        table.add_row(moment_text(item["created_at"]), *map(escape, told))
    out.print(Fitted(table))
    if said.accepted > len(said.items):
        out.print(f"The latest {len(said.items):,} of {said.accepted:,}; --limit lists more.")


def _attempt(attempt: dict[str, Any]) -> str:
    said = attempt["why"] or attempt["code"]
    outcome = attempt["outcome"] or "no answer yet"
    return f"{attempt['gateway']}: {outcome}" + (f" ({said})" if said else "")
