"""Measures how many events a second insight counts, against a loop that only reads and decodes the same topic.

Both take turns on the same engines and the same events, most of them transfers that have settled:

    python -m benchmarks.insight [--events 60000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import sys
import tempfile
import time
import urllib.request
import uuid
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition
from confluent_kafka import Producer

from benchmarks.__main__ import PARTITIONS, Bench, processes
from local.kafka import start_kafka
from local.postgres import start_postgres
from schemas import registry
from schemas.envelope import Malformed, decode, encode_headers

if TYPE_CHECKING:
    from collections.abc import Iterator

TOPIC: Final = "transfer.events"
FAILED_SHARE: Final = 0.05
BANKS: Final = ("ICBC", "ABC", "CCB", "BOC")
COMMAND: Final = [sys.executable, "-m", "services.insight"]
_LOOK_EVERY_S: Final = 0.1
_PATIENCE_S: Final = 120.0
_COUNTED: Final = re.compile(rf'sluice_records_total{{topic="{TOPIC}"}} (\S+)')


def events(count: int) -> Iterator[tuple[str, bytes, list[tuple[str, bytes]]]]:
    """Yield the key, value and headers of events as the transfer service publishes them."""
    chance = random.Random(1)
    for number in range(count):
        id_, now = str(uuid.UUID(int=chance.getrandbits(128), version=4)), datetime.now(UTC).isoformat()
        failed = chance.random() < FAILED_SHARE
        payer = f"wallet:{chance.randrange(10_000)}"
        bank = f"bank:{chance.choice(BANKS)}:{number}"
        body: dict[str, Any] = {
            "transfer_id": id_,
            "seq": 1,
            "kind": "p2p" if number % 2 else "withdrawal",
            "payer": payer,
            "payee": f"wallet:{chance.randrange(10_000)}" if number % 2 else bank,
            "payer_customer_id": f"customer-{payer[7:]}",
            "amount_minor": 100,
            "fee_minor": 0,
            "currency": "CNY",
            "status": "failed" if failed else "settled",
            "requested_at": now,
            "occurred_at": now,
        }
        if failed:
            body["reason"] = {"code": chance.choice(("insufficient_balance", "payee_unknown")), "retryable": False}
            body["reason"]["refund"] = "none"
        type_ = f"transfer.{body['status']}"
        headers = encode_headers(type_, id=f"{id_}.1", source="bench", time=now, subject=id_, correlation_id=id_)
        yield payer, orjson.dumps(body), headers


def publish(kafka: str, prefix: str, count: int) -> None:
    """Write the events, and wait until the brokers have them."""
    producer = Producer({"bootstrap.servers": kafka, "partitioner": "murmur2_random", "linger.ms": 5})
    for key, value, headers in events(count):
        told: Any = headers
        producer.produce(prefix + TOPIC, key=key, value=value, headers=told)
        if producer.poll(0) == 0 and len(producer) > 50_000:
            producer.flush(30)
    assert producer.flush(60) == 0  # noqa: S101 -- or the figure means nothing


async def floor(kafka: str, prefix: str, count: int) -> float:
    """Return how many events a second are read and decoded, and no more."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(prefix + TOPIC, number) for number in range(PARTITIONS)])
        await consumer.seek_to_beginning()
        read, started = 0, time.perf_counter()
        while read < count:
            for records in (await consumer.getmany(timeout_ms=1_000)).values():
                for record in records:
                    found = decode(record.headers, record.value, registry.TOPICS[TOPIC])
                    assert not isinstance(found, Malformed)  # noqa: S101 -- or the figure means nothing
                read += len(records)
        return count / (time.perf_counter() - started)
    finally:
        await consumer.stop()


def counted(health: str) -> int:
    """Return how many events a worker has handled."""
    with urllib.request.urlopen(f"{health}/metrics") as answer:  # noqa: S310 -- the worker's own page
        found = _COUNTED.search(answer.read().decode())
    return 0 if found is None else int(float(found[1]))


def insight(bench: Bench, prefix: str, dsn: str, count: int, logs: Path) -> float:
    """Return how many events a second a worker handles, from its first to its last."""
    environment = bench.environment(prefix, dsn)
    with processes(1, COMMAND, environment, logs / f"{prefix}log") as [worker]:
        health, began = worker.said["health"], time.monotonic()
        first: tuple[int, float] | None = None
        while (now := counted(health)) < count:
            if now and first is None:
                first = now, time.perf_counter()
            if time.monotonic() - began > _PATIENCE_S:
                text = f"only {now} of {count} events were handled"
                raise TimeoutError(text)
            time.sleep(_LOOK_EVERY_S)
        assert first is not None  # noqa: S101 -- there are more events than are handled between two looks
        return (count - first[0]) / (time.perf_counter() - first[1])


async def compare(bench: Bench, count: int, rounds: int, logs: Path) -> dict[str, object]:
    """Return the medians of both, turn about, and their ratio."""
    turns = []
    dsn = await bench.new_database("insight")
    for _ in range(rounds):
        prefix = bench.new_topics()
        await asyncio.to_thread(publish, bench.kafka, prefix, count)
        bare = await floor(bench.kafka, prefix, count)
        turns.append((bare, await asyncio.to_thread(insight, bench, prefix, dsn, count, logs)))
    floors, ours = (median(rates) for rates in zip(*turns, strict=True))
    ratio = median(rate / bare for bare, rate in turns)
    return {"workload": "insight", "floor": round(floors), "insight": round(ours), "ratio": round(ratio, 3)}


def main() -> None:
    """Start engines of its own and compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.insight", description=__doc__)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name:
        home = Path(name)
        with start_kafka(home / "kafka") as kafka, start_postgres(home / "postgres") as postgres:
            bench = Bench(kafka.bootstrap, postgres.dsn)
            print(json.dumps(uvloop.run(compare(bench, options.events, options.rounds, home))))  # noqa: T201


if __name__ == "__main__":
    main()
