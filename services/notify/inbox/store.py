"""Reads people's inboxes and notes what they have read: one function a query; texts stay sealed until they are told."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from services.notify.broadcast.texts import read_texts
from services.notify.model import Text
from services.notify.sealed import open_text
from services.runtime.database import columns_of, load_queries

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from services.notify.sealed import Keys
    from services.runtime.database import Connection

_QUERIES: Final = load_queries(Path(__file__).with_name("queries.sql"))
_OF_PAGE: Final = 5
_OF_NEWS: Final = 4
"""How many columns say something of the customer, before those of a message."""


class Sealed(NamedTuple):
    """A message as it is kept: its own words, or those of a broadcast in every language."""

    number: int
    notice_id: UUID
    sealed: bytes | None
    locale: str
    texts: str | None
    arrived_at: datetime
    read_at: datetime | None


class Message(NamedTuple):
    """A message as a person reads it."""

    number: int
    notice_id: UUID
    title: str
    body: str
    locale: str
    arrived_at: datetime
    read_at: datetime | None


class Page(NamedTuple):
    """Part of an inbox at one moment, newest first; `last` is the number of the newest message ever."""

    wrapped_key: bytes
    locale: str
    time_zone: str
    last: int
    unread: int
    messages: list[Sealed]


class Asking(NamedTuple):
    """What a stream has seen, None from now on, and whether it wants an answer though there be nothing new."""

    customer_id: str
    seen: int | None
    is_asked: bool


class News(NamedTuple):
    """What is new to a stream, oldest first; without a key its reader is gone."""

    wrapped_key: bytes | None
    last: int
    unread: int
    messages: list[Sealed]


async def load_page(connection: Connection, customer_id: str, before: int | None, limit: int) -> Page | None:
    """Load a page of an inbox; None when nobody is known by that id."""
    rows = await connection.fetch(_QUERIES.load_page, customer_id, before, limit)
    if not rows:
        return None
    return Page._make((*rows[0][:_OF_PAGE], _messages(rows, _OF_PAGE)))


async def load_news(connection: Connection, asking: Sequence[Asking], limit: int) -> dict[int, News]:
    """Load what is new to streams, at most so many messages for each, by their places in the sequence."""
    rows = await connection.fetch(_QUERIES.load_news, *columns_of(asking), limit)
    return {place - 1: _news(list(of_stream)) for place, of_stream in groupby(rows, key=itemgetter(0))}


def _news(rows: Sequence[Any]) -> News:
    _, wrapped_key, last, unread = rows[0][:_OF_NEWS]
    return News(wrapped_key, last or 0, unread, _messages(rows, _OF_NEWS))


def _messages(rows: Sequence[Any], before: int) -> list[Sealed]:
    return [Sealed(*row[before:]) for row in rows if row[before] is not None]


async def mark_read(
    connection: Connection, customer_id: str, numbers: Sequence[int], up_to: int | None, now: datetime
) -> int | None:
    """Note what was read, and return how many messages are not; None when nobody is known by that id."""
    async with connection.transaction():
        marked = await connection.execute(_QUERIES.mark_read, customer_id, numbers, up_to, now)
        if marked != "UPDATE 0":
            await connection.execute(_QUERIES.tell_read, customer_id)
        unread: int | None = await connection.fetchval(_QUERIES.count_unread, customer_id)
    return unread


def open_message(keys: Keys, customer_id: str, wrapped_key: bytes, message: Sealed) -> Message:
    """Return a message as its reader sees it; PersonalDataError where it was sealed with another key."""
    if message.sealed is None:
        said = read_texts(message.texts or "{}")[message.locale]
        locale, text = message.locale, Text(said.title, said.body)
    else:
        locale, text = open_text(keys.unwrap(customer_id, wrapped_key), message.notice_id, message.sealed)
    return Message(message.number, message.notice_id, *text, locale, message.arrived_at, message.read_at)
