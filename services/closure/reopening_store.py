"""Loads applications to come back that a batch is about, and records what it changed."""

from __future__ import annotations

from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.closure.model import Reopening, ReopeningStatus
from services.runtime.database import execute_rows, load_queries

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from uuid import UUID

    from services.runtime.database import Connection

_QUERIES: Final = load_queries(Path(__file__).with_name("reopenings.sql"))
_VALUES: Final = attrgetter(*(one.name for one in fields(Reopening)))
_PENDING_LAST: Final = (
    ReopeningStatus.REFUSED,
    ReopeningStatus.REOPENED,
    ReopeningStatus.ASSESSING,
    ReopeningStatus.REOPENING,
)


async def load(
    connection: Connection, ids: Collection[UUID], customers: Collection[str], cases: Collection[UUID]
) -> dict[UUID, Reopening]:
    """Lock applications with these ids, those of these customers that wait, and those that undid these closings."""
    if not (ids or customers or cases):
        return {}
    rows = await connection.fetch(_QUERIES.load_reopenings, list(ids), list(customers), list(cases))
    return {row["request_id"]: Reopening(*row) for row in rows}


async def record(connection: Connection, reopenings: Iterable[Reopening]) -> None:
    """Write what a batch changed; a subject has one that waits, so those that have ended come first."""
    ordered = sorted(reopenings, key=lambda one: _PENDING_LAST.index(ReopeningStatus(one.status)))
    await execute_rows(connection, _QUERIES.upsert_reopenings, [_VALUES(one) for one in ordered])
