"""Lag against real brokers: consumers of another client that stop, freeze, slow down, lose records, never commit."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.protocol.group import JoinGroupRequest, MemberAssignment, SyncGroupRequest
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from ops.lag import collector as collector_module
from ops.lag.collector import Collector
from ops.lag.model import Row, Verdict
from ops.lag.verdict import Limits
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

FOREIGN = """
import signal, sys, time
from confluent_kafka import Consumer
brokers, topic, group, commits, pause = sys.argv[1:]
consumer = Consumer({
    "bootstrap.servers": brokers, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
    "session.timeout.ms": 45000,
})
consumer.subscribe([topic])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(consumer.close()))
while True:
    message = consumer.poll(0.2)
    if message is not None and message.error() is None:
        if commits == "yes":
            consumer.commit(message, asynchronous=False)
        print(message.offset(), flush=True)
        time.sleep(float(pause))
"""
"""A consumer that is not ours, a record at a time."""


_GROUPS_AT_ONCE = 100
_NO_NAME: Any = None


@contextmanager
def consumer(
    brokers: str, topic: str, group: str, *, commits: str = "yes", pause: float = 0
) -> Iterator[subprocess.Popen[str]]:
    """Run such a consumer while the context lasts; it has read something when the context begins."""
    words = [brokers, topic, group, commits, str(pause)]
    with subprocess.Popen([sys.executable, "-c", FOREIGN, *words], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            # What it prints later must not fill the pipe and stop it.
            threading.Thread(target=process.stdout.read, daemon=True).start()
            yield process
        finally:
            process.kill()


@contextmanager
def produced(brokers: str, topic: str, interval_s: float) -> Iterator[None]:
    """Have a record written every so often while the context lasts."""
    stopping = threading.Event()

    def run() -> None:
        producer = Producer({"bootstrap.servers": brokers, "linger.ms": 0})
        while not stopping.wait(interval_s):
            producer.produce(topic, b"x")
            producer.poll(0)
        producer.flush(10)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def dotted(options: Mapping[str, str]) -> dict[str, str]:
    """Return options by the names that Kafka has for them."""
    return {name.replace("_", "."): value for name, value in options.items()}


def make_topic(
    brokers: str, partitions: int, name: str | None = None, type_: str = "LogAppendTime", **more: str
) -> str:
    topic = name or f"lag-{uuid.uuid4().hex[:8]}"
    options = {"message.timestamp.type": type_, **dotted(more)}
    admin = AdminClient({"bootstrap.servers": brokers})
    admin.create_topics([NewTopic(topic, partitions, 1, config=options)])[topic].result(30)
    return topic


def written(brokers: str, topic: str) -> dict[tuple[int, int], float]:
    """Return when each record was written, by partition and offset: all of them, read from the first on."""
    reader = Consumer({"bootstrap.servers": brokers, "group.id": "unused"})
    found = {}
    for partition in reader.list_topics(topic).topics[topic].partitions:
        start, end = reader.get_watermark_offsets(TopicPartition(topic, partition))
        reader.assign([TopicPartition(topic, partition, start)])
        offset = start - 1
        while offset < end - 1:
            message = reader.poll(10)
            assert message is not None
            assert message.error() is None
            offset = message.offset() or 0
            found[partition, offset] = message.timestamp()[1] / 1000
    reader.close()
    return found


def commit(brokers: str, topic: str, offsets: Mapping[str, Sequence[int]]) -> None:
    """Have groups stand at these offsets, one for each partition."""
    admin = AdminClient({"bootstrap.servers": brokers})
    groups = list(offsets)
    for first in range(0, len(groups), _GROUPS_AT_ONCE):
        wanted = {
            group: [TopicPartition(topic, number, offset) for number, offset in enumerate(offsets[group])]
            for group in groups[first : first + _GROUPS_AT_ONCE]
        }
        # A broker that has just started says of each partition that it coordinates no group yet.
        wait_for(lambda wanted=wanted: _are_committed(admin, wanted), deadline_s=60)


def _are_committed(admin: AdminClient, wanted: Mapping[str, list[TopicPartition]]) -> bool:
    futures = [
        future
        for group, places in wanted.items()
        for future in admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, places)]).values()
    ]
    return all(place.error is None for future in futures for place in future.result(30).topic_partitions)


def collector(brokers: str, expected: Mapping[str, set[str]] | None = None) -> Collector:
    return Collector({"bootstrap.servers": brokers}, expected or {})


def test_each_trouble_has_its_verdict_and_its_true_age(kafka: str) -> None:
    topic, short = make_topic(kafka, 1), make_topic(kafka, 1)
    watcher = collector(kafka, {f"{topic}-missing": {topic}})
    with ExitStack() as stack:
        stack.enter_context(produced(kafka, topic, 0.05))
        processes = {
            name: stack.enter_context(consumer(kafka, topic, f"{topic}-{name}", **how))
            for name, how in TROUBLES.items()
        }
        processes["frozen"].send_signal(signal.SIGSTOP)
        processes["stopped"].terminate()
        _overtake(kafka, short, f"{topic}-gap")
        rows = wait_for(lambda: _settled(watcher, topic), deadline_s=30, what="every verdict")
        looked_at = watcher.looked_at
        assert rows["falling"].why.startswith("more comes than it handles")
        assert rows["uncommitted"].why.startswith("has never committed")
        assert rows["gap"].lag == 3
        # Frozen or never committed, the truth stands still: the newest answer is held to it.
        at = written(kafka, topic)
        oldest = {"uncommitted": 0, "missing": 0, "stopped": _committed(kafka, topic, f"{topic}-stopped")}
        for name, offset in oldest.items():
            assert abs(rows[name].lag_seconds - (looked_at - at[0, offset])) < 1, name


TROUBLES: dict[str, dict[str, Any]] = {
    "well": {},
    "stopped": {},
    "frozen": {},
    "falling": {"pause": 1.0},
    "uncommitted": {"commits": "no"},
}
VERDICTS = {
    "well": Verdict.OK,
    "stopped": Verdict.STOPPED,
    "frozen": Verdict.STALLED,
    "falling": Verdict.FALLING_BEHIND,
    "uncommitted": Verdict.STALLED,
    "gap": Verdict.GAP,
    "missing": Verdict.STOPPED,
}


def _settled(watcher: Collector, topic: str) -> dict[str, Row] | None:
    """Return the rows by what troubles their groups once every verdict is what it should be."""
    rows = {row.group.removeprefix(f"{topic}-"): row for row in watcher.collect() if row.group.startswith(topic)}
    return rows if {name: row.verdict for name, row in rows.items()} == VERDICTS else None


def _overtake(brokers: str, topic: str, group: str) -> None:
    """Have a group stand where the topic has no records any more."""
    producer = Producer({"bootstrap.servers": brokers})
    for _ in range(10):
        producer.produce(topic, b"x")
    assert producer.flush(10) == 0
    commit(brokers, topic, {group: [2]})
    _take_before(brokers, topic, 7)


def _take_before(brokers: str, topic: str, offset: int) -> None:
    admin = AdminClient({"bootstrap.servers": brokers})
    for future in admin.delete_records([TopicPartition(topic, 0, offset)]).values():
        future.result(30)


def _committed(brokers: str, topic: str, group: str) -> int:
    asked = [ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0)])]
    admin = AdminClient({"bootstrap.servers": brokers})
    found = admin.list_consumer_group_offsets(asked)[group].result(30)
    offset: int = found.topic_partitions[0].offset
    return offset


def test_groups_at_offsets_of_their_own_have_the_ages_of_their_own_records(kafka: str) -> None:
    topic = make_topic(kafka, 3)
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": 1})
    for number in range(6_000):
        producer.produce(topic, b"x" * 100, partition=number % 3)
        if number % 100 == 0:
            producer.flush()
    assert producer.flush(10) == 0
    offsets = {f"{topic}-{number}": [number * 40, 1_999 - number * 7, 2_000] for number in range(50)}
    commit(kafka, topic, offsets)
    watcher = collector(kafka)
    rows = {(row.group, row.partition): row for row in watcher.collect() if row.topic == topic}
    looked_at, at = watcher.looked_at, written(kafka, topic)
    assert len(rows) == 150
    for (group, partition), row in rows.items():
        offset = offsets[group][partition]
        assert row.lag == 2_000 - offset
        truth = looked_at - at[partition, offset] if offset < 2_000 else 0
        assert abs(row.lag_seconds - truth) < 1
    ages = {row.lag_seconds for row in rows.values()}
    assert len(ages) > 10, "the records were not all written at once"


def test_members_of_every_kind_are_seen_and_a_topic_that_is_made_again_starts_anew(kafka: str) -> None:
    topic = make_topic(kafka, 1)
    _produce(kafka, topic, 8)
    options = {"bootstrap.servers": kafka, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    new = Consumer({**options, "group.id": f"{topic}-new", "group.protocol": "consumer", "client.id": "new"})
    static = Consumer({**options, "group.id": f"{topic}-static", "group.instance.id": "one", "client.id": "static"})
    commit(kafka, topic, {f"{topic}-gone": [5]})
    watcher = Collector({"bootstrap.servers": kafka}, {}, only=topic)

    def rows() -> dict[str, Row]:
        for member in (new, static):
            member.poll(0.05)
        return {row.group.removeprefix(f"{topic}-"): row for row in watcher.collect()}

    for member in (new, static):
        member.subscribe([topic])
    found = wait_for(lambda: rows() if len(rows()) == 3 else None, what="members of both kinds")
    assert found["new"].owner == "new@127.0.0.1"
    assert found["static"].owner == "static@127.0.0.1"
    assert found["new"].lag == found["static"].lag == 8
    assert (found["gone"].lag, found["gone"].verdict) == (3, Verdict.STOPPED)
    old_age = found["new"].lag_seconds
    for member in (new, static):
        member.close()
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.delete_topics([topic])[topic].result(30)
    # What was committed in it goes with it, and nothing is told of what is not there.
    wait_for(lambda: not watcher.collect(), what="nothing to tell")
    make_topic(kafka, 1, topic)
    _produce(kafka, topic, 8)
    commit(kafka, topic, {f"{topic}-gone": [5]})
    again = wait_for(watcher.collect, what="the group in the new topic")
    assert (again[0].lag, again[0].rate_out) == (3, None)
    assert again[0].lag_seconds < old_age + 1


async def test_whatever_a_member_is_said_to_have_everything_else_is_told(kafka: str) -> None:
    topic = make_topic(kafka, 1)
    _produce(kafka, topic, 1)
    commit(kafka, topic, {f"{topic}-done": [0]})
    had = {
        "refused": _assigned("no topic!"),
        "dots": _assigned("."),
        "long": _assigned("x" * 250),
        "unnamed": _assigned(""),
        "other": _assigned("??").replace(b"??", b"\xff\xfe"),
        "good": _assigned(topic),
    }
    client = AIOKafkaClient(bootstrap_servers=kafka)
    await client.bootstrap()
    try:
        for name, assignment in had.items():
            await _join(client, f"{topic}-{name}", assignment)
        watcher = Collector({"bootstrap.servers": kafka}, {}, only=topic)
        rows = await asyncio.to_thread(watcher.collect)
    finally:
        await client.close()
    assert {row.group.removeprefix(f"{topic}-") for row in rows} == {"done", "good"}


def _assigned(topic: str) -> bytes:
    return MemberAssignment(0, [(topic, [0])], b"").encode()


async def _join(client: AIOKafkaClient, group: str, assignment: bytes) -> None:
    """Have a group of one member that is said to have these partitions."""
    broker = await client.coordinator_lookup(CoordinationType.GROUP, group)
    member = ""
    # The brokers first say what a new member is called.
    for _ in range(2):
        asked = JoinGroupRequest(group, 30_000, 30_000, member, _NO_NAME, "consumer", [("range", b"")])
        joined = await client.send(broker, asked)
        member = joined.member_id
    await client.send(broker, SyncGroupRequest(group, joined.generation_id, member, _NO_NAME, [(member, assignment)]))


def test_what_an_aborted_transaction_wrote_is_no_work_and_what_an_open_one_did_is(kafka: str) -> None:
    topic = make_topic(kafka, 2)
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": topic})
    producer.init_transactions()
    for partition, count in ((0, 3), (1, 3)):
        producer.begin_transaction()
        for _ in range(count):
            producer.produce(topic, b"x", partition=partition)
        producer.commit_transaction()
    producer.begin_transaction()
    producer.produce(topic, b"x", partition=0)
    producer.flush()
    producer.abort_transaction()
    producer.begin_transaction()
    producer.produce(topic, b"x", partition=1)
    producer.flush()
    commit(kafka, topic, {f"{topic}-done": [3, 3], f"{topic}-behind": [1, 1]})
    watcher = Collector({"bootstrap.servers": kafka}, {}, only=topic)
    rows = {(row.group.removeprefix(f"{topic}-"), row.partition): row for row in watcher.collect()}
    assert (rows["done", 0].lag, rows["done", 0].verdict) == (0, Verdict.OK)
    assert (rows["done", 1].lag, rows["done", 1].verdict) == (2, Verdict.STOPPED)
    assert rows["behind", 0].lag_seconds > rows["done", 1].lag_seconds > 0
    producer.abort_transaction()
    rows = {(row.group.removeprefix(f"{topic}-"), row.partition): row for row in watcher.collect()}
    assert (rows["done", 1].lag, rows["done", 1].verdict) == (0, Verdict.OK)
    assert (rows["behind", 1].lag, rows["behind", 1].verdict) == (5, Verdict.STOPPED)


def test_a_record_that_does_not_say_its_time_waits_since_it_was_seen(kafka: str) -> None:
    topic = make_topic(kafka, 1, type_="CreateTime")
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce(topic, b"x", timestamp=-1)
    assert producer.flush(10) == 0
    commit(kafka, topic, {topic: [0]})
    watcher = Collector({"bootstrap.servers": kafka}, {}, only=topic)
    watcher.collect()
    [row] = watcher.collect()
    assert 0 < row.lag_seconds < 30


async def test_a_record_of_the_year_1970_is_one(kafka: str) -> None:
    topic = make_topic(kafka, 1, type_="CreateTime", retention_ms="-1")
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        await producer.send_and_wait(topic, b"x", timestamp_ms=0)
    commit(kafka, topic, {topic: [0]})
    watcher = Collector({"bootstrap.servers": kafka}, {}, only=topic)
    [row] = await asyncio.to_thread(watcher.collect)
    assert (row.lag, row.verdict) == (1, Verdict.STOPPED)
    assert row.lag_seconds == pytest.approx(time.time(), abs=30)


def _produce(brokers: str, topic: str, count: int, size: int = 1, **options: str) -> None:
    producer = Producer({"bootstrap.servers": brokers, **dotted(options)})
    for _ in range(count):
        producer.produce(topic, b"x" * size)
    assert producer.flush(10) == 0


def test_retention_by_size_is_announced_before_the_log_begins_to_move(kafka: str) -> None:
    topic = make_topic(kafka, 1, retention_bytes="100000", retention_ms="-1")
    _produce(kafka, topic, 80, 920)
    commit(kafka, topic, {f"{topic}-long": [0], f"{topic}-short": [40]})
    watcher = Collector({"bootstrap.servers": kafka}, {}, only=topic)
    rows = {row.group.removeprefix(f"{topic}-"): row for row in watcher.collect()}
    assert "retention" not in rows["long"].why
    _produce(kafka, topic, 10, 920)
    rows = {row.group.removeprefix(f"{topic}-"): row for row in watcher.collect()}
    assert "retention by size may take its oldest record when 10 more have come, in " in rows["long"].why
    assert "retention" not in rows["short"].why


def test_what_a_log_had_left_when_it_moved_says_what_its_size_keeps_of_compressed_records(kafka: str) -> None:
    # No file is as large as this: what moves the log's start is told by hand, as the broker does of its own.
    topic = make_topic(kafka, 1, retention_bytes="100000", retention_ms="-1")
    _produce(kafka, topic, 1_000, 920, compression_type="zstd", linger_ms="100")
    commit(kafka, topic, {f"{topic}-long": [350], f"{topic}-short": [500]})
    watcher = Collector({"bootstrap.servers": kafka}, {}, only=topic)

    def losses() -> dict[str, bool]:
        return {row.group.removeprefix(f"{topic}-"): "retention" in row.why for row in watcher.collect()}

    assert losses() == {"long": True, "short": True}, "as if nothing were compressed"
    _take_before(kafka, topic, 300)
    assert losses() == {"long": True, "short": False}


def test_what_compaction_took_is_no_gap_and_the_next_record_there_is_tells_the_age(kafka: str) -> None:
    topic = make_topic(
        kafka,
        1,
        cleanup_policy="compact",
        segment_ms="1",
        min_cleanable_dirty_ratio="0.001",
        retention_bytes="1",
        retention_ms="1",
    )
    with cleaning_at_once(kafka):
        producer = Producer({"bootstrap.servers": kafka, "linger.ms": 0})
        for number in range(30):
            # The first key comes once; the last record's segment is open, and stays.
            producer.produce(topic, b"x", key="once" if number == 0 else "often")
            producer.flush()
        wait_for(lambda: len(written(kafka, topic)) == 3, what="compaction")
    at = written(kafka, topic)
    assert sorted(at) == [(0, 0), (0, 28), (0, 29)]
    commit(kafka, topic, {f"{topic}-first": [0], f"{topic}-hole": [7], f"{topic}-done": [30]})
    watcher = Collector({"bootstrap.servers": kafka}, {}, only=topic)
    rows = {row.group.removeprefix(f"{topic}-"): row for row in watcher.collect()}
    for name, offset in {"first": 0, "hole": 28}.items():
        assert abs(rows[name].lag_seconds - (watcher.looked_at - at[0, offset])) < 0.01
        assert rows[name].verdict is Verdict.STOPPED
        assert "retention" not in rows[name].why
    assert (rows["done"].verdict, rows["done"].lag) == (Verdict.OK, 0)


@contextmanager
def cleaning_at_once(brokers: str) -> Iterator[None]:
    """Have the broker compact without rest while the context lasts."""
    admin = AdminClient({"bootstrap.servers": brokers})
    broker = str(next(iter(admin.list_topics(timeout=10).brokers)))

    def alter(operation: AlterConfigOpType) -> None:
        entry = ConfigEntry("log.cleaner.backoff.ms", "50", incremental_operation=operation)
        resource = ConfigResource(ResourceType.BROKER, broker, incremental_configs=[entry])
        for future in admin.incremental_alter_configs([resource]).values():
            future.result(30)

    alter(AlterConfigOpType.SET)
    try:
        yield
    finally:
        alter(AlterConfigOpType.DELETE)


class Unanswered(AdminClient):
    """A client whose groups' coordinators are away."""

    are_away = True

    def describe_consumer_groups(self, names: list[str], **options: Any) -> Any:
        if not self.are_away:
            return super().describe_consumer_groups(names, **options)
        answer: Future[Any] = Future()
        answer.set_exception(KafkaException(KafkaError(KafkaError.NOT_COORDINATOR)))
        return dict.fromkeys(names, answer)


