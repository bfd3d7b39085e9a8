"""Dead letters as they stand in their topics, read one after the other."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from confluent_kafka import Consumer, KafkaError, TopicPartition

from local.settings import runtime_settings
from ops.brokers import NoAnswer, asking
from ops.errors import UserError
from ops.moments import NoMoment, moment_of
from schemas.topics import DEAD_LETTER_SUFFIX, TOPICS
from services.runtime.dead_letters import REASON_HEADERS
from services.runtime.kafka import admin_options
from services.runtime.topics import Log, Place, Topics, places_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from confluent_kafka import Message

    from ops.running import Running
    from services.runtime.settings import RuntimeSettings

_NEXT_WITHIN_S: Final = 30.0
_CHUNK: Final = 500
_READ_AHEAD_KB: Final = 16_384
"""So much the client keeps of what it has fetched: it would keep 64 MB otherwise."""

_NAMES: Final = tuple(topic.name for topic in TOPICS if topic.name.endswith(DEAD_LETTER_SUFFIX))
CUT_HEADERS: Final = frozenset({"dlq-headers-dropped", "dlq-value-bytes", "dlq-key-bytes"})
"""What a dead letter has that was too large to be kept whole."""

REPLAY_OF: Final = "dlq-replay-of"
"""The header of a replayed record: the dead letter that it was."""

_FIRST: Final = REASON_HEADERS[0]
_LEFT: Final = frozenset({*REASON_HEADERS, REPLAY_OF})
_OURS: Final = _LEFT | CUT_HEADERS

UNSAID: Final = "?"
"""What stands for a place that a dead letter does not name: only others than our services write such."""


Span: TypeAlias = tuple[int, int]
"""From an offset to before another."""


class NoSuchTopic(UserError):
    """There is no topic of that name; the text says which there are."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter: where it stands, why it is one, and the record that it was.

    `topic` is the dead-letter topic's name without a prefix; `original` is where the record stood. `headers` are the
    record's own; `cut` names what it lost because it was too large.
    """

    topic: str
    partition: int
    offset: int
    topic_id: str
    at: datetime
    reason: str
    detail: str
    service: str
    original: tuple[str, int | None, int | None]
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    cut: frozenset[str]

    @property
    def id(self) -> str:
        """Its place, as people name it: `transfer.commands.dlq/0/17`."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    @property
    def place(self) -> tuple[str, int, int]:
        """Its place for ever, also where the topic is made again: the topic's id, the partition and the offset."""
        return self.topic_id, self.partition, self.offset

    @property
    def original_text(self) -> str:
        """Where the record stood: `transfer.commands/0/4711`."""
        return "/".join(UNSAID if part is None else str(part) for part in self.original)


def names_of(topic: str | None) -> Sequence[str]:
    """Return the dead-letter topics that a word is about, all of them without one; raises NoSuchTopic."""
    if topic is None:
        return _NAMES
    name = topic.removesuffix(DEAD_LETTER_SUFFIX) + DEAD_LETTER_SUFFIX
    if name not in _NAMES:
        there_are = ", ".join(each.removesuffix(DEAD_LETTER_SUFFIX) for each in _NAMES)
        raise NoSuchTopic(f"There is no topic {topic!r}; there is {there_are}.")
    return [name]


def read_letters(
    running: Running, names: Sequence[str], spans: Mapping[Place, Span] | None = None, *, values: bool = True
) -> Iterator[Letter]:
    """Yield the dead letters of these topics in any order, all or those in some spans alone; raises NoAnswer.

    Without `values` they have none: each may be a million bytes.
    """
    settings = runtime_settings(running.kafka, running.database)
    with asking(running):
        logs = asyncio.run(logs_of(settings, names))
        there = {place: (log.start, log.end) for place, log in logs.items() if spans is None or place in spans}
        asked = there if spans is None else {place: _within(span, spans[place]) for place, span in there.items()}
        for place, message in read_spans(settings, asked):
            yield _letter(place, message, logs[place], values=values)


def age_of(letter: Letter) -> tuple[datetime, str, int, int]:
    """Return what letters are sorted by, the oldest first."""
    return letter.at, letter.topic, letter.partition, letter.offset


