"""Reads what happened to one window, for `sluice trace`; changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from services.runtime.database import load_queries

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    import asyncpg

    from services.runtime.database import Connection

Row: TypeAlias = "asyncpg.Record"

QUERIES: Final = load_queries(Path(__file__).with_name("trail.sql"))


async def know(connection: Connection, id_: UUID) -> list[tuple[str, str]]:
    """Return the windows that have this id, or owe somebody a compensation of this id."""
    return [(row["kind"], row["id"]) for row in await connection.fetch(QUERIES.know, id_)]


async def find_answers(connection: Connection, command_id: str) -> list[Row]:
    """Return what commands with this `ce_id` were answered with, those without an id of their own."""
    return list(await connection.fetch(QUERIES.answers, command_id))


async def read_window(connection: Connection, window_id: UUID) -> Row | None:
    """Return how a window stands."""
    return await connection.fetchrow(QUERIES.window, window_id)


async def list_uses(connection: Connection, compensation_ids: Sequence[UUID], transfer_id: UUID) -> list[Row]:
    """Return which of these compensations a transfer has used."""
    return list(await connection.fetch(QUERIES.uses, compensation_ids, transfer_id))
