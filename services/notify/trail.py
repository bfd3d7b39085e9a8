"""Reads what people were told of one thing, and how that went, for `sluice trace`; changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from services.runtime.database import load_queries

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime
    from uuid import UUID

    import asyncpg

    from services.runtime.database import Connection

Row: TypeAlias = "asyncpg.Record"

QUERIES: Final = load_queries(Path(__file__).with_name("trail.sql"))


async def know(connection: Connection, id_: UUID) -> list[tuple[str, str]]:
    """Return what of this service's has this id: a notice, a broadcast, a request to tell somebody something."""
    return [(row["kind"], row["id"]) for row in await connection.fetch(QUERIES.know, id_)]


async def find_announcement(connection: Connection, event_id: str) -> Row | None:
    """Return for how many notices an event was accepted; None where it concerned nobody."""
    return await connection.fetchrow(QUERIES.announcement, event_id)


async def list_notices(connection: Connection, subjects: Sequence[str], limit: int) -> list[Row]:
    """Return notices of the events that have these ids, or whose ids begin with one of these and a dot."""
    return list(await connection.fetch(QUERIES.notices_of, subjects, limit))


async def list_notices_of_customer(connection: Connection, customer_id: str, since: datetime, limit: int) -> list[Row]:
    """Return a customer's latest notices since a moment."""
    return list(await connection.fetch(QUERIES.notices_of_customer, customer_id, since, limit))


async def list_attempts(connection: Connection, deliveries: Collection[UUID]) -> dict[UUID, list[Row]]:
    """Return each handing over of these messages to a gateway."""
    found: dict[UUID, list[Row]] = {}
    for row in await connection.fetch(QUERIES.attempts, list(deliveries)):
        found.setdefault(row["delivery_id"], []).append(row)
    return found


async def count_notices(connection: Connection, event_id: str) -> dict[str, int]:
    """Return how many notices of an event stand where."""
    return {row["status"]: row["notices"] for row in await connection.fetch(QUERIES.count_of_event, event_id)}


async def list_broadcasts(connection: Connection, about: str) -> list[Row]:
    """Return what was told to many about a window or a clearance."""
    return list(await connection.fetch(QUERIES.broadcasts_about, about))


async def read_broadcast(connection: Connection, notification_id: str) -> Row | None:
    """Return how a broadcast goes."""
    return await connection.fetchrow(QUERIES.broadcast, notification_id)
