"""One coroutine per kind of batch: load, decide, record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schemas.customer import CustomerProfile
from services.notify import store
from services.notify.decide import (
    Book,
    decide_erasure,
    decide_event,
    decide_profile,
    decide_timer,
    recipients,
)
from services.runtime.message import Effects

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from services.notify.decide import Rules
    from services.runtime.database import Connection
    from services.runtime.message import Batch, Message, Timer

# A customer's id has at most 128 characters.
_LONGEST_KEY: Final = 512


@dataclass(frozen=True, slots=True)
class Handlers:
    """What the handlers need besides their batch."""

    rules: Rules

    async def on_events(self, connection: Connection, batch: Batch, now: datetime) -> Effects:
        """Tell people of events; and suppress what waited too long for a profile."""
        if batch.timers:
            return await self._on_timers(connection, batch.timers, now)
        customers, events = self._addressed(batch.messages)
        book = Book(await store.load_for_events(connection, customers, events), self.rules, now)
        for message in batch.messages:
            decide_event(book, message)
        await store.record(connection, book)
        return Effects(outgoing=book.outgoing, timers_set=book.timers)

    def _addressed(self, messages: Sequence[Message]) -> tuple[set[str], set[str]]:
        customers: set[str] = set()
        events: set[str] = set()
        for message in messages:
            addressed = [customer_id for _, customer_id in recipients(message, self.rules.policy)]
            if addressed:
                customers.update(addressed)
                events.add(message.id)
        return customers, events

    async def _on_timers(self, connection: Connection, timers: Sequence[Timer], now: datetime) -> Effects:
        book = Book(await store.load_for_timers(connection, {timer.subject for timer in timers}), self.rules, now)
        for timer in timers:
            decide_timer(book, timer)
        await store.record(connection, book)
        return Effects(outgoing=book.outgoing)

    async def on_profiles(self, connection: Connection, batch: Batch, now: datetime) -> Effects:
        """Take note of how people want to be told, and tell what waited; a tombstone forgets them."""
        said = [(message, _customer_of(message)) for message in batch.messages]
        customers = {customer_id for _, customer_id in said if customer_id is not None}
        book = Book(await store.load_for_profiles(connection, customers), self.rules, now)
        for message, customer_id in said:
            if isinstance(message.data, CustomerProfile):
                decide_profile(book, message.lane, message.data)
            elif customer_id is not None:
                decide_erasure(book, message.lane, customer_id)
        await store.record(connection, book)
        return Effects(outgoing=book.outgoing)


def _customer_of(message: Message) -> str | None:
    """Return whom a profile or a tombstone is about; None for a key that is nobody's."""
    if isinstance(message.data, CustomerProfile):
        return message.data.customer_id
    if message.key is None or b"\x00" in message.key or len(message.key) > _LONGEST_KEY:
        return None
    return message.key.decode("utf-8", "replace")
