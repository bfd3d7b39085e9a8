"""One coroutine per kind of batch: load, decide, record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

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
    owe,
    rail_window_id,
    subject_of,
    trip,
)
from services.maintenance.model import CLOSING, GRANT_TIMER, OVER, Affected
from services.runtime.message import Effects

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
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
        book = Book({}, {}, self.policy, now)
        await self._note_affected(connection, book, batch.messages)
        await self._note_used(connection, book, batch.messages)
        if self.policy.rails.trip_at:
            await self._watch_rails(connection, book, batch.messages)
        await store.record(connection, book)
        return Effects.of(book.outgoing, book.timers)

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

    async def _note_affected(self, connection: Connection, book: Book, messages: Sequence[Message]) -> None:
        stopped = [
            (message.lane, window_id, customer_id)
            for message in messages
            if (window_id := _stopped_by(message.data)) is not None
            and (customer_id := _customer_of(message.data)) is not None
        ]
        # Only read: whoever changes them must not wait for every lane, nor the lanes for each other.
        windows = await store.load_windows(connection, {window_id for _, window_id, _ in stopped}, locks=False)
        book.windows.update(windows)
        owed = [one for one in stopped if one[1] in windows and windows[one[1]].compensates]
        affected = sorted({(window_id, customer_id) for _, window_id, customer_id in owed})
        await store.record_affected(connection, [Affected(*key, compensation_id(*key)) for key in affected])
        for lane, window_id, _ in owed:
            # Though the window may have ended just now, the timer looks once that is known.
            owe(book, lane, windows[window_id])

    async def _note_used(self, connection: Connection, book: Book, messages: Sequence[Message]) -> None:
        uses = {
            (use.compensation_id, use.transfer_id): (message.lane, use)
            for message in messages
            if isinstance(use := message.data, FeeWaived)
        }
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


def _stopped_by(data: object) -> UUID | None:
    return data.window_id if isinstance(data, TransferHeld | TransferFailed) else None


def _customer_of(data: Any) -> str | None:
    customer_id: str | None = data.payer_customer_id or data.payee_customer_id
    return customer_id


def _bank_of(party: str) -> str:
    return party.split(":", 2)[1]
