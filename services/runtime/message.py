"""What goes into a handler and what comes out of it: messages, due timers and their effects."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from schemas.envelope import short_type

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from typing import Self

    from pydantic import BaseModel


class Lane(NamedTuple):
    """A group of co-partitioned topics and one partition number: what one worker handles at a time."""

    group: str
    partition: int


class Cause(NamedTuple):
    """What a message follows from: the correlation and the trace that it carries on."""

    correlation_id: str | None = None
    traceparent: str | None = None

    @classmethod
    def of(cls, cause: Caused) -> Cause:
        """Return what something that was caused carries on."""
        return cls(cause.correlation_id, cause.traceparent)


class Caused(Protocol):
    """Whatever keeps what it follows from: a message, a transfer, a case, a window."""

    @property
    def correlation_id(self) -> str | None:
        """The id that everything has which follows from one command."""

    @property
    def traceparent(self) -> str | None:
        """The W3C trace context that came with it."""


class Message(NamedTuple):
    """A decoded record; `data` is None only for a tombstone (a null value on a compacted topic).

    One that came without a correlation begins one: it is its own id.
    """

    lane: Lane
    topic: str
    offset: int
    key: bytes | None
    type: str
    id: str
    source: str
    data: BaseModel | None
    correlation_id: str | None = None
    traceparent: str | None = None


class Timer(NamedTuple):
    """Something to do at `due_at`; one a (kind, subject): setting it again moves it."""

    lane: Lane
    kind: str
    subject: str
    due_at: datetime


class TimerKey(NamedTuple):
    """What names a timer, whichever lane set it."""

    kind: str
    subject: str


class Outgoing(NamedTuple):
    """A message to publish on behalf of `lane`; `topic` is the logical name, `value` None is a tombstone."""

    lane: Lane
    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


def identity_of(message: Outgoing) -> tuple[str, str]:
    """Return the short type and the id of one of our own messages."""
    headers = dict(message.headers)
    return short_type((headers["ce_type"] or b"").decode()), (headers["ce_id"] or b"").decode()


def type_of(message: Outgoing) -> str:
    """Return the short type of one of our own messages; empty for a tombstone, which has none."""
    found = next((value for name, value in message.headers if name == "ce_type"), None)
    return short_type((found or b"").decode())


def refusal_id(message: Message, *about: str) -> str:
    """Return the id of the answer that refuses a command, or what it says about one of several things.

    What was asked names the answer: asked again with another record, it is another answer.
    """
    asked = (message.source, message.id, message.topic, message.lane.partition, message.offset, *about)
    return f"{hashlib.blake2b(repr(asked).encode(), digest_size=16).hexdigest()}.refused"


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction handles: messages in the order of their partitions, then due timers."""

    messages: Sequence[Message]
    timers: Sequence[Timer] = ()


class Unfit(NamedTuple):
    """A message of the right form that its handler can make nothing of, and why: it goes to the dead letters."""

    message: Message
    detail: str


@dataclass(frozen=True, slots=True)
class Effects:
    """What a handler asks the runtime to record with its own changes, in the same transaction.

    Timers are cleared before timers are set: one in both ends up set.
    """

    outgoing: Sequence[Outgoing] = field(default=())
    timers_set: Sequence[Timer] = field(default=())
    timers_cleared: Sequence[TimerKey] = field(default=())
    unfit: Sequence[Unfit] = field(default=())
    recording: asyncio.Task[None] | None = None
    """What the handler is still recording; until it is done, the connection is not free for anything else."""

    @classmethod
    def of(
        cls,
        outgoing: Sequence[Outgoing],
        timers: Mapping[TimerKey, Timer | None],
        recording: asyncio.Task[None] | None = None,
    ) -> Self:
        """Return what a decided batch asks for; `timers` are set, or cleared where there is none."""
        return cls(
            outgoing=outgoing,
            timers_set=[timer for timer in timers.values() if timer is not None],
            timers_cleared=[key for key, timer in timers.items() if timer is None],
            recording=recording,
        )

    async def recorded(self) -> None:
        """Wait until the connection is free for something else."""
        if self.recording is not None:
            await self.recording
