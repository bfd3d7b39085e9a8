"""Loads the facts of a batch and records what it changed: one function a query, one statement a table."""

from __future__ import annotations

from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.notify.decide import Facts
from services.notify.model import Announcement, Customer, InboxMessage, Notice, Waiting
from services.runtime.database import copy_rows, execute_rows, load_queries

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from services.notify.decide import Book
    from services.runtime.database import Connection

_QUERIES: Final = load_queries(Path(__file__).with_name("queries.sql"))
_CUSTOMER: Final = attrgetter(*(one.name for one in fields(Customer)))


# --- Loading ---


async def load_for_events(connection: Connection, customers: Collection[str], events: Collection[str]) -> Facts:
    """Load and lock whom a batch of events is about, and find out which events are accepted already."""
    facts = Facts()
    if events:
        facts.customers = await _lock_customers(connection, customers)
        rows = await connection.fetch(_QUERIES.load_announcements, list(events))
        facts.announced = {row[0] for row in rows}
    return facts


async def load_for_timers(connection: Connection, events: Collection[str]) -> Facts:
    """Load what still waits of events, once everybody who waits is locked."""
    rows = await connection.fetch(_QUERIES.load_waiting_customers, list(events))
    return await _load_waiting(connection, {row[0] for row in rows}, events)


async def load_for_profiles(connection: Connection, customers: Collection[str]) -> Facts:
    """Load and lock customers, and what waits for their profile."""
    return await _load_waiting(connection, customers, None)


async def _lock_customers(connection: Connection, ids: Collection[str]) -> dict[str, Customer]:
    ordered = sorted(ids)
    await connection.execute(_QUERIES.add_customers, ordered)
    rows = await connection.fetch(_QUERIES.load_customers, ordered)
    return {row[0]: Customer(*row) for row in rows}


async def _load_waiting(connection: Connection, customers: Collection[str], events: Collection[str] | None) -> Facts:
    facts = Facts(customers=await _lock_customers(connection, customers))
    of_events = None if events is None else list(events)
    for row in await connection.fetch(_QUERIES.load_waiting, list(customers), of_events):
        *notice, type_, body = row
        one = Waiting(Notice(*notice), type_, body)
        facts.waiting.setdefault(one.notice.customer_id, []).append(one)
    return facts


# --- Recording ---


async def record(connection: Connection, book: Book) -> None:
    """Record everything a batch changed; what did not change costs no statement."""
    await execute_rows(connection, _QUERIES.update_customers, [_CUSTOMER(one) for one in book.changed.values()])
    if book.erased:
        await connection.execute(_QUERIES.erase_inboxes, list(book.erased))
    await copy_rows(connection, "announcement", Announcement._fields, book.announcements)
    await copy_rows(connection, "notice", Notice._fields, book.notices)
    begun = [(waiting.notice.notice_id, waiting.type, waiting.body) for waiting in book.begun]
    await copy_rows(connection, "waiting", ("notice_id", "type", "body"), begun)
    await _end_notices(connection, book.ended)
    await copy_rows(connection, "inbox_message", InboxMessage._fields, book.inbox)


async def _end_notices(connection: Connection, ended: Sequence[Notice]) -> None:
    rows = [(notice.notice_id, notice.status, notice.why, notice.ended_at) for notice in ended]
    await execute_rows(connection, _QUERIES.end_notices, rows)
    if ended:
        await connection.execute(_QUERIES.forget_waiting, [notice.notice_id for notice in ended])
