"""Dead letters as they stand in their topics: read whole, each with what became of it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Consumer, KafkaError, TopicPartition

from local.settings import runtime_settings
from ops.brokers import NoAnswer, asking
from ops.errors import UserError
from ops.moments import NoMoment, moment_of
from schemas.topics import DEAD_LETTER_SUFFIX, TOPICS
from services.runtime.kafka import admin_options
from services.runtime.topics import Log, Place, Topics, places_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from confluent_kafka import Message

    from ops.running import Running
    from services.runtime.settings import RuntimeSettings

_READ_WITHIN_S: Final = 60.0
_CHUNK: Final = 500
_NAMES: Final = tuple(topic.name for topic in TOPICS if topic.name.endswith(DEAD_LETTER_SUFFIX))
_PREFIX: Final = "dlq-"
CUT_HEADERS: Final = frozenset({"dlq-headers-dropped", "dlq-value-bytes", "dlq-key-bytes"})
"""What a dead letter has that was too large to be kept whole."""

REPLAY_OF: Final = "dlq-replay-of"
"""The header of a replayed record: the dead letter that it was."""

UNSAID: Final = "?"
"""What stands for a place that a dead letter does not name: only others than our services write such."""


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


def read_letters(running: Running, names: Sequence[str], wanted: Callable[[Letter], bool]) -> list[Letter]:
    """Return every dead letter of these topics that is wanted, the oldest first; raises NoAnswer."""
    settings = runtime_settings(running.kafka, running.database)
    with asking(running):
        logs = asyncio.run(logs_of(settings, names))
        spans = {place: (log.start, log.end) for place, log in logs.items()}
        found = (_letter(place, message, logs[place]) for place, message in read_spans(settings, spans))
        letters = [letter for letter in found if wanted(letter)]
    return sorted(letters, key=lambda letter: (letter.at, letter.topic, letter.partition, letter.offset))


async def logs_of(settings: RuntimeSettings, names: Sequence[str]) -> dict[Place, Log]:
    """Return the log of each partition of these topics; TopicMissing or KafkaException when one can't be had."""
    topics = Topics(settings, "sluice.dlq")
    return await topics.logs(places_of(await topics.partition_counts(names)))


def read_spans(settings: RuntimeSettings, spans: Mapping[Place, tuple[int, int]]) -> Iterator[tuple[Place, Message]]:
    """Yield the records from each partition's first offset to before its second, in any order; raises NoAnswer."""
    prefix = settings.topic_prefix
    waiting = {place: span for place, span in spans.items() if span[0] < span[1]}
    # Without a group: nothing is committed, and nobody is moved.
    own = {"group.id": "unused", "enable.auto.commit": False, "enable.partition.eof": True, "log_level": 0}
    consumer = Consumer({**admin_options(settings, "sluice.dlq"), **own})
    try:
        consumer.assign(
            [TopicPartition(prefix + place.topic, place.partition, start) for place, (start, _) in waiting.items()]
        )
        deadline = time.monotonic() + _READ_WITHIN_S
        while waiting:
            if time.monotonic() > deadline:
                raise NoAnswer(f"Kafka did not give the records within {_READ_WITHIN_S:g} s.")
            for message in consumer.consume(_CHUNK, 0.2):
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


def _letter(place: Place, message: Message, log: Log) -> Letter:
    headers: Any = message.headers()
    sent: list[tuple[str, Any]] = list(headers or ())
    # A record that was a dead letter before has the older headers first.
    said = {name: text_of(value or b"") for name, value in sent if name.startswith(_PREFIX)}
    key: Any = message.key()
    value: Any = message.value()
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
        headers=tuple((name, value) for name, value in sent if not name.startswith(_PREFIX)),
        cut=frozenset(said) & CUT_HEADERS,
    )


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
