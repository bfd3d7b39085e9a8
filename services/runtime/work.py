"""What one transaction handles: records taken from partitions or timers that are due; it can be halved."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import chain, groupby
from typing import TYPE_CHECKING, Protocol

from services.runtime import timers
from services.runtime.dead_letters import dead_letter
from services.runtime.intake import Taken, reject
from services.runtime.log import summarise
from services.runtime.message import Batch, Effects, Lane

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from services.runtime.database import Connection
    from services.runtime.dead_letters import Rejected
    from services.runtime.message import Message, Outgoing, Timer, Unfit
    from services.runtime.service import Subscription
    from services.runtime.topics import Place


# What a transaction holds of messages is some fifty times what they weigh on the wire. A little more than a fetch
# aims at: ordinary messages, however many, stay one transaction.
_HEAVIEST_BYTES = 800_000


@dataclass(frozen=True, slots=True)
class LetterPolicy:
    """Who signs dead letters, and how long they may be."""

    service: str
    max_bytes: int


class Work(Protocol):
    """One transaction's work."""

    @property
    def size(self) -> int:
        """How many records or timers."""

    @property
    def handled(self) -> int:
        """How many records or timers reach a handler."""

    @property
    def is_heavy(self) -> bool:
        """Whether it is more than one transaction should hold, and can be halved."""

    @property
    def messages(self) -> Sequence[Message]:
        """The messages that reach a handler."""

    @property
    def lanes(self) -> Sequence[Lane]:
        """The lanes that it belongs to, each once."""

    @property
    def next_offsets(self) -> Mapping[Place, int]:
        """Where the partitions go on after it."""

    @property
    def rejections(self) -> Mapping[tuple[str, str], int]:
        """How many dead letters it writes, by topic and reason."""

    async def handle(self, connection: Connection, now: datetime) -> Effects:
        """Give it to the handlers, within the transaction."""

    def halves(self) -> tuple[Work, Work]:
        """Return the first half and the second, each in order; only for a size of 2 or more."""

    def abandoned(self, error: BaseException) -> Work:
        """Return the work of setting this aside because its handling fails; only for a size of 1."""


@dataclass(frozen=True, slots=True)
class RecordWork:
    """Records, in the order of the service's subscriptions, then by partition; a partition's may be several parts."""

    parts: Sequence[Taken]
    letters: LetterPolicy
    unfit: list[Rejected] = field(default_factory=list, init=False)
    """What the handlers could make nothing of, the last time that they were asked."""

    @property
    def size(self) -> int:
        """How many records."""
        return sum(len(part.records) for part in self.parts)

    @property
    def handled(self) -> int:
        """How many records are messages: those that are none say nothing of the handlers' health."""
        return sum(len(part.messages) for part in self.parts)

    @property
    def messages(self) -> Sequence[Message]:
        """The messages that reach a handler, in order."""
        return list(chain.from_iterable(part.messages for part in self.parts))

    @property
    def is_heavy(self) -> bool:
        """Whether they are of several subscriptions, or their values too many bytes: one may hold a thousand orders.

        Each handler takes its locks in one order; two that take theirs after one another would have none.
        """
        is_mixed = len(self.of_subscriptions) > 1
        return is_mixed or (self.size > 1 and sum(part.value_bytes for part in self.parts) > _HEAVIEST_BYTES)

    @property
    def of_subscriptions(self) -> Sequence[Sequence[Taken]]:
        """The parts of each subscription."""
        return [list(parts) for _, parts in groupby(self.parts, key=lambda part: part.subscription)]

    @property
    def lanes(self) -> Sequence[Lane]:
        """The lanes that the records belong to, each once."""
        return list(dict.fromkeys(part.lane for part in self.parts))

    @property
    def starts(self) -> Mapping[Place, int]:
        """The offset of each partition's first record."""
        return {part.place: int(part.records[0].offset) for part in reversed(self.parts)}

    @property
    def next_offsets(self) -> Mapping[Place, int]:
        """Where the partitions go on after the records."""
        return {part.place: part.next_offset for part in self.parts}

    @property
    def rejections(self) -> Mapping[tuple[str, str], int]:
        """How many dead letters are written, by topic and reason."""
        malformed = chain.from_iterable(part.rejected for part in self.parts)
        return Counter((rejected.topic, rejected.reason) for rejected in chain(malformed, self.unfit))

    async def handle(self, connection: Connection, now: datetime) -> Effects:
        """Dead-letter what was rejected, and give the subscription's handler its messages."""
        self.unfit.clear()
        letters, messages = self._dead_letters(now), self.messages
        if not messages:
            return letters
        found = await self.parts[0].subscription.handler(connection, Batch(messages), now)
        return merge([letters, Effects(outgoing=[self._set_aside(unfit, now) for unfit in found.unfit]), found])

    def _dead_letters(self, now: datetime) -> Effects:
        return Effects(
            outgoing=[
                dead_letter(rejected, part.lane, self.letters.service, now, self.letters.max_bytes)
                for part in self.parts
                for rejected in part.rejected
            ]
        )

    def _set_aside(self, unfit: Unfit, now: datetime) -> Outgoing:
        message = unfit.message
        part = next(
            part
            for part in self.parts
            if part.lane == message.lane and part.place.topic == message.topic and message.offset < part.next_offset
        )
        record = next(record for record in part.records if record.offset == message.offset)
        rejected = reject(part.place, record, "malformed", unfit.detail)
        self.unfit.append(rejected)
        return dead_letter(rejected, part.lane, self.letters.service, now, self.letters.max_bytes)

    def halves(self) -> tuple[Work, Work]:
        """Return the first half of the records and the second; of several subscriptions the first and the others."""
        of_first, *of_others = self.of_subscriptions
        if of_others:
            return RecordWork(of_first, self.letters), RecordWork(list(chain.from_iterable(of_others)), self.letters)
        wanted = self.size // 2
        first: list[Taken] = []
        second: list[Taken] = []
        for part in self.parts:
            missing = wanted - sum(len(taken.records) for taken in first)
            if len(part.records) <= missing:
                first.append(part)
            elif missing <= 0:
                second.append(part)
            else:
                head, tail = part.split(missing)
                first.append(head)
                second.append(tail)
        return RecordWork(first, self.letters), RecordWork(second, self.letters)

    def abandoned(self, error: BaseException) -> Work:
        """Return the work of dead-lettering the one record, with the failure's places, not its text."""
        part = self.parts[0]
        rejected = reject(part.place, part.records[0], "unexpected", summarise(error))
        return RecordWork([Taken(part.subscription, part.place, part.records, [], [rejected])], self.letters)


