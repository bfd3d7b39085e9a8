"""Reads what happened to one transfer, wallet or window in the ledger, for `sluice trace`; changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from services.runtime.database import load_queries

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from services.runtime.database import Connection
    from services.transfer.records import Row

QUERIES: Final = load_queries(Path(__file__).with_name("trail.sql"))


class Known(NamedTuple):
    """What an id is the id of, and the id of what it is about."""

    kind: str
    id: str


async def know(connection: Connection, id_: UUID) -> list[Known]:
    """Return what of this service's has this id: a transfer, one of its refunds, a waiver, a batch."""
    return [Known(*row) for row in await connection.fetch(QUERIES.know, id_)]


async def decided_at(connection: Connection, batch_id: str) -> datetime | None:
    """Return when a batch was decided."""
    moment: datetime | None = await connection.fetchval(QUERIES.batch, batch_id)
    return moment


async def find_answers(connection: Connection, command_id: str) -> list[Row]:
    """Return what commands with this `ce_id` were answered with, those without an id of their own."""
    return list(await connection.fetch(QUERIES.answers, command_id))


async def list_waivers(connection: Connection, customer_id: str) -> list[Row]:
    """Return the fees that a customer need not pay."""
    return list(await connection.fetch(QUERIES.waivers_of_customer, customer_id))


async def list_held(connection: Connection, window_id: UUID, limit: int) -> list[Row]:
    """Return the first transfers that wait for a window's end."""
    return list(await connection.fetch(QUERIES.held_by, window_id, limit))


async def read_wallets(connection: Connection, ids: Sequence[str]) -> list[Row]:
    """Return wallets, each with its latest event."""
    return list(await connection.fetch(QUERIES.wallets, ids))


async def list_latest(connection: Connection, account_id: str, limit: int) -> list[UUID]:
    """Return the latest transfers that moved something in a wallet, the latest first."""
    return [row["transfer_id"] for row in await connection.fetch(QUERIES.latest_of_wallet, account_id, limit)]
