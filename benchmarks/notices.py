"""Measures the notifier with its sandboxes: a broadcast to many in the app and by SMS, and urgent notices during it.

    python -m benchmarks.notices [--customers 200000] [--urgent-rate 10]

One JSON line: `notices_per_s` to the end, receipts included; `urgent_ms` from the publishing of an event to the
hand-over of its SMS at the gateway, during the broadcast; `memory_mb` is the notifier's most.
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
from typing import TYPE_CHECKING, Any

import aiohttp
import asyncpg
import psutil
from confluent_kafka import Producer

from local.up import started
from services.runtime.database import load_queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

QUERIES = load_queries(Path(__file__).with_name("notices.sql"))
PATIENCE_S = 900.0
LOOK_EVERY_S = 0.2
TEXT = {"title": {"zh-CN": "服务更新", "en": "Service update"}, "body": {"zh-CN": "提现将更快到账。", "en": "Sooner."}}
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


async def publish_urgent(publisher: Publisher, customers: int, rate: float, over: asyncio.Event) -> dict[str, datetime]:
    """Publish urgent events about people in turns until told to stop; return when each was, by phone."""
    published: dict[str, datetime] = {}
    number = 0
    while not over.is_set() and number < customers:
        published[phone_of(number)] = datetime.now(UTC)
        publisher.publish("transfer.events", "account.restricted", f"wallet:{number}", restricted(number, 2))
        number += 1
        await asyncio.sleep(1 / rate)
    publisher.flush()
    return published


async def handed_over(address: str, phones: dict[str, datetime]) -> Iterator[float]:
    """Return after how many milliseconds each urgent text was handed over."""
    delays = []
    async with aiohttp.ClientSession() as http:
        for phone, at in phones.items():
            async with http.get(f"{address}/messages", params={"to": phone}) as response:
                urgent = [one for one in await response.json() if not any(said in one["body"] for said in BROADCAST)]
            delays += [(datetime.fromisoformat(one["handed_over_at"]) - at).total_seconds() * 1_000 for one in urgent]
    return iter(delays)


async def measure(endpoints: dict[str, Any], customers: int, rate: float) -> dict[str, Any]:
    """Return the figures of one broadcast."""
    publisher = Publisher(endpoints["kafka"])
    notifier = next(one for one in endpoints["services"] if one["name"] == "notify")
    memory = Memory(notifier["pid"])
    for number in range(customers):
        publisher.publish("customer.profiles", "customer.profile", f"c{number:07d}", profile(number))
    publisher.flush()
    async with database(endpoints["database"]) as connection:
        await wait_for(connection, QUERIES.count_known, customers, "profiles")
        id_, over = str(uuid.uuid4()), asyncio.Event()
        asked = {"notification_id": id_, "audience": {"all": True}, "template": "announcement", "data": TEXT}
        asked |= {"category": "service", "channels": ["in_app", "sms"]}
        began = time.monotonic()
        publisher.publish("notify.commands", "notification.request", id_, asked)
        urgent = asyncio.create_task(publish_urgent(publisher, customers, rate, over))
        await wait_for(connection, QUERIES.is_over, wanted=True, what="the broadcast")
        took_s = time.monotonic() - began
        over.set()
        phones = await urgent
        await wait_for(connection, QUERIES.count_urgent_pending, 0, "urgent notices")
        (counts,) = await connection.fetch(QUERIES.load_counts)
    delays = sorted(await handed_over(endpoints["sms_sandbox"], phones))
    cuts = quantiles(delays, n=100)
    return {
        "customers": customers,
        "seconds": round(took_s, 1),
        "notices_per_s": round(counts["accepted"] / took_s),
        "people_per_s": round(customers / took_s),
        **{name: counts[name] for name in ("accepted", "delivered", "sent", "failed", "suppressed", "pending")},
        "urgent": len(delays),
        "urgent_ms": {"p50": round(cuts[49]), "p99": round(cuts[98]), "max": round(delays[-1])},
        "memory_mb": round(memory.most_mb),
    }


def main() -> None:
    """Measure once and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=200_000)
    parser.add_argument("--urgent-rate", type=float, default=10)
    parser.add_argument("--home", type=Path, help="keep data and logs here")
    asked = parser.parse_args()
    with started(asked.home) as endpoints:
        print(json.dumps(asyncio.run(measure(endpoints, asked.customers, asked.urgent_rate))))  # noqa: T201


if __name__ == "__main__":
    main()
