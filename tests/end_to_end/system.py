"""A whole running system in a test, and the clients of its publishers and readers, which are not the services' own."""

from __future__ import annotations

import json
import random
import time
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from local.up import started
from schemas.envelope import encode_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


class System:
    """A system started by `sluice up`."""

    def __init__(self, home: Path, endpoints: Mapping[str, Any]) -> None:
        self.home = home
        self.kafka = endpoints["kafka"]
        self.database = endpoints["database"]
        self._producer = Producer(
            {
                "bootstrap.servers": self.kafka,
                "acks": "all",
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "message.timeout.ms": 120_000,
                "log_level": 0,
            }
        )

    def endpoints(self) -> dict[str, Any]:
        """Return the endpoints as they are written now."""
        said: dict[str, Any] = json.loads((self.home / "run.json").read_text())
        return said

    def send(
        self, type_: str, key: str | bytes | None, data: Any, *, topic: str = "transfer.commands", **context: str
    ) -> str:
        """Publish a command without waiting, or a null value; return its `ce_id`."""
        id_ = str(uuid.uuid4())
        about: Any = {"id": id_, "source": "test", "time": "2026-01-01T00:00:00Z", "subject": "test"}
        headers: Any = encode_headers(type_, **about, **context)
        value = data if data is None or isinstance(data, bytes) else orjson.dumps(data)
        self._producer.produce(topic, key=key, value=value, headers=headers, on_delivery=_must_arrive)
        self._producer.poll(0)
        return id_

    def flush(self) -> None:
        """Wait until the brokers have everything."""
        assert self._producer.flush(120) == 0

    def open_wallets(self, count: int, *, tier: str = "unlimited", overdraft_minor: int = 0) -> list[str]:
        """Ask for wallets and return their ids."""
        wallets = [f"wallet:{number}" for number in range(count)]
        for wallet in wallets:
            opening = {"account_id": wallet, "customer_id": f"of-{wallet}", "currency": "CNY", "tier": tier}
            self.send("account.open", wallet, {**opening, "overdraft_limit_minor": overdraft_minor})
        return wallets

    def request(self, kind: str, payer: str, payee: str, amount_minor: int, **more: Any) -> str:
        """Ask for a transfer and return its id."""
        id_ = str(uuid.uuid4())
        data = {"transfer_id": id_, "kind": kind, "payer": payer, "payee": payee, "amount_minor": amount_minor}
        key = payer if payer.startswith("wallet:") else payee
        self.send("transfer.request", key, {**data, "currency": "CNY", **more})
        return id_


class Clock:
    """A system's clock, moved through its file; it only goes on."""

    def __init__(self, system: System) -> None:
        self._path = system.home / "clock"
        self._offset = timedelta(seconds=float(self._path.read_text()))

    def now(self) -> datetime:
        """Return what the system takes for now."""
        return datetime.now(UTC) + self._offset

    def advance(self, by: timedelta) -> None:
        """Let time pass for the whole system."""
        self._offset += by
        fresh = self._path.with_name("clock.new")
        fresh.write_text(str(self._offset.total_seconds()))
        fresh.replace(self._path)

    def reach(self, moment: datetime) -> None:
        """Let time pass until a moment, if it is not over."""
        self.advance(max(timedelta(0), moment - self.now()))


def _must_arrive(error: object, _message: object) -> None:
    assert error is None, f"a command was not taken: {error}"


class Reader:
    """Reads a topic from its beginning, as an outside consumer does."""

    def __init__(self, kafka: str, topic: str = "transfer.events") -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": kafka,
                "group.id": f"reader-{uuid.uuid4()}",
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )
        partitions = self._consumer.list_topics(topic, 20).topics[topic].partitions
        self._consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        self.records: list[tuple[dict[str, str], bytes]] = []
        self.latest: dict[str, dict[str, Any]] = {}
        self.partitions: dict[str, int] = {}

    def read(self) -> int:
        """Take what has come, into `records` and, by transfer, `latest` and `partitions`; return how much it was."""
        before = len(self.records)
        for message in self._consumer.consume(5_000, 0.2):
            if message.error() is None:
                headers = {name: value.decode() for name, value in message.headers() or ()}
                self.records.append((headers, message.value() or b""))
                if "dlq-reason" not in headers:
                    self._note(orjson.loads(message.value() or b"{}"), message.partition() or 0)
        return len(self.records) - before

    def _note(self, event: dict[str, Any], partition: int) -> None:
        known = self.latest.get(event.get("transfer_id", ""), {"seq": 0})
        if event.get("seq", 0) > known["seq"]:
            self.latest[event["transfer_id"]] = event
            self.partitions[event["transfer_id"]] = partition

    def status(self, transfer_id: str) -> str | None:
        """Return where a transfer stands by the events read so far."""
        return self.latest.get(transfer_id, {}).get("status")

    def read_until(self, is_enough: Callable[[], bool], deadline_s: float = 60) -> None:
        """Read on until a condition holds; fail when it does not in time."""
        deadline = time.monotonic() + deadline_s
        while not is_enough():
            assert time.monotonic() < deadline, f"not within {deadline_s} s; {len(self.records)} records were read"
            self.read()

    def close(self) -> None:
        self._consumer.close()


@contextmanager
def running_system(
    home: Path,
    *,
    workers: int = 1,
    notifiers: int = 0,
    maintainers: int = 0,
    closers: int = 0,
    insights: int = 0,
    bank: Mapping[str, Any] | None = None,
    movable_clock: bool = False,
    console: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Iterator[System]:
    """Start a system whose data are in a directory, and stop it at the end."""
    home.mkdir(parents=True, exist_ok=True)
    if bank is not None:
        (home / "bank.json").write_text(json.dumps(bank))
    counts = {"workers": workers, "notifiers": notifiers, "maintainers": maintainers, "closers": closers}
    more = {"insights": insights, "movable_clock": movable_clock, "console": console}
    with started(home, **counts, **more, environment=environment) as endpoints:
        yield System(home, endpoints)


def dice(seed: int) -> random.Random:
    """Return a repeatable source of choices."""
    return random.Random(seed)
