"""Loads the facts of a batch and records what it changed: one function a query, one statement a table."""

from __future__ import annotations

from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from schemas.closure import about_of
from services.notify.contacts import seal_contacts
from services.notify.decide import CLOSING_AWAITED, CLOSING_ENDS, Facts
from services.notify.model import Announcement, Customer, Delivery, ErasedBy, Gathered, Gathering, Notice, Waiting
from services.notify.sealed import Keys, open_event, open_text, seal_event, seal_text
from services.runtime.customer_keys import load_keys, move_keys
from services.runtime.database import columns_of, copy_rows, execute_rows, load_queries
from services.runtime.message import Cause
from services.runtime.personal_data import new_key, wrap_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime
    from uuid import UUID

    from schemas.account import AccountState
    from services.notify.decide import Book
    from services.notify.model import DigestItem
    from services.runtime.database import Connection

_QUERIES: Final = load_queries(Path(__file__).with_name("queries.sql"))
# The key, which stands last, has a table of its own.
_CUSTOMER: Final = attrgetter(*(one.name for one in fields(Customer)[:-1]))
_MOST_WAITING: Final = 5_000
"""How many waiting notices one transaction takes: what is more goes on in the next."""


# --- Loading ---


async def load_for_events(
    connection: Connection, customers: Collection[str], events: Collection[str], keys: Keys, now: datetime
) -> Facts:
    """Load and lock whom a batch of events is about, and find out which events are accepted already."""
    facts = Facts()
    if events:
        facts.customers = await _lock_customers(connection, customers, keys)
        rows = await connection.fetch(_QUERIES.load_announcements, list(events))
        facts.announced = {row[0]: row[1] for row in rows}
        facts.digests = await _load_digests(connection, customers, now)
    return facts


async def load_for_timeouts(connection: Connection, events: Collection[str], keys: Keys, now: datetime) -> Facts:
    """Load what still waits of events, once everybody who waits is locked."""
    ids = {row[0] for row in await connection.fetch(_QUERIES.load_waiting_customers, list(events))}
    facts = Facts(customers=await _lock_customers(connection, ids, keys))
    rows = await connection.fetch(_QUERIES.load_waiting_of_events, list(events), list(ids))
    await _add_waiting(connection, facts, rows, keys)
    facts.digests = await _load_digests(connection, ids, now)
    return facts


async def load_for_profiles(
    connection: Connection,
    customers: Collection[str],
    erased: Collection[str] | None,
    keys: Keys,
    now: datetime,
    *,
    profiled: Collection[str] = (),
) -> Facts:
    """Load and lock customers, what waits for their profile, and of those who are erased all that is pending.

    None are erased now: those who are not known were erased before. Of `profiled`, those whose null profile came
    before are forgotten with it, and all at once: a profile cannot wait for the rest.
    """
    facts = Facts(customers=await _lock_customers(connection, customers, keys))
    if erased is None:
        erased = [customer for customer in customers if not facts.customers[customer].is_known]
    followed = [id_ for id_ in profiled if id_ in erased or facts.customers[id_].erasing == ErasedBy.PROFILE]
    erased, most = {*erased, *followed}, None if followed else _MOST_WAITING
    known = [customer for customer in customers if customer not in erased]
    rows = await connection.fetch(_QUERIES.load_waiting_of_customers, known, most)
    if erased:
        await connection.execute(_QUERIES.lock_deliveries_of_customers, list(erased))
        rows += await connection.fetch(_QUERIES.load_pending_of_customers, list(erased), most)
        receipts = await connection.fetch(_QUERIES.load_receipts, list(erased))
        facts.receipts = {about_of(row[0]) for row in receipts}
        facts.closing = await _load_closing(connection, erased, now)
    await _add_waiting(connection, facts, rows, keys)
    facts.is_everything = most is None or len(rows) < most
    facts.digests = await _load_digests(connection, customers, now) if rows else {}
    return facts


async def _load_closing(connection: Connection, customers: Collection[str], now: datetime) -> set[str]:
    rows = await connection.fetch(_QUERIES.load_closing, list(customers), now - CLOSING_AWAITED, sorted(CLOSING_ENDS))
    return {row[0] for row in rows}


