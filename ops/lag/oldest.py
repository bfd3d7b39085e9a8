"""Reads the timestamps of the oldest records that groups have not processed: exactly these, and little else."""

from __future__ import annotations

import time
from array import array
from bisect import bisect_right
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from confluent_kafka import Message

_CHUNK: Final = 1_000
_POLL_S: Final = 0.2
_SKIP_FROM: Final = 400
"""From how many records on a seek is quicker than reading over them."""

_AT_ONCE: Final = 200
"""How many partitions are read at a time: what is fetched of each stays in memory."""

_WEIGHED: Final = 1_000
"""How many records of a partition are weighed: the first that are read."""

_ENVELOPE: Final = 80
"""The most bytes that a record takes beside its key, value and headers: as the only one of its batch."""

_MOST_RUNS: Final = 500_000
"""How many runs are remembered of all partitions together: twelve megabytes."""

_OPTIONS: Final = {
    # Without a group: nothing is committed, and nobody is moved.
    "group.id": "unused",
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    # What retention takes meanwhile is passed over.
    "auto.offset.reset": "earliest",
    "fetch.message.max.bytes": 64 * 1024,
    # Of each partition: little, because there may be many, and soon more of it.
    "queued.max.messages.kbytes": 512,
    "fetch.queue.backoff.ms": 10,
    "fetch.wait.max.ms": 10,
    "log_level": 0,
}


Place = tuple[str, int]
"""A partition, by the topic's name on the wire."""


class Log(NamedTuple):
    """A partition of a topic, by the topic's name on the wire; one that is made again has another id."""

    topic_id: str
    topic: str
    partition: int


class Spot(NamedTuple):
    """An offset of a partition."""

    log: Log
    offset: int


class OldestRecords:
    """Remembers what it read: what groups have not moved beyond is not read again."""

    def __init__(self, options: Mapping[str, str | int | float | bool], within_s: float = 60.0) -> None:
        self._options = {**options, **_OPTIONS}
        self._within_s = within_s
        self._known: dict[Log, Runs] = {}
        self.unread: set[Log] = set()
        """The logs of which the last look was told an error in place of a record, as where nobody may read them."""

    def timestamps(self, spots: Collection[Spot]) -> dict[Spot, float]:
        """Return when the first record at or after each offset was written, in seconds since 1970.

        Records of a transaction that was aborted are none; of one that is open, they are. A spot that has no record
        behind it is missing. Raises TimeoutError where the brokers do not tell all in time.
        """
        wanted: dict[Log, list[int]] = {}
        for spot in sorted(set(spots), reverse=True):
            wanted.setdefault(spot.log, []).append(spot.offset)
        self._forget_before({log: offsets[-1] for log, offsets in wanted.items()})
        unknown = {
            log: [offset for offset in offsets if self._known[log].at(offset) is None]
            for log, offsets in wanted.items()
        }
        deadline = time.monotonic() + self._within_s
        held: dict[Log, float] = {}
        self.unread.clear()
        reading = [log for log, offsets in unknown.items() if offsets]
        for first in range(0, len(reading), _AT_ONCE):
            held |= self._read({log: unknown[log] for log in reading[first : first + _AT_ONCE]}, deadline)
        found = {spot: self._known[spot.log].at(spot.offset) for spot in spots}
        found |= {spot: held.get(spot.log) for spot, at in found.items() if at is None}
        return {spot: at for spot, at in found.items() if at is not None}

    def record_bytes(self, log: Log) -> float | None:
        """Return what a record of a partition takes in its log at most, as if not compressed; None where none was read.

        It is the mean of those that were read first.
        """
        return self._known[log].record_bytes if log in self._known else None

    def _forget_before(self, lowest: Mapping[Log, int]) -> None:
        if sum(map(len, self._known.values())) > _MOST_RUNS:
            self._known = {}
        self._known = {log: self._known.get(log, Runs()) for log in lowest}
        for log, offset in lowest.items():
            self._known[log].forget_before(offset)

    def _read(self, offsets: Mapping[Log, list[int]], deadline: float) -> Mapping[Log, float]:
        """Read on from each wanted offset to the next; those of a partition are the lowest last.

        Returns when the first record was written that an open transaction holds back, by the logs where that is behind
        what is wanted. It is not remembered: the transaction may be aborted.
        """
        logs = {(log.topic, log.partition): log for log in offsets}
        reading = {place: _Reading(self._known[log], offsets[log]) for place, log in logs.items()}
        held_from: dict[Place, int] = {}
        unread: set[Place] = set()
        with self._consumer("read_committed") as consumer:
            consumer.assign([TopicPartition(*place, found.wanted[-1]) for place, found in reading.items()])
            while reading:
                held_from |= _take(consumer, _consume(consumer, deadline), reading, unread)
        self.unread |= {logs[place] for place in unread}
        return {logs[place]: at for place, at in self._moments(held_from, deadline).items()} if held_from else {}

    def _moments(self, offsets: Mapping[Place, int], deadline: float) -> Mapping[Place, float]:
        """Return when the records at these offsets were written, whatever becomes of their transactions."""
        found: dict[Place, float] = {}
        with self._consumer("read_uncommitted") as consumer:
            consumer.assign([TopicPartition(*place, offset) for place, offset in offsets.items()])
            while len(found) < len(offsets):
                for message in _consume(consumer, deadline):
                    if message.error() is None:
                        found.setdefault(_place_of(message), _moment_of(message))
        return found

    @contextmanager
    def _consumer(self, isolation: str) -> Iterator[Consumer]:
        consumer = Consumer({**self._options, "isolation.level": isolation})
        try:
            yield consumer
        finally:
            consumer.close()


