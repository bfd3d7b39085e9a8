"""Reads what people ask of notices: how many stand where, why, every attempt, and the audit; changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson

from services.runtime.audit import find_broken
from services.runtime.database import load_queries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.runtime.audit import Finding
    from services.runtime.database import Connection

_QUERIES: Final = load_queries(Path(__file__).with_name("records.sql"))


@dataclass(frozen=True, slots=True)
class Accounting:
    """What became of notices: accepted = delivered + sent + failed + suppressed + pending, always.

    `items` are the latest of them, each with its attempts; times aware.
    """

    accepted: int
    delivered: int
    sent: int
    failed: int
    suppressed: int
    pending: int
    items: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Broadcast:
    """How a broadcast goes: how many people it has reached, of about how many; what is finished was all told."""

    state: Literal["running", "paused", "cancelled", "finished"]
    reached: int
    expected: int


@dataclass(frozen=True, slots=True)
class Audit:
    """What the audit looked at and what it found."""

    events: int
    notices: int
    findings: list[Finding]


async def account(connection: Connection, event_id: str | None, customer_id: str | None, limit: int) -> Accounting:
    """Return what became of the notices of an event, of a customer, of both, or of all."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        counts = dict(await connection.fetchrow(_QUERIES.count_notices, event_id, customer_id) or {})
        if customer_id is None:
            # What was promised is counted by itself, so that a notice that is missing shows.
            counts["accepted"] = await connection.fetchval(_QUERIES.count_accepted, event_id)
        rows = await connection.fetch(_QUERIES.list_notices, event_id, customer_id, limit)
    return Accounting(**counts, items=[{**row, "attempts": orjson.loads(row["attempts"])} for row in map(dict, rows)])


async def look_at_broadcast(connection: Connection, notification_id: str) -> Broadcast | None:
    """Return how a broadcast goes; None where there is none of that id."""
    row = await connection.fetchrow(_QUERIES.look_at_broadcast, notification_id)
    return None if row is None else Broadcast(**row)


async def count_announced(connection: Connection, subjects: Sequence[str]) -> dict[str, int]:
    """Return for how many notices the events about each of these, such as windows, were accepted."""
    rows = await connection.fetch(_QUERIES.count_announced, subjects)
    return {row["subject"]: row["accepted"] for row in rows}


async def audit(connection: Connection) -> Audit:
    """Return every rule that is broken; all of one moment."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        counts = await connection.fetchrow(_QUERIES.count_audited)
        findings = await find_broken(connection, _QUERIES, _RULES)
    return Audit(counts["events"], counts["notices"], findings) if counts else Audit(0, 0, findings)


_RULES: Final = {
    "an event has as many notices as it was accepted for": "audit_accepted",
    "a notice belongs to an event that was accepted": "audit_unannounced",
    "a notice that is pending waits for a profile or is on its way": "audit_pending",
    "a message on its way is for a notice that has not ended": "audit_deliveries",
    "what was sent was handed over by an attempt": "audit_attempts",
    "no timer of the notifier is parked": "audit_parked_timers",
}
