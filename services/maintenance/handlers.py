"""One coroutine per kind of batch: load, decide, record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

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
    trip,
)
from services.maintenance.model import CLOSING, GRANT_TIMER, OVER, Affected
from services.runtime.message import Effects, TimerKey

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

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
        commands: list[tuple[Message, Any]] = [(message, message.data) for message in batch.messages]
        ids = {data.window_id for _, data in commands}
        # What is due comes first, though the service may have been down when it was.
        due = await store.take_due(connection, ids, now)
        windows = await store.load_windows(connection, ids)
        keys = {key for message, _ in commands if (key := answer_key(message)) is not None}
        book = Book(windows, await store.load_answers(connection, keys), self.policy, now)
        catch_up(book, due)
        for message, _ in commands:
            decide_command(book, message)
        await store.record(connection, book)
        return effects_of(book)

    async def on_transfers(self, connection: Connection, batch: Batch, now: datetime) -> Effects:
        """Note whose transfers windows held or refused, what was used of compensation, and banks that are silent."""
        if batch.timers:
            return await self._on_timers(connection, batch.timers, now)
        book = Book({}, {}, self.policy, now)
        await self._note_affected(connection, book, batch.messages)
        await self._note_used(connection, book, batch.messages)
        if self.policy.rails.trip_at:
            await self._watch_rails(connection, book, batch.messages)
        await store.record(connection, book)
        return effects_of(book)

    async def _on_timers(self, connection: Connection, timers: Sequence[Timer], now: datetime) -> Effects:
        windows = await store.load_windows(connection, {UUID(timer.subject) for timer in timers})
        book = Book(windows, {}, self.policy, now)
        catch_up(book, [timer for timer in timers if timer.kind in STEPS])
        for timer in timers:
            window = windows.get(UUID(timer.subject))
            if timer.kind == GRANT_TIMER and window is not None and window.compensates:
                await self._grant(connection, book, timer.lane, window)
        await store.record(connection, book)
        return effects_of(book)

    # --- What windows owe ---

    async def _grant(self, connection: Connection, book: Book, lane: Lane, window: Window) -> None:
        expires_at = book.now + timedelta(seconds=self.policy.compensation.expires_after_s)
        grants = await store.grant_compensation(connection, window.window_id, book.now, expires_at, _GRANTED_AT_ONCE)
        for grant in grants:
            book.grant(lane, window, grant)
        if len(grants) == _GRANTED_AT_ONCE:
            book.set_timer(lane, GRANT_TIMER, window, book.now)

    async def _note_affected(self, connection: Connection, book: Book, messages: Sequence[Message]) -> None:
        stopped = [
            (message, window_id, customer_id)
            for message in messages
            if (window_id := _stopped_by(message.data)) is not None
            and (customer_id := _customer_of(message.data)) is not None
        ]
        if not stopped:
            return
        windows = await store.load_windows(connection, {window_id for _, window_id, _ in stopped})
        book.windows.update(windows)
        owed = [entry for entry in stopped if entry[1] in windows and windows[entry[1]].compensates]
        affected = dict.fromkeys((window_id, customer_id) for _, window_id, customer_id in owed)
        await store.record_affected(connection, [Affected(*key, compensation_id(*key)) for key in affected])
        for message, window_id, _ in owed:
            if windows[window_id].status in OVER:
                # It was said after the window's end: those who were told in time have theirs.
                book.set_timer(message.lane, GRANT_TIMER, windows[window_id], book.now)

    async def _note_used(self, connection: Connection, book: Book, messages: Sequence[Message]) -> None:
        uses = [(message, message.data) for message in messages if isinstance(message.data, FeeWaived)]
        if not uses:
            return
        grants = await store.use_compensation(connection, [use.compensation_id for _, use in uses])
        missing = {grant.window_id for grant in grants.values()} - book.windows.keys()
        book.windows.update(await store.load_windows(connection, missing))
        for message, use in uses:
            grant = grants.get(use.compensation_id)
            if grant is not None:
                book.use(message.lane, book.windows[grant.window_id], grant, use.transfer_id)

    # --- Rails that stop answering ---

    async def _watch_rails(self, connection: Connection, book: Book, messages: Sequence[Message]) -> None:
        silent = {
            data.transfer_id: _bank_of(data.payee)
            for message in messages
            if isinstance(data := message.data, TransferDelayed) and data.kind == "withdrawal"
        }
        answers: list[Any] = [message.data for message in messages if message.type.startswith("payout.")]
        await store.record_silent(connection, silent, book.now)
        banks = await store.take_answered(connection, [answer.transfer_id for answer in answers]) if answers else set()
        if banks:
            await self._end_tripped(connection, book, messages[0].lane, await store.take_tripped(connection, banks))
        if not silent:
            return
        counts = await store.count_silent(connection, set(silent.values()))
        tripped = {}
        for message in messages:
            data = message.data
            if isinstance(data, TransferDelayed) and data.kind == "withdrawal":
                bank = _bank_of(data.payee)
                payouts, window_id = counts[bank]
                if payouts >= self.policy.rails.trip_at and window_id is None and bank not in tripped:
                    tripped[bank] = trip(book, message, bank).window_id
        await store.record_tripped(connection, tripped)

    async def _end_tripped(self, connection: Connection, book: Book, lane: Lane, ids: Sequence[UUID]) -> None:
        missing = set(ids) - book.windows.keys()
        book.windows.update(await store.load_windows(connection, missing))
        for window_id in ids:
            window = book.windows[window_id]
            if window.status in CLOSING:
                end(book, lane, window)


def effects_of(book: Book) -> Effects:
    """Return what a decided batch asks of the runtime."""
    return Effects(
        outgoing=book.outgoing,
        timers_set=[timer for timer in book.timers.values() if timer is not None],
        timers_cleared=[TimerKey(*key) for key, timer in book.timers.items() if timer is None],
    )


def _stopped_by(data: object) -> UUID | None:
    return data.window_id if isinstance(data, TransferHeld | TransferFailed) else None


def _customer_of(data: Any) -> str | None:
    customer_id: str | None = data.payer_customer_id or data.payee_customer_id
    return customer_id


def _bank_of(party: str) -> str:
    return party.split(":", 2)[1]
