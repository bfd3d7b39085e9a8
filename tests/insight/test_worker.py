"""A worker of insight on real brokers: what it says of many failures, once, whatever happens to it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from ops.lag.collector import Collector
from ops.lag.expected import expected_groups
from ops.lag.model import Verdict
from ops.pausing import begin, end, load_pauses, paused_groups
from ops.running import Running
from schemas.envelope import encode_headers
from schemas.fields import as_text
from tests.conftest import PARTITIONS
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CUSTOMER = "customer-1"


class Brokers:
    """What the test says and reads, in topics of its own."""

    def __init__(self, kafka: str, prefix: str) -> None:
        self.prefix = prefix
        self._producer = Producer({"bootstrap.servers": kafka, "partitioner": "murmur2_random", "linger.ms": 1})
        self._reader = Consumer({"bootstrap.servers": kafka, "group.id": "unused", "enable.auto.commit": False})
        self._reader.assign([TopicPartition(f"{prefix}risk.events", number, 0) for number in range(PARTITIONS)])
        self._found: list[tuple[str, str, dict[str, Any], str]] = []

    def say(self, topic: str, type_: str, key: str, body: dict[str, Any], *, structured: bool = False) -> None:
        id_, at = str(uuid.uuid4()), body.get("occurred_at") or as_text(datetime.now(UTC))
        headers = dict(encode_headers(type_, id=id_, source="test", time=at, subject=key))
        if structured:
            event = {"specversion": "1.0", "id": id_, "source": "test", "type": f"sluice.{type_}.v1", "data": body}
            headers, body = {"content-type": b"application/cloudevents+json"}, event
        self._producer.produce(self.prefix + topic, key=key, value=json.dumps(body), headers=list(headers.items()))

    def spoil(self, topic: str) -> None:
        self._producer.produce(self.prefix + topic, key="x", value=b"no message")

    def fail(self, transfer_id: str, at: datetime, wallet: int, *, structured: bool = False) -> None:
        body = {
            "transfer_id": transfer_id,
            "seq": 1,
            "kind": "withdrawal",
            "payer": f"wallet:w{wallet}",
            "payee": "bank:ICBC:6222020000001234",
            "payer_customer_id": CUSTOMER,
            "amount_minor": 100,
            "fee_minor": 0,
            "currency": "CNY",
            "status": "failed",
            "reason": {"code": "verification_failed", "retryable": True, "refund": "none"},
            "requested_at": as_text(at),
            "occurred_at": as_text(at),
        }
        self.say("transfer.events", "transfer.failed", f"wallet:w{wallet}", body, structured=structured)

    def deliver(self, status: str, at: datetime, gateway: str | None, **more: Any) -> None:
        body = {
            "notice_id": str(uuid.uuid4()),
            "event_id": "e1",
            "customer_id": CUSTOMER,
            "channel": "sms" if gateway else "in_app",
            "template": "transfer.failed",
            "category": "service",
            "gateway": gateway,
            "occurred_at": as_text(at),
            **more,
        }
        self.say("notify.events", f"notification.{status}", CUSTOMER, body)

    def flush(self) -> None:
        assert self._producer.flush(20) == 0

    def risks(self) -> list[tuple[str, str, dict[str, Any], str]]:
        """Return every risk event so far: type, id, body and correlation."""
        while (record := self._reader.poll(0.02)) is not None:
            assert record.error() is None
            headers = dict(record.headers() or [])
            type_, id_, correlation = (headers[f"ce_{name}"].decode() for name in ("type", "id", "correlationid"))
            self._found.append((type_, id_, json.loads(record.value() or b""), correlation))
        return list(self._found)

    def close(self) -> None:
        self._reader.close()


class Worker:
    """One process of the service."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.insight"],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, log.read_text()
        self.health = json.loads(line)["health"]

    def ask(self, path: str) -> Any:
        try:
            with urlopen(self.health + path) as answer:
                text = answer.read().decode()
        except HTTPError as not_ready:
            text = not_ready.read().decode()
        return text if path == "/metrics" else json.loads(text)

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@pytest.fixture
def brokers(kafka: str, topic_prefix: str) -> Iterator[Brokers]:
    found = Brokers(kafka, topic_prefix)
    yield found
    found.close()


@contextmanager
def worker(environment: dict[str, str], log: Path) -> Iterator[Worker]:
    started = Worker(environment, log)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.wait()


