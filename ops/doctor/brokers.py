"""What the brokers are asked: whether they answer, their topics, what we may do there, their clock, the groups."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from local.settings import runtime_settings
from local.topics import config_of
from ops.brokers import Unsaid, count_members, settings_otherwise
from ops.counts import count_text
from ops.doctor.model import Check, advice, ok, unknown, wrong
from ops.lag.expected import expected_groups
from schemas.topics import TOPICS
from services.insight.settings import load_insight
from services.insight.topics import GROUP, own_topics
from services.runtime.kafka import admin_options
from services.runtime.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ops.running import Running

_WITHIN_S: Final = 5.0
_ANSWER_WITHIN_S: Final = 8.0
CLOCK_APART_S: Final = 1.0
_FORBIDDEN: Final = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
)
_PERMISSIONS: Final = "allow it for the user of the KAFKA_ settings: create, write, read, describe, delete, and groups"


def check_brokers(running: Running) -> list[Check]:
    """Return what is found at the brokers."""
    options: dict[str, Any] = {**admin_options(runtime_settings(running.kafka, running.database), "sluice.doctor")}
    options["log_level"] = 0
    admin = AdminClient(options)
    try:
        found = admin.list_topics(timeout=_WITHIN_S)
    except KafkaException as error:
        said = f"Kafka at {running.kafka} does not answer ({error.args[0].name()})"
        return [unknown("engines", said, "see whether it runs, and the KAFKA_ settings")]
    checks = [ok("engines", f"Kafka at {running.kafka}: {count_text(len(found.brokers), 'broker')}")]
    counts = {name: len(topic.partitions) for name, topic in found.topics.items()}
    checks += _topics(admin, running.topic_prefix, counts)
    checks += _insight_topics(admin, running.topic_prefix, counts)
    checks += _rights(admin, options, running.topic_prefix)
    return [*checks, *_groups(admin, running.topic_prefix)]


def _topics(admin: AdminClient, prefix: str, counts: Mapping[str, int]) -> Iterator[Check]:
    missing = [prefix + topic.name for topic in TOPICS if prefix + topic.name not in counts]
    if missing:
        yield wrong("topics", f"missing: {', '.join(missing)}", "`sluice topics create` makes them")
    there = [topic for topic in TOPICS if prefix + topic.name in counts]
    sizes = Counter(counts[prefix + topic.name] for topic in there)
    if len(sizes) > 1:
        [(usual, _)] = sizes.most_common(1)
        named = {prefix + topic.name: counts[prefix + topic.name] for topic in there}
        said = ", ".join(f"{name} {count}" for name, count in named.items() if count != usual)
        todo = "change them by a drain (docs/operations.md)"
        yield wrong("topics", f"partition counts differ: {said}, all others {usual}", todo)
    otherwise = list(_kept_otherwise(admin, {prefix + topic.name: config_of(topic) for topic in there}))
    yield from otherwise
    if not missing and not otherwise and len(sizes) == 1:
        [size] = sizes
        yield ok("topics", f"{len(there)} topics of {count_text(size, 'partition')}, kept as the contract says")


def _kept_otherwise(admin: AdminClient, wanted: Mapping[str, Mapping[str, str]]) -> Iterator[Check]:
    for each in settings_otherwise(admin, wanted, _WITHIN_S):
        if isinstance(each, Unsaid):
            yield unknown("topics", f"{each.topic}: {each.error.str()}", _PERMISSIONS)
        else:
            said = f"{each.topic}: {each.name} is {each.found}, not {each.wanted}"
            yield wrong("topics", said, "`sluice topics settle` sets it")


def _insight_topics(admin: AdminClient, prefix: str, counts: Mapping[str, int]) -> Iterator[Check]:
    """Look at what insight makes for itself: faust rebuilds its tables from topics cut as those that it reads."""
    try:
        own = {prefix + name: told for name, told in own_topics(load_insight()).items()}
    except SettingsError:
        # What is wrong is told of the settings.
        return
    there = {name: told for name, told in own.items() if name in counts}
    if missing := own.keys() - there.keys():
        said = f"insight's own are missing: {', '.join(sorted(missing))}"
        yield advice("topics", said, "start insight: it makes them")
    needed = {name: counts[prefix + like] for name, (like, _) in there.items() if prefix + like in counts}
    wrongly_cut = [name for name in needed if counts[name] != needed[name]]
    for name in wrongly_cut:
        said = f"{name} has {count_text(counts[name], 'partition')} and insight needs {needed[name]}"
        begin = f"stop insight and delete the topics whose names begin with {prefix}{GROUP}-: it counts anew"
        yield wrong("topics", said, begin)
    otherwise = list(_kept_otherwise(admin, {name: config for name, (_, config) in there.items()}))
    yield from otherwise
    if not missing and not wrongly_cut and not otherwise:
        yield ok("topics", f"{len(own)} of insight's own, cut as what it reads")


def _rights(admin: AdminClient, options: Mapping[str, Any], prefix: str) -> Iterator[Check]:
    """Make a topic, write to it, read it in a group, and remove both; the record says what the brokers' clock is."""
    topic = f"{prefix}sluice.doctor.{uuid.uuid4().hex[:8]}"
    new = NewTopic(topic, 1, 1, config={"message.timestamp.type": "LogAppendTime"})
    try:
        admin.create_topics([new], request_timeout=_WITHIN_S)[topic].result(_ANSWER_WITHIN_S)
    except KafkaException as error:
        yield _refused("a topic cannot be created", error)
        return
    try:
        apart_s = _write(options, topic)
        _read(options, topic)
    except KafkaException as error:
        yield _refused("a record cannot be written, or not read in a group", error)
    else:
        yield ok("permissions", "Kafka: topics may be created, written, and read in a group")
        if abs(apart_s) > CLOCK_APART_S:
            said = f"the brokers' clock is {apart_s:+.1f} s from this machine's"
            yield wrong("clock", said, "let both follow NTP: records would be late, or from the future")
        else:
            yield ok("clock", f"the brokers' is within {CLOCK_APART_S:g} s of this machine's")
    finally:
        admin.delete_topics([topic], request_timeout=_WITHIN_S)[topic].exception(_ANSWER_WITHIN_S)
        admin.delete_consumer_groups([topic], request_timeout=_WITHIN_S)[topic].exception(_ANSWER_WITHIN_S)


