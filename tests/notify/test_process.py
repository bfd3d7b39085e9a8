"""The notifier as a process of its own, from Kafka to an inbox and back to Kafka, killed in between."""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from schemas.envelope import encode_headers
from schemas.examples import EXAMPLES
from tests.conftest import PARTITIONS
from tests.notify.system import notifier
from tests.notify.test_notices import MASTER_KEY, closing, profile, settled
from tests.waiting import wait_for, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from services.runtime.message import Message

EVENTS = 300


@pytest.fixture
def environment(kafka: str, topic_prefix: str, database: str) -> dict[str, str]:
    return os.environ | {
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "DATABASE_URL": database,
        "SLUICE_TOPIC_PREFIX": topic_prefix,
        "SLUICE_LOG_LEVEL": "warning",
        "SLUICE_MASTER_KEY": base64.b64encode(MASTER_KEY).decode(),
    }


def publish(environment: dict[str, str], *messages: Message) -> None:
    producer = Producer({"bootstrap.servers": environment["KAFKA_BOOTSTRAP_SERVERS"]})
    for message in messages:
        assert message.data is not None
        headers: Any = encode_headers(
            message.type, id=message.id, source="test", time="2026-11-23T08:30:00Z", subject=message.id
        )
        body = message.data.model_dump_json(by_alias=True)
        producer.produce(environment["SLUICE_TOPIC_PREFIX"] + message.topic, body, message.key, headers=headers)
    producer.flush()


async def test_everybody_is_told_once_though_the_notifier_is_killed(
    environment: dict[str, str], database: str, tmp_path: Path
) -> None:
    publish(environment, profile("a"), profile("b", locale="zh-CN"))
    publish(environment, *(settled() for _ in range(EVENTS)))
    publish(environment, closing("closure.in_review", {**EXAMPLES["closure.in_review"][0], "customer_id": "a"}))
    told_in_all = 4 * EVENTS * 2 + 1
    connection = None

    async def told() -> int:
        nonlocal connection
        connection = connection or await asyncpg.connect(database, server_settings={"search_path": "notify"})
        return int(await connection.fetchval("select count(*) from inbox_message"))

    try:
        for _ in range(3):
            with notifier(environment, tmp_path / "log"):
                await wait_until(told, deadline_s=30, what="somebody is told")
                publish(environment, *(settled() for _ in range(EVENTS)))

        async def all_told() -> bool:
            return await told() == told_in_all

        with notifier(environment, tmp_path / "log"):
            await wait_until(all_told, deadline_s=40, what="everybody is told of everything")
            assert _published(environment, told_in_all) == told_in_all
    finally:
        if connection is not None:
            await connection.close()


def _published(environment: dict[str, str], wanted: int) -> int:
    """Return how many different notices `notify.events` says were delivered, once there are as many as wanted."""
    consumer = Consumer({"bootstrap.servers": environment["KAFKA_BOOTSTRAP_SERVERS"], "group.id": "reader"})
    topic = environment["SLUICE_TOPIC_PREFIX"] + "notify.events"
    consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    notices: set[str] = set()

    def enough() -> bool:
        for message in consumer.consume(1_000, 0.2):
            value = message.value()
            assert value is not None
            said = orjson.loads(value)
            if said["channel"] == "in_app":
                notices.add(said["notice_id"])
        return len(notices) >= wanted

    try:
        wait_for(enough, deadline_s=30, what="all notices are published")
    finally:
        consumer.close()
    return len(notices)
