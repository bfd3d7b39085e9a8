"""Reads what people ask of windows: how each stands, everything that was said of one, the audit; changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from services.runtime.audit import find_broken
from services.runtime.database import load_queries

if TYPE_CHECKING:
    from uuid import UUID

    from services.runtime.audit import Finding
    from services.runtime.database import Connection

_QUERIES: Final = load_queries(Path(__file__).with_name("records.sql"))


@dataclass(frozen=True, slots=True)
class Audit:
    """What the audit looked at and what it found."""

    windows: int
    findings: list[Finding]


@dataclass(frozen=True, slots=True)
class InForce:
    """A window that closes something now; an empty list closes all of its kind."""

    window_id: UUID
    functions: list[str]
    banks: list[str]

    def closes(self) -> list[tuple[str, str]]:
        """Return each function and bank that it closes, '*' for all of either."""
        return [(function, bank) for function in self.functions or ["*"] for bank in self.banks or ["*"]]


async def list_in_force(connection: Connection) -> list[InForce]:
    """Return the windows that close something now; rehearsals close nothing."""
    return [InForce(**row) for row in await connection.fetch(_QUERIES.list_in_force)]


async def list_open(connection: Connection) -> list[dict[str, Any]]:
    """Return the windows that customers are told of, the first to start first: each its plan, times and status."""
    rows = await connection.fetch(_QUERIES.list_open)
    return [{**row, **_whole(row["plan"])} for row in map(dict, rows)]


async def list_windows(connection: Connection, window_id: UUID | None, limit: int) -> list[dict[str, Any]]:
    """Return windows, the latest to start first: `plan` whole, times aware."""
    rows = await connection.fetch(_QUERIES.list_windows, window_id, limit)
    return [{**row, "plan": _whole(row["plan"])} for row in map(dict, rows)]


_LEFT_OUT: Final[dict[str, Any]] = {"reason_in": [], "alternatives": [], "compensation": None}


def _whole(plan: str) -> dict[str, Any]:
    """Return a plan with what it left out: few give something for the wait, and a bank's has no translations."""
    said: dict[str, Any] = orjson.loads(plan)
    return _LEFT_OUT | said


async def list_steps(connection: Connection, window_id: UUID) -> list[dict[str, Any]]:
    """Return everything that was said of a window, in order, each with its event's body."""
    rows = await connection.fetch(_QUERIES.list_steps, window_id)
    return [{**row, "body": orjson.loads(row["body"])} for row in map(dict, rows)]


async def audit(connection: Connection) -> Audit:
    """Return every rule that is broken; all of one moment."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        windows = await connection.fetchval(_QUERIES.count_audited)
        return Audit(windows, await find_broken(connection, _QUERIES, _RULES))


_RULES: Final = {
    "a window has every one of its events": "audit_steps",
    "a window that is not over has a timer": "audit_timers",
    "what a window owes is given": "audit_compensation",
    "no timer of the maintenance service is parked": "audit_parked_timers",
}
