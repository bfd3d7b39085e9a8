"""Loads the facts of a batch and records what it changed: one function a query, a statement a table and part."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from services.runtime.customer_keys import load_keys
from services.runtime.database import columns_of, copy_rows, execute_rows, load_queries
from services.runtime.idle import give_up
from services.runtime.message import Cause
from services.runtime.personal_data import PersonalDataError, decrypt, encrypt, new_key, unwrap_key, wrap_key
from services.transfer.decide.gate import Gate
from services.transfer.decide.ledger import Facts
from services.transfer.model import (
    Account,
    AccountEvent,
    AccountStatus,
    Answer,
    AnswerKey,
    ClosedWindow,
    Drain,
    Hold,
    Movement,
    Refund,
    Report,
    Step,
    Transfer,
    Waiver,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime
    from typing import Self, TypeAlias
    from uuid import UUID

    from services.runtime.database import Connection
    from services.transfer.decide.ledger import Ledger, Recordable
    from services.transfer.decide.subjects import Subjects
    from services.transfer.model import FlagChanges, WindowChange

    Row: TypeAlias = tuple[Any, ...]

_QUERIES: Final = load_queries(Path(__file__).with_name("queries.sql"))


# Two batches of so many accounts have some in common.
_MANY_ACCOUNTS: Final = 400


# --- Maintenance ---


async def load_gate(connection: Connection, now: datetime) -> Gate:
    """Return what is closed now; until the transaction ends, nobody changes it."""
    await connection.execute(_QUERIES.share_gate)
    rows = await connection.fetch(_QUERIES.load_windows_in_force, now)
    windows = [
        ClosedWindow(
            row[0], tuple(row[1]), tuple(row[2]), tuple(row[3]), row[4], row[5], row[6], row[7], orjson.loads(row[8])
        )
        for row in rows
        if row[0] is not None
    ]
    return Gate(windows, now, has_waivers=rows[0]["has_waivers"], has_flags=rows[0]["has_flags"])


async def load_held(connection: Connection, holds: Sequence[Hold], at_most: int) -> dict[Hold, list[UUID]]:
    """Return what windows hold in lanes, the next of each in its order, about so many in all."""
    if not holds:
        return {}
    each = max(1, at_most // len(holds))
    held: dict[Hold, list[UUID]] = {}
    for row in await connection.fetch(_QUERIES.load_held, *columns_of(holds), each):
        held.setdefault(Hold(row[0], row[1]), []).append(row[2])
    return held


async def record_windows(connection: Connection, changes: Iterable[WindowChange]) -> dict[UUID, int]:
    """Keep windows as their events of the highest revision have them; return those that changed, with revisions."""
    latest: dict[UUID, WindowChange] = {}
    for change in changes:
        known = latest.get(change.window.window_id)
        if known is None or known.revision < change.revision:
            latest[change.window.window_id] = change
    if not latest:
        return {}
    await connection.execute(_QUERIES.take_gate)
    rows = [_window_row(change) for _, change in sorted(latest.items())]
    return {row[0]: row[1] for row in await connection.fetch(_QUERIES.upsert_windows, *columns_of(rows))}


def _window_row(change: WindowChange) -> Row:
    window = change.window
    lists = (window.functions, window.banks, window.currencies)
    return (
        window.window_id,
        *(_as_json(list(names)) for names in lists),
        window.starts_at,
        window.ends_at,
        window.is_confirmed,
        window.holds,
        _as_json(window.alternatives),
        change.revision,
        change.is_over,
    )


def _as_json(value: list[Any]) -> str:
    return orjson.dumps(value).decode()


async def load_holds(connection: Connection, windows: Collection[UUID], now: datetime) -> dict[Hold, datetime]:
    """Return in which lanes windows hold something, and from when on it may go on."""
    if not windows:
        return {}
    rows = await connection.fetch(_QUERIES.load_holds, list(windows), now)
    return {Hold(row["window_id"], row["partition"]): row["due_at"] for row in rows}


async def share_customers(connection: Connection) -> None:
    """Let nobody be erased until this transaction has ended; before any row is locked."""
    await connection.execute(_QUERIES.share_customers)


async def record_waivers(connection: Connection, waivers: Sequence[tuple[Waiver, datetime]]) -> None:
    """Keep the fees that customers need not pay, each given at a moment; one that is known already stays as it is."""
    rows = [
        (waiver.compensation_id, waiver.customer_id, waiver.window_id, waiver.remaining, waiver.expires_at, given_at)
        for waiver, given_at in waivers
    ]
    await execute_rows(connection, _QUERIES.insert_waivers, rows)


async def _load_waivers(connection: Connection, customers: Collection[str], now: datetime) -> dict[str, list[Waiver]]:
    waivers: dict[str, list[Waiver]] = {}
    for row in await connection.fetch(_QUERIES.load_waivers, list(customers), now):
        waivers.setdefault(row["customer_id"], []).append(Waiver(*row))
    for known in waivers.values():
        known.sort(key=attrgetter("expires_at"))
    return waivers


async def _write_maintenance(connection: Connection, ledger: Ledger) -> None:
    held = [(id_, *hold) for id_, hold in ledger.held.items() if hold is not None]
    await execute_rows(connection, _QUERIES.upsert_held, held)
    if gone := [id_ for id_, hold in ledger.held.items() if hold is None]:
        await connection.execute(_QUERIES.delete_held, gone)
    tallies = [(*hold, tally.held, tally.refused, tally.released) for hold, tally in sorted(ledger.tallies.items())]
    await execute_rows(connection, _QUERIES.add_to_tallies, tallies)
    await execute_rows(connection, _QUERIES.use_waivers, sorted(ledger.waived.items()))


# --- Risk flags ---


async def record_flags(connection: Connection, changes: FlagChanges, now: datetime) -> None:
    """Keep which flags are in force, of nobody who is erased, and forget those that are cleared or over."""
    customers, rules = [key[0] for key in changes.cleared], [key[1] for key in changes.cleared]
    await share_customers(connection)
    await connection.execute(_QUERIES.delete_flags, list(changes.cleared_customers), customers, rules, now)
    await execute_rows(
        connection, _QUERIES.upsert_flags, [(*key, until) for key, until in sorted(changes.flags.items())]
    )


# --- Closing ---


async def load_draining(connection: Connection, wallets: Collection[str], at_most: int) -> dict[str, list[UUID]]:
    """Return what waits in wallets that are closing and is not of their cases, so many transfers in all."""
    draining: dict[str, list[UUID]] = {}
    if wallets:
        for account_id, transfer_id in await connection.fetch(_QUERIES.load_draining, list(wallets), at_most):
            draining.setdefault(account_id, []).append(transfer_id)
    return draining


async def load_own_waiting(connection: Connection, wallets: Collection[str]) -> list[UUID]:
    """Return what waits in wallets that are closing and is of their cases."""
    if not wallets:
        return []
    return [row[0] for row in await connection.fetch(_QUERIES.load_own_waiting, list(wallets))]


async def _find_drains(connection: Connection, ledger: Ledger, wallets: Collection[str]) -> dict[str, Drain]:
    """Return of wallets whether transfers wait that the batch is not about, and what closes them."""
    known = [id_ for id_, transfer in ledger.transfers.items() if transfer.waiting_of in wallets]
    rows = await connection.fetch(_QUERIES.find_waiting, list(wallets), known)
    return {row[0]: Drain(row[1], set(), closed_by=Cause(row[2], row[3])) for row in rows}


# --- Reports ---


async def load_reports(
    connection: Connection, ids: Collection[UUID], at_most: int
) -> tuple[dict[UUID, Report], dict[UUID, list[Account]]]:
    """Return how far reports have come, and the wallets that each tells of next, about so many in all."""
    if not ids:
        return {}, {}
    rows = await connection.fetch(_QUERIES.load_reports, list(ids))
    reports = {row[0]: Report(row[0], row[1], row[2], orjson.loads(row[3]), row[4], row[5]) for row in rows}
    slices: dict[UUID, list[Account]] = {}
    for row in await connection.fetch(_QUERIES.load_slices, list(ids), max(1, at_most // len(ids))):
        slices.setdefault(row[0], []).append(Account(*row[1:]))
    return reports, slices


async def _write_reports(connection: Connection, ledger: Ledger) -> None:
    changed = [report for _, report in sorted(ledger.reports_changed.items()) if report is not None]
    rows = [
        (*_REPORT(report), orjson.dumps(report.total_minor).decode(), report.correlation_id, report.traceparent)
        for report in changed
    ]
    await execute_rows(connection, _QUERIES.upsert_reports, rows)
    if finished := [id_ for id_, report in ledger.reports_changed.items() if report is None]:
        await connection.execute(_QUERIES.delete_reports, finished)


# --- Loading ---


async def load_facts(connection: Connection, subjects: Subjects, master_key: bytes) -> Facts:
    """Load and lock the refunds and transfers that a batch is about, each in the order of their ids.

    Their wallets are added to what the first part is about; the accounts are loaded by `BatchStore`.
    """
    facts = Facts()
    if subjects.refunds:
        facts.refunds = await _load_refunds(connection, subjects.refunds)
        subjects.transfers.update(refund.transfer_id for refund in facts.refunds.values())
    sealed: dict[UUID, bytes] = {}
    if subjects.transfers:
        facts.transfers, sealed = await _load_transfers(connection, subjects.transfers)
        subjects.accounts[0].update(_wallets_of(facts.transfers.values()))
    if sealed:
        facts.payee_names = await _open_names(connection, facts.transfers, sealed, master_key)
        facts.forgotten_names = sealed.keys() - facts.payee_names.keys()
        subjects.has_names = True
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


async def _load_accounts(
    connection: Connection, ids: Collection[str], now: datetime, gate: Gate, *, has_names: bool
) -> Facts:
    facts = Facts()
    if ids:
        rows = await connection.fetch(_QUERIES.load_accounts, list(ids), gate.has_flags, now)
        facts.accounts = {row[1]: Account(*row[1:-1]) for row in rows}
        facts.places = {row[1]: row[0] for row in rows}
        if gate.has_flags:
            facts.flags = {row["customer_id"]: row[-1] for row in rows if row[-1] is not None}
    if has_names:
        customers = {account.customer_id for account in facts.accounts.values()}
        facts.holders = await _load_holders(connection, customers)
    if gate.has_waivers and facts.accounts:
        customers = {account.customer_id for account in facts.accounts.values()}
        facts.waivers = await _load_waivers(connection, customers, now)
    return facts


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
    wrapped = await load_keys(connection, customers)
    return {customer_id: unwrap_key(master_key, key, customer_id) for customer_id, key in wrapped.items()}


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
        await connection.execute(_QUERIES.insert_customer_keys, *columns_of(wrapped))
        keys |= await _load_keys(connection, missing, master_key)
    return {
        # One whose key went while the batch was decided is forgotten, too.
        id_: encrypt(keys[owners[id_]], name.encode(), _name_of(id_)) if owners[id_] in keys else b""
        for id_, name in ledger.payee_names.items()
    } | forgotten


def _name_of(transfer_id: UUID) -> bytes:
    return b"payee_name:" + str(transfer_id).encode()


# --- A batch, part by part ---


class BatchStore:
    """Loads the accounts of a batch's next part and records what is final of the parts before, while one is decided.

    A batch of several parts, or about many accounts, has all accounts for itself until its transaction ends. Parts lock
    theirs in turn, which could meet another batch in a circle; and of two that large, the one that waits at a row reads
    again, row by row, what the other changed.
    """

    def __init__(self, connection: Connection, ledger: Ledger, subjects: Subjects, master_key: bytes) -> None:
        self._connection = connection
        self._ledger = ledger
        self._subjects = subjects
        self._master_key = master_key
        self.recording: asyncio.Task[None] | None = None
        self._asked: set[str] = set()
        self._exchange: asyncio.Task[Facts] | None = None

    async def __aenter__(self) -> Self:
        """Keep other batches from the accounts, and load those of the first part and what was said before."""
        await self._connection.execute(_QUERIES.create_new_balance)
        first, *later = self._subjects.accounts
        if later or len(first) > _MANY_ACCOUNTS:
            await self._connection.execute(_QUERIES.take_turn)
        elif first:
            await self._connection.execute(_QUERIES.share_turn)
        facts = await self._load(first)
        # For all parts: a message of an early one may change what one of a later part asks for.
        if self._subjects.announced:
            facts.account_events = await _load_account_events(self._connection, self._subjects.announced)
        if self._subjects.answers:
            facts.answers = await _load_answers(self._connection, self._subjects.answers)
        self._ledger.learn(facts)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        """Begin to record all that is left; after an error only wait until the connection is free to be rolled back."""
        if kind is None:
            rest = _record_rest(self._connection, self._ledger, self._master_key)
            self.recording = asyncio.create_task(rest)
        elif self._exchange is not None:
            await give_up(self._exchange, kind)

    @property
    def is_busy(self) -> bool:
        """Whether something is on its way, and wants a turn of the event loop now and then."""
        return self._exchange is not None and not self._exchange.done()

    def begin(self, part: int) -> None:
        """Load what the part after this one is about, and record what no later message can take back."""
        if len(self._subjects.accounts) == 1:
            return
        following = set().union(*self._subjects.accounts[part + 1 : part + 2])
        rows = _rows_of(self._ledger.take_final(), {})
        self._exchange = asyncio.create_task(self._load_and_write(following, rows))

    async def _load_and_write(self, following: set[str], rows: _Rows) -> Facts:
        loaded = await self._load(following)
        await _write(self._connection, rows)
        return loaded

    async def _load(self, accounts: set[str]) -> Facts:
        # What the batch has loaded before, it may have changed since.
        new = accounts - self._asked
        self._asked |= new
        facts = await _load_accounts(
            self._connection,
            new,
            self._ledger.now,
            self._ledger.gate,
            has_names=self._subjects.has_names and bool(new),
        )
        closing = {id_ for id_, account in facts.accounts.items() if account.status == AccountStatus.CLOSING}
        closing |= self._subjects.closings & facts.accounts.keys()
        if closing:
            # Asked once their rows are locked, so that nobody adds to what waits.
            facts.drains = await _find_drains(self._connection, self._ledger, closing)
        return facts

    async def finish(self) -> None:
        """Wait for what was begun."""
        if self._exchange is not None:
            exchange, self._exchange = self._exchange, None
            self._ledger.learn(await exchange)


# --- Recording ---


_ACCOUNT_FIELDS: Final = tuple(field.name for field in fields(Account))
_ACCOUNT: Final = attrgetter(*_ACCOUNT_FIELDS)
_BALANCE_FIELDS: Final = (
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
_BALANCE: Final = attrgetter(*_BALANCE_FIELDS)
_STATUS: Final = attrgetter("status", "case_id", *_BALANCE_FIELDS)
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
_REPORT: Final = attrgetter("report_id", "last_account_id", "count")
_REFUND: Final = attrgetter(*_REFUND_FIELDS)
_REFUND_PROGRESS: Final = attrgetter("refund_id", "status", "inquiries", "unknown_answers", "contradiction")


async def _record_rest(connection: Connection, ledger: Ledger, master_key: bytes) -> None:
    """Write everything that was not written yet, one statement a table; what did not change costs none."""
    names = await _seal_names(connection, ledger, master_key)
    await _write(connection, _rows_of(ledger.take_all(), names))
    await _write_accounts(connection, ledger)
    progress = [(*_PROGRESS(transfer), names.get(id_)) for id_, transfer in ledger.changed.items()]
    await execute_rows(connection, _QUERIES.update_transfers, progress)
    await copy_rows(connection, "refund", _REFUND_FIELDS, [_REFUND(refund) for refund in ledger.refunds_made.values()])
    refunds = [_REFUND_PROGRESS(refund) for refund in ledger.refunds_changed.values()]
    await execute_rows(connection, _QUERIES.update_refunds, refunds)
    await execute_rows(connection, _QUERIES.add_to_platform, _sums(ledger.platform))
    answers = [(*answer.key, *answer[1:]) for answer in ledger.answered.values()]
    await execute_rows(connection, _QUERIES.upsert_answers, answers)
    await execute_rows(connection, _QUERIES.upsert_account_events, list(ledger.states.values()))
    await _write_maintenance(connection, ledger)
    await _write_reports(connection, ledger)


async def _write_accounts(connection: Connection, ledger: Ledger) -> None:
    opened = ledger.opened
    await copy_rows(connection, "account", _ACCOUNT_FIELDS, [_ACCOUNT(account) for account in opened.values()])
    await _write_balances(connection, ledger)
    statuses = [_STATUS(account) for id_, account in ledger.restated.items() if id_ not in opened]
    await execute_rows(connection, _QUERIES.update_statuses, statuses)
    settings = [_SETTINGS(account) for id_, account in ledger.reconfigured.items() if id_ not in opened]
    await execute_rows(connection, _QUERIES.update_account_settings, settings)


async def _write_balances(connection: Connection, ledger: Ledger) -> None:
    moved = ledger.touched.keys() - ledger.opened.keys() - ledger.restated.keys()
    if not moved:
        return
    # Made one by one, while the database takes those before.
    rows = ((ledger.places[id_], *_BALANCE(account)) for id_, account in ledger.touched.items() if id_ in moved)
    await connection.copy_records_to_table("new_balance", columns=("place", *_BALANCE_FIELDS), records=rows)
    written = await connection.execute(_QUERIES.update_balances)
    if written != f"UPDATE {len(moved)}":
        message = f"{written}, but {len(moved)} balances moved"
        raise RuntimeError(message)


class _Rows(NamedTuple):
    """Rows as they are now, whatever becomes of their transfers while they are written."""

    transfer_columns: Sequence[str]
    transfers: Sequence[Row]
    steps: Sequence[Step]
    movements: Sequence[Movement]


def _rows_of(final: Recordable, names: Mapping[UUID, bytes]) -> _Rows:
    columns, rows = _TRANSFER_FIELDS, [_TRANSFER(transfer) for transfer in final.transfers.values()]
    if names:
        columns = (*columns, "payee_name_sealed")
        rows = [(*row, names.get(row[0])) for row in rows]
    return _Rows(columns, rows, final.steps, final.movements)


async def _write(connection: Connection, rows: _Rows) -> None:
    await copy_rows(connection, "transfer", rows.transfer_columns, rows.transfers)
    await copy_rows(connection, "transfer_step", Step._fields, rows.steps)
    await copy_rows(connection, "movement", Movement._fields, rows.movements)


def _sums(postings: Iterable[tuple[str, str, int, int]]) -> list[Row]:
    sums: dict[tuple[str, str, int], int] = {}
    for account_id, currency, stripe, amount_minor in postings:
        key = (account_id, currency, stripe)
        sums[key] = sums.get(key, 0) + amount_minor
    # In one order, so that a lane that changes hands cannot meet itself in a circle.
    return [(*key, sums[key]) for key in sorted(sums)]


# --- Holders ---


async def record_holders(connection: Connection, hashes: Mapping[str, bytes], now: datetime) -> None:
    """Keep the hashes of holders' names; who was erased has come back."""
    await execute_rows(connection, _QUERIES.upsert_holders, sorted(hashes.items()))
    if hashes:
        await connection.execute(_QUERIES.note_returned, sorted(hashes), now)


async def erase_customers(connection: Connection, customers: Collection[str], now: datetime) -> None:
    """Forget customers: their names, what is sealed for them, what they need not pay, and their risk flags."""
    if customers:
        await connection.execute(_QUERIES.take_customers)
        await connection.execute(_QUERIES.upsert_erased, sorted(customers))
        await connection.execute(_QUERIES.erase_customers, list(customers))
        # Locked after transfers, like everywhere.
        await connection.execute(_QUERIES.delete_waivers, list(customers))
        await connection.execute(_QUERIES.delete_flags, list(customers), (), (), now)


async def forget_erased(connection: Connection, customers: Sequence[str]) -> None:
    """Forget that customers were erased."""
    await connection.execute(_QUERIES.delete_erased, sorted(customers))
