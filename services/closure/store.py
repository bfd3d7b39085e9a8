"""Loads what a batch needs to know of customers and cases, and records what it changed: one function a query."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from services.closure import reopening_store
from services.closure.decide.book import Facts
from services.closure.identity import ProfileHashes
from services.closure.model import ENDED, Answer, AnswerKey, Case, Customer, Position, Status, Step, Wallet
from services.closure.sealed import open_application, seal_application
from services.runtime.customer_keys import load_keys, move_keys
from services.runtime.database import copy_rows, execute_rows, load_queries

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from uuid import UUID

    from services.closure.decide.book import Book
    from services.runtime.database import Connection

_QUERIES: Final = load_queries(Path(__file__).with_name("queries.sql"))
_CASE_FIELDS: Final = tuple(one.name for one in fields(Case))
_LISTS: Final = tuple(_CASE_FIELDS.index(name) for name in ("approved_by", "paid_numbers", "erased_by", "reported"))
# The key, which stands last, has a table of its own.
_VALUES: Final = attrgetter(*_CASE_FIELDS[:-1])
_WALLET: Final = attrgetter(*(one.name for one in fields(Wallet)))
_NO_PROFILE: Final = (None, None, None, False)
_POSITION: Final = attrgetter(*(one.name for one in fields(Position)))


@dataclass(slots=True)
class Subjects:
    """What a batch names; whose it is only the database may know."""

    customers: set[str] = field(default_factory=set)
    cases: set[UUID] = field(default_factory=set)
    subjects: set[str] = field(default_factory=set)
    closed: set[str] = field(default_factory=set)
    """Those whose closings are asked for."""
    new: set[UUID] = field(default_factory=set)
    """Cases that may begin here, and elsewhere under the same id."""
    reopenings: set[UUID] = field(default_factory=set)
    answers: set[AnswerKey] = field(default_factory=set)

    @property
    def wallets(self) -> list[str]:
        """The wallets among the subjects."""
        return [one for one in self.subjects if one.startswith("wallet:")]

    @property
    def loans(self) -> list[str]:
        """The ids of the loans among the subjects."""
        return [one.partition(":")[2] for one in self.subjects if one.startswith("loan:")]


async def load_facts(connection: Connection, asked: Subjects, master_key: bytes) -> Facts:
    """Lock the customers and the cases that a batch is about, and load everything that decides about them."""
    closed, reopened = list(asked.closed), list(asked.reopenings)
    rows = await connection.fetch(
        _QUERIES.find_customers, list(asked.cases), asked.wallets, asked.loans, closed, reopened
    )
    ids = asked.customers | {row["customer_id"] for row in rows}
    facts = Facts(customers=await lock_customers(connection, ids))
    known = list(ids)
    for row in await connection.fetch(_QUERIES.load_wallets, known, asked.wallets):
        facts.wallets[row[0]] = Wallet(*row)
    for row in await connection.fetch(_QUERIES.load_positions, known, asked.loans):
        facts.positions[row[0]] = Position(*row)
    # Where nobody knows whose a wallet is, two cases about it meet here, and so do two applications with one id.
    unowned = (asked.subjects - _owned(facts)) | {str(id_) for id_ in (*reopened, *asked.new)}
    await connection.execute(_QUERIES.lock_subjects, sorted(unowned))
    named = (list(asked.cases), known, list(asked.subjects), closed, reopened)
    for row in await connection.fetch(_QUERIES.load_cases, *named):
        case = _case_of(row)
        facts.cases[case.case_id] = case
    for case_id, wrapped_key in await connection.fetch(_QUERIES.load_case_keys, list(facts.cases)):
        facts.cases[case_id].wrapped_key = wrapped_key
    for case in facts.cases.values():
        application = open_application(master_key, case, facts.customers.get(case.customer_id or ""))
        if application is not None and case.status not in ENDED:
            facts.applications[case.case_id] = application
    closings = [case.case_id for case in facts.cases.values() if case.status == Status.CLOSED]
    facts.reopenings = await reopening_store.load(connection, reopened, known, closings)
    facts.answers = await _load_answers(connection, asked.answers)
    return facts


async def find_unowned(connection: Connection, cases: Collection[UUID]) -> set[str]:
    """Return what those of these cases are about of which nobody knew whose they are."""
    if not cases:
        return set()
    return {row["subject"] for row in await connection.fetch(_QUERIES.find_unowned, list(cases))}


def _owned(facts: Facts) -> set[str]:
    return {*facts.wallets, *(f"loan:{id_}" for id_ in facts.positions)}


def _case_of(row: Any) -> Case:
    values = list(row)
    for index in _LISTS:
        values[index] = orjson.loads(values[index])
    return Case(*values)


async def lock_customers(connection: Connection, ids: Collection[str]) -> dict[str, Customer]:
    """Lock customers, known or new, in the order of their ids."""
    if not ids:
        return {}
    ordered = sorted(ids)
    await connection.execute(_QUERIES.insert_customers, ordered)
    rows = await connection.fetch(_QUERIES.lock_customers, ordered)
    keys = await load_keys(connection, ordered)
    return {row["customer_id"]: _customer_of(row, keys.get(row["customer_id"])) for row in rows}


def _customer_of(row: Any, wrapped_key: bytes | None) -> Customer:
    profile = None if row["name_hash"] is None else ProfileHashes(*row[1:5])
    flags = {rule: datetime.fromisoformat(until) for rule, until in orjson.loads(row["flags"]).items()}
    return Customer(row["customer_id"], profile, wrapped_key, flags, row["erase_wanted"], row["erased_at"])


async def _load_answers(connection: Connection, keys: Collection[AnswerKey]) -> dict[AnswerKey, Answer]:
    if not keys:
        return {}
    ordered = list(keys)
    rows = await connection.fetch(_QUERIES.load_answers, [key.source for key in ordered], [key.id for key in ordered])
    answers = (Answer(AnswerKey(row[0], row[1]), *row[2:]) for row in rows)
    return {answer.key: answer for answer in answers}


async def find_being_erased(connection: Connection, customers: Collection[str]) -> set[str]:
    """Return which of these customers a case waits for that everybody forgets."""
    if not customers:
        return set()
    rows = await connection.fetch(_QUERIES.find_being_erased, list(customers))
    return {row["customer_id"] for row in rows}


async def find_sealed(connection: Connection, customers: Collection[str]) -> set[str]:
    """Return of which of these customers something is left of what they applied with."""
    if not customers:
        return set()
    rows = await connection.fetch(_QUERIES.find_sealed, list(customers))
    return {row["customer_id"] for row in rows}


async def record(connection: Connection, book: Book, master_key: bytes) -> None:
    """Write everything that a batch changed, one statement a table."""
    for case_id, application in book.applied.items():
        case = book.cases[case_id]
        customer = book.customers.get(case.customer_id or "")
        if seal_application(master_key, case, customer, application) and customer is not None:
            book.changed_customers[customer.customer_id] = customer
    customers, cases = book.changed_customers.values(), book.changed.values()
    await execute_rows(connection, _QUERIES.update_customers, _customer_rows(customers))
    await move_keys(connection, customers)
    await execute_rows(connection, _QUERIES.upsert_cases, [_case_row(case) for case in cases])
    await execute_rows(connection, _QUERIES.move_case_keys, [(case.case_id, case.wrapped_key) for case in cases])
    await copy_rows(connection, "case_step", Step._fields, book.steps)
    await reopening_store.record(connection, book.changed_reopenings.values())
    if book.erased:
        await connection.execute(_QUERIES.clear_applications, sorted(book.erased))
    answers = [(*answer.key, *answer[1:]) for answer in book.answered.values()]
    await copy_rows(connection, "answer", ("source", "id", *Answer._fields[1:]), answers)


def _case_row(case: Case) -> list[Any]:
    values = list(_VALUES(case))
    for index in _LISTS:
        values[index] = orjson.dumps(values[index]).decode()
    return values


def _customer_rows(customers: Iterable[Customer]) -> list[tuple[Any, ...]]:
    return [
        (
            one.customer_id,
            *(one.profile or _NO_PROFILE),
            orjson.dumps(one.flags).decode(),
            one.flagged_until,
            one.erase_wanted,
            one.erased_at,
        )
        for one in customers
    ]


async def record_wallets(connection: Connection, wallets: Collection[Wallet]) -> None:
    """Keep wallets as they were last published, by their highest versions."""
    await execute_rows(connection, _QUERIES.upsert_wallets, [_WALLET(wallet) for wallet in wallets])


async def record_positions(connection: Connection, positions: Collection[Position], gone: Collection[str]) -> None:
    """Keep what customers owe as it was last published; forget what is published no more."""
    await execute_rows(connection, _QUERIES.upsert_positions, [_POSITION(position) for position in positions])
    if gone:
        await connection.execute(_QUERIES.delete_positions, sorted(gone))