async def _add_waiting(connection: Connection, facts: Facts, rows: Sequence[Any], keys: Keys) -> None:
    facts.causes = await load_causes(connection, {row["event_id"] for row in rows})
    for row in rows:
        *columns, sealed = row
        notice = Notice(*columns)
        key = keys.of(facts.customers[notice.customer_id])
        body = None if sealed is None else open_event(key, notice.notice_id, sealed)
        facts.waiting.setdefault(notice.customer_id, []).append(Waiting(notice, body))


async def load_for_digests(connection: Connection, deliveries: Collection[UUID], keys: Keys, now: datetime) -> Facts:
    """Take what was gathered for digests, once everybody whom they are for is locked."""
    rows = await connection.fetch(_QUERIES.load_digest_customers, list(deliveries))
    facts = Facts(customers=await _lock_customers(connection, {row[0] for row in rows}, keys))
    for row in await connection.fetch(_QUERIES.take_digest_items, list(deliveries)):
        *columns, sealed = row
        notice = Notice(*columns)
        _, text = open_text(keys.of(facts.customers[notice.customer_id]), notice.notice_id, sealed)
        facts.items.setdefault(str(notice.delivery_id), []).append(Gathered(notice, text))
    first = [items[0].notice for items in facts.items.values()]
    if first:
        events = {one.notice.event_id for items in facts.items.values() for one in items}
        facts.causes = await load_causes(connection, events)
        kinds = sorted((one.customer_id, one.channel, one.template) for one in first)
        await connection.execute(_QUERIES.close_digests, *columns_of(kinds), now)
    return facts


async def load_causes(connection: Connection, events: Collection[str]) -> dict[str, Cause]:
    """Return what these events follow from."""
    rows = await connection.fetch(_QUERIES.load_causes, list(events)) if events else []
    return {row[0]: Cause(row[1], row[2]) for row in rows}


async def _load_digests(
    connection: Connection, customers: Collection[str], now: datetime
) -> dict[tuple[str, str, str], Gathering]:
    rows = await connection.fetch(_QUERIES.load_digests, list(customers), now)
    return {(row[0], row[1], row[2]): Gathering(row[3], row[4]) for row in rows}


async def load_notices(connection: Connection, ids: Iterable[UUID]) -> list[tuple[Notice, str | None]]:
    """Load and lock notices of which something is to be told, each with the gateway that had it last, if any."""
    rows = await connection.fetch(_QUERIES.load_untold_notices, list(ids))
    return [(Notice(*row[:-1]), row[-1]) for row in rows]


async def _lock_customers(connection: Connection, ids: Collection[str], keys: Keys) -> dict[str, Customer]:
    await connection.execute(_QUERIES.add_customers, list(ids))
    rows = await connection.fetch(_QUERIES.load_customers, list(ids))
    customers = {row[0]: Customer(*row) for row in rows}
    if len(customers) < len(ids):
        # A row is made before any lock is taken, so that nobody waits in a circle: not now.
        raise asyncpg.SerializationError("somebody who is not known was removed meanwhile")
    for customer_id, wrapped_key in (await load_keys(connection, customers)).items():
        customers[customer_id].wrapped_key = wrapped_key
    keyless = [one for one in customers.values() if one.wrapped_key is None and not one.is_gone]
    for customer in keyless:
        customer.wrapped_key = wrap_key(keys.master_key, new_key(), customer.customer_id)
    await move_keys(connection, keyless)
    return customers


# --- Recording ---


async def record(connection: Connection, book: Book, keys: Keys) -> list[UUID]:
    """Record everything a batch changed; what did not change costs no statement.

    Return the notices by which those who are erased had broadcasts to lists in their inboxes.
    """
    told: list[UUID] = []
    for customer_id, contacts in book.contacts.items():
        customer = book.customers[customer_id]
        if customer.wrapped_key is None:
            # Erased and known again.
            customer.wrapped_key = wrap_key(keys.master_key, new_key(), customer_id)
        customer.contacts = seal_contacts(keys.of(customer), customer_id, contacts)
    await execute_rows(connection, _QUERIES.update_customers, [_CUSTOMER(one) for one in book.changed.values()])
    await move_keys(connection, book.changed.values())
    if book.erased:
        told = [row[0] for row in await connection.fetch(_QUERIES.erase_inboxes, list(book.erased))]
        await connection.execute(_QUERIES.erase_deliveries, list(book.erased))
        await connection.execute(_QUERIES.erase_reasons, list(book.erased))
        await connection.execute(_QUERIES.erase_digest_items, list(book.erased))
        await connection.execute(_QUERIES.erase_ties, list(book.erased))
    await copy_rows(connection, "announcement", Announcement._fields, sorted(book.announcements))
    await copy_rows(connection, "notice", Notice._fields, book.notices)
    uses = sorted((bank, customer_id, on) for (bank, customer_id), on in book.bank_uses.items())
    await execute_rows(connection, _QUERIES.note_bank_uses, uses)
    await _record_waiting(connection, book, keys)
    await _record_digests(connection, book, keys)
    await _record_deliveries(connection, book, keys)
    await _record_inbox(connection, book, keys)
    return told


