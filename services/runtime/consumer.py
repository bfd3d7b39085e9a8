"""The one loop: poll, decode, handle in one transaction, publish, commit; what breaks is rebuilt."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from itertools import groupby, product
from typing import TYPE_CHECKING, NamedTuple

import asyncpg
import stamina
import structlog
from aiokafka.errors import KafkaError
from confluent_kafka import KafkaException

from services.runtime import metrics, outbox, timers
from services.runtime.brake import Brake, Braked, BrakePolicy
from services.runtime.database import TRANSIENT
from services.runtime.dead_letters import REASONS, SUFFIX, message_bytes
from services.runtime.idle import let_others_run, make_beside
from services.runtime.intake import take
from services.runtime.lead import Lead
from services.runtime.liveness import Hopeless, Orphaned, Progress, Stalled
from services.runtime.log import error_fields
from services.runtime.message import type_of
from services.runtime.offsets import Fenced, advance, load_next_offsets
from services.runtime.pausing import Pausing
from services.runtime.session import Assignment, Revoked, Session
from services.runtime.topics import TopicMissing, Topics, places_of
from services.runtime.work import LetterPolicy, RecordWork, SkipWork, TimerWork

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping, Sequence

    from services.runtime.clock import Clock
    from services.runtime.database import Pool
    from services.runtime.intake import Record, Taken
    from services.runtime.message import Lane, Outgoing, Timer
    from services.runtime.offsets import OutboxKey
    from services.runtime.pausing import Pause
    from services.runtime.service import Service
    from services.runtime.settings import RuntimeSettings
    from services.runtime.topics import Log, Place
    from services.runtime.tracing import Tracing
    from services.runtime.work import Work

_LOG = structlog.stdlib.get_logger(__name__)

_PASSING: tuple[type[Exception], ...] = (
    *TRANSIENT,
    KafkaError,
    KafkaException,
    TopicMissing,
    Fenced,
    Revoked,
    Stalled,
    Orphaned,
)
_NOT_BUGS: tuple[type[Exception], ...] = (*_PASSING, Braked)
_UNREACHABLE: tuple[type[Exception], ...] = (*TRANSIENT, KafkaException, TopicMissing)
_CRASHES_ALLOWED = 5
_BACKOFF_MAX_S = 5.0
_WORTH_READING_AHEAD = 200
# Records decoded in one go, a millisecond's work: what is no message may cost twenty as soon as it is large.
_SLICE = 64
_SLICE_BYTES = 64 * 1024
# Two lanes may create one row at once; the second sees it on its next try.
_UNIQUE_VIOLATION_TRIES = 3


class TooLarge(Exception):
    """A handler's message is larger than the brokers take; the text says how large, and of which topic."""


class _Contended(Exception):
    """Two transactions created the same row."""


_WORTH_RETRYING: tuple[type[Exception], ...] = (*TRANSIENT, _Contended)


class _Ahead(NamedTuple):
    """A batch that is being read while another is in hand, and the claim under which it is read."""

    claim: Assignment | None
    task: asyncio.Task[RecordWork | None]


class _Settled(NamedTuple):
    outgoing: Sequence[Outgoing]
    keys: Sequence[OutboxKey]


