"""Writes dead letters' records to the topics they came from, each once, also where a replay is cut off."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from confluent_kafka import Producer

from local.settings import runtime_settings
from ops.brokers import NoAnswer, asking
from ops.dlq.letters import REPLAY_OF, logs_of, read_spans, text_of
from ops.dlq.marks import Busy, Mark, State, finish_replays, forget_replays, record_marks
from ops.errors import UserError
from schemas.topics import DEAD_LETTER_SUFFIX, TOPICS
from services.runtime.dead_letters import message_bytes
from services.runtime.kafka import admin_options
from services.runtime.message import Lane, Outgoing
from services.runtime.topics import Place

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Mapping, Sequence

    from ops.dlq.letters import Letter
    from ops.running import Running
    from services.runtime.database import Connection
    from services.runtime.settings import RuntimeSettings
    from services.runtime.topics import Log

_CHUNK: Final = 500
_WRITTEN_WITHIN_S: Final = 20
_GIVES_UP_AFTER: Final = timedelta(seconds=_WRITTEN_WITHIN_S + 5)
"""So long after its mark a record may still be on its way to the brokers, and no longer."""

REPLAYED_TO: Final = frozenset(topic.name for topic in TOPICS if not topic.name.endswith(DEAD_LETTER_SUFFIX))
"""Where records may come from that became dead letters."""

Headers = tuple[tuple[str, bytes | None], ...]


class Record(NamedTuple):
    """What is written for a letter: the record as it was, or mended; its key is the letter's.

    `others` are letters of the same record, where several services could not read it: it is written once for all.
    """

    letter: Letter
    value: bytes | None
    headers: Headers
    others: tuple[Letter, ...] = ()

    @property
    def letters(self) -> tuple[Letter, ...]:
        """Every letter that the record is written for."""
        return (self.letter, *self.others)


def written_once(records: Iterable[Record]) -> list[Record]:
    """Return one record of those that stood in the same place and are to be written alike, for the letters of all."""
    found: dict[tuple[object, ...], Record] = {}
    for record in records:
        topic, partition, offset = record.letter.original
        is_known = partition is not None and offset is not None
        place = (topic, partition, offset) if is_known else record.letter.place
        alike = (place, record.letter.key, record.value, record.headers)
        first = found.setdefault(alike, record)
        if first is not record:
            found[alike] = first._replace(others=(*first.others, record.letter))
    return list(found.values())


class NoSuchPlace(UserError):
    """A dead letter does not come from a partition that there is."""

    exit_code = 1


class TooLarge(UserError):
    """A record would be larger than the brokers take."""

    exit_code = 1


class Replayer:
    """Replays records in parts: noted before they are written, and noted again once the brokers have them."""

    def __init__(self, running: Running, connection: Connection) -> None:
        self._running = running
        self._settings: RuntimeSettings = runtime_settings(running.kafka, running.database)
        self._connection = connection

    async def check(self, records: Sequence[Record]) -> None:
        """Raise NoSuchPlace or TooLarge where a record cannot be written as it is, before anything is written."""
        targets = {letter: self._target(letter) for record in records for letter in record.letters}
        for letter, place in targets.items():
            # Who can write dead letters must not have others write where they please.
            if place.topic not in REPLAYED_TO:
                raise NoSuchPlace(
                    f"{letter.id} came from {place.topic}, which is none of Sluice's topics: its publisher must send "
                    "it again. `sluice dlq discard` sets it aside."
                )
        limit = self._settings.max_message_bytes
        for record in records:
            place = targets[record.letter]
            lane = Lane(place.topic, place.partition)
            size = message_bytes(Outgoing(lane, place.topic, record.letter.key, record.value, _written(record)))
            if size > limit:
                raise TooLarge(
                    f"{record.letter.id} would have {size:,} bytes, and the brokers take {limit:,}: mend it to be "
                    "shorter, or `sluice dlq discard` sets it aside."
                )
        if targets:
            await self._logs(targets)

    async def _logs(self, targets: Mapping[Letter, Place]) -> Mapping[Place, Log]:
        """Return the logs that records are written to; raises NoSuchPlace."""
        with asking(self._running):
            logs = await logs_of(self._settings, sorted({place.topic for place in targets.values()}))
        for letter, place in targets.items():
            if place not in logs:
                raise NoSuchPlace(
                    f"{letter.id} came from partition {place.partition} of {place.topic}, which is there no more: its "
                    "publisher must send it again. `sluice dlq discard` sets it aside."
                )
        return logs

    async def settle(self, cut_off: Mapping[Letter, Mark]) -> set[Letter]:
        """Find out what became of replays that were cut off; return the letters whose record was never written.

        Raises Busy where that cannot be known yet.
        """
        if not cut_off:
            return set()
        # Whoever was cut off from the database, and not from the brokers, may be writing still.
        remains = _GIVES_UP_AFTER - min(mark.age for mark in cut_off.values())
        if remains > timedelta():
            raise Busy(
                f"A replay was cut off a moment ago, and may be writing still: try again in {remains.seconds + 1} s."
            )
        written = await asyncio.to_thread(self._written_since, cut_off)
        done = {letter for letter in cut_off if letter.id in written}
        undone = set(cut_off) - done
        async with self._connection.transaction():
            await finish_replays(self._connection, [letter.place for letter in done])
            await forget_replays(self._connection, [letter.place for letter in undone])
        return undone

    async def replay(self, records: Sequence[Record], act_id: uuid.UUID, per_second: float) -> None:
        """Write the records, at most so many a second; raises NoAnswer."""
        producer = self._producer()
        size = max(1, min(_CHUNK, int(per_second)))
        started = time.monotonic()
        for first in range(0, len(records), size):
            part = records[first : first + size]
            await self._replay_part(producer, part, act_id)
            # Paced by parts: this one's share of time must have passed before the next.
            await asyncio.sleep(max(0.0, started + (first + len(part)) / per_second - time.monotonic()))

    async def _replay_part(self, producer: Producer, records: Sequence[Record], act_id: uuid.UUID) -> None:
        targets = {letter: self._target(record.letter) for record in records for letter in record.letters}
        logs = await self._logs(targets)
        marks = {letter: Mark(State.REPLAYING, place, logs[place].end) for letter, place in targets.items()}
        async with self._connection.transaction():
            await record_marks(self._connection, marks, act_id)
        await asyncio.to_thread(self._write, producer, records, targets)
        async with self._connection.transaction():
            await finish_replays(self._connection, [letter.place for letter in targets])

    def _write(self, producer: Producer, records: Sequence[Record], targets: Mapping[Letter, Place]) -> None:
        failures: list[object] = []
        for record in records:
            place = targets[record.letter]
            headers: Any = _written(record)
            producer.produce(
                self._settings.topic_prefix + place.topic,
                key=record.letter.key,
                value=record.value,
                headers=headers,
                # Its old partition, so that it meets what concerns the same wallet.
                partition=place.partition,
                on_delivery=lambda error, _message: failures.append(error) if error else None,
            )
        if producer.flush(_WRITTEN_WITHIN_S + 1) or failures:
            raise NoAnswer(
                f"Kafka at {self._running.kafka} did not take every record: see whether it runs, and replay again; "
                "what was written is not written twice."
            )

    def _written_since(self, cut_off: Mapping[Letter, Mark]) -> set[str]:
        """Return the ids of the letters whose records stand in their topics, as far as they were written since."""
        starts: dict[Place, int] = {}
        for mark in cut_off.values():
            if mark.target is not None and mark.target_end is not None:
                starts[mark.target] = min(mark.target_end, starts.get(mark.target, mark.target_end))
        with asking(self._running):
            logs = asyncio.run(logs_of(self._settings, sorted({place.topic for place in starts})))
            spans = {place: (max(start, logs[place].start), logs[place].end) for place, start in starts.items()}
            return {
                text_of(value)
                for _, message in read_spans(self._settings, spans)
                for name, value in _headers_of(message)
                if name == REPLAY_OF and value is not None
            }

    def _producer(self) -> Producer:
        options: dict[str, Any] = admin_options(self._settings, "sluice.dlq")
        own: dict[str, Any] = {"enable.idempotence": True, "message.timeout.ms": _WRITTEN_WITHIN_S * 1_000}
        own |= {"message.max.bytes": self._settings.max_message_bytes, "log_level": 0}
        return Producer({**options, **own})

    @staticmethod
    def _target(letter: Letter) -> Place:
        topic, partition, _ = letter.original
        return Place(topic, letter.partition if partition is None else partition)


def _written(record: Record) -> list[tuple[str, bytes | None]]:
    """Return the headers that a record is written with: its own, and the letters that it was."""
    return [*record.headers, *((REPLAY_OF, letter.id.encode()) for letter in record.letters)]


def _headers_of(message: Any) -> list[tuple[str, bytes | None]]:
    return list(message.headers() or ())