async def _record_waiting(connection: Connection, book: Book, keys: Keys) -> None:
    begun = [
        (
            notice.notice_id,
            notice.customer_id,
            notice.event_id,
            seal_event(keys.of(book.customers[notice.customer_id]), notice.notice_id, body),
        )
        for notice, body in book.begun
        if body is not None
    ]
    await copy_rows(connection, "waiting", ("notice_id", "customer_id", "event_id", "sealed"), begun)
    rows = [(one.notice_id, one.delivery_id, one.status, one.why, one.told, one.ended_at) for one in book.moved]
    if rows:
        await connection.execute(_QUERIES.move_notices, *columns_of(rows))
        await connection.execute(_QUERIES.forget_waiting, [notice.notice_id for notice in book.moved])


async def _record_digests(connection: Connection, book: Book, keys: Keys) -> None:
    opened = sorted((*kind, *gathering) for kind, gathering in book.opened.items())
    await execute_rows(connection, _QUERIES.open_digests, opened)
    items = [
        (one.notice_id, one.delivery_id, one.customer_id, _seal_item(keys, book.customers[one.customer_id], one))
        for one in book.gathered
    ]
    await copy_rows(connection, "digest_item", ("notice_id", "delivery_id", "customer_id", "sealed"), items)


def _seal_item(keys: Keys, customer: Customer, item: DigestItem) -> bytes:
    return seal_text(keys.of(customer), item.notice_id, customer.locale, item.text)


async def _record_deliveries(connection: Connection, book: Book, keys: Keys) -> None:
    rows = [
        (*one[:8], seal_text(keys.of(book.customers[one.customer_id]), one.delivery_id, one.locale, one.text))
        for one in book.deliveries
    ]
    await copy_rows(connection, "delivery", _DELIVERY_COLUMNS, rows)
    if rows:
        await wake_dispatchers(connection)


_DELIVERY_COLUMNS: Final = (*Delivery._fields[:8], "sealed")


async def _record_inbox(connection: Connection, book: Book, keys: Keys) -> None:
    rows = [
        (
            one.customer_id,
            one.number,
            one.notice_id,
            one.locale,
            seal_text(keys.of(book.customers[one.customer_id]), one.notice_id, one.locale, one.text),
            one.arrived_at,
        )
        for one in book.inbox
    ]
    columns = ("customer_id", "number", "notice_id", "locale", "sealed", "arrived_at")
    await copy_rows(connection, "inbox_message", columns, rows)
    if rows or book.erased:
        await wake_readers(connection)


async def wake_dispatchers(connection: Connection) -> None:
    """Tell the dispatchers, once this is committed, that there is something to deliver."""
    await connection.execute(_QUERIES.wake_dispatchers)


async def wake_readers(connection: Connection) -> None:
    """Tell those who follow inboxes, once this is committed, that something arrived or was erased."""
    await connection.execute(_QUERIES.wake_readers)


async def note_wallets(connection: Connection, states: Iterable[AccountState]) -> None:
    """Note whose wallets are and how they stand, each by its latest state."""
    latest = {state.account_id: state for state in sorted(states, key=attrgetter("version"))}
    rows = [(one.account_id, one.customer_id, one.currency, one.status, one.version) for one in latest.values()]
    await execute_rows(connection, _QUERIES.note_wallets, sorted(rows))


async def mark_told(connection: Connection, notices: Sequence[Notice]) -> None:
    """Note that what became of notices was published."""
    await execute_rows(connection, _QUERIES.mark_told, [(notice.notice_id, notice.status) for notice in notices])