def test_it_flags_once_rebuilds_its_state_and_clears_by_the_clock(
    brokers: Brokers, kafka: str, database: str, topic_prefix: str, tmp_path: Path
) -> None:
    clock, log, now = tmp_path / "clock", tmp_path / "log", datetime.now(UTC)
    clock.write_text("0")
    environment = os.environ | {
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "DATABASE_URL": database,
        "SLUICE_TOPIC_PREFIX": topic_prefix,
        "SLUICE_CLOCK": f"file:{clock}",
    }
    failed = [str(uuid.uuid4()) for _ in range(5)]

    with worker(environment, log) as first:
        for number, id_ in enumerate(failed):
            brokers.fail(id_, now + timedelta(seconds=number), wallet=number, structured=number == 2)
        brokers.spoil("transfer.events")
        brokers.deliver("delivered", now, "sms-a")
        brokers.deliver("failed", now, "sms-a", why="undelivered")
        brokers.deliver("delivered", now, None)
        brokers.flush()
        (flagged,) = wait_for(brokers.risks, what="flag")
        until = as_text(now + timedelta(seconds=4 + 1_800))
        assert flagged[0] == "sluice.risk.flagged.v1"
        assert flagged[2] == {"customer_id": CUSTOMER, "rule": "many_failures", "until": until}
        gateways = wait_for(lambda: counted(first, 5, 3), what="counts")
        assert gateways == [
            {"gateway": None, "channel": "in_app", "delivered": 1, "delivery_rate": 1.0},
            {"gateway": "sms-a", "channel": "sms", "delivered": 1, "failed": 1, "delivery_rate": 0.5},
        ]
        assert 'sluice_unreadable_records_total{reason="malformed",topic="transfer.events"} 1.0' in first.ask(
            "/metrics"
        )
        # What it has not committed is read again. It has no folder of its own: the changelogs say what it knew.
        first.process.kill()

    with worker(environment, log) as second:
        brokers.fail(failed[4], now + timedelta(seconds=4), wallet=4)
        brokers.fail(str(uuid.uuid4()), now + timedelta(seconds=9), wallet=1)
        brokers.flush()
        wait_for(lambda: counted(second, 7, 3), deadline_s=40, what="counts that were rebuilt")
        clock.write_text("1805")
        wait_for(lambda: len(brokers.risks()) > 1, what="cleared")
        body = {"customer_id": CUSTOMER, "rule": "many_failures"}
        assert brokers.risks() == [flagged, ("sluice.risk.cleared.v1", f"{flagged[1]}.cleared", body, flagged[3])]
        running = Running(kafka, database, topic_prefix, "real")
        asyncio.run(begin(running, "insight", "an operator", "the rules change"))
        wait_for(lambda: second.ask("/readyz")["status"] == "paused", what="the pause to be read")
        brokers.fail(str(uuid.uuid4()), now + timedelta(seconds=10), wallet=1)
        brokers.deliver("delivered", now, None)
        brokers.deliver("delivered", now, "sms-a")
        brokers.flush()
        why = "paused by an operator: the rules change; its oldest record has waited for"
        wait_for(lambda: said_of_lag(running) == {("transfer.events", why), ("notify.events", why)}, what="the lag")
        # With a record in hand it ends: that one is not read yet.
        assert second.end() == 0

    with worker(environment, log) as third:
        wait_for(lambda: third.ask("/readyz") == {"status": "paused", "why": why.partition(";")[0]}, what="its tables")
        assert counted(third, 7, 3), "a pause outlives the worker"
        asyncio.run(end(running, "insight", "an operator", "they are changed"))
        wait_for(lambda: counted(third, 8, 5), deadline_s=40, what="what came meanwhile, once")
        wait_for(lambda: not said_of_lag(running), deadline_s=40, what="no lag")
        assert third.end() == 0


def test_the_next_flag_or_an_erasure_ends_the_one_before_and_what_is_over_is_not_said(
    brokers: Brokers, kafka: str, database: str, topic_prefix: str, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    environment = os.environ | {
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "DATABASE_URL": database,
        "SLUICE_TOPIC_PREFIX": topic_prefix,
    }
    with worker(environment, tmp_path / "log"):
        # The second flag is raised by what fails after the first is over, before the clock has come there.
        for began in (now - timedelta(hours=2), now, now + timedelta(hours=1)):
            for number in range(5):
                brokers.fail(str(uuid.uuid4()), began + timedelta(seconds=number), wallet=1)
        brokers.flush()
        wait_for(lambda: len(brokers.risks()) > 2, what="two flags")
        first, ended, second = brokers.risks()
        assert [first[0], second[0]] == ["sluice.risk.flagged.v1"] * 2
        assert first[2]["until"] == as_text(now + timedelta(seconds=4 + 1_800))
        assert ended == (
            "sluice.risk.cleared.v1",
            f"{first[1]}.cleared",
            {"customer_id": CUSTOMER, "rule": "many_failures", "restricted_until": second[2]["until"]},
            first[3],
        )
        assert second[2]["until"] == as_text(now + timedelta(hours=1, seconds=4 + 1_800))
        brokers.say("erasure.events", "customer.erase", CUSTOMER, {"customer_id": CUSTOMER})
        brokers.flush()
        wait_for(lambda: len(brokers.risks()) > 3, what="the end of the second, whose customer is erased")
        body = {"customer_id": CUSTOMER, "rule": "many_failures"}
        assert brokers.risks()[3] == ("sluice.risk.cleared.v1", f"{second[1]}.cleared", body, second[3])


def said_of_lag(running: Running) -> set[tuple[str, str]]:
    """Return each topic in which insight is behind, with what is said of it but for how long."""
    pauses = paused_groups(running.topic_prefix, asyncio.run(load_pauses(running)))
    expected = {name: topics for name, topics in expected_groups(running.topic_prefix).items() if "insight" in name}
    options = {"bootstrap.servers": running.kafka}
    rows = Collector(options, expected, only=f"{running.topic_prefix}sluice.insight", paused=lambda: pauses).collect()
    assert {row.verdict for row in rows} <= {Verdict.OK, Verdict.BEHIND}
    behind = [row for row in rows if row.verdict is Verdict.BEHIND]
    return {(row.topic.removeprefix(running.topic_prefix), row.why.rpartition(" for ")[0] + " for") for row in behind}


def counted(one: Worker, failures: int, notices: int) -> list[dict[str, Any]] | None:
    """Return what is said of gateways, once so many failures and notices are counted."""
    minutes = one.ask("/outcomes")["minutes"]
    found = sum(outcome["count"] for minute in minutes for outcome in minute["outcomes"])
    gateways: list[dict[str, Any]] = one.ask("/deliveries")["gateways"]
    ended = sum(gateway.get("delivered", 0) + gateway.get("failed", 0) for gateway in gateways)
    return gateways if (found, ended) == (failures, notices) else None
