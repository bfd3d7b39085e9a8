"""One coroutine per kind of batch: load, decide, record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from schemas.account import AccountState
from schemas.customer import CustomerProfile, erased_customer
from schemas.erasure import CustomerErase
from schemas.fields import as_text
from schemas.notify import NotificationRequest
from services.notify import store
from services.notify.broadcast import store as broadcasts
from services.notify.broadcast.handlers import BROADCAST_TIMER, Broadcasts, go_on, hash_content
from services.notify.decide import (
    DIGEST_TIMER,
    ERASE_TIMER,
    FORGET_TIMER,
    PROFILE_TIMER,
    REPORT_TIMER,
    REST_TIMER,
    SCHEDULED_TIMER,
    Book,
    decide_digests,
    decide_erasure,
    decide_event,
    decide_profile,
    decide_request,
    decide_rest,
    decide_timeouts,
    go_on_erasing,
    new_erasure,
    read_erasure,
    recipients,
    report,
    reported,
)
from services.notify.model import ErasedBy
from services.notify.sealed import Keys
from services.runtime.message import Cause, Effects, Timer, Unfit
from services.runtime.work import merge

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from services.notify.decide import Rules
    from services.runtime.database import Connection
    from services.runtime.message import Batch, Message


@dataclass(frozen=True, slots=True)
class Handlers:
    """What the handlers need besides their batch."""

    rules: Rules
    keys: Keys
    broadcasts: Broadcasts

    async def on_events(self, connection: Connection, batch: Batch, now: datetime) -> Effects:
        """Tell people of events; and suppress what waited too long for a profile."""
        if batch.timers:
            return await self._on_timers(connection, batch.timers, now)
        customers, events = self._addressed(batch.messages)
        facts = await store.load_for_events(connection, customers, events, self.keys, now)
        book = Book(facts, self.rules, now, {message.lane for message in batch.messages})
        for message in batch.messages:
            decide_event(book, message)
        return await self._recorded(connection, book)

    async def on_accounts(self, connection: Connection, batch: Batch, _now: datetime) -> Effects:
        """Take note of whose wallets are, for news that concern some wallets, or those in some currency."""
        states = [message.data for message in batch.messages if isinstance(message.data, AccountState)]
        await store.note_wallets(connection, states)
        return Effects()

    async def on_commands(self, connection: Connection, batch: Batch, now: datetime) -> Effects:
        """Tell one person, or many, what other systems ask for."""
        if batch.timers:
            return await self._on_timers(connection, batch.timers, now)
        locked = await self.broadcasts.lock(connection, batch.messages)
        told = await self._on_requests(connection, batch.messages, now)
        return merge([told, await self.broadcasts.on_requests(connection, batch.messages, locked, now)])

    async def on_events_for_many(self, connection: Connection, batch: Batch, now: datetime) -> Effects:
        """Tell people of events, and everybody of those that concern many, such as a window's."""
        if batch.timers:
            return await self._on_timers(connection, batch.timers, now)
        await self.broadcasts.lock_told_before(connection, batch.messages)
        told = await self.on_events(connection, batch, now)
        return merge([told, await self.broadcasts.on_events(connection, batch.messages, now)])

    async def _on_requests(self, connection: Connection, messages: Sequence[Message], now: datetime) -> Effects:
        asked = [(message, request) for message in messages if (request := _single(message)) is not None]
        if not asked:
            return Effects()
        customers = {request.customer_id or "" for _, request in asked}
        ids = {str(request.notification_id) for _, request in asked}
        facts = await store.load_for_events(connection, customers, ids, self.keys, now)
        book = Book(facts, self.rules, now, {message.lane for message, _ in asked})
        for message, request in asked:
            decide_request(book, message, request, hash_content(request, self.rules.master_key))
        return await self._recorded(connection, book)

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
        """Do what the first is about, and its like; leave the others, as they were, to the next transactions.

        So each transaction takes its locks in one order, and those of one chunk of one broadcast's audience.
        """
        kind = timers[0].kind
        like = [timer for timer in timers if timer.kind == kind]
        at_once = 1 if kind == BROADCAST_TIMER else len(like)
        others = [*like[at_once:], *(timer for timer in timers if timer.kind != kind)]
        handle = {
            PROFILE_TIMER: self._on_overdue,
            SCHEDULED_TIMER: self._on_overdue,
            DIGEST_TIMER: self._on_digests,
            REPORT_TIMER: self._report,
            REST_TIMER: self._on_rest,
            ERASE_TIMER: self._on_erase,
            FORGET_TIMER: self._forget,
            BROADCAST_TIMER: self._go_on,
        }[kind]
        return merge([Effects(timers_set=others), await handle(connection, like[:at_once], now)])

    async def _go_on(self, connection: Connection, timers: Sequence[Timer], now: datetime) -> Effects:
        return await go_on(connection, timers[0], now)

    async def _on_overdue(self, connection: Connection, overdue: Sequence[Timer], now: datetime) -> Effects:
        events = {timer.subject for timer in overdue}
        facts = await store.load_for_timeouts(connection, events, self.keys, now)
        book = Book(facts, self.rules, now, {timer.lane for timer in overdue})
        decide_timeouts(book, overdue)
        return await self._recorded(connection, book)

    async def _on_digests(self, connection: Connection, due: Sequence[Timer], now: datetime) -> Effects:
        facts = await store.load_for_digests(connection, [UUID(timer.subject) for timer in due], self.keys, now)
        book = Book(facts, self.rules, now, {timer.lane for timer in due})
        decide_digests(book, due)
        return await self._recorded(connection, book)

    async def _report(self, connection: Connection, due: Sequence[Timer], now: datetime) -> Effects:
        """Publish what became of notices since their event was handled."""
        found = await store.load_notices(connection, set(map(reported, due)))
        await store.mark_told(connection, [notice for notice, _ in found])
        causes = await store.load_causes(connection, {notice.event_id for notice, _ in found})
        reports = [
            report(notice, as_text(notice.ended_at or now), causes.get(notice.event_id, Cause()), gateway)
            for notice, gateway in found
        ]
        return Effects(outgoing=reports)

    async def on_profiles(self, connection: Connection, batch: Batch, now: datetime) -> Effects:
        """Take note of how people want to be told, and tell what waited; a tombstone forgets them."""
        if batch.timers:
            return await self._on_timers(connection, batch.timers, now)
        said, unfit = _by_customer(batch.messages)
        customers = {customer_id for _, customer_id in said}
        erased = {customer_id for message, customer_id in said if message.data is None}
        profiled = {customer_id for message, customer_id in said if message.data is not None}
        facts = await store.load_for_profiles(connection, customers, erased, self.keys, now, profiled=profiled)
        book = Book(facts, self.rules, now, {message.lane for message in batch.messages})
        book.unfit += unfit
        for message, customer_id in said:
            if isinstance(message.data, CustomerProfile):
                decide_profile(book, message.lane, message.data)
            else:
                erasure = new_erasure(book, customer_id, message)
                decide_erasure(book, message.lane, erasure, ErasedBy.PROFILE)
        return await self._recorded(connection, book)

    async def on_erasures(self, connection: Connection, batch: Batch, now: datetime) -> Effects:
        """Forget customers whose closing has come that far."""
        if batch.timers:
            return await self._on_timers(connection, batch.timers, now)
        asked = [(message, message.data) for message in batch.messages if isinstance(message.data, CustomerErase)]
        if not asked:
            return Effects()
        customers = {erase.customer_id for _, erase in asked}
        facts = await store.load_for_profiles(connection, customers, customers, self.keys, now)
        book = Book(facts, self.rules, now, {message.lane for message in batch.messages})
        for message, erase in asked:
            erasure = new_erasure(book, erase.customer_id, message, erase.case_id)
            decide_erasure(book, message.lane, erasure, ErasedBy.REQUEST)
        return await self._recorded(connection, book)

    async def _on_erase(self, connection: Connection, due: Sequence[Timer], now: datetime) -> Effects:
        erasures = [(timer, read_erasure(timer.subject)) for timer in due]
        customers = {erasure.customer_id for _, erasure in erasures}
        facts = await store.load_for_profiles(connection, customers, customers, self.keys, now)
        book = Book(facts, self.rules, now, {timer.lane for timer in due})
        for timer, erasure in erasures:
            go_on_erasing(book, timer.lane, erasure)
        return await self._recorded(connection, book)

    async def _on_rest(self, connection: Connection, due: Sequence[Timer], now: datetime) -> Effects:
        customers = {timer.subject for timer in due}
        facts = await store.load_for_profiles(connection, customers, None, self.keys, now)
        book = Book(facts, self.rules, now, {timer.lane for timer in due})
        for timer in due:
            decide_rest(book, timer)
        return await self._recorded(connection, book)

    async def _forget(self, connection: Connection, due: Sequence[Timer], _now: datetime) -> Effects:
        """Forget words that nobody has any more: in a transaction of its own, because broadcasts are locked first."""
        await broadcasts.forget_words(connection, [UUID(timer.subject) for timer in due])
        return Effects()

    async def _recorded(self, connection: Connection, book: Book) -> Effects:
        told = await store.record(connection, book, self.keys)
        forgetting = [Timer(min(book.lanes), FORGET_TIMER, str(notice_id), book.now) for notice_id in told]
        return Effects(outgoing=book.outgoing, timers_set=[*book.timers, *forgetting], unfit=book.unfit)


def _single(message: Message) -> NotificationRequest | None:
    data = message.data
    return data if isinstance(data, NotificationRequest) and data.customer_id is not None else None


def _by_customer(messages: Sequence[Message]) -> tuple[list[tuple[Message, str]], list[Unfit]]:
    """Return profiles and tombstones with whom they are about, and the tombstones whose key is nobody's."""
    said: list[tuple[Message, str]] = []
    unfit: list[Unfit] = []
    for message in messages:
        if isinstance(message.data, CustomerProfile):
            said.append((message, message.data.customer_id))
            continue
        try:
            said.append((message, erased_customer(message.key)))
        except ValueError as error:
            unfit.append(Unfit(message, str(error)))
    return said, unfit
