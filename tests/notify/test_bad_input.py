"""Ten thousand broken, hostile and odd messages: each a dead letter or accounted for, and the notifier goes on."""

from __future__ import annotations

import copy
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from schemas.envelope import encode_headers
from schemas.examples import EXAMPLES
from schemas.registry import TOPICS
from tests.conftest import PARTITIONS
from tests.notify.system import System, listed, notifying, reachable, restricted
from tests.notify.test_process import publish
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COUNT = 10_000
READ = ("transfer.events", "closure.events", "maintenance.events", "erasure.events", "customer.profiles")
READ += ("notify.commands", "notify.receipts")
ODD: tuple[Any, ...] = (
    None,
    "",
    "x\r\nBcc: victim@mail.example",
    "王\u202e小明<script>",
    "a\x00b",
    "\ud800",
    "9" * 400,
    -1,
    2**63,
    1.5,
    True,
    [],
    {},
    [{}] * 50,
    {"{{ 7 * 7 }}": "{% raw %}"},
)


@pytest.fixture
def system(kafka: str, topic_prefix: str, database: str, tmp_path: Path) -> Iterator[System]:
    with notifying(kafka, topic_prefix, database, tmp_path, gateways=["sms-a"], batch_size=100) as started:
        yield started


def spoil(dice: random.Random, body: dict[str, Any]) -> bytes:
    """Return a body with some of its fields gone, odd, or of another's kind; or what is no JSON at all."""
    if dice.random() < 0.05:
        return dice.choice((b"", b"\xff\xfe", b"[1,", b"null", b"{}", b"[" * 5_000))
    spoilt = copy.deepcopy(body)
    for _ in range(dice.randrange(1, 4)):
        at: Any = spoilt
        while isinstance(at, dict) and at:
            name = dice.choice(sorted(at))
            if isinstance(at[name], dict) and dice.random() < 0.5:
                at = at[name]
                continue
            if dice.random() < 0.3:
                del at[name]
            else:
                at[name] = dice.choice(ODD)
            break
    return (
        orjson.dumps(spoilt, option=orjson.OPT_NON_STR_KEYS)
        if _is_text(spoilt)
        else repr(spoilt).encode("utf-8", "replace")
    )


def _is_text(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


def publish_spoilt(system: System, seed: int) -> Counter[str]:
    """Publish spoilt messages of every type that a notifier reads; return how many to which topic."""
    dice, sent = random.Random(seed), Counter[str]()
    producer = Producer({"bootstrap.servers": system.environment["KAFKA_BOOTSTRAP_SERVERS"]})
    types = [(topic, type_) for topic in READ for type_ in TOPICS[topic]]
    for number in range(COUNT):
        topic, type_ = dice.choice(types)
        headers: Any = encode_headers(type_, id=f"bad-{number}", source="t", time="2026-11-23T08:30:00Z", subject="s")
        value = spoil(dice, dict(EXAMPLES[type_][0]))
        producer.produce(system.environment["SLUICE_TOPIC_PREFIX"] + topic, value, f"k{number % 50}", headers=headers)
        producer.poll(0)
        sent[topic] += 1
    producer.flush()
    return sent


def dead_letters(system: System) -> Counter[str]:
    """Return how many dead letters there are for each reason."""
    consumer = Consumer({"bootstrap.servers": system.environment["KAFKA_BOOTSTRAP_SERVERS"], "group.id": "dlq"})
    prefix, reasons = system.environment["SLUICE_TOPIC_PREFIX"], Counter[str]()
    places = [TopicPartition(f"{prefix}{topic}.dlq", number, 0) for topic in READ for number in range(PARTITIONS)]
    left = sum(consumer.get_watermark_offsets(place)[1] for place in places)
    consumer.assign(places)
    while left > 0:
        for message in consumer.consume(1_000, 1):
            reasons[dict(message.headers() or [])["dlq-reason"].decode()] += 1  # type: ignore[union-attr]
            left -= 1
    consumer.close()
    return reasons


async def test_it_goes_on_and_accounts_for_all(system: System, database: str) -> None:
    sent = publish_spoilt(system, seed=7) + Counter({"customer.profiles": 1, "transfer.events": 1})
    publish(system.environment, reachable(1))
    publish(system.environment, restricted(1))
    connection = await asyncpg.connect(database, server_settings={"search_path": "notify"})

    async def all_are_read() -> bool:
        # It answers erasures on the topic that it reads them from, and puts gateways' receipts where it reads them.
        read = "select topic, sum(next_offset) from consumed_offset group by topic"
        found = {row[0]: row[1] for row in await connection.fetch(read)}
        return all(found.get(topic, 0) >= count for topic, count in sent.items())

    async def the_good_one_is_told() -> bool:
        return any(message["to"] == "+8613800000001" for message in await listed(system.sms.http, limit="100000"))

    with system.notifier() as notifier:
        await wait_until(all_are_read, deadline_s=90, what="everything is read")
        await wait_until(the_good_one_is_told, deadline_s=30, what="somebody is told of what is well-formed")
        assert notifier.poll() is None
    reasons = dead_letters(system)
    assert set(reasons) == {"malformed"}
    assert reasons["malformed"] > COUNT / 2
    counted = "select (select coalesce(sum(accepted), 0) from announcement) = (select count(*) from notice)"
    assert await connection.fetchval(counted)
    assert await connection.fetchval("select count(*) from timer where parked_at is not null") == 0
    await connection.close()
    for mail in await listed(system.mail.said["http"]):
        assert "bcc" not in {name.lower() for name in mail["headers"]}