class Consumer:
    """Consumes a service's topics until it is told to stop."""

    def __init__(
        self,
        service: Service,
        settings: RuntimeSettings,
        pool: Pool,
        clock: Clock,
        stopping: asyncio.Event,
        tracing: Tracing | None = None,
    ) -> None:
        self._service = service
        self._settings = settings
        self._pool = pool
        self._clock = clock
        self._stopping = stopping
        self._tracing = tracing
        self._topics = Topics(settings, f"sluice.{service.name}")
        self._subscriptions = {
            topic: (order, subscription)
            for order, subscription in enumerate(service.subscriptions)
            for topic in subscription.topics
        }
        self._letters = LetterPolicy(service.name, settings.max_message_bytes)
        self._brake = Brake(BrakePolicy(settings.brake_in_a_row, settings.brake_share, settings.brake_of_at_least))
        self._session: Session | None = None
        self._braked_because: str | None = None
        self._trouble = "starting"
        self._kafka_trouble: str | None = None
        self._database_trouble: str | None = None
        self._settled = 0
        self._crashes = 0
        self._stalls = 0
        self._lead = Lead(
            self._topics,
            pool,
            [subscription for subscription in service.subscriptions if subscription.leads],
        )
        self._pausing = Pausing(pool)
        self._only: frozenset[str] | None = None
        self._ahead: _Ahead | None = None
        self._next_due: Timer | None = None
        self._next_look_s = 0.0
        for topic, reason in product(self._subscriptions, REASONS):
            # There from the start: a rate misses the first step of what appears later.
            metrics.DEAD_LETTERS.labels(topic, reason)
        metrics.OUTBOX_AGE.set_function(self._outbox_age_s)

    def reasons_not_ready(self) -> list[str]:
        """Say what keeps this worker from consuming; nothing when it consumes or has no partition."""
        if self._braked_because is not None:
            return [f"braked: {self._braked_because}"]
        session = self._session
        if session is None:
            return [self._trouble]
        reasons = [
            f"partition {where.partition} of {where.topic} stopped by a gap: {gap.kind}"
            for where, gap in sorted(session.stopped.items())
        ]
        if not session.is_claimed:
            waits_for = "taking over" if session.places is not None else "waiting for the group to assign"
            reasons.append(f"{waits_for} partitions")
        if self._only and self.pause is None:
            reasons.append(f"waiting until what {', '.join(sorted(self._lead.names))} said is handled")
        return [*reasons, *filter(None, (self._database_trouble, self._kafka_trouble))]

    @property
    def pause(self) -> Pause | None:
        """The pause that keeps this worker from taking anything, as it was read last."""
        return self._pausing.pause

    async def run(self) -> None:
        """Hold a session for as long as it works, then another one; return once told to stop.

        Raises Hopeless when new sessions do not help.
        """
        failures = 0
        while not self._stopping.is_set():
            settled_before = self._settled
            try:
                await self._hold_session()
            except Braked as braked:
                self._stop_at(braked)
                await self._stopping.wait()
            except Exception as error:  # noqa: BLE001 - `_judge` raises what another session can not mend
                failures = 0 if self._settled != settled_before else failures + 1
                self._judge(error, has_progressed=failures == 0)
                await self._pause(failures)

    async def _hold_session(self) -> None:
        async with Session(self._service, self._settings, self._pool, self._topics) as session:
            self._session = session
            # Before anything is taken: a pause outlives the worker that it stopped.
            await self._pausing.look()
            try:
                beside = [self._lead.follow()] if self._lead.names else []
                beside.append(self._pausing.follow())
                await _first_of(self._consume(session), self._watch(session), *beside)
            finally:
                await self._drop_ahead()
                self._session = None
                self._trouble = "between two sessions"
                self._kafka_trouble = None
                self._database_trouble = None

    def _stop_at(self, braked: Braked) -> None:
        self._braked_because = str(braked)
        metrics.BRAKED.set(1)
        _LOG.error("braked", why=str(braked))

    def _judge(self, error: Exception, *, has_progressed: bool) -> None:
        """Decide whether another session may help; raise Hopeless if not."""
        metrics.SESSIONS_ENDED.labels(type(error).__qualname__).inc()
        is_known = isinstance(error, _PASSING)
        self._crashes = 0 if is_known or has_progressed else self._crashes + 1
        self._stalls = self._stalls + 1 if isinstance(error, Stalled) and not has_progressed else 0
        self._trouble = f"no session: {type(error).__qualname__} {_own_words(error)}".rstrip()
        if is_known:
            _LOG.warning("session_ended", why=_own_words(error), **error_fields(error))
        else:
            _LOG.error("session_crashed", exc_info=error)
        if self._stalls > 1 or self._crashes >= _CRASHES_ALLOWED:
            raise Hopeless(f"{type(error).__qualname__} again and again") from error

    async def _pause(self, failures: int) -> None:
        delay_s = min(0.1 * 2**failures, _BACKOFF_MAX_S) if failures else 0.0
        try:
            async with asyncio.timeout(delay_s):
                await self._stopping.wait()
        except TimeoutError:
            pass

    # The loop.

    async def _consume(self, session: Session) -> None:
        while not self._stopping.is_set():
            try:
                await session.take_over()
                await self._hold_back(session)
                if work := await self._take(session) or await self._passed_over(session):
                    await self._settle(session, work)
                await self._run_timers(session)
                await self._keep_house(session)
            except Revoked:
                # The group moves partitions: what was in hand is dropped, and read again by its next owner.
                await self._drop_ahead()
                session.rewind()

    async def _hold_back(self, session: Session) -> None:
        """Read nothing but what may be taken now."""
        only = self._what_may_be_taken()
        if only != self._only:
            if only is None or self._only is not None:
                session.let_on()
            if only is not None:
                await self._drop_ahead()
                session.rewind()
            self._only = only
        if only is not None:
            session.hold_back(only)

    def _what_may_be_taken(self) -> frozenset[str] | None:
        """Return the topics whose records and timers may be taken now; None for all.

        A person's pause comes before all else. Nothing else is decided while there may be something that leads, and is
        not handled yet.
        """
        if self.pause is not None:
            return frozenset()
        return None if self._lead.is_fresh else self._lead.names

    async def _take(self, session: Session) -> RecordWork | None:
        """Return the batch that was read ahead, or else wait for one."""
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            work = await ahead.task
            if work is not None:
                if session.goes_on_with(ahead.claim, work.starts):
                    return work
                session.rewind()
        records = await self._poll(session)
        return await self._decode(records) if records else None

    async def _passed_over(self, session: Session) -> SkipWork | None:
        """Return the work of going on behind what the client passes over: markers of transactions, aborted records."""
        passed = await session.passed_over()
        return SkipWork(session.lanes_of(passed), passed) if passed else None

    def _read_ahead(self, session: Session, work: Work) -> None:
        """Decode the next batch while the database works on this one; only a backlog makes that worthwhile."""
        if self._ahead is None and isinstance(work, RecordWork) and work.size >= _WORTH_READING_AHEAD:
            self._ahead = _Ahead(session.claim, asyncio.create_task(self._poll_ahead(session)))

    async def _poll_ahead(self, session: Session) -> RecordWork | None:
        records = await session.poll_ahead()
        return await self._decode(records) if records else None

    async def _drop_ahead(self) -> None:
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            ahead.task.cancel()
            await asyncio.wait([ahead.task])

    async def _poll(self, session: Session) -> Mapping[Place, Sequence[Record]]:
        with metrics.stage("fetch"):
            return await session.poll(self._time_to_timers_s())

    async def _decode(self, records: Mapping[Place, Sequence[Record]]) -> RecordWork:
        """Decode in slices: a batch in hand must go on as soon as the database has answered it."""
        parts: list[Taken] = []
        for where in sorted(records, key=lambda where: (self._subscriptions[where.topic][0], where)):
            subscription, of_place = self._subscriptions[where.topic][1], records[where]
            for records_of_slice in _slices(of_place):
                with metrics.stage("decode"):
                    taken = take(subscription, where, records_of_slice)
                    parts.append(taken if self._tracing is None else self._tracing.begin_traces(taken))
                if len(records_of_slice) < len(of_place):
                    await let_others_run()
        return RecordWork(parts, self._letters)

    async def _settle(self, session: Session, work: Work) -> None:
        """Bring work to its end: recorded and published, or narrowed down to what fails alone."""
        if work.is_heavy:
            for half in work.halves():
                await self._settle(session, half)
            return
        failure = await self._carry_out(session, work)
        if failure is None:
            self._brake.succeeded(work.handled)
        else:
            await self._narrow(session, work, failure)

    async def _carry_out(self, session: Session, work: Work) -> Exception | None:
        """Record work and begin to publish what follows; return what its handler failed with, if it did."""
        async with session.busy:
            self._read_ahead(session, work)
            try:
                with metrics.stage("transaction"):
                    settled = await self._transact_until_done(session, work)
            except _NOT_BUGS:
                raise
            except Exception as error:  # noqa: BLE001 - a handler's bug may be any exception
                return error
            self._count(work, settled.outgoing)
            # Its failures are not the handler's: what is recorded already must not be tried again.
            await session.publish_behind(settled.outgoing, settled.keys)
            return None

    async def _narrow(self, session: Session, work: Work, error: Exception) -> None:
        if work.size > 1:
            _LOG.warning("batch_halved", size=work.size, exc_info=error)
            for half in work.halves():
                await self._settle(session, half)
            return
        _LOG.error("handling_failed", lanes=work.lanes, next=list(work.next_offsets.items()), exc_info=error)
        if (again := await self._carry_out(session, work.abandoned(error))) is not None:
            raise again
        metrics.UNEXPECTED.inc()
        self._brake.failed()

    async def _transact_until_done(self, session: Session, work: Work) -> _Settled:
        """Try until the database takes the work, as long as the partitions stay with this session."""
        try:
            return await self._transact_counted(session, work, 1)
        except _WORTH_RETRYING:
            # Only now: a retrying that is not needed leaves cycles for the collector, which holds everything up.
            return await self._transact_again(session, work)

    async def _transact_again(self, session: Session, work: Work) -> _Settled:
        retries = stamina.retry_context(
            _WORTH_RETRYING, attempts=None, timeout=None, wait_initial=0.05, wait_max=2.0, wait_jitter=0.5
        )
        async for attempt in retries:
            with attempt:
                if self._stopping.is_set():
                    raise Revoked
                return await self._transact_counted(session, work, attempt.num + 1)
        raise AssertionError("retries end only by a result or an error")

    async def _transact_counted(self, session: Session, work: Work, number: int) -> _Settled:
        session.require_claim()
        if self.pause is not None or not (self._lead.is_fresh or self._lead.is_among(work.lanes)):
            # Something has been said meanwhile: this is read again once that is handled, or the pause has ended.
            raise Revoked
        try:
            settled = await self._transact(session, work)
        except TRANSIENT as error:
            metrics.TRANSIENT_RETRIES.labels(type(error).__qualname__).inc()
            self._blame_database(error)
            _LOG.warning("transaction_retried", number=number, **error_fields(error))
            raise
        except asyncpg.UniqueViolationError as error:
            if number < _UNIQUE_VIOLATION_TRIES:
                raise _Contended from error
            raise
        self._database_trouble = None
        return settled

    def _blame_database(self, error: BaseException) -> None:
        self._database_trouble = f"the database fails: {type(error).__qualname__}"

    async def _transact(self, session: Session, work: Work) -> _Settled:
        lanes, moves = session.numbered(work.lanes), session.moves(work.next_offsets)
        published = list(session.published)
        handling = None if self._tracing is None else self._tracing.begin(work)
        async with self._pool.acquire() as connection:
            try:
                async with connection.transaction():
                    numbers = await advance(connection, session.owner, lanes, moves, published)
                    effects = await work.handle(connection, self._clock.now())
                    outgoing = effects.outgoing if handling is None else handling.relate(effects.outgoing)
                    _, rows = await make_beside(effects.recorded(), self._pack(numbers, outgoing))
                    keys = await outbox.record(connection, rows)
                    await timers.record(connection, effects)
            except Exception as error:
                # The driver has several names for a connection that was closed under a transaction.
                if connection.is_closed() and not isinstance(error, TRANSIENT):
                    raise asyncpg.ConnectionDoesNotExistError("closed during a transaction") from error
                raise
        session.forget(published)
        session.go_on(numbers, work.next_offsets)
        self._note_timers(effects.timers_set)
        if handling is not None:
            handling.end()
        return _Settled(outgoing, keys)

    async def _pack(self, numbers: Mapping[Lane, int], outgoing: Sequence[Outgoing]) -> Mapping[OutboxKey, bytes]:
        # What the handler still records is on its way first.
        await asyncio.sleep(0)
        self._check_sizes(outgoing)
        return await outbox.pack_rows(numbers, outgoing)

    def _check_sizes(self, outgoing: Sequence[Outgoing]) -> None:
        limit = self._settings.max_message_bytes
        for message in outgoing:
            # Exactly only where it may matter: most messages are far from the limit, and headers are bounded.
            roughly = len(message.value or b"") + len(message.key or b"")
            if roughly > limit // 4 and message_bytes(message) > limit:
                raise TooLarge(f"{message_bytes(message)} bytes for {message.topic}; the brokers take {limit}")

    def _count(self, work: Work, outgoing: Sequence[Outgoing]) -> None:
        self._settled += 1
        metrics.BATCHES.inc()
        metrics.BATCH_SIZE.observe(work.size)
        if isinstance(work, RecordWork):
            for part in work.parts:
                metrics.RECORDS.labels(part.place.topic).inc(len(part.records))
        else:
            metrics.TIMERS_TAKEN.inc(work.size)
        for (topic, reason), count in work.rejections.items():
            metrics.DEAD_LETTERS.labels(topic, reason).inc(count)
        types = Counter(type_of(message) for message in outgoing if not message.topic.endswith(SUFFIX))
        for type_, count in types.items():
            metrics.EVENTS.labels(type_).inc(count)

    # Timers.

    async def _run_timers(self, session: Session) -> None:
        if not session.is_claimed:
            self._next_due = None
            # Without lanes there are no timers to be on time for: waiting for records must not become spinning.
            self._next_look_s = time.monotonic() + self._settings.timer_interval_s
        elif self._time_to_timers_s() <= 0:
            for work in self._timer_works(await self._due_timers(session)):
                await self._settle(session, work)

    async def _due_timers(self, session: Session) -> list[Timer]:
        self._next_look_s = time.monotonic() + self._settings.timer_interval_s
        limit, now = self._settings.batch_size, self._clock.now()
        try:
            async with self._pool.acquire() as connection:
                lanes = session.lanes if self._only is None else session.lanes_among(self._only)
                earliest = await timers.load_next(connection, lanes, limit, now)
        except TRANSIENT as error:
            self._blame_database(error)
            self._next_due = None
            return []
        self._database_trouble = None
        due = [timer for timer in earliest if timer.due_at <= now]
        metrics.TIMER_DELAY.set((now - due[0].due_at).total_seconds() if due else 0)
        self._next_due = earliest[-1] if len(due) == limit else next(iter(earliest[len(due) :]), None)
        return due

    def _timer_works(self, due: Sequence[Timer]) -> list[TimerWork]:
        order = {
            subscription.group: (number, subscription)
            for number, subscription in enumerate(self._service.subscriptions)
        }
        # Sorting keeps the order of due times within a group.
        by_group = groupby(
            sorted(due, key=lambda timer: order[timer.lane.group][0]), key=lambda timer: timer.lane.group
        )
        return [TimerWork(order[group][1], list(timers_due)) for group, timers_due in by_group]

    def _note_timers(self, timers_set: Sequence[Timer]) -> None:
        candidates = [*timers_set, *([self._next_due] if self._next_due else [])]
        self._next_due = min(candidates, key=lambda timer: timer.due_at, default=None)

    def _time_to_timers_s(self) -> float:
        """Return how long the loop may wait for records: until the next look, or the next known timer."""
        waits = [self._next_look_s - time.monotonic()]
        if self._next_due is not None:
            waits.append((self._next_due.due_at - self._clock.now()).total_seconds())
        return max(0.0, min(waits))

    # Between batches.

    async def _keep_house(self, session: Session) -> None:
        try:
            await session.keep_house()
        except TRANSIENT as error:
            self._blame_database(error)

    def _outbox_age_s(self) -> float:
        since = self._session.unpublished_since if self._session else None
        return 0.0 if since is None else time.monotonic() - since

    # The watch, beside the loop.

    async def _watch(self, session: Session) -> None:
        """Compare partitions with their logs every few seconds; Stalled or Orphaned when nothing moves."""
        progress = Progress(self._settings.stall_timeout_s)
        while True:
            try:
                await self._look_at(session, progress)
                self._kafka_trouble = None
            except _UNREACHABLE as error:
                # What keeps the consumer waiting is known, and not its fault.
                progress.excuse()
                self._kafka_trouble = None if isinstance(error, TRANSIENT) else f"Kafka: {_own_words(error)}"
            await asyncio.sleep(self._settings.watch_interval_s)

    async def _look_at(self, session: Session, progress: Progress) -> None:
        # Every topic, because the group does not assign one that is missing.
        every = places_of(await self._topics.partition_counts(self._subscriptions))
        # The places are read before the logs' ends, so that no progress in between looks like a shrunken log.
        held = dict(session.next_offsets) if session.is_claimed else {}
        logs = await self._topics.logs(sorted(held) or every)
        async with self._pool.acquire() as connection:
            metrics.TIMERS_PARKED.set(await timers.count_parked(connection))
            next_offsets = held or await load_next_offsets(connection, list(logs))
        await session.note_accepted()
        ends = {where: log.end for where, log in logs.items()}
        self._suspect(session, held, logs)
        self._show_lag(held, ends)
        if self._only is not None:
            # What is held back stands still for a reason; what may be taken has none.
            next_offsets = {where: at for where, at in next_offsets.items() if where.topic in self._only}
        if self._database_trouble is not None:
            progress.excuse()
        elif stalled := progress.observe(time.monotonic(), next_offsets, ends):
            kind = Stalled if held else Orphaned
            raise kind(f"{len(stalled)} partitions stand still, the first is {stalled[0]}")

    def _suspect(self, session: Session, held: Mapping[Place, int], logs: Mapping[Place, Log]) -> None:
        """Have partitions looked at whose topic was replaced or whose log ends before their place."""
        for where, next_offset in held.items():
            if logs[where].topic_id != session.topic_ids.get(where) or next_offset > logs[where].end:
                session.suspects.add(where)

    def _show_lag(self, held: Mapping[Place, int], ends: Mapping[Place, int]) -> None:
        metrics.LAG.clear()
        for where, next_offset in held.items():
            metrics.LAG.labels(*where).set(max(0, ends[where] - next_offset))


def _slices(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """Cut records into what is decoded in one go: not many, and together not much more than is worth one."""
    start = size = 0
    for end, record in enumerate(records, 1):
        size += record.serialized_value_size
        if end - start == _SLICE or size >= _SLICE_BYTES:
            yield records[start:end]
            start, size = end, 0
    if start < len(records):
        yield records[start:]


def _own_words(error: Exception) -> str:
    """Return an error's text where it is ours; another's may hold anything."""
    if isinstance(error, KafkaException):
        return str(error.args[0].name())
    return str(error) if isinstance(error, (TopicMissing, Stalled, Orphaned)) else ""


async def _first_of(*coroutines: Coroutine[None, None, None]) -> None:
    """Run coroutines until the first ends or fails, and end the others."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
