"""What the handlers do for clearances: lock them before anything else, decide, record."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from schemas.account import AccountReported, AccountsReportFinished
from schemas.closure import ClearanceStart
from services.closure import clearance_store, store
from services.closure.decide import clearance as decide
from services.closure.decide.clearance import TIMERS, Clearances
from services.closure.model import ClearanceStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from services.closure.decide.book import Book
    from services.closure.decide.clearance import Tally
    from services.closure.model import Clearance
    from services.closure.policy import Policy
    from services.runtime.database import Connection
    from services.runtime.message import Message, Timer

COMMANDS: Final = frozenset({"clearance.start", "clearance.pause", "clearance.resume"})
_REPORTS: Final = frozenset({"account.reported", "accounts.report_finished"})


def is_of_clearance(timer: Timer) -> bool:
    """Tell whether a timer is a clearance's, not a case's."""
    return timer.kind in TIMERS


# --- Commands ---


async def lock_named(connection: Connection, messages: Sequence[Message]) -> list[Clearance]:
    """Lock the clearances that commands name, known or new."""
    said: list[Any] = [message.data for message in messages if message.type in COMMANDS]
    await clearance_store.lock_ids(connection, {one.clearance_id for one in said if isinstance(one, ClearanceStart)})
    return await clearance_store.lock(connection, {one.clearance_id for one in said})


async def tally_named(
    connection: Connection, messages: Sequence[Message], known: Sequence[Clearance], now: datetime
) -> dict[UUID, Tally]:
    """Return how the clearances stand that are paused and resumed."""
    said: list[Any] = [message.data for message in messages if message.type in COMMANDS]
    asked = {one.clearance_id for one in said if not isinstance(one, ClearanceStart)}
    return {
        one.clearance_id: await clearance_store.tally(connection, one.clearance_id, one.deadline, now)
        for one in known
        if one.clearance_id in asked and one.status == ClearanceStatus.RUNNING
    }


def decide_command(desk: Clearances, message: Message, tallies: dict[UUID, Tally]) -> None:
    """Decide what a command makes of a clearance."""
    data: Any = message.data
    if isinstance(data, ClearanceStart):
        decide.decide_start(desk, message, data)
        return
    change = decide.decide_pause if message.type == "clearance.pause" else decide.decide_resume
    tally = tallies.get(data.clearance_id)
    desk.book.decide_once(message, lambda _book, one, command: change(desk, one, command, tally))


# --- Reports ---


class Reports:
    """What a batch says of wallets that clearances have asked about, with those clearances locked."""

    def __init__(self, asked: dict[UUID, UUID], known: list[Clearance]) -> None:
        self.asked = asked
        self.known = known

    @classmethod
    async def lock(cls, connection: Connection, messages: Sequence[Message]) -> Reports:
        """Lock the clearances that asked for what these messages say."""
        said: list[Any] = [message.data for message in messages if message.type in _REPORTS]
        asked = await clearance_store.find_reports(connection, {one.report_id for one in said})
        return cls(asked, await clearance_store.lock(connection, set(asked.values())))

    def has(self, message: Message) -> bool:
        """Tell whether a message answers a clearance."""
        data: Any = message.data
        return message.type in _REPORTS and data.report_id in self.asked

    async def take(self, connection: Connection, book: Book, messages: Sequence[Message]) -> Clearances:
        """Note how the wallets stand, and begin with the clearances of which everything is known."""
        desk = Clearances(book, self.known)
        ours = [message for message in messages if self.has(message)]
        if not ours:
            return desk
        told = [message.data for message in ours if isinstance(message.data, AccountReported)]
        finished = [message.data for message in ours if isinstance(message.data, AccountsReportFinished)]
        whole = await clearance_store.record_reported(connection, told, finished, list(desk.known))
        for clearance_id, wallets in whole.items():
            decide.begin_running(desk, ours[-1].lane, desk.known[clearance_id], wallets)
        return desk


# --- Timers ---


class Due:
    """The clearances whose timers have come, locked, and what they need to know besides."""

    def __init__(self, timers: Sequence[Timer], known: Sequence[Clearance]) -> None:
        self.timers = timers
        self.known = {one.clearance_id: one for one in known}
        self.next: dict[UUID, list[Any]] = {}
        self.wanting: dict[UUID, list[UUID]] = {}

    @classmethod
    async def lock(cls, connection: Connection, timers: Sequence[Timer]) -> Due:
        """Lock the clearances of these timers."""
        ours = [timer for timer in timers if is_of_clearance(timer)]
        return cls(ours, await clearance_store.lock(connection, {UUID(timer.subject) for timer in ours}))

    async def ask(self, connection: Connection, asked: store.Subjects, policy: Policy, now: datetime) -> None:
        """Find the next wallets and cases that it is about, and name them to be locked and loaded with the others."""
        for timer in self.timers:
            clearance = self.known.get(UUID(timer.subject))
            if clearance is None:
                continue
            if timer.kind == decide.BEGIN_TIMER:
                await self._ask_next(connection, asked, clearance, decide.begun_now(clearance, policy, now))
            elif timer.kind == decide.WAVE_TIMER and decide.is_wave_due(clearance, now):
                limit = policy.clearance.begun_at_once
                found = await clearance_store.load_wanting(connection, clearance, limit)
                self.wanting[clearance.clearance_id] = found
                asked.cases.update(found)

    async def _ask_next(self, connection: Connection, asked: store.Subjects, clearance: Clearance, limit: int) -> None:
        found = await clearance_store.load_next(connection, clearance, limit) if limit else []
        if len(found) < limit:
            found += await clearance_store.load_lost(connection, clearance, limit - len(found))
        self.next[clearance.clearance_id] = found
        asked.customers.update(one.customer_id for one in found)
        asked.subjects.update(one.account_id for one in found)

    async def decide(self, connection: Connection, book: Book, policy: Policy) -> Clearances:
        """Decide what each moment means to its clearance."""
        desk = Clearances(book, self.known.values())
        for timer in self.timers:
            clearance = self.known.get(UUID(timer.subject))
            if clearance is not None:
                await _MOMENTS[timer.kind](self, connection, desk, timer, clearance, policy)
        return desk

    async def _announce(
        self, connection: Connection, desk: Clearances, timer: Timer, clearance: Clearance, _policy: Policy
    ) -> None:
        named = await clearance_store.load_subjects(connection, clearance.clearance_id)
        wallets = await clearance_store.count_wallets(connection, named)
        decide.announce(desk, timer.lane, clearance, named, wallets)

    async def _start(
        self, connection: Connection, desk: Clearances, timer: Timer, clearance: Clearance, _policy: Policy
    ) -> None:
        named = await clearance_store.load_subjects(connection, clearance.clearance_id)
        decide.ask_reports(desk, timer.lane, clearance, named)

    async def _begin(
        self, connection: Connection, desk: Clearances, timer: Timer, clearance: Clearance, policy: Policy
    ) -> None:
        if clearance.paused or clearance.status != ClearanceStatus.RUNNING:
            return
        found = self.next.get(clearance.clearance_id, [])
        limit = decide.begun_now(clearance, policy, desk.book.now)
        closed = await clearance_store.find_closed(connection, [one.account_id for one in found], clearance.asked_at)
        decide.begin_cases(desk, timer.lane, clearance, found, closed, is_last=len(found) < limit)

    async def _speak(
        self, _connection: Connection, desk: Clearances, timer: Timer, clearance: Clearance, policy: Policy
    ) -> None:
        wanting = self.wanting.get(clearance.clearance_id)
        if wanting is not None:
            is_last = len(wanting) < policy.clearance.begun_at_once
            decide.speak_to(desk, timer.lane, clearance, wanting, is_last=is_last)

    async def _look(
        self, connection: Connection, desk: Clearances, timer: Timer, clearance: Clearance, _policy: Policy
    ) -> None:
        if clearance.dry_run:
            tally, blockers = await clearance_store.tally_dry(connection, clearance.clearance_id)
            decide.finish(desk, timer.lane, clearance, tally, blockers)
            return
        is_over = clearance.deadline <= desk.book.now
        began = time.monotonic()
        tally = await clearance_store.tally(connection, clearance.clearance_id, clearance.deadline, desk.book.now)
        took_s = time.monotonic() - began
        stay: list[dict[str, Any]] = []
        if tally.blocked and decide.is_done(clearance, tally, desk.book.now):
            stay = await clearance_store.list_blocked(connection, clearance.clearance_id, is_over=is_over)
        decide.look(desk, timer.lane, clearance, tally, stay, took_s=took_s)


_MOMENTS: Final[dict[str, Callable[..., Awaitable[None]]]] = {
    decide.ANNOUNCE_TIMER: Due._announce,  # noqa: SLF001
    decide.START_TIMER: Due._start,  # noqa: SLF001
    decide.BEGIN_TIMER: Due._begin,  # noqa: SLF001
    decide.WAVE_TIMER: Due._speak,  # noqa: SLF001
    decide.PROGRESS_TIMER: Due._look,  # noqa: SLF001
}