@dataclass(frozen=True, slots=True)
class SkipWork:
    """Going on behind records that no reader is given: the markers of publishers' transactions, and aborted ones."""

    lanes: Sequence[Lane]
    next_offsets: Mapping[Place, int]
    size: int = 0
    handled: int = 0
    messages: Sequence[Message] = ()
    is_heavy: bool = False
    rejections: Mapping[tuple[str, str], int] = field(default_factory=dict)

    async def handle(self, _connection: Connection, _now: datetime) -> Effects:
        """Nothing: only the offsets move."""
        return Effects()

    def halves(self) -> tuple[Work, Work]:
        """Never asked for: it has no size."""
        raise NotImplementedError

    def abandoned(self, error: BaseException) -> Work:
        """Give up: there is nothing in it that could fail."""
        raise error


@dataclass(frozen=True, slots=True)
class TimerWork:
    """Timers of one lane group, in the order in which they are due."""

    subscription: Subscription
    timers: Sequence[Timer]

    @property
    def size(self) -> int:
        """How many timers."""
        return len(self.timers)

    @property
    def handled(self) -> int:
        """How many timers reach a handler."""
        return len(self.timers)

    @property
    def messages(self) -> Sequence[Message]:
        """None: timers are no messages."""
        return ()

    @property
    def is_heavy(self) -> bool:
        """Never: each timer is one thing to do."""
        return False

    @property
    def lanes(self) -> Sequence[Lane]:
        """The lanes that the timers belong to, each once."""
        return list(dict.fromkeys(timer.lane for timer in self.timers))

    @property
    def next_offsets(self) -> Mapping[Place, int]:
        """Nothing: timers move no offset."""
        return {}

    @property
    def rejections(self) -> Mapping[tuple[str, str], int]:
        """Nothing: a timer is never dead-lettered."""
        return {}

    async def handle(self, connection: Connection, now: datetime) -> Effects:
        """Take the timers and give them to the lane group's handler."""
        taken = await timers.take(connection, self.timers)
        if not taken:
            return Effects()
        return await self.subscription.handler(connection, Batch((), taken), now)

    def halves(self) -> tuple[Work, Work]:
        """Return the earlier half of the timers and the later."""
        middle = self.size // 2
        return (
            TimerWork(self.subscription, self.timers[:middle]),
            TimerWork(self.subscription, self.timers[middle:]),
        )

    def abandoned(self, error: BaseException) -> Work:
        """Return the work of parking the one timer."""
        return ParkWork(self.subscription, self.timers, summarise(error))


@dataclass(frozen=True, slots=True)
class ParkWork(TimerWork):
    """A timer whose handling fails: it is put aside for a person."""

    failure: str

    @property
    def handled(self) -> int:
        """None: no handler is asked."""
        return 0

    async def handle(self, connection: Connection, now: datetime) -> Effects:
        """Park the timer."""
        for timer in self.timers:
            await timers.park(connection, timer, self.failure, now)
        return Effects()


def merge(effects: Sequence[Effects]) -> Effects:
    """Return the effects of several handlers as one, in their order; only the last may still be recording."""
    return Effects(
        outgoing=[message for effect in effects for message in effect.outgoing],
        timers_set=[timer for effect in effects for timer in effect.timers_set],
        timers_cleared=[key for effect in effects for key in effect.timers_cleared],
        unfit=[unfit for effect in effects for unfit in effect.unfit],
        recording=effects[-1].recording,
    )