def _refused(what: str, error: KafkaException) -> Check:
    said = f"Kafka: {what} ({error.args[0].name()})"
    if error.args[0].code() in _FORBIDDEN:
        return wrong("permissions", said, _PERMISSIONS)
    return unknown("permissions", said, "look at the brokers' log")


def _write(options: Mapping[str, Any], topic: str) -> float:
    """Write a record; return by how much the brokers' clock is ahead of ours, in seconds, as far as can be known."""
    producer = Producer({**options, "acks": "all", "message.timeout.ms": int(_WITHIN_S * 1_000)})
    said: list[tuple[KafkaError | None, float]] = []
    # The first record waits for the connection and the topic's leader.
    for _ in range(2):
        before = time.time()
        producer.produce(topic, b"x", on_delivery=lambda error, _: said.append((error, time.time())))
        producer.flush(_ANSWER_WITHIN_S)
        if not said:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 - the client's own name
        if (error := said[-1][0]) is not None:
            raise KafkaException(error)
    at = _timestamp(options, topic)
    after = said[-1][1]
    return min(0.0, at - before) + max(0.0, at - after)


def _timestamp(options: Mapping[str, Any], topic: str) -> float:
    reader = Consumer({**options, "group.id": "unused", "enable.auto.commit": False})
    try:
        reader.assign([TopicPartition(topic, 0, 1)])
        message = reader.poll(_WITHIN_S)
    finally:
        reader.close()
    if message is None or (error := message.error()) is not None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT) if message is None else error)  # noqa: SLF001
    return message.timestamp()[1] / 1_000


def _read(options: Mapping[str, Any], topic: str) -> None:
    """Join a group, which has the topic's name, read a record and commit it."""
    reader = Consumer({**options, "group.id": topic, "auto.offset.reset": "earliest", "enable.auto.commit": False})
    try:
        reader.subscribe([topic])
        message = reader.poll(_ANSWER_WITHIN_S)
        if message is None or (error := message.error()) is not None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT) if message is None else error)  # noqa: SLF001
        reader.commit(message=message, asynchronous=False)
    finally:
        reader.close()


def _groups(admin: AdminClient, prefix: str) -> Iterator[Check]:
    for name, count in count_members(admin, list(expected_groups(prefix)), _WITHIN_S):
        service = name.removeprefix(f"{prefix}sluice.")
        if isinstance(count, KafkaError):
            yield unknown("services", f"{service}: {count.str()}", _PERMISSIONS)
        elif count:
            yield ok("services", f"{service}: {count_text(count, 'member')} in its group")
        else:
            yield wrong("services", f"{service}: no worker in its group", "start one: its log says why it ended")