def _within(span: Span, asked: Span) -> Span:
    return max(span[0], asked[0]), min(span[1], asked[1])


async def logs_of(settings: RuntimeSettings, names: Sequence[str]) -> dict[Place, Log]:
    """Return the log of each partition of these topics; TopicMissing or KafkaException when one can't be had."""
    topics = Topics(settings, "sluice.dlq")
    return await topics.logs(places_of(await topics.partition_counts(names)))


def read_spans(settings: RuntimeSettings, spans: Mapping[Place, Span]) -> Iterator[tuple[Place, Message]]:
    """Yield the records from each partition's first offset to before its second, in any order; raises NoAnswer."""
    prefix = settings.topic_prefix
    waiting = {place: span for place, span in spans.items() if span[0] < span[1]}
    # Without a group: nothing is committed, and nobody is moved. What retention takes meanwhile is passed over.
    own: dict[str, Any] = {"group.id": "unused", "enable.auto.commit": False, "enable.partition.eof": True}
    own |= {"auto.offset.reset": "earliest"}
    own |= {"queued.max.messages.kbytes": _READ_AHEAD_KB, "log_level": 0}
    consumer = Consumer({**admin_options(settings, "sluice.dlq"), **own})
    try:
        consumer.assign(
            [TopicPartition(prefix + place.topic, place.partition, start) for place, (start, _) in waiting.items()]
        )
        heard_at = time.monotonic()
        while waiting:
            messages = consumer.consume(_CHUNK, 0.2)
            if messages:
                heard_at = time.monotonic()
            elif time.monotonic() > heard_at + _NEXT_WITHIN_S:
                raise NoAnswer(f"Kafka did not give the records within {_NEXT_WITHIN_S:g} s.")
            for message in messages:
                place = Place((message.topic() or "").removeprefix(prefix), message.partition() or 0)
                offset = message.offset() or 0
                if place not in waiting:
                    continue
                end = waiting[place][1]
                if message.error() is None and offset < end:
                    yield place, message
                if _is_at_end(message) or offset + 1 >= end:
                    del waiting[place]
    finally:
        consumer.close()


def _is_at_end(message: Message) -> bool:
    error = message.error()
    return error is not None and error.code() == KafkaError._PARTITION_EOF  # noqa: SLF001 - the client's own name


def _letter(place: Place, message: Message, log: Log, *, values: bool) -> Letter:
    headers: Any = message.headers()
    sent: list[tuple[str, Any]] = list(headers or ())
    own, added = _apart(sent)
    said = {name: text_of(value or b"") for name, value in added}
    key: Any = message.key()
    value: Any = message.value() if values else None
    return Letter(
        topic=place.topic,
        partition=place.partition,
        offset=message.offset() or 0,
        topic_id=log.topic_id,
        at=_moment(said.get("dlq-time", ""), message.timestamp()[1]),
        reason=said.get("dlq-reason", ""),
        detail=said.get("dlq-detail", ""),
        service=said.get("dlq-service", ""),
        original=(said.get("dlq-topic", UNSAID), _number(said.get("dlq-partition")), _number(said.get("dlq-offset"))),
        key=key,
        value=value,
        headers=tuple(own),
        cut=frozenset(said) & CUT_HEADERS,
    )


def _apart(sent: list[tuple[str, Any]]) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
    """Return the record's own headers, and those that say why it is a dead letter, which stand behind them.

    Its own may be called as ours are; what a replay or an earlier dead letter left of ours is nobody's any more.
    """
    begins = max((place for place, (name, _) in enumerate(sent) if name == _FIRST), default=None)
    if begins is None:
        return [each for each in sent if each[0] not in _OURS], [each for each in sent if each[0] in _OURS]
    return [each for each in sent[:begins] if each[0] not in _LEFT], sent[begins:]


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _moment(text: str, appended_ms: int) -> datetime:
    try:
        return moment_of(text).astimezone(UTC)
    except NoMoment:
        return datetime.fromtimestamp(max(0, appended_ms) / 1000, UTC)


def text_of(raw: str | bytes) -> str:
    """Return what people read of bytes that should be text."""
    return raw if isinstance(raw, str) else raw.decode("utf-8", "backslashreplace")
