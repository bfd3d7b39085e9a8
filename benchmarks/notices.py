"""Measures the notifier with its sandboxes: a broadcast to many in the app and by SMS, and urgent notices during it.

    python -m benchmarks.notices [--customers 200000] [--rate 500] [--urgent-rate 10]

One JSON line: `hand_over_ms` from the publishing of an event to the hand-over of its SMS at the gateway, nothing
beside, and `urgent_ms` the same during the broadcast; `notices_per_s` of the broadcast to its end, receipts included;
`memory_mb` is the notifier's most.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import threading
import time
import uuid
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import asyncpg
import psutil
from confluent_kafka import Producer

from local.up import started
from services.runtime.database import load_queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

QUERIES = load_queries(Path(__file__).with_name("notices.sql"))
PATIENCE_S = 900.0
LOOK_EVERY_S = 0.2
TEXT = {"title": {"zh-CN": "服务更新", "en": "Service update"}, "body": {"zh-CN": "提现将更快到账。", "en": "Sooner."}}
URGENT_CHANNELS = 3
BROADCAST = ("提现将更快到账。", "Sooner.")


def phone_of(number: int) -> str:
    """Return a number that nobody else has."""
    return f"+86138{number:08d}"


def profile(number: int) -> dict[str, Any]:
    """Return the profile of one of the people who are told."""
    return {
        "customer_id": f"c{number:07d}",
        "name": "王小明",
        "phone": phone_of(number),
        "phone_verified": True,
        "locale": "zh-CN" if number % 2 else "en",
    }


def restricted(number: int, version: int) -> dict[str, Any]:
    """Return an urgent event about somebody."""
    return {
        "account_id": f"wallet:{number}",
        "customer_id": f"c{number:07d}",
        "currency": "CNY",
        "tier": "standard",
        "status": "open",
        "posted_minor": 0,
        "reserved_minor": 0,
        "available_minor": 0,
        "version": version,
        "scope": "debit",
    }


class Load(NamedTuple):
    """Urgent events: about whom first, how many at the most, and how many a second."""

    first: int
    most: int
    rate_per_s: int


class Publisher:
    """Publishes to a running system."""

    def __init__(self, kafka: str) -> None:
        self._producer = Producer({"bootstrap.servers": kafka, "linger.ms": 5, "queue.buffering.max.messages": 500_000})

    def publish(self, topic: str, type_: str, key: str, body: dict[str, Any], id_: str | None = None) -> None:
        """Queue a message; `flush` sends what is left."""
        headers = {
            "ce_specversion": "1.0",
            "ce_id": id_ or str(uuid.uuid4()),
            "ce_source": "benchmark",
            "ce_type": f"sluice.{type_}.v1",
            "content-type": "application/json",
        }
        self._producer.produce(topic, json.dumps(body), key, headers=list(headers.items()))
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait until the brokers have everything."""
        self._producer.flush()


class Memory:
    """Watches how much memory a process has, at the most."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.most_mb = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            time.sleep(LOOK_EVERY_S)
            try:
                self.most_mb = max(self.most_mb, self._process.memory_info().rss / 1e6)
            except psutil.NoSuchProcess:
                return


@asynccontextmanager
async def database(dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Connect to the notifier's tables."""
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "notify"})
    try:
        yield connection
    finally:
        await connection.close()


async def wait_for(connection: asyncpg.Connection[asyncpg.Record], query: str, wanted: Any, what: str) -> None:
    """Wait until a query answers as wanted."""
    deadline = time.monotonic() + PATIENCE_S
    while (answer := await connection.fetchval(query)) != wanted:
        if time.monotonic() > deadline:
            message = f"{what}: {answer} instead of {wanted} after {PATIENCE_S:g} s"
            raise TimeoutError(message)
        await asyncio.sleep(LOOK_EVERY_S)


async def publish_urgent(publisher: Publisher, load: Load, over: asyncio.Event) -> dict[str, datetime]:
    """Publish urgent events about people in turns until told to stop; return when each was, by phone."""
    published: dict[str, datetime] = {}
    began = time.monotonic()
    for number in range(load.first, load.first + load.most):
        if over.is_set():
            break
        published[phone_of(number)] = datetime.now(UTC)
        publisher.publish("transfer.events", "account.restricted", f"wallet:{number}", restricted(number, 2))
        await asyncio.sleep(max(0, began + (number - load.first + 1) / load.rate_per_s - time.monotonic()))
    publisher.flush()
    return published


