"""The sandbox bank as the transfer service sees it: instructions in, answers out."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
import uuid
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from local.bank import SOURCE
from local.topics import create_topics
from schemas import registry
from schemas.envelope import Envelope, decode, encode_headers
from tests.conftest import PARTITIONS
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from local.kafka import Kafka

PAYEE = "bank:ICBC:0001"


class Counterparty:
    """Instructs the bank and hears its answers."""

    def __init__(self, kafka: str, prefix: str, home: Path) -> None:
        self.home = home
        self.kafka = kafka
        self.prefix = prefix
        self.answers: list[tuple[bytes | None, Envelope]] = []
        self._producer = Producer({"bootstrap.servers": kafka, "partitioner": "murmur2_random", "linger.ms": 1})
        self._consumer = Consumer(
            {"bootstrap.servers": kafka, "group.id": f"party-{prefix}", "enable.auto.commit": False}
        )
        self._consumer.assign([TopicPartition(f"{prefix}rail.results", number, 0) for number in range(PARTITIONS)])

    def behave(self, **behaviour: Any) -> None:
        half = self.home / "half"
        half.write_text(json.dumps(behaviour))
        half.replace(self.home / "bank.json")

    def instruct(self, payee: str = PAYEE, *, id_: str | None = None, flush: bool = True) -> str:
        id_ = id_ or str(uuid.uuid4())
        body = {"payee": payee, "amount_minor": 100, "currency": "CNY", "reference": "test"}
        self._send("payout.instructed", f"{id_}.instruction", {"transfer_id": id_, **body})
        if flush:
            self.flush()
        return id_

    def inquire(self, id_: str, number: int = 1) -> None:
        self._send("payout.inquired", f"{id_}.inquiry.{number}", {"transfer_id": id_})
        self.flush()

    def _send(self, type_: str, id_: str, body: dict[str, Any]) -> None:
        headers: Any = encode_headers(
            type_,
            id=id_,
            source="test",
            time="2026-01-01T00:00:00Z",
            subject="test",
            correlation_id=f"order {body['transfer_id']}",
            traceparent=_trace_of(body["transfer_id"]),
        )
        key = f"wallet:{body['transfer_id']}"
        self._producer.produce(f"{self.prefix}rail.instructions", json.dumps(body), key, headers=headers)
        self._producer.poll(0)

    def flush(self) -> None:
        assert self._producer.flush(30) == 0

    def hear(self, count: int, deadline_s: float = 20) -> list[tuple[bytes | None, Envelope]]:
        """Return the answers so far, once there are as many as expected; fail when there are more."""

        def is_enough() -> bool:
            for message in self._consumer.consume(5_000, 0.05):
                assert message.error() is None
                headers: Any = message.headers()
                envelope = decode(headers, message.value(), registry.TOPICS["rail.results"])
                assert isinstance(envelope, Envelope)
                # Prompt or late, to an instruction or an inquiry: it belongs to what was asked.
                of = envelope.subject or ""
                assert (envelope.correlation_id, envelope.traceparent) == (f"order {of}", _trace_of(of))
                self.answers.append((message.key(), envelope))
            return len(self.answers) >= count

        wait_for(is_enough, deadline_s=deadline_s, what=f"{count} answers")
        assert len(self.answers) == count
        return self.answers

    def said(self, count: int) -> list[tuple[str, str]]:
        return [(envelope.subject or "", envelope.type) for _, envelope in self.hear(count)]

    def close(self) -> None:
        self._consumer.close()


def _trace_of(id_: str) -> str:
    return f"00-{id_.replace('-', '')}-00f067aa0ba902b7-01"


@contextmanager
def open_bank(party: Counterparty, **environment: str) -> Iterator[subprocess.Popen[str]]:
    # A pipe that nobody reads would be full of what the client says while the broker is away, and hold the bank up.
    with (party.home / "bank.log").open("w") as log:
        process = _start_bank(party, log, environment)
    try:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline() or "{}")
        assert said.get("pid") == process.pid
        yield process
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def _start_bank(party: Counterparty, log: TextIO, environment: dict[str, str]) -> subprocess.Popen[str]:
    named = {"KAFKA_BOOTSTRAP_SERVERS": party.kafka, "SLUICE_TOPIC_PREFIX": party.prefix}
    return subprocess.Popen(
        [sys.executable, "-m", "local.bank"],
        env=os.environ | named | {"SLUICE_BANK_HOME": str(party.home)} | environment,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )


@pytest.fixture
def party(kafka: str, topic_prefix: str, tmp_path: Path) -> Iterator[Counterparty]:
    made = Counterparty(kafka, topic_prefix, tmp_path)
    yield made
    made.close()


def test_everything_settles_unless_told_otherwise(party: Counterparty) -> None:
    with open_bank(party):
        id_ = party.instruct()
        ((key, answer),) = party.hear(1)
    assert key == f"wallet:{id_}".encode()
    assert (answer.type, answer.id, answer.subject) == ("payout.settled", f"{id_}.settled", id_)


def test_rules_say_what_becomes_of_some_payees(party: Counterparty) -> None:
    party.behave(
        rules=[
            {"payee": "bank:ICBC:0002", "outcome": "fail", "rail_code": "AC01", "times": 1},
            {"payee": "0003", "outcome": "return", "delay_s": 0.2},
            {"payee": "bank:ABC:*", "outcome": "late_settle", "delay_s": 0.2},
            {"payee": "bank:CCB:1", "answers": [{"answer": "failed", "rail_code": "AC04", "detail": "closed"}]},
        ]
    )
    with open_bank(party):
        failed = party.instruct("bank:ICBC:0002")
        ((_, answer),) = party.hear(1)
        assert answer.data.model_dump(include={"rail_code", "detail"}) == {"rail_code": "AC01", "detail": None}
        again = party.instruct("bank:ICBC:0002")
        assert party.said(2) == [(failed, "payout.failed"), (again, "payout.settled")]
        returned, late, closed = (party.instruct(payee) for payee in ("bank:ICBC:0003", "bank:ABC:7", "bank:CCB:1"))
        answers = party.said(7)[2:]
    assert [type_ for id_, type_ in answers if id_ == returned] == ["payout.settled", "payout.returned"]
    assert [type_ for id_, type_ in answers if id_ == late] == ["payout.failed", "payout.settled"]
    assert [type_ for id_, type_ in answers if id_ == closed] == ["payout.failed"]


def test_shares_fall_by_the_payout_and_a_repeat_gets_the_same(party: Counterparty) -> None:
    shares = {"FAILURE_RATE": "0.2", "SILENCE_RATE": "0.2", "DUPLICATE_RATE": "0.2", "RETURN_RATE": "0.2"}
    environment = {f"SLUICE_BANK_{name}": value for name, value in shares.items()}
    ids = [str(uuid.UUID(int=number, version=4)) for number in range(200)]
    # These ids always fall the same way.
    answers = 255
    with open_bank(party, SLUICE_BANK_RETURN_AFTER_S="0", **environment):
        for id_ in ids:
            party.instruct(id_=id_, flush=False)
        party.flush()
        first = party.said(answers)
        heard = {id_: tuple(type_ for of, type_ in first if of == id_) for id_ in ids}
        kinds = Counter(heard.values())
        assert len(kinds) == 5
        assert min(kinds.values()) > 20
        # Even when it would now decide otherwise.
        party.behave(failure_rate=1)
        for id_ in ids:
            party.instruct(id_=id_, flush=False)
        party.flush()
        assert Counter(party.said(2 * answers)[answers:]) == Counter(first)


def test_an_inquiry_hears_what_was_said_or_that_nothing_is_known(party: Counterparty) -> None:
    party.behave(
        rules=[
            {"payee": "0001", "outcome": "fail"},
            {"payee": "0002", "outcome": "unknown"},
            {"payee": "0003", "outcome": "silent"},
            {"payee": "0004", "outcome": "settle", "delay_s": 3600},
        ]
    )
    with open_bank(party):
        failed, lost, *silent = (party.instruct(f"bank:ICBC:000{number}") for number in range(1, 5))
        never_told = str(uuid.uuid4())
        party.hear(1)
        for id_ in (*silent, lost, failed, never_told):
            party.inquire(id_)
        answers = {envelope.subject: envelope for _, envelope in party.hear(4)[1:]}
    assert {id_: envelope.type for id_, envelope in answers.items()} == {
        failed: "payout.failed",
        lost: "payout.unknown",
        never_told: "payout.unknown",
    }
    assert answers[failed].id == f"{failed}.inquiry.1.failed"


def test_delayed_answers_outlive_a_crash_and_wait_for_the_moved_clock(party: Counterparty) -> None:
    clock = party.home / "clock"
    clock.write_text("0")
    moved = {"SLUICE_CLOCK": f"file:{clock}"}
    party.behave(delay_s=3600, rules=[{"payee": "first", "outcome": "settle"}])
    with open_bank(party, **moved) as process:
        late = party.instruct()
        prompt = party.instruct("bank:ICBC:first")
        assert party.said(1) == [(prompt, "payout.settled")]
        process.kill()
        process.wait()
        with open_bank(party, **moved):
            again = party.instruct("bank:ICBC:first")
            assert party.said(2)[1:] == [(again, "payout.settled")]
            clock.write_text("3601")
            assert party.said(3)[2:] == [(late, "payout.settled")]
        # The first was killed: its exit code is no promise.
        process.returncode = 0


def test_a_memory_of_before_is_gone_on_with(party: Counterparty) -> None:
    (party.home / "data").mkdir()
    memory = sqlite3.connect(party.home / "data" / "bank.db")
    memory.execute("create table answer (due_at text, transfer_id text, number integer, key blob, answer text)")
    memory.close()
    party.behave(delay_s=0.1)
    with open_bank(party):
        late = party.instruct()
        assert party.said(1) == [(late, "payout.settled")]


def test_a_wrong_file_changes_nothing_and_says_so(party: Counterparty) -> None:
    party.behave(failure_rate=1)
    with open_bank(party):
        party.instruct()
        party.hear(1)
        party.behave(failure_rat=1)
        party.instruct()
        assert [type_ for _, type_ in party.said(2)] == ["payout.failed"] * 2
        assert "bank.json is no behaviour" in (party.home / "bank.log").read_text()


def test_a_wrong_setting_ends_the_start_with_one_sentence(party: Counterparty) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "local.bank"],
        env=os.environ | {"KAFKA_BOOTSTRAP_SERVERS": party.kafka, "SLUICE_BANK_FAILURE_RATE": "2"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("The setting SLUICE_BANK_FAILURE_RATE is wrong")
    assert done.stderr.count("\n") == 1


def test_it_goes_on_after_the_broker_was_away(own_kafka: Kafka, tmp_path: Path) -> None:
    create_topics({"bootstrap.servers": own_kafka.bootstrap}, "", PARTITIONS)
    party = Counterparty(own_kafka.bootstrap, "", tmp_path)
    with open_bank(party):
        party.instruct()
        party.hear(1)
        # Killed before the bank has committed, the broker would have it answer the first again, as it should.
        wait_for(lambda: _committed(own_kafka.bootstrap) == 1, what="the bank's commit")
        own_kafka.kill()
        own_kafka.restart()
        party.instruct()
        party.hear(2, deadline_s=60)
    party.close()


def _committed(bootstrap: str) -> int:
    """Return how many instructions the bank has committed as answered."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": SOURCE, "log_level": 0})
    try:
        places = [TopicPartition("rail.instructions", number) for number in range(PARTITIONS)]
        return sum(max(0, place.offset) for place in consumer.committed(places, 10))
    finally:
        consumer.close()


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[Kafka]:
    from local.kafka import start_kafka

    with start_kafka(tmp_path / "kafka") as started:
        yield started


def test_thousands_are_answered_each_second(party: Counterparty) -> None:
    count = 20_000
    for _ in range(count):
        party.instruct(flush=False)
    party.flush()
    with open_bank(party):
        began = time.monotonic()
        party.hear(count, deadline_s=60)
        # Measured ten times as fast on two idle cores.
        assert count / (time.monotonic() - began) > 1_000