def test_a_service_whose_coordinator_was_never_heard_of_is_not_told_to_have_stopped(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = make_topic(kafka, 1)
    commit(kafka, topic, {topic: [0]})
    monkeypatch.setattr(collector_module, "AdminClient", Unanswered)
    watcher = Collector({"bootstrap.servers": kafka}, {topic: {topic}}, only=topic)
    rows = watcher.collect()
    assert (rows, watcher.is_certain(rows)) == ([], False)
    monkeypatch.setattr(Unanswered, "are_away", False)
    rows = watcher.collect()
    assert ([row.verdict for row in rows], watcher.is_certain(rows)) == ([Verdict.STOPPED], True)
    monkeypatch.setattr(Unanswered, "are_away", True)
    assert [row.verdict for row in watcher.collect()] == [Verdict.STOPPED], "what was known a moment ago"


def test_a_service_that_a_person_has_paused_is_behind_and_says_why(kafka: str) -> None:
    topic = make_topic(kafka, 1)
    _produce(kafka, topic, 3)
    group = f"{topic}-paused"
    with consumer(kafka, topic, group, commits="no"):
        watcher = Collector(
            {"bootstrap.servers": kafka},
            {},
            Limits(still_s=0.0),
            only=topic,
            paused=lambda: {group: "paused by somebody: the bank asked"},
        )
        [row] = watcher.collect()
    assert row.verdict is Verdict.BEHIND
    assert row.why.startswith("paused by somebody: the bank asked; its oldest record has waited")