async def handed_over(address: str, phones: Mapping[str, datetime]) -> list[float]:
    """Return after how many milliseconds each urgent text was handed over, the quickest first."""
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{address}/messages", params={"limit": 1_000_000}) as response,
    ):
        arrived = await response.json()
    delays = [
        (datetime.fromisoformat(one["handed_over_at"]) - phones[one["to"]]).total_seconds() * 1_000
        for one in arrived
        if one["to"] in phones and not any(said in one["body"] for said in BROADCAST)
    ]
    return sorted(delays)


def summary_of(delays: Sequence[float]) -> dict[str, int]:
    """Return the median, the 99th percentile and the worst of delays, in milliseconds."""
    cuts = quantiles(delays, n=100)
    return {"count": len(delays), "p50": round(cuts[49]), "p99": round(cuts[98]), "max": round(delays[-1])}


async def measure_hand_over(
    connection: asyncpg.Connection[asyncpg.Record], publisher: Publisher, load: Load
) -> dict[str, datetime]:
    """Publish urgent events at a rate, nothing beside; return when each was published, once all have ended."""
    published = await publish_urgent(publisher, load, asyncio.Event())
    await wait_for(connection, QUERIES.count_urgent, len(published) * URGENT_CHANNELS, "notices of urgent events")
    await wait_for(connection, QUERIES.count_urgent_pending, 0, "urgent notices")
    return published


async def measure(endpoints: dict[str, Any], asked: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of a load of events, and of one broadcast with urgent events beside it."""
    publisher, customers = Publisher(endpoints["kafka"]), asked.customers
    notifier = next(one for one in endpoints["services"] if one["name"] == "notify")
    memory = Memory(notifier["pid"])
    for number in range(customers):
        publisher.publish("customer.profiles", "customer.profile", f"c{number:07d}", profile(number))
    publisher.flush()
    async with database(endpoints["database"]) as connection:
        await wait_for(connection, QUERIES.count_known, customers, "profiles")
        before = Load(0, asked.rate * asked.seconds, asked.rate)
        quiet = await measure_hand_over(connection, publisher, before)
        began = time.monotonic()
        publish_broadcast(publisher)
        over, during = asyncio.Event(), Load(before.most, customers - before.most, asked.urgent_rate)
        urgent = asyncio.create_task(publish_urgent(publisher, during, over))
        await wait_for(connection, QUERIES.is_over, wanted=True, what="the broadcast")
        took_s = time.monotonic() - began
        over.set()
        busy = await urgent
        await wait_for(connection, QUERIES.count_urgent_pending, 0, "urgent notices")
        (counts,) = await connection.fetch(QUERIES.load_counts)
    return {
        "customers": customers,
        "seconds": round(took_s, 1),
        "notices_per_s": round(counts["accepted"] / took_s),
        "people_per_s": round(customers / took_s),
        **dict(counts),
        "hand_over_ms": {"rate": asked.rate, **summary_of(await handed_over(endpoints["sms_sandbox"], quiet))},
        "urgent_ms": summary_of(await handed_over(endpoints["sms_sandbox"], busy)),
        "memory_mb": round(memory.most_mb),
    }


def publish_broadcast(publisher: Publisher) -> None:
    """Ask for a broadcast to everybody, in the app and by SMS."""
    id_ = str(uuid.uuid4())
    asked = {"notification_id": id_, "audience": {"all": True}, "template": "announcement", "data": TEXT}
    asked |= {"category": "service", "channels": ["in_app", "sms"]}
    publisher.publish("notify.commands", "notification.request", id_, asked)
    publisher.flush()


def main() -> None:
    """Measure once and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=200_000)
    parser.add_argument("--rate", type=int, default=500, help="events a second before the broadcast")
    parser.add_argument("--seconds", type=int, default=20, help="for so long")
    parser.add_argument("--urgent-rate", type=int, default=10, help="events a second during the broadcast")
    parser.add_argument("--home", type=Path, help="keep data and logs here")
    asked = parser.parse_args()
    with started(asked.home) as endpoints:
        print(json.dumps(asyncio.run(measure(endpoints, asked))))  # noqa: T201


if __name__ == "__main__":
    main()
