"""Reads the timestamps of the oldest records that groups have not processed: exactly these, and little else."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from confluent_kafka import Message

_CHUNK: Final = 1_000
_POLL_S: Final = 0.2
_SKIP_FROM: Final = 400
"""From how many records on a seek is quicker than reading over them."""

_OPTIONS: Final = {
    # Without a group: nothing is committed, and nobody is moved.
    "group.id": "unused",
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "isolation.level": "read_uncommitted",
    "fetch.message.max.bytes": 64 * 1024,
    "queued.max.messages.kbytes": 4 * 1024,
    "fetch.wait.max.ms": 10,
    "log_level": 0,
}

Partition = tuple[str, int]


class Spot(NamedTuple):
    """An offset of a partition, by the topic's name on the wire."""

    topic: str
    partition: int
    offset: int


class OldestRecords:
    """Remembers what it read: a group that has not moved is asked about again for nothing."""

    def __init__(self, options: Mapping[str, str | int | float | bool], within_s: float = 60.0) -> None:
        self._options = {**options, **_OPTIONS}
        self._within_s = within_s
        self._known: dict[Spot, float] = {}

    def timestamps(self, spots: Collection[Spot]) -> dict[Spot, float]:
        """Return when the first record at or after each offset was written, in seconds since 1970.

        A spot that has no record behind it is missing, as is one that could not be read in time.
        """
        wanted = set(spots)
        self._known = {spot: at for spot, at in self._known.items() if spot in wanted}
        if unknown := wanted - self._known.keys():
            self._read(unknown)
        return dict(self._known)

    def _read(self, spots: Collection[Spot]) -> None:
        waiting: dict[Partition, list[int]] = {}
        for spot in sorted(spots, reverse=True):
            waiting.setdefault((spot.topic, spot.partition), []).append(spot.offset)
        consumer = Consumer(self._options)
        try:
            consumer.assign([TopicPartition(*place, offsets[-1]) for place, offsets in waiting.items()])
            deadline = time.monotonic() + self._within_s
            while waiting and time.monotonic() < deadline:
                self._take(consumer, consumer.consume(_CHUNK, _POLL_S), waiting)
        finally:
            consumer.close()

    def _take(self, consumer: Consumer, messages: Collection[Message], waiting: dict[Partition, list[int]]) -> None:
        """Take what was read, then go on at each partition's next wanted offset; the lists are lowest offset last."""
        read_to: dict[Partition, int] = {}
        for message in messages:
            place = (message.topic() or "", message.partition() or 0)
            if place not in waiting:
                continue
            if (error := message.error()) is not None:
                if error.code() != KafkaError._TRANSPORT:  # noqa: SLF001 - the client's own name; it connects again
                    # The log's end, or a partition that is not there: nothing is behind what is wanted.
                    del waiting[place]
                continue
            offset = message.offset() or 0
            read_to[place] = offset
            wanted = waiting[place]
            while wanted and wanted[-1] <= offset:
                self._known[Spot(*place, wanted.pop())] = message.timestamp()[1] / 1000
            if not wanted:
                del waiting[place]
                consumer.incremental_unassign([TopicPartition(*place)])
        for place, offset in read_to.items():
            if place in waiting and waiting[place][-1] - offset > _SKIP_FROM:
                consumer.seek(TopicPartition(*place, waiting[place][-1]))
