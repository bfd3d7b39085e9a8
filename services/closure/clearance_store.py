"""Loads and records clearances; their wallets stay in the database: one function a query."""

from __future__ import annotations

from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from schemas.reasons import FOR_A_WHILE
from services.closure.decide.clearance import ANSWERED_WITHIN, add_up
from services.closure.model import Clearance, ClearedWallet
from services.runtime.database import columns_of, execute_rows, load_queries

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime
    from uuid import UUID

    from schemas.account import AccountReported, AccountsReportFinished
    from services.closure.decide.clearance import Clearances, Tally
    from services.runtime.database import Connection

_QUERIES: Final = load_queries(Path(__file__).with_name("clearances.sql"))
_VALUES: Final = attrgetter(*(one.name for one in fields(Clearance)))
MOST_BLOCKERS: Final = 100
"""So many wallets that stay are named in a statement."""
_ENDS_SOON: Final = ("maintenance",)
"""What refuses a payout for hours: a restriction may last for ever, and would keep a clearance from its end."""


async def lock(connection: Connection, ids: Collection[UUID], reports: Collection[UUID] = ()) -> list[Clearance]:
    """Lock clearances, and those that asked for these reports, in the order of their ids."""
    if not ids and not reports:
        return []
    return [Clearance(*row) for row in await connection.fetch(_QUERIES.lock_clearances, list(ids), list(reports))]


async def lock_ids(connection: Connection, ids: Collection[UUID]) -> None:
    """Have one transaction at a time begin clearances of these ids."""
    if ids:
        await connection.execute(_QUERIES.lock_ids, [str(id_) for id_ in ids])


async def find_reports(connection: Connection, ids: Collection[UUID]) -> dict[UUID, UUID]:
    """Return which of these reports clearances asked for, and which clearance."""
    if not ids:
        return {}
    return {row[0]: row[1] for row in await connection.fetch(_QUERIES.find_reports, list(ids))}


async def load_subjects(connection: Connection, clearance_id: UUID) -> list[str] | None:
    """Return the wallets that a clearance names; None stands for all."""
    text = await connection.fetchval(_QUERIES.load_subjects, clearance_id)
    named: list[str] | None = None if text is None else orjson.loads(text)
    return named


async def count_wallets(connection: Connection, named: Sequence[str] | None) -> int:
    """Return how many wallets are not closed: all, or of those that are named."""
    return int(await connection.fetchval(_QUERIES.count_wallets, named))


async def record_reported(
    connection: Connection,
    told: Sequence[AccountReported],
    finished: Sequence[AccountsReportFinished],
    clearances: Collection[UUID],
) -> dict[UUID, int]:
    """Note how wallets stand; return the clearances of which everything is reported, and how many wallets they end."""
    rows = [
        (one.report_id, one.account_id, one.customer_id, one.currency, one.status, one.posted_minor) for one in told
    ]
    await execute_rows(connection, _QUERIES.record_reported, rows)
    await execute_rows(connection, _QUERIES.record_finished, [(one.report_id, one.count) for one in finished])
    whole = await connection.fetch(_QUERIES.find_reported, list(clearances))
    if whole:
        await connection.execute(_QUERIES.record_unknown, [row[0] for row in whole])
    return {row[0]: int(await connection.fetchval(_QUERIES.count_found, row[0])) for row in whole}


async def load_next(connection: Connection, clearance: Clearance, limit: int) -> list[ClearedWallet]:
    """Return the next wallets whose cases begin."""
    id_, after = clearance.clearance_id, clearance.last_account
    return [ClearedWallet(*row) for row in await connection.fetch(_QUERIES.load_next, id_, after, limit)]


async def load_lost(connection: Connection, clearance: Clearance, limit: int) -> list[ClearedWallet]:
    """Return wallets that were left to a case of their holders, which has ended without closing them."""
    return [ClearedWallet(*row) for row in await connection.fetch(_QUERIES.load_lost, clearance.clearance_id, limit)]


async def find_closed(connection: Connection, wallets: Collection[str], since: datetime | None) -> dict[str, UUID]:
    """Return those of these wallets that a case has closed since a moment, and which case."""
    return {row[0]: row[1] for row in await connection.fetch(_QUERIES.find_closed, list(wallets), since)}


async def load_wanting(connection: Connection, clearance: Clearance, limit: int) -> list[UUID]:
    """Return the next of a clearance's cases that wait for a payout account."""
    asked = (clearance.clearance_id, clearance.wave_after, limit, sorted(FOR_A_WHILE))
    return [row[0] for row in await connection.fetch(_QUERIES.load_wanting, *asked)]


async def tally(connection: Connection, clearance_id: UUID, deadline: datetime, now: datetime) -> Tally:
    """Return where a clearance's wallets stand."""
    is_over = deadline <= now
    retried = _ENDS_SOON if is_over else sorted(FOR_A_WHILE)
    rows = await connection.fetch(_QUERIES.tally, clearance_id, retried, is_over, now - ANSWERED_WITHIN)
    return add_up(map(dict, rows))


async def list_blocked(
    connection: Connection, clearance_id: UUID, limit: int = MOST_BLOCKERS, *, is_over: bool
) -> list[dict[str, Any]]:
    """Return the first wallets that a clearance cannot end, each with its case, if any, and what stands against it."""
    rows = await connection.fetch(_QUERIES.list_blocked, clearance_id, limit, is_over)
    return [
        {
            "subject": row["subject"],
            **({} if row["case_id"] is None else {"case_id": str(row["case_id"])}),
            **_why(row["event_body"], row["refusal"]),
        }
        for row in rows
    ]


def _why(body: bytes | None, refusal: str | None) -> dict[str, Any]:
    if body is None:
        return {"code": refusal}
    said = orjson.loads(body)
    owed = said.get("obligations") or [{}]
    names = ("owed_minor", "currency")
    return {"code": said["reasons"][0]["code"], **{name: owed[0][name] for name in names if name in owed[0]}}


async def tally_dry(connection: Connection, clearance_id: UUID) -> tuple[Tally, list[dict[str, Any]]]:
    """Return what would become of a clearance's wallets, and what stands against the first of those that stay."""
    known = add_up(map(dict, await connection.fetch(_QUERIES.tally_dry, clearance_id)))
    rows = await connection.fetch(_QUERIES.load_blockers, clearance_id, MOST_BLOCKERS)
    return known, [{name: value for name, value in row.items() if value is not None} for row in rows]


async def record(connection: Connection, desk: Clearances) -> None:
    """Write everything that a batch changed of clearances, one statement a table."""
    await execute_rows(connection, _QUERIES.upsert_clearances, [_VALUES(one) for one in desk.changed.values()])
    named = [(id_, orjson.dumps(wallets).decode()) for id_, wallets in desk.named.items() if wallets is not None]
    if named:
        await connection.execute(_QUERIES.name_subjects, *columns_of(named))
    await execute_rows(connection, _QUERIES.insert_reports, desk.reports)
    await execute_rows(connection, _QUERIES.take_wallets, desk.taken)
