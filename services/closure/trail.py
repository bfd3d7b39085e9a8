"""Reads what happened to one case, application or customer, for `sluice trace`; changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from services.runtime.database import load_queries

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

    from services.runtime.database import Connection

Row: TypeAlias = "asyncpg.Record"

QUERIES: Final = load_queries(Path(__file__).with_name("trail.sql"))


async def know(connection: Connection, id_: UUID) -> list[tuple[str, str]]:
    """Return what of this service's has this id: a case, an application to come back, a clearance."""
    return [(row["kind"], row["id"]) for row in await connection.fetch(QUERIES.know, id_)]


async def find_answers(connection: Connection, command_id: str) -> list[Row]:
    """Return what commands with this `ce_id` were answered with, those without an id of their own."""
    return list(await connection.fetch(QUERIES.answers, command_id))


async def read_case(connection: Connection, case_id: UUID) -> Row | None:
    """Return a case without what its applicant said."""
    return await connection.fetchrow(QUERIES.case, case_id)


async def read_reopening(connection: Connection, request_id: UUID) -> Row | None:
    """Return an application to come back."""
    return await connection.fetchrow(QUERIES.reopening, request_id)


async def read_clearance(connection: Connection, clearance_id: UUID) -> Row | None:
    """Return a clearance."""
    return await connection.fetchrow(QUERIES.clearance, clearance_id)


async def read_customer(connection: Connection, customer_id: str) -> Row | None:
    """Return whether a customer is known, flagged or erased."""
    return await connection.fetchrow(QUERIES.customer, customer_id)


async def list_cases(connection: Connection, customer_id: str, limit: int) -> list[Any]:
    """Return the ids of a customer's latest cases."""
    return [row["case_id"] for row in await connection.fetch(QUERIES.cases_of_customer, customer_id, limit)]


async def list_wallets(connection: Connection, customer_id: str, limit: int) -> list[str]:
    """Return the ids of a customer's wallets."""
    return [row["account_id"] for row in await connection.fetch(QUERIES.wallets_of_customer, customer_id, limit)]
