"""What the brokers say about topics: their ids, and where each partition's log starts and ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from aiokafka import ConsumerRecord
from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from services.runtime.kafka import admin_options

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from services.runtime.intake import Record
    from services.runtime.settings import RuntimeSettings

_Answer = TypeVar("_Answer")

_REQUEST_TIMEOUT_S = 5.0
# Past the client's own time limit, so that its error comes first.
_ANSWER_TIMEOUT_S = 7.0


class TopicMissing(Exception):
    """A topic does not exist, or just now nobody leads it; the text names it."""


class Place(NamedTuple):
    """One partition of a topic, by the topic's logical name."""

    topic: str
    partition: int


class Log(NamedTuple):
    """A partition's log: of which topic, its first offset, and the offset that the next record gets."""

    topic_id: str
    start: int
    end: int


class Topics:
    """Asks the brokers in a thread, apart from the consumer, so as to know more than one that hangs."""

    def __init__(self, settings: RuntimeSettings, client_id: str) -> None:
        self._prefix = settings.topic_prefix
        # Its own log would come unstructured; what fails is raised.
        self._options: dict[str, str | int | float | bool] = {**admin_options(settings, client_id), "log_level": 0}
        self._admin = AdminClient(self._options)

    async def partition_counts(self, topics: Collection[str]) -> dict[str, int]:
        """Return each topic's number of partitions; TopicMissing or KafkaException when one can't be had."""
        described = await self._ask(lambda: self._describe(topics))
        return {topic: count for topic, (_, count) in described.items()}

    async def logs(self, places: Collection[Place]) -> dict[Place, Log]:
        """Return the log of each partition; TopicMissing or KafkaException when one can't be had."""
        return await self._ask(lambda: self._logs(places)) if places else {}

    async def committed(self, group: str, places: Collection[Place]) -> dict[Place, int]:
        """Return the offsets that a group has committed of these partitions; KafkaException when they can't be had."""
        return await self._ask(lambda: self._committed(group, places))

    async def read_bare(self, place: Place, offset: int) -> Record:
        """Return the first record at or after an offset, without its headers, which nobody can read."""
        return await asyncio.to_thread(self._read_bare, place, offset)

    async def _ask(self, question: Callable[[], _Answer]) -> _Answer:
        def ask() -> _Answer:
            try:
                return question()
            except (KafkaException, TopicMissing):
                # A client that has lost a broker twice may connect to it without a pause, a core's worth, until it is
                # back. Here in the thread, because the old one takes a moment to end.
                self._admin = AdminClient(self._options)
                raise

        return await asyncio.to_thread(ask)

    def _read_bare(self, place: Place, offset: int) -> Record:
        reader = Consumer({**self._options, "group.id": "unused", "enable.auto.commit": False})
        try:
            reader.assign([TopicPartition(self._prefix + place.topic, place.partition, offset)])
            message = reader.poll(_REQUEST_TIMEOUT_S)
        finally:
            reader.close()
        if message is None or message.error() is not None:
            raise TopicMissing(f"topic {place.topic}: no record at {offset} of partition {place.partition}")
        key, value = message.key(), message.value()
        kind, timestamp_ms = message.timestamp()
        sizes = (len(key or b""), len(value or b""))
        where = (self._prefix + place.topic, place.partition, message.offset() or offset)
        return ConsumerRecord(*where, timestamp_ms, kind, key, value, None, *sizes, ())

    def _logs(self, places: Collection[Place]) -> dict[Place, Log]:
        described = self._describe({place.topic for place in places})
        starts = self._offsets(places, OffsetSpec.earliest())
        ends = self._offsets(places, OffsetSpec.latest())
        return {place: Log(described[place.topic][0], starts[place], ends[place]) for place in places}

    def _committed(self, group: str, places: Collection[Place]) -> dict[Place, int]:
        # Not by the admin client: an answer from who no longer coordinates a group ends the process (librdkafka 5040).
        # This one joins no group, because it subscribes to nothing.
        reader = Consumer({**self._options, "group.id": group, "enable.auto.commit": False})
        try:
            asked = [TopicPartition(self._prefix + place.topic, place.partition) for place in places]
            found = reader.committed(asked, _REQUEST_TIMEOUT_S)
        finally:
            reader.close()
        if failed := next((each.error for each in found if each.error is not None), None):
            raise KafkaException(failed)
        return {
            Place(each.topic.removeprefix(self._prefix), each.partition): each.offset
            for each in found
            if each.offset >= 0
        }

    def _describe(self, topics: Collection[str]) -> Mapping[str, tuple[str, int]]:
        wire_names = [self._prefix + topic for topic in topics]
        futures = self._admin.describe_topics(TopicCollection(wire_names), request_timeout=_REQUEST_TIMEOUT_S)
        described = {}
        for topic in topics:
            try:
                found = futures[self._prefix + topic].result(_ANSWER_TIMEOUT_S)
            except KafkaException as error:
                raise TopicMissing(f"topic {topic}: {error.args[0].name()}") from error
            described[topic] = (str(found.topic_id), len(found.partitions))
        return described

    def _offsets(self, places: Collection[Place], spec: OffsetSpec) -> Mapping[Place, int]:
        asked = {TopicPartition(self._prefix + place.topic, place.partition): place for place in places}
        # Ends as readers see them: before the first transaction that is not decided yet.
        futures = self._admin.list_offsets(
            dict.fromkeys(asked, spec),
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=_REQUEST_TIMEOUT_S,
        )
        return {asked[partition]: future.result(_ANSWER_TIMEOUT_S).offset for partition, future in futures.items()}


def places_of(counts: Mapping[str, int]) -> Sequence[Place]:
    """Return every partition of topics with these numbers of partitions."""
    return [Place(topic, partition) for topic, count in counts.items() for partition in range(count)]
