"""Reads what people ask of the ledger: statements, the record of a transfer, the audit; changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from services.runtime.audit import find_broken
from services.runtime.calendar import business_date
from services.runtime.database import load_queries

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime
    from uuid import UUID

    import asyncpg

    from services.runtime.audit import Finding
    from services.runtime.database import Connection

Row: TypeAlias = "asyncpg.Record"
"""A row as the database has it, by column name; times aware, amounts in minor units."""

_QUERIES: Final = load_queries(Path(__file__).with_name("records.sql"))


@dataclass(frozen=True, slots=True)
class TransferRecord:
    """Everything known of one transfer; rows as the database has them, times aware, amounts in minor units."""

    transfer: Row
    steps: list[Row]
    movements: list[Row]
    refunds: list[Row]
    timers: list[Row]


@dataclass(frozen=True, slots=True)
class Audit:
    """What the audit looked at and what it found."""

    accounts: int
    transfers: int
    entries: int
    findings: list[Finding]

    @property
    def clean(self) -> bool:
        """Tell whether everything adds up."""
        return not self.findings


async def count_overdue(connection: Connection, now: datetime) -> int:
    """Count the payouts and refunds that their bank has not ended by the day on which the money should be back."""
    count: int = await connection.fetchval(_QUERIES.count_overdue, business_date(now))
    return count


async def read_account(connection: Connection, account_id: str) -> Row | None:
    """Return a wallet's row, or None."""
    return await connection.fetchrow(_QUERIES.account, account_id)


async def read_platform_balance(connection: Connection, account_id: str) -> dict[str, int]:
    """Return what a platform account holds, in minor units by currency."""
    rows = await connection.fetch(_QUERIES.platform_balance, account_id)
    return {row["currency"]: int(row["posted_minor"]) for row in rows}


async def read_platform_balance_at(connection: Connection, account_id: str, moment: datetime) -> dict[str, int]:
    """Return what a platform account held at a moment, in minor units by currency."""
    rows = await connection.fetch(_QUERIES.platform_balance_at, account_id, moment)
    return {row["currency"]: int(row["posted_minor"]) for row in rows}


async def read_statement(
    connection: Connection, account_id: str, since: datetime, until: datetime, limit: int
) -> list[Row]:
    """Return the latest `limit` entries of an account between two moments, newest first."""
    query = _QUERIES.statement if account_id.startswith("wallet:") else _QUERIES.platform_statement
    return list(await connection.fetch(query, account_id, since, until, limit))


async def read_balance_at(connection: Connection, account_id: str, moment: datetime) -> int:
    """Return what a wallet had posted at a moment, in minor units; 0 before its first entry."""
    balance: int | None = await connection.fetchval(_QUERIES.balance_at, account_id, moment)
    return balance or 0


async def read_transfer(connection: Connection, transfer_id: UUID) -> TransferRecord | None:
    """Return the record of a transfer, also by the id of one of its refunds; None when there is none."""
    refund = await connection.fetchrow(_QUERIES.refund, transfer_id)
    transfer = await connection.fetchrow(_QUERIES.transfer, refund["transfer_id"] if refund else transfer_id)
    if transfer is None:
        return None
    id_ = transfer["transfer_id"]
    refunds = await connection.fetch(_QUERIES.refunds_of_transfer, id_)
    subjects = [str(id_), *(str(row["refund_id"]) for row in refunds)]
    steps = list(await connection.fetch(_QUERIES.steps, id_))
    return TransferRecord(
        transfer=transfer,
        steps=steps,
        movements=await _read_movements(connection, transfer, {step["occurred_at"] for step in steps}),
        refunds=list(refunds),
        timers=list(await connection.fetch(_QUERIES.timers_of, subjects)),
    )


async def is_of_erased(connection: Connection, transfer_id: UUID) -> bool:
    """Return whether the customer who ordered a transfer has been erased since."""
    erased: bool = await connection.fetchval(_QUERIES.is_of_erased, transfer_id)
    return erased


async def _read_movements(connection: Connection, transfer: Row, moments: Collection[datetime]) -> list[Row]:
    """Return what a transfer moved, looked for only around the moments when something was said of it."""
    found = list(await connection.fetch(_QUERIES.movements_between_books, transfer["transfer_id"]))
    wallet = next((one for one in (transfer["payer"], transfer["payee"]) if one.startswith("wallet:")), None)
    if wallet is None:
        return found
    spans = [
        (
            await connection.fetchval(_QUERIES.first_entry_from, wallet, moment - _LATE),
            await connection.fetchval(_QUERIES.first_entry_from, wallet, moment + _LATE),
        )
        for moment in moments
    ]
    for first, last in _joined([(first, last) for first, last in spans if first is not None]):
        found += await connection.fetch(_QUERIES.movements_among, wallet, first, last, transfer["transfer_id"])
    return sorted(found, key=lambda row: (row["moved_at"], row["debit_number"] or row["credit_number"] or 0))


_LATE: Final = timedelta(seconds=30)
"""Longer than a transaction waits for a wallet that another has locked."""


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return spans of which none overlap."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined


async def read_first_events(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, bytes]:
    """Return the body of the first event of each of these transfers that is known."""
    rows = await connection.fetch(_QUERIES.first_events, ids)
    return {row["transfer_id"]: row["body"] for row in rows}


async def find_transfers(connection: Connection, ids: Sequence[UUID]) -> list[Row]:
    """Return which of these transfers there are, in the order in which they were asked for, and what became of them."""
    return list(await connection.fetch(_QUERIES.find_transfers, ids))


async def sum_settled(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, int]:
    """Return what each of these transfers has moved for good; those that have moved nothing are not in it."""
    rows = await connection.fetch(_QUERIES.settled_amounts, ids)
    return {row["transfer_id"]: row["amount_minor"] for row in rows}


@dataclass(frozen=True, slots=True)
class WindowTally:
    """How many transfers a maintenance window held, refused and released, and how many still wait for it."""

    held: int
    refused: int
    released: int
    waiting: int


async def tally_windows(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, WindowTally]:
    """Return what each of these windows did to transfers."""
    rows = await connection.fetch(_QUERIES.tally_of_windows, ids)
    return {row[0]: WindowTally(*row[1:]) for row in rows}


async def audit(connection: Connection) -> Audit:
    """Check every rule of the ledger against one consistent picture of it."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        counts = await connection.fetchrow(_QUERIES.count_everything)
        findings = await find_all(connection)
    if counts is None:
        message = "the counting query always returns a row"
        raise RuntimeError(message)
    return Audit(counts["accounts"], counts["transfers"], counts["entries"], findings)


async def find_all(connection: Connection) -> list[Finding]:
    """Return every broken rule, as the connection's transaction sees the ledger."""
    return await find_broken(connection, _QUERIES, _RULES)


_RULES: Final = {
    "all entries sum to zero": "audit_zero_sum",
    "a wallet's balance is the sum of its entries": "audit_balances",
    "each entry's balance follows from the one before": "audit_running_balances",
    "a platform account's stripes add up to its entries": "audit_platform",
    "reservations equal open payouts": "audit_reservations",
    "a transfer moved what its status says": "audit_transfers",
    "a transfer has all of its events": "audit_steps",
    "what waits will be woken": "audit_waiting",
    "what is held waits for a window": "audit_held",
    "what waits in a closing wallet is its case's own, or will be cancelled": "audit_closing",
    "no timer is parked": "audit_parked_timers",
    "no event waits longer than a minute to be published": "audit_outbox",
}
