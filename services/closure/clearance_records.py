"""Reads what people ask of a clearance: how it stands, its money, what blocks its wallets; changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from services.closure import clearance_store
from services.closure.model import ClearanceStatus
from services.runtime.database import load_queries

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from services.runtime.database import Connection

_QUERIES: Final = load_queries(Path(__file__).with_name("clearances.sql"))
_PLAN: Final = ("cause", "dry_run", "announce_at", "starts_at", "deadline", "rate_per_s", "status", "paused", "wallets")


async def list_clearances(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """Return clearances, the latest to be announced first."""
    return [dict(row) for row in await connection.fetch(_QUERIES.list_clearances, limit)]


async def find_status(connection: Connection, clearance_id: UUID) -> str | None:
    """Return where a clearance stands; None if it is unknown."""
    status: str | None = await connection.fetchval(_QUERIES.find_status, clearance_id)
    return status


async def count_reported(connection: Connection, clearance_id: UUID) -> int:
    """Return how many wallets were reported to a clearance."""
    return int(await connection.fetchval(_QUERIES.count_reported, clearance_id))


async def load_statement(
    connection: Connection, clearance_id: UUID, most_blockers: int, now: datetime
) -> dict[str, Any] | None:
    """Return how a clearance stands; of one that is finished, what its final statement says. None if it is unknown."""
    row = await connection.fetchrow(_QUERIES.load_clearance, clearance_id)
    if row is None:
        return None
    plan = {name: row[name] for name in _PLAN}
    said = orjson.loads(row["event_body"]) if row["status"] == ClearanceStatus.FINISHED else {}
    is_over, pending_by = row["deadline"] <= now, dict[str, int]()
    if said:
        counts = {name: said[name] for name in ("cleared", "paid", "waiting", "blocked")} | {"pending": 0}
        money = said["money"]
    else:
        tally = await clearance_store.tally(connection, clearance_id, row["deadline"], now)
        is_counted = row["status"] == ClearanceStatus.RUNNING
        counts = {**tally.counts(), "pending": tally.pending if is_counted else row["wallets"]}
        money = tally.amounts()
        pending_by = dict(tally.pending_by) if is_counted else {}
    blockers = said.get("blockers") or await clearance_store.list_blocked(
        connection, clearance_id, most_blockers, is_over=is_over
    )
    return {
        "clearance_id": str(clearance_id),
        **plan,
        **counts,
        "is_over": is_over,
        "pending_by": pending_by,
        "money": money,
        "blockers": blockers[:most_blockers],
    }