class Runs:
    """When records of one partition were written: what was read, as runs of offsets that lead to one moment.

    A run ends at a record; its other offsets are records of the same moment, or places where there is none any more.
    """

    def __init__(self) -> None:
        self._firsts = array("q")
        self._lasts = array("q")
        self._moments = array("d")
        self._weighed = self._bytes = 0

    @property
    def record_bytes(self) -> float | None:
        """What a record takes, of those that were weighed; None before the first."""
        return self._bytes / self._weighed if self._weighed else None

    def weigh(self, message: Message) -> None:
        """Take note of what a record takes, if enough are not known yet."""
        if self._weighed < _WEIGHED:
            self._weighed += 1
            self._bytes += _bytes_of(message)

    def __len__(self) -> int:
        """Return how many runs there are."""
        return len(self._firsts)

    def at(self, offset: int) -> float | None:
        """Return when the first record at or after an offset was written; None where that was not read."""
        place = bisect_right(self._firsts, offset) - 1
        return self._moments[place] if place >= 0 and offset <= self._lasts[place] else None

    def add(self, first: int, last: int, moment: float) -> None:
        """Note that whoever reads on from `first` meets records of this moment up to `last`, and no others."""
        place = bisect_right(self._firsts, first) - 1
        if place >= 0:
            first = max(first, self._lasts[place] + 1)
        if place + 1 < len(self):
            # What is noted already says the same of what is left out here.
            last = min(last, self._firsts[place + 1] - 1)
        if first > last:
            return
        if place >= 0 and self._lasts[place] == first - 1 and self._moments[place] == moment:
            self._lasts[place] = last
            return
        self._firsts.insert(place + 1, first)
        self._lasts.insert(place + 1, last)
        self._moments.insert(place + 1, moment)

    def forget_before(self, offset: int) -> None:
        """Forget the runs that end before an offset."""
        count = bisect_right(self._lasts, offset - 1)
        for column in (self._firsts, self._lasts, self._moments):
            del column[:count]


class _Reading:
    """One partition that is being read: what is still wanted of it, the lowest last, and the run at hand."""

    def __init__(self, runs: Runs, wanted: list[int]) -> None:
        self.wanted = wanted
        self._runs = runs
        self._first = self._next = wanted[-1]
        self._moment: float | None = None

    @property
    def next_offset(self) -> int:
        """The offset behind the newest record."""
        return self._next

    def note(self, message: Message) -> None:
        """Take note of the next record."""
        offset, moment = message.offset() or 0, _moment_of(message)
        self._runs.weigh(message)
        if moment != self._moment:
            self.end_run()
            self._moment = moment
        self._next = offset + 1
        while self.wanted and self.wanted[-1] <= offset:
            self.wanted.pop()

    def end_run(self) -> None:
        """Keep the run at hand."""
        if self._moment is not None and self._next > self._first:
            self._runs.add(self._first, self._next - 1, self._moment)
        self._first = self._next

    def skip_to(self, offset: int) -> None:
        """Go on at another place, beyond records that are not read."""
        self.end_run()
        self._first = self._next = offset
        self._moment = None


def _consume(consumer: Consumer, deadline: float) -> Sequence[Message]:
    if time.monotonic() > deadline:
        raise TimeoutError("the brokers did not give the oldest records in time")
    return consumer.consume(_CHUNK, _POLL_S)


def _place_of(message: Message) -> Place:
    return message.topic() or "", message.partition() or 0


def _moment_of(message: Message) -> float:
    """Return when a record was written; one that does not say it, as if it had been when it was first seen."""
    written_ms = message.timestamp()[1]
    return written_ms / 1000 if written_ms >= 0 else time.time()


def _bytes_of(message: Message) -> int:
    parts = [message.key(), message.value(), *(part for header in message.headers() or () for part in header)]
    return _ENVELOPE + sum(len(part) for part in parts if part is not None)


def _take(
    consumer: Consumer, messages: Iterable[Message], reading: dict[Place, _Reading], unread: set[Place]
) -> Mapping[Place, int]:
    """Take what was read; go on at each partition's next wanted offset where that is far, and note what is refused.

    Returns from which offset on an open transaction holds records back, where nothing is before them.
    """
    touched: dict[Place, _Reading] = {}
    held_from: dict[Place, int] = {}
    for message in messages:
        place = _place_of(message)
        if (found := reading.get(place)) is None:
            continue
        if (error := message.error()) is not None:
            if error.code() != KafkaError._TRANSPORT:  # noqa: SLF001 - the client's own name; it connects again
                found.end_run()
                del reading[place]
                if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001
                    unread.add(place)
                    continue
                # The end for who reads what is committed.
                end = consumer.get_watermark_offsets(TopicPartition(*place), cached=True)[1]
                if (offset := message.offset() or 0) < end:
                    held_from[place] = offset
            continue
        touched[place] = found
        found.note(message)
        if not found.wanted:
            found.end_run()
            del reading[place]
            consumer.incremental_unassign([TopicPartition(*place)])
    for place, found in touched.items():
        if place in reading and found.wanted[-1] - found.next_offset >= _SKIP_FROM:
            found.skip_to(found.wanted[-1])
            consumer.seek(TopicPartition(*place, found.wanted[-1]))
    return held_from
