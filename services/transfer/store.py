"""Loads the facts of a batch and records what it changed: one function a query, one statement a table."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from services.runtime.database import load_queries
from services.runtime.personal_data import PersonalDataError, decrypt, encrypt, new_key, unwrap_key, wrap_key
from services.transfer.decide.ledger import Facts
from services.transfer.model import (
    Account,
    AccountEvent,
    Answer,
    AnswerKey,
    Movement,
    Refund,
    Step,
    Transfer,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from uuid import UUID

    from services.runtime.database import Connection
    from services.transfer.decide.ledger import Ledger
    from services.transfer.decide.subjects import Subjects

_QUERIES: Final = load_queries(Path(__file__).with_name("queries.sql"))


# --- Loading ---


async def load_facts(connection: Connection, subjects: Subjects, master_key: bytes) -> Facts:
    """Load and lock what a batch is about: refunds, transfers, then accounts, each in the order of their ids."""
    facts = Facts()
    if subjects.refunds:
        facts.refunds = await _load_refunds(connection, subjects.refunds)
        subjects.transfers.update(refund.transfer_id for refund in facts.refunds.values())
    sealed: dict[UUID, bytes] = {}
    if subjects.transfers:
        facts.transfers, sealed = await _load_transfers(connection, subjects.transfers)
        subjects.accounts.update(_wallets_of(facts.transfers.values()))
    if subjects.accounts:
        facts.accounts = await _load_accounts(connection, subjects.accounts)
    if subjects.openings:
        facts.account_events = await _load_account_events(connection, subjects.openings)
    if subjects.answers:
        facts.answers = await _load_answers(connection, subjects.answers)
    if sealed:
        facts.payee_names = await _open_names(connection, facts.transfers, sealed, master_key)
        facts.forgotten_names = sealed.keys() - facts.payee_names.keys()
    if subjects.has_names or sealed:
        customers = {account.customer_id for account in facts.accounts.values()}
        facts.holders = await _load_holders(connection, customers)
    return facts


def _wallets_of(transfers: Iterable[Transfer]) -> set[str]:
    return {
        party for transfer in transfers for party in (transfer.payer, transfer.payee) if party.startswith("wallet:")
    }


async def _load_refunds(connection: Connection, ids: Collection[UUID]) -> dict[UUID, Refund]:
    rows = await connection.fetch(_QUERIES.load_refunds, list(ids))
    return {row[0]: Refund(*row) for row in rows}


async def _load_transfers(
    connection: Connection, ids: Collection[UUID]
) -> tuple[dict[UUID, Transfer], dict[UUID, bytes]]:
    rows = await connection.fetch(_QUERIES.load_transfers, list(ids))
    transfers = {row[0]: Transfer(*row[:-1]) for row in rows}
    return transfers, {row[0]: row[-1] for row in rows if row[-1] is not None}


async def _load_accounts(connection: Connection, ids: Collection[str]) -> dict[str, Account]:
    rows = await connection.fetch(_QUERIES.load_accounts, list(ids))
    return {row[0]: Account(*row) for row in rows}


async def _load_account_events(connection: Connection, ids: Collection[str]) -> dict[str, AccountEvent]:
    rows = await connection.fetch(_QUERIES.load_account_events, list(ids))
    return {row[0]: AccountEvent(*row) for row in rows}


async def _load_answers(connection: Connection, keys: Collection[AnswerKey]) -> dict[AnswerKey, Answer]:
    ordered = list(keys)
    rows = await connection.fetch(_QUERIES.load_answers, [key.scope for key in ordered], [key.id for key in ordered])
    answers = (Answer(AnswerKey(row[0], row[1]), *row[2:]) for row in rows)
    return {answer.key: answer for answer in answers}


async def _load_holders(connection: Connection, customers: Collection[str]) -> dict[str, bytes]:
    rows = await connection.fetch(_QUERIES.load_holders, list(customers))
    return {row[0]: row[1] for row in rows}


# --- The names of payees, sealed with their payer's key while a transfer waits ---


async def _open_names(
    connection: Connection, transfers: Mapping[UUID, Transfer], sealed: Mapping[UUID, bytes], master_key: bytes
) -> dict[UUID, str]:
    owners = {id_: transfers[id_].payer_customer_id or "" for id_ in sealed}
    keys = await _load_keys(connection, set(owners.values()), master_key)
    names = {}
    for id_, text in sealed.items():
        # An erased customer's key is gone, and with it the name; the key that they may have now is another.
        with suppress(KeyError, PersonalDataError):
            names[id_] = decrypt(keys[owners[id_]], text, _name_of(id_)).decode()
    return names


async def _load_keys(connection: Connection, customers: Collection[str], master_key: bytes) -> dict[str, bytes]:
    rows = await connection.fetch(_QUERIES.load_customer_keys, list(customers))
    return {row[0]: unwrap_key(master_key, row[1], row[0]) for row in rows}


async def _seal_names(connection: Connection, ledger: Ledger, master_key: bytes) -> dict[UUID, bytes]:
    # That there was a name stays known for as long as the transfer waits.
    forgotten = dict.fromkeys(ledger.forgotten_names, b"")
    if not ledger.payee_names:
        return forgotten
    owners = {id_: ledger.transfers[id_].payer_customer_id or "" for id_ in ledger.payee_names}
    keys = await _load_keys(connection, set(owners.values()), master_key)
    # Only what is new makes a key: a name that was sealed before its customer was erased stays forgotten.
    missing = {owners[id_] for id_ in owners.keys() & ledger.created.keys()} - keys.keys()
    if missing:
        wrapped = [(customer, wrap_key(master_key, new_key(), customer)) for customer in sorted(missing)]
        await connection.execute(_QUERIES.insert_customer_keys, *_columns(wrapped))
        keys |= await _load_keys(connection, missing, master_key)
    return {
        # One whose key went while the batch was decided is forgotten, too.
        id_: encrypt(keys[owners[id_]], name.encode(), _name_of(id_)) if owners[id_] in keys else b""
        for id_, name in ledger.payee_names.items()
    } | forgotten


def _name_of(transfer_id: UUID) -> bytes:
    return b"payee_name:" + str(transfer_id).encode()


# --- Recording ---


async def record(connection: Connection, ledger: Ledger, master_key: bytes) -> None:
    """Record everything a batch changed; what did not change costs no statement."""
    names = await _seal_names(connection, ledger, master_key)
    await _insert_accounts(connection, ledger)
    await _update_accounts(connection, ledger)
    await _insert_transfers(connection, ledger, names)
    await _update_transfers(connection, ledger, names)
    await _copy(connection, "transfer_step", Step._fields, ledger.steps)
    await _copy(connection, "movement", Movement._fields, ledger.movements)
    await _record_refunds(connection, ledger)
    await _add_to_platform(connection, ledger)
    await _upsert_answers(connection, ledger)
    if ledger.states:
        await connection.execute(_QUERIES.upsert_account_events, *_columns(list(ledger.states.values())))


_ACCOUNT_FIELDS: Final = tuple(field.name for field in fields(Account))
_ACCOUNT: Final = attrgetter(*_ACCOUNT_FIELDS)
_BALANCES: Final = attrgetter(
    "account_id",
    "posted_minor",
    "reserved_minor",
    "entry_count",
    "version",
    "low_balance_warned",
    "used_on",
    "used_day_minor",
    "used_day_count",
    "used_month_minor",
)
_SETTINGS: Final = attrgetter(
    "account_id",
    "tier",
    "low_balance_threshold_minor",
    "debit_restricted_until",
    "credit_restricted_until",
    "verification_blocked_until",
)
_TRANSFER_FIELDS: Final = tuple(field.name for field in fields(Transfer))
_TRANSFER: Final = attrgetter(*_TRANSFER_FIELDS)
_PROGRESS: Final = attrgetter(
    "transfer_id",
    "fee_minor",
    "status",
    "verified",
    "attempts_left",
    "resends_left",
    "verification_expires_at",
    "used_on",
    "inquiries",
    "unknown_answers",
    "refund_due_on",
    "refunding_minor",
    "refunded_minor",
    "refunded_fee_minor",
    "contradiction",
    "seq",
    "event_type",
    "event_body",
    "occurred_at",
)
_REFUND_FIELDS: Final = tuple(field.name for field in fields(Refund))
_REFUND: Final = attrgetter(*_REFUND_FIELDS)
_REFUND_PROGRESS: Final = attrgetter("refund_id", "status", "inquiries", "unknown_answers", "contradiction")


async def _insert_accounts(connection: Connection, ledger: Ledger) -> None:
    await _copy(connection, "account", _ACCOUNT_FIELDS, [_ACCOUNT(account) for account in ledger.opened.values()])


async def _update_accounts(connection: Connection, ledger: Ledger) -> None:
    touched = [_BALANCES(account) for id_, account in ledger.touched.items() if id_ not in ledger.opened]
    if touched:
        await connection.execute(_QUERIES.update_balances, *_columns(touched))
    changed = [_SETTINGS(account) for id_, account in ledger.reconfigured.items() if id_ not in ledger.opened]
    if changed:
        await connection.execute(_QUERIES.update_account_settings, *_columns(changed))


async def _insert_transfers(connection: Connection, ledger: Ledger, names: Mapping[UUID, bytes]) -> None:
    rows = [(*_TRANSFER(transfer), names.get(id_)) for id_, transfer in ledger.created.items()]
    await _copy(connection, "transfer", (*_TRANSFER_FIELDS, "payee_name_sealed"), rows)


async def _update_transfers(connection: Connection, ledger: Ledger, names: Mapping[UUID, bytes]) -> None:
    rows = [(*_PROGRESS(transfer), names.get(id_)) for id_, transfer in ledger.changed.items()]
    if rows:
        await connection.execute(_QUERIES.update_transfers, *_columns(rows))


async def _record_refunds(connection: Connection, ledger: Ledger) -> None:
    await _copy(connection, "refund", _REFUND_FIELDS, [_REFUND(made) for made in ledger.refunds_made.values()])
    changed = [_REFUND_PROGRESS(refund) for refund in ledger.refunds_changed.values()]
    if changed:
        await connection.execute(_QUERIES.update_refunds, *_columns(changed))


async def _add_to_platform(connection: Connection, ledger: Ledger) -> None:
    sums: dict[tuple[str, str, int], int] = {}
    for account_id, currency, stripe, amount_minor in ledger.platform:
        key = (account_id, currency, stripe)
        sums[key] = sums.get(key, 0) + amount_minor
    if sums:
        # In one order, so that a lane that changes hands cannot meet itself in a circle.
        rows = [(*key, sums[key]) for key in sorted(sums)]
        await connection.execute(_QUERIES.add_to_platform, *_columns(rows))


async def _upsert_answers(connection: Connection, ledger: Ledger) -> None:
    if ledger.answered:
        rows = [(*answer.key, *answer[1:]) for answer in ledger.answered.values()]
        await connection.execute(_QUERIES.upsert_answers, *_columns(rows))


async def _copy(connection: Connection, table: str, columns: Sequence[str], rows: Sequence[Any]) -> None:
    if rows:
        await connection.copy_records_to_table(table, columns=columns, records=rows)


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


# --- Holders ---


async def record_holders(connection: Connection, hashes: Mapping[str, bytes], erased: Collection[str]) -> None:
    """Keep the hashes of holders' names, and forget the customers that the identity system erased."""
    if hashes:
        await connection.execute(_QUERIES.upsert_holders, *_columns(sorted(hashes.items())))
    if erased:
        await connection.execute(_QUERIES.erase_customers, list(erased))
