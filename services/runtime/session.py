"""A session: one membership in the group with its producer and lanes; it works or breaks as a whole."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
import uuid
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from services.runtime import metrics, outbox
from services.runtime.database import TRANSIENT
from services.runtime.idle import let_others_run
from services.runtime.kafka import CLOSE_TIMEOUT_S, client_options, close_producer, make_producer, stop_in_time
from services.runtime.log import error_fields
from services.runtime.message import Lane
from services.runtime.offsets import (
    Move,
    claim_lanes,
    hold_lanes,
    load_accepted,
    place,
)
from services.runtime.publisher import Publisher
from services.runtime.topics import Place, TopicMissing
from services.runtime.unpacking import CannotUnpack, TooMuchAtOnce, bound_unpacking, still_packed

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from typing import Self

    from services.runtime.database import Connection, Pool
    from services.runtime.intake import Record
    from services.runtime.message import Outgoing
    from services.runtime.offsets import Gap, OutboxKey, Placement
    from services.runtime.service import Service
    from services.runtime.settings import RuntimeSettings
    from services.runtime.topics import Topics

_LOG = structlog.stdlib.get_logger(__name__)

_COMMIT_TIMEOUT_S = 5.0
_COMMIT_INTERVAL_S = 1.0
_SWEEP_AFTER_S = 5.0
_REBALANCE_GRACE_S = 1.0
_CAREFUL_WAIT_MS = 600

# What bounds a worker's memory, whatever the backlog: the records of one fetch as they are on the wire, and the
# values of a batch, which are some fifty times as large once they are messages and what follows from them.
_FETCH_BYTES = 4 * 1024 * 1024
_BATCH_BYTES = 700_000
# Records unpacked in one go: at most a millisecond's work, and few before it is known how large they are.
_FIRST_SLICE = 10
_SLICE = 100

# Headers and a key that are larger than any message's count as what they take, too.
_ORDINARY_HEADERS = 32
_ORDINARY_KEY_BYTES = 1_024
_HEADER_WEIGHT = 100

# What the client raises for records that have to be read one by one.
_UNREADABLE = (UnicodeDecodeError, CannotUnpack, TooMuchAtOnce)

# A killed worker's partitions move within the session timeout and a heartbeat.
_CONSUMER_OPTIONS = {
    "auto_offset_reset": "none",
    # What a publisher's transaction took back was never said.
    "isolation_level": "read_committed",
    "enable_auto_commit": False,
    "partition_assignment_strategy": (RangePartitionAssignor,),
    "session_timeout_ms": 6_000,
    "heartbeat_interval_ms": 2_000,
    "rebalance_timeout_ms": 20_000,
    "max_poll_interval_ms": 300_000,
    # A seek waits for the fetch under way; this is how long at most when nothing arrives.
    "fetch_max_wait_ms": 250,
    "fetch_max_bytes": _FETCH_BYTES,
    "max_partition_fetch_bytes": 1024 * 1024,
}


class Revoked(Exception):
    """The partitions of the work at hand were taken away, or the worker stops: the work is void."""


@dataclass(frozen=True, slots=True, eq=False)
class Assignment:
    """The partitions that one rebalance gave to this session."""

    places: frozenset[Place]


class Session(ConsumerRebalanceListener):
    """Owns lanes, fetches their records and publishes for them, until anything in it fails.

    Partitions that the group assigns are paused until `take_over` has claimed their lanes. `busy` is held
    while a batch is in hand; a rebalance waits for it.
    """

    def __init__(self, service: Service, settings: RuntimeSettings, pool: Pool, topics: Topics) -> None:
        self.owner = uuid.uuid4()
        self.busy = asyncio.Lock()
        self.next_offsets: dict[Place, int] = {}
        self.topic_ids: dict[Place, str] = {}
        self.stopped: dict[Place, Gap] = {}
        self.suspects: set[Place] = set()
        self.published: list[OutboxKey] = []
        self.unpublished_since: float | None = None
        self._service = service
        self._settings = settings
        self._pool = pool
        self._topics = topics
        self._room = bound_unpacking(settings.max_unpacked_bytes)
        self._groups = {
            topic: subscription.group for subscription in service.subscriptions for topic in subscription.topics
        }
        self._prefix = settings.topic_prefix
        self._assignment: Assignment | None = None
        self._claimed: Assignment | None = None
        self._batch_numbers: dict[Lane, int] = {}
        self._last_publish_s = time.monotonic()
        self._last_commit_s = 0.0
        self._commit: asyncio.Task[None] | None = None
        self._publishing: asyncio.Task[None] | None = None
        self._has_stumbled = False
        self._is_dry = False
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Join the group; TopicMissing, KafkaError or TimeoutError when that is not possible now."""
        await self._check_topics()
        client_id = f"sluice.{self._service.name}"
        async with contextlib.AsyncExitStack() as stack:
            self._producer = make_producer(self._settings, client_id)
            stack.push_async_callback(close_producer, self._producer)
            await self._producer.start()
            self._publisher = Publisher(
                self._producer, self._prefix, self._service.follow_up_topics, self._settings.publish_timeout_s
            )
            self._consumer = AIOKafkaConsumer(
                **client_options(self._settings, client_id), **_CONSUMER_OPTIONS, group_id=f"{self._prefix}{client_id}"
            )
            stack.push_async_callback(stop_in_time, self._consumer.stop)
            await self._consumer.start()
            # Subscribed only now, because `start` would wait for the assignment for ever.
            self._consumer.subscribe([self._prefix + topic for topic in self._groups], listener=self)
            stack.push_async_callback(self._let_go)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        """Leave the group; what does not end in time is left to end in the background."""
        self._assignment = None
        await self._stack.aclose()

    async def _check_topics(self) -> None:
        counts = await self._topics.partition_counts(self._groups)
        for subscription in self._service.subscriptions:
            if len({counts[topic] for topic in subscription.topics}) > 1:
                topics = ", ".join(subscription.topics)
                raise TopicMissing(f"topics {topics} are handled together but have other numbers of partitions")

    # The group's side: called by the client between our batches, never during one.

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Wait until the batch in hand is published, and leave nothing behind for the next owner."""
        self._assignment = None
        async with self.busy:
            if revoked:
                await self._let_go()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Take note; the loop claims the lanes before it reads."""
        self._consumer.pause(*assigned)
        places = frozenset(self._place(partition) for partition in assigned)
        self._assignment = Assignment(places)
        _LOG.info("partitions_assigned", service=self._service.name, partitions=len(places))

    async def _let_go(self) -> None:
        if self._publishing is not None:
            # Its failure is the loop's to notice; the rows stay in the outbox for the next owner.
            await asyncio.wait([self._publishing])
        with contextlib.suppress(*TRANSIENT):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._sweep()
        if self._commit is not None:
            await asyncio.wait([self._commit])
        await self._commit_offsets()

    # The loop's side.

    @property
    def places(self) -> frozenset[Place] | None:
        """The partitions that the group has given to this session; None while a rebalance is under way."""
        return None if self._assignment is None else self._assignment.places

    @property
    def is_claimed(self) -> bool:
        """Whether the lanes of the present assignment are this session's."""
        return self._assignment is not None and self._assignment is self._claimed

    @property
    def lanes(self) -> list[Lane]:
        """The lanes that this session owns."""
        if self._claimed is None or not self.is_claimed:
            return []
        return self.lanes_of(self._claimed.places)

    def require_claim(self) -> None:
        """Raise Revoked unless the lanes are still this session's."""
        if not self.is_claimed:
            raise Revoked

    async def take_over(self) -> None:
        """Claim the lanes of a new assignment, publish what old owners left, and go on where they ended."""
        assignment = self._assignment
        if assignment is None or self.is_claimed:
            return
        async with self.busy:
            await self.finish_publishing()
            lanes = self.lanes_of(assignment.places)
            async with self._pool.acquire() as connection:
                async with connection.transaction():
                    numbers = await claim_lanes(connection, self.owner, lanes)
                    placement = await self._look_up(connection, assignment.places)
                left = await outbox.load(connection, lanes)
            for rows in left:
                await self.publish([message for row in rows for message in row.outgoing], [row.key for row in rows])
            if self._assignment is not assignment:
                return
            self.next_offsets.clear()
            self._batch_numbers = numbers
            self.stopped.clear()
            self._go_on(placement)
            self._claimed = assignment
        _LOG.info("lanes_claimed", lanes=len(lanes), outbox_rows=sum(map(len, left)))

    async def _look_up(self, connection: Connection, places: Collection[Place]) -> Placement:
        # Only after the claim: until then the old owner may move its offsets past the ends that we would see.
        logs = await self._topics.logs(places)
        self.topic_ids.update({where: log.topic_id for where, log in logs.items()})
        return await place(connection, logs)

    def _go_on(self, placement: Placement) -> None:
        for where, offset in placement.starts.items():
            # A partition that goes on where it is keeps what is fetched already.
            if self.next_offsets.get(where) != offset:
                self._consumer.seek(self._partition(where), offset)
            self.next_offsets[where] = offset
            self.stopped.pop(where, None)
            self._consumer.resume(self._partition(where))
        for where, gap in placement.gaps.items():
            self.next_offsets.pop(where, None)
            self._consumer.pause(self._partition(where))
            if where not in self.stopped:
                _LOG.error("partition_stopped", topic=where.topic, partition=where.partition, **gap._asdict())
            self.stopped[where] = gap
        self._show_gaps()

    def _show_gaps(self) -> None:
        metrics.STOPPED.set(len(self.stopped))
        metrics.GAP_SIZE.clear()
        for where, gap in self.stopped.items():
            metrics.GAP_SIZE.labels(*where).set(-1 if gap.size is None else gap.size)

    async def poll(self, timeout_s: float) -> Mapping[Place, Sequence[Record]]:
        """Return at most a batch of records of claimed partitions, as soon as there are some."""
        assignment = self._assignment
        self._is_dry = False
        fetched: Mapping[TopicPartition, Sequence[Record]]
        # A client that has records, or is told not to wait, does not let others run: heartbeats, the watch, health.
        await asyncio.sleep(0)
        if self._has_stumbled:
            self.rewind()
        try:
            fetched = await self._fetch(math.ceil(timeout_s * 1_000))
        except OffsetOutOfRangeError as error:
            self._has_stumbled = True
            self.suspects.update(self._place(partition) for partition in error.args[0])
            return {}
        except _UNREADABLE:
            # A header's name is no text, or batches are too large: the client has dropped what it had read before.
            fetched = await self._poll_carefully()
        except NoOffsetForPartitionError:
            # The client looks for an offset of the group until it is told ours.
            self._has_stumbled = True
            return {}
        if assignment is not self._assignment or not self.is_claimed:
            return {}
        self._is_dry = not fetched
        return self._ours(fetched)

    async def _fetch(self, timeout_ms: int) -> Mapping[TopicPartition, Sequence[Record]]:
        """Return at most a batch of records, and little more than `_BATCH_BYTES` however well they were compressed.

        In slices, because the client unpacks without letting others run; only the first is waited for.
        """
        fetched: defaultdict[TopicPartition, list[Record]] = defaultdict(list)
        count_left, bytes_left, wanted = self._settings.batch_size, _BATCH_BYTES, _FIRST_SLICE
        while count_left > 0 and bytes_left > 0:
            found = await self._get_many(0 if fetched else timeout_ms, min(wanted, count_left))
            if not found:
                break
            for partition, records in found.items():
                fetched[partition].extend(records)
            count = sum(map(len, found.values()))
            size = sum(_weight_of(record) for records in found.values() for record in records)
            count_left, bytes_left = count_left - count, bytes_left - size
            # What came tells how much more of its kind fits.
            wanted = max(1, min(_SLICE, bytes_left * count // max(1, size)))
            await let_others_run()
        return fetched

    async def _get_many(self, timeout_ms: int, max_records: int) -> Mapping[TopicPartition, Sequence[Record]]:
        self._room.begin_reading()
        try:
            # During a rebalance the client waits for its end, however long. It takes records without waiting: none are
            # lost when its time is over, be it because others had the event loop for as long.
            async with asyncio.timeout(timeout_ms / 1_000 + _REBALANCE_GRACE_S):
                return await self._consumer.getmany(timeout_ms=timeout_ms, max_records=max_records)
        except TimeoutError:
            return {}

    def _ours(self, fetched: Mapping[TopicPartition, Sequence[Record]]) -> Mapping[Place, Sequence[Record]]:
        places = {self._place(partition): records for partition, records in fetched.items()}
        return {where: records for where, records in places.items() if where in self.next_offsets}

    async def poll_ahead(self) -> Mapping[Place, Sequence[Record]]:
        """Return at most a batch of what is fetched already, while another batch is in hand.

        It must be handled after that batch, or given back with `rewind`. Where the client stumbles there is nothing,
        and the next `poll`, with no batch in hand, goes back and finds out why.
        """
        assignment = self._assignment
        try:
            fetched = await self._fetch(0)
        except (OffsetOutOfRangeError, NoOffsetForPartitionError, *_UNREADABLE):
            self._has_stumbled = True
            return {}
        if assignment is not self._assignment or not self.is_claimed:
            return {}
        return self._ours(fetched)

    def hold_back(self, leading: Collection[str]) -> None:
        """Read no topic but these for now."""
        if self.is_claimed:
            self._consumer.pause(*(self._partition(where) for where in self.next_offsets if where.topic not in leading))

    def let_on(self) -> None:
        """Read every topic again."""
        if self.is_claimed:
            self._consumer.resume(*map(self._partition, self.next_offsets))

    def lanes_among(self, topics: Collection[str]) -> list[Lane]:
        """Return the lanes of these topics that this session owns."""
        groups = {self._groups[topic] for topic in topics}
        return [lane for lane in self.lanes if lane.group in groups]

    def rewind(self) -> None:
        """Go back to what is recorded as handled: what was read further is read again."""
        self._has_stumbled = False
        if self.is_claimed:
            for where, offset in self.next_offsets.items():
                self._consumer.seek(self._partition(where), offset)

    async def _poll_carefully(self) -> Mapping[TopicPartition, Sequence[Record]]:
        for where, offset in self.next_offsets.items():
            self._consumer.seek(self._partition(where), offset)
        behind = [where for where, offset in self.next_offsets.items() if self._log_end(where) > offset]
        partitions = [self._partition(where) for where in behind]
        # In any order, so that a busy partition does not keep the others from their turn.
        for partition in random.sample(partitions, len(partitions)):
            if records := await self._read_carefully(partition):
                return {partition: records}
        return {}

    def _log_end(self, where: Place) -> int:
        return self._consumer.highwater(self._partition(where)) or 0

    async def _read_carefully(self, partition: TopicPartition) -> Sequence[Record]:
        """Return what can be read of a partition, or else the one record that can't, without its headers.

        Where a whole batch can't be unpacked, one record stands for it.
        """
        records: list[Record] = []
        where, bytes_left = self._place(partition), _BATCH_BYTES
        try:
            while len(records) < self._settings.batch_size and bytes_left > 0:
                wait_ms = 0 if records else _CAREFUL_WAIT_MS
                self._room.begin_reading()
                one = await self._consumer.getmany(partition, timeout_ms=wait_ms, max_records=1)
                if not one:
                    break
                records.extend(one[partition])
                bytes_left -= sum(map(_weight_of, one[partition]))
        except UnicodeDecodeError:
            if not records:
                records = [await self._topics.read_bare(where, self.next_offsets[where])]
                self._consumer.seek(partition, records[0].offset + 1)
        except CannotUnpack as error:
            if not records:
                records = [still_packed(*partition, self.next_offsets[where], error)]
                self._consumer.seek(partition, error.next_offset)
        return records

    @property
    def claim(self) -> Assignment | None:
        """The assignment whose lanes are this session's; another object after each rebalance."""
        return self._claimed

    def goes_on_with(self, claim: Assignment | None, starts: Mapping[Place, int]) -> bool:
        """Tell whether records read under a claim come after all that is handled, in lanes that still are ours."""
        return (
            self.is_claimed
            and claim is self._claimed
            and all(
                where in self.next_offsets and self.next_offsets[where] <= offset for where, offset in starts.items()
            )
        )

    async def passed_over(self) -> Mapping[Place, int]:
        """Return where the client stands behind what is handled although it has no record left.

        Only right after a poll that had nothing and no trouble: what is read and not handled would be skipped.
        """
        if not self.is_claimed or not self._is_dry:
            return {}
        passed = {}
        for where, offset in self.next_offsets.items():
            partition = self._partition(where)
            # Asked of the client's memory: only a partition that is behind is looked at closer.
            if (self._consumer.last_stable_offset(partition) or 0) > offset:
                with contextlib.suppress(IllegalStateError):
                    if (position := await self._consumer.position(partition)) > offset:
                        passed[where] = position
        return passed

    def numbered(self, lanes: Collection[Lane]) -> dict[Lane, int]:
        """Return the number of each lane's latest batch; Revoked when this session no longer holds a lane."""
        try:
            return {lane: self._batch_numbers[lane] for lane in lanes}
        except KeyError:
            raise Revoked from None

    def go_on(self, numbers: Mapping[Lane, int], next_offsets: Mapping[Place, int]) -> None:
        """Take note of a batch that is committed."""
        self._batch_numbers.update(numbers)
        self.next_offsets.update(next_offsets)

    def moves(self, next_offsets: Mapping[Place, int]) -> list[Move]:
        """Return the moves from where this session is; Revoked when it no longer holds a partition."""
        try:
            return [Move(where, self.next_offsets[where], to) for where, to in next_offsets.items()]
        except KeyError:
            raise Revoked from None

    async def publish(self, outgoing: Sequence[Outgoing], keys: Sequence[OutboxKey]) -> None:
        """Publish what outbox rows hold, and remember to delete them."""
        if outgoing:
            self.unpublished_since = time.monotonic()
            with metrics.stage("publish"):
                await self._publisher.publish(outgoing)
            self.unpublished_since = None
        self.published.extend(keys)
        self._last_publish_s = time.monotonic()

    async def publish_behind(self, outgoing: Sequence[Outgoing], keys: Sequence[OutboxKey]) -> None:
        """Publish while the next batch is handled, once what was begun before has ended.

        Raises what the publishing before raised; the producer is then of no more use.
        """
        await self.finish_publishing()
        self._publishing = asyncio.create_task(self.publish(outgoing, keys))

    async def finish_publishing(self) -> None:
        """Wait until everything begun is published; raises what publishing raised."""
        if self._publishing is not None:
            await self._publishing
            self._publishing = None

    async def keep_house(self) -> None:
        """Do what is due between batches: commit to Kafka, sweep the outbox, look at doubtful partitions."""
        if self._publishing is not None and self._publishing.done():
            await self.finish_publishing()
        self._commit_soon()
        if self.published and time.monotonic() - self._last_publish_s > _SWEEP_AFTER_S:
            await self._sweep()
        if self.suspects and self.is_claimed:
            await self._look_again(self.suspects & self._held())
            self.suspects.clear()

    def _held(self) -> frozenset[Place]:
        return frozenset() if self._claimed is None else self._claimed.places

    async def _look_again(self, places: Collection[Place]) -> None:
        async with self.busy:
            assignment = self._assignment
            async with self._pool.acquire() as connection, connection.transaction():
                await hold_lanes(connection, self.owner, self.lanes_of(places))
                placement = await self._look_up(connection, places)
            if assignment is self._assignment and self.is_claimed:
                self._go_on(placement)

    async def note_accepted(self) -> None:
        """Mark stopped partitions whose gap somebody has accepted, so that `keep_house` lets them go on."""
        if self.stopped:
            async with self._pool.acquire() as connection:
                self.suspects.update(await load_accepted(connection, list(self.stopped)))

    async def _sweep(self) -> None:
        if self.published:
            keys = list(self.published)
            async with self._pool.acquire() as connection:
                await outbox.forget(connection, keys)
            self.forget(keys)

    def forget(self, keys: Collection[OutboxKey]) -> None:
        """Take note that outbox rows are deleted."""
        gone = set(keys)
        self.published = [key for key in self.published if key not in gone]

    def _commit_soon(self) -> None:
        is_running = self._commit is not None and not self._commit.done()
        is_due = time.monotonic() - self._last_commit_s > _COMMIT_INTERVAL_S
        # During a rebalance the brokers answer it after the join, with an error that has the client join again.
        if self.is_claimed and is_due and not is_running:
            self._last_commit_s = time.monotonic()
            self._commit = asyncio.create_task(self._commit_offsets())

    async def _commit_offsets(self) -> None:
        offsets = {self._partition(where): offset for where, offset in self.next_offsets.items()}
        try:
            async with asyncio.timeout(_COMMIT_TIMEOUT_S):
                if offsets and self._consumer.assignment() >= offsets.keys():
                    await self._consumer.commit(offsets)
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            # Kafka's copy is for lag tools only; the next commit brings it up to date.
            _LOG.debug("offsets_not_committed", **error_fields(error))

    def lanes_of(self, places: Collection[Place]) -> list[Lane]:
        """Return the lanes that partitions belong to, each once, in the order in which they are locked."""
        return sorted({Lane(self._groups[where.topic], where.partition) for where in places})

    def _place(self, partition: TopicPartition) -> Place:
        return Place(partition.topic[len(self._prefix) :], partition.partition)

    def _partition(self, where: Place) -> TopicPartition:
        return TopicPartition(self._prefix + where.topic, where.partition)


def _weight_of(record: Record) -> int:
    weight = max(0, record.serialized_value_size)
    if record.serialized_key_size > _ORDINARY_KEY_BYTES:
        weight += record.serialized_key_size
    if len(record.headers) > _ORDINARY_HEADERS:
        weight += len(record.headers) * _HEADER_WEIGHT
    return weight
