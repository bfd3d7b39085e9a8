"""One coroutine per kind of batch: load, decide, record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from schemas.customer import erased_customer
from schemas.erasure import CustomerErase
from schemas.transfer import FeeWaived, TransferDelayed, TransferFailed, TransferHeld
from services.maintenance import store
from services.maintenance.decide import (
    STEPS,
    Book,
    answer_key,
    catch_up,
    compensation_id,
    decide_command,
    end,
    forget,
    owe,
    rail_window_id,
    subject_of,
    trip,
)
from services.maintenance.model import CLOSING, GRANT_TIMER, OVER, Affected
from services.runtime.message import Effects, Unfit

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from services.maintenance.model import Window
    from services.maintenance.policy import Policy
    from services.runtime.database import Connection
    from services.runtime.message import Batch, Lane, Message, Timer

_GRANTED_AT_ONCE: Final = 500
"""Customers who are given something in one transaction."""


@dataclass(frozen=True, slots=True)
class Handlers:
    """What the handlers need besides their batch."""

    policy: Policy

    async def on_commands(self, connection: Connection, batch: Batch, now: datetime) -> Effects:
        """Decide what operators and customers say of windows, and what is due."""
        if batch.timers:
            return await self._on_timers(connection, batch.timers, now)
        if any(message.type == "survey.answer" for message in batch.messages):
            await store.share_customers(connection)
        commands: list[tuple[Message, Any]] = [(message, message.data) for message in batch.messages]
        lanes = {data.window_id: message.lane for message, data in commands}
        # What is due comes first, though the service may have been down when it was.
        due = await store.take_due(connection, lanes, now)
        windows = await store.load_windows(connection, lanes)
        keys = {key for message, _ in commands if (key := answer_key(message)) is not None}
        book = Book(windows, await store.load_answers(connection, keys), self.policy, now)
        catch_up(book, due)
        for message, _ in commands:
            decide_command(book, message)
        await store.record(connection, book)
        return Effects.of(book.outgoing, book.timers)

    async def on_transfers(self, connection: Connection, batch: Batch, now: datetime) -> Effects:
        """Note whose transfers windows held or refused, what was used of compensation, and banks that are silent."""
        if batch.timers:
            return await self._on_timers(connection, batch.timers, now)
        stopped, uses = _stopped(batch.messages), _uses(batch.messages)
        if stopped or uses:
            await store.share_customers(connection)
        book = Book({}, {}, self.policy, now)
        # This locks windows, which come before those whom they owe something.
        if self.policy.rails.trip_at:
            await self._watch_rails(connection, book, batch.messages)
        await self._note_affected(connection, book, stopped)
        await self._note_used(connection, book, uses)
        await store.record(connection, book)
        return Effects.of(book.outgoing, book.timers)

    async def on_erasures(self, connection: Connection, batch: Batch, now: datetime) -> Effects:
        """Forget customers whom an erasure names, or whose profile is null; later also that they were erased."""
        if batch.timers:
            await store.forget_erased(connection, [timer.subject for timer in batch.timers])
            return Effects()
        asked: list[tuple[Message, str]] = []
        unfit: list[Unfit] = []
        for message in batch.messages:
            try:
                asked.append((message, _erased(message)))
            except ValueError as error:
                unfit.append(Unfit(message, str(error)))
        book = Book({}, {}, self.policy, now)
        if asked:
            await store.erase(connection, {customer_id for _, customer_id in asked}, now)
        for message, customer_id in asked:
            forget(book, message, customer_id)
        effects = Effects.of(book.outgoing, book.timers)
        return Effects(effects.outgoing, effects.timers_set, effects.timers_cleared, unfit)

    async def _on_timers(self, connection: Connection, timers: Sequence[Timer], now: datetime) -> Effects:
        windows = await store.load_windows(connection, {subject_of(timer) for timer in timers})
        book = Book(windows, {}, self.policy, now)
        catch_up(book, [timer for timer in timers if timer.kind in STEPS])
        for timer in timers:
            window = windows.get(subject_of(timer))
            if timer.kind == GRANT_TIMER and window is not None and window.compensates:
                await self._grant(connection, book, timer.lane, window)
        await store.record(connection, book)
        return Effects.of(book.outgoing, book.timers)

    # --- What windows owe ---

    async def _grant(self, connection: Connection, book: Book, lane: Lane, window: Window) -> None:
        if window.status not in OVER:
            owe(book, lane, window)
            return
        expires_at = book.now + timedelta(seconds=self.policy.compensation.expires_after_s)
        grants = await store.grant_compensation(connection, window.window_id, book.now, expires_at, _GRANTED_AT_ONCE)
        for grant in grants:
            book.grant(lane, window, grant)
        if len(grants) == _GRANTED_AT_ONCE:
            owe(book, lane, window)

    async def _note_affected(self, connection: Connection, book: Book, stopped: Sequence[_Stopped]) -> None:
        # Only read: whoever changes them must not wait for every lane, nor the lanes for each other.
        missing = {one.window_id for one in stopped} - book.windows.keys()
        book.windows.update(await store.load_windows(connection, missing, locks=False))
        windows = book.windows
        owed = [one for one in stopped if one.window_id in windows and windows[one.window_id].compensates]
        # Of each the last: who has come back after an erasure is owed something again.
        latest = {(one.window_id, one.customer_id): one.at for one in sorted(owed, key=attrgetter("at"))}
        await store.record_affected(
            connection, [Affected(*key, compensation_id(*key), at) for key, at in latest.items()]
        )
        for one in owed:
            # Though the window may have ended just now, the timer looks once that is known.
            owe(book, one.lane, windows[one.window_id])

    async def _note_used(
        self, connection: Connection, book: Book, uses: Mapping[tuple[UUID, UUID], tuple[Lane, FeeWaived]]
    ) -> None:
        if not uses:
            return
        grants = await store.use_compensation(connection, uses)
        missing = {grant.window_id for grant in grants.values()} - book.windows.keys()
        book.windows.update(await store.load_windows(connection, missing, locks=False))
        for key, (lane, use) in uses.items():
            if key in grants:
                book.use(lane, book.windows[grants[key].window_id], grants[key], use)

    # --- Rails that stop answering ---

    async def _watch_rails(self, connection: Connection, book: Book, messages: Sequence[Message]) -> None:
        rails = self.policy.rails
        delayed = [(message, message.data) for message in messages if isinstance(message.data, TransferDelayed)]
        silent = {data.transfer_id: (message, data) for message, data in delayed if data.kind == "withdrawal"}
        answers: list[Any] = [message.data for message in messages if message.type.startswith("payout.")]
        banks = {id_: _bank_of(data.payee) for id_, (_, data) in silent.items()}
        rows = [(id_, banks[id_], data.occurred_at) for id_, (_, data) in silent.items()]
        await store.record_silent(connection, rows)
        answering = await store.take_answered(connection, [one.transfer_id for one in answers]) if answers else set()
        if answering:
            await self._end_tripped(connection, book, messages[0].lane, answering)
        if not silent:
            return
        since = book.now - timedelta(seconds=rails.within_s)
        stopped = await store.find_silent(connection, set(banks.values()), since, rails.trip_at)
        because = {banks[id_]: message for id_, (message, _) in silent.items()}
        windows = {bank: rail_window_id(bank, because[bank], book.now) for bank in stopped}
        for bank in sorted(await store.claim_rails(connection, windows)):
            trip(book, because[bank], bank)

    async def _end_tripped(self, connection: Connection, book: Book, lane: Lane, banks: Collection[str]) -> None:
        ids = await store.load_rails(connection, banks)
        due = await store.take_due(connection, dict.fromkeys(ids, lane), book.now)
        book.windows.update(await store.load_windows(connection, ids))
        await store.release_rails(connection, banks)
        catch_up(book, due)
        for window_id in ids:
            if window_id in book.windows and book.windows[window_id].status in CLOSING:
                end(book, lane, book.windows[window_id])


class _Stopped(NamedTuple):
    """That a window held or refused a customer's transfer at a moment."""

    lane: Lane
    window_id: UUID
    customer_id: str
    at: datetime


def _stopped(messages: Sequence[Message]) -> list[_Stopped]:
    return [
        _Stopped(message.lane, data.window_id, customer_id, data.occurred_at)
        for message in messages
        if isinstance(data := message.data, TransferHeld | TransferFailed)
        and data.window_id is not None
        and (customer_id := data.payer_customer_id or data.payee_customer_id) is not None
    ]


def _uses(messages: Sequence[Message]) -> dict[tuple[UUID, UUID], tuple[Lane, FeeWaived]]:
    """Return what was used of compensation, by its number and the transfer."""
    return {
        (use.compensation_id, use.transfer_id): (message.lane, use)
        for message in messages
        if isinstance(use := message.data, FeeWaived)
    }


def _erased(message: Message) -> str:
    data = message.data
    return data.customer_id if isinstance(data, CustomerErase) else erased_customer(message.key)


def _bank_of(party: str) -> str:
    return party.split(":", 2)[1]
