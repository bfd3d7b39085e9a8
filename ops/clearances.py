"""`sluice clearance`: how far a clearance is, where its money is, and which wallets it cannot end."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ops.console import Json, console, print_json
from ops.database import connect
from ops.errors import UserError
from ops.moments import moment_text
from ops.money import amount_text
from ops.running import find_running
from services.closure import clearance_records
from services.runtime.clock import clock_from_setting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from ops.running import Running

_COUNTS = ("cleared", "paid", "waiting", "blocked", "pending")
_AMOUNTS = ("total", "paid_out", "fee", "waiting", "blocked", "moved")


class NoSuchClearance(UserError):
    """There is no clearance of that id."""

    exit_code = 1


def show(
    clearance: Annotated[uuid.UUID, typer.Argument(metavar="CLEARANCE_ID", help="As `clearance.start` named it.")],
    limit: Annotated[int, typer.Option(help="List so many wallets that stay.", min=0, max=100_000)] = 20,
    *,
    as_json: Json = False,
) -> None:
    """Print how far a clearance is, its money, and what stands against the wallets that stay."""
    found = asyncio.run(_read(find_running(), clearance, limit))
    if found is None:
        raise NoSuchClearance(
            f"There is no clearance {clearance}. If it was asked for: `sluice dead-letters closure.commands` shows "
            "what could not be read, `closure.events` has what was refused."
        )
    if as_json:
        print_json(found)
    else:
        print_statement(console(), found)


async def _read(running: Running, clearance_id: uuid.UUID, limit: int) -> dict[str, Any] | None:
    now = clock_from_setting(running.clock).now()
    async with connect(running, "closure") as connection:
        return await clearance_records.load_statement(connection, clearance_id, limit, now)


def print_statement(out: Console, found: Mapping[str, Any]) -> None:
    """Print how a clearance stands, as people read it."""
    kind = "A dry run" if found["dry_run"] else "A clearance"
    is_paused = ", paused" if found["paused"] else ""
    until = f"from {moment_text(found['starts_at'])} to {moment_text(found['deadline'])}"
    out.print(f"{kind} ({found['cause']}), {found['status']}{is_paused}: {until}.", soft_wrap=True)
    table = Table("wallets", *_COUNTS, box=None, pad_edge=False)
    table.add_row(f"{found['wallets']:,}", *(f"{found[name]:,}" for name in _COUNTS))
    out.print(table)
    if found["money"]:
        table = Table(box=None, pad_edge=False)
        for name in _AMOUNTS:
            table.add_column(name.replace("_", " "), justify="right")
        for money in found["money"]:
            table.add_row(*(amount_text(money[f"{name}_minor"], money["currency"]) for name in _AMOUNTS))
        out.print(table)
        out.print("The first is the sum of the others; moved is what holders took out themselves.", soft_wrap=True)
    if found["dry_run"]:
        out.print("Nothing was closed or paid: this is what would be, were an account named for each.", soft_wrap=True)
    for one in found["blockers"]:
        owed = f": {amount_text(one['owed_minor'], one['currency'])}" if "owed_minor" in one else ""
        out.print(f"  {one['subject']}  {one['code']}{owed}", soft_wrap=True)
    if (more := found["blocked"] - len(found["blockers"])) > 0:
        out.print(f"  … and {more:,} more; --limit for more.")
