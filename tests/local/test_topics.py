"""What is made of the contract's topics on a broker."""

from __future__ import annotations

import uuid

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource

from local import topics
from local.topics import TopicError, create_topics, require_topics
from schemas.topics import TOPICS, Topic
from tests.conftest import PARTITIONS

LARGEST_RECORD_BYTES = 256 * 1024
HEADERS_BYTES = 64 * 1024


def partitions(kafka: str, prefix: str) -> dict[str, int]:
    metadata = AdminClient({"bootstrap.servers": kafka}).list_topics(timeout=20)
    return {name: len(topic.partitions) for name, topic in metadata.topics.items() if name.startswith(prefix)}


def config(kafka: str, name: str) -> dict[str, str]:
    resource = ConfigResource(ConfigResource.Type.TOPIC, name)
    # The client must outlive its answer.
    admin = AdminClient({"bootstrap.servers": kafka})
    described = admin.describe_configs([resource])[resource].result(20)
    return {key: entry.value for key, entry in described.items()}


def test_creating_again_changes_nothing(kafka: str, topic_prefix: str) -> None:
    create_topics({"bootstrap.servers": kafka}, topic_prefix, PARTITIONS)
    require_topics({"bootstrap.servers": kafka}, topic_prefix)
    assert partitions(kafka, topic_prefix) == {topic_prefix + topic.name: PARTITIONS for topic in TOPICS}


def test_every_topic_is_kept_as_long_as_the_contract_says(kafka: str, topic_prefix: str) -> None:
    for topic in TOPICS:
        said = config(kafka, topic_prefix + topic.name)
        assert said["message.timestamp.type"] == "LogAppendTime"
        assert int(said["max.message.bytes"]) >= LARGEST_RECORD_BYTES + HEADERS_BYTES
        assert said["cleanup.policy"] == ("compact" if topic.compact else "delete")
        if not topic.compact:
            assert int(said["retention.ms"]) == _milliseconds(topic)


def _milliseconds(topic: Topic) -> int:
    return -1 if topic.retention is None else int(topic.retention.total_seconds() * 1000)


def test_another_partition_count_is_refused_by_name(kafka: str, topic_prefix: str) -> None:
    with pytest.raises(TopicError, match=rf"{topic_prefix}[a-z.]+ has {PARTITIONS} partitions .*SLUICE_PARTITIONS"):
        create_topics({"bootstrap.servers": kafka}, topic_prefix, PARTITIONS + 1)
    assert set(partitions(kafka, topic_prefix).values()) == {PARTITIONS}


def test_missing_topics_are_named_when_others_make_them(kafka: str) -> None:
    prefix = f"t{uuid.uuid4().hex[:8]}."
    with pytest.raises(TopicError) as refusal:
        require_topics({"bootstrap.servers": kafka}, prefix)
    assert all(prefix + topic.name in str(refusal.value) for topic in TOPICS)
    assert partitions(kafka, prefix) == {}


def test_a_broker_that_does_not_answer_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "_ANSWER_WITHIN_S", 1)
    options: dict[str, str | bool] = {"bootstrap.servers": "127.0.0.1:1", "socket.timeout.ms": "100", "log_level": "0"}
    with pytest.raises(TopicError, match="Kafka does not answer within 1 s"):
        require_topics(options, "")
