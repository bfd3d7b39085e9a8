"""Dead letters as people on call see them: the newest first, with the reason, and without personal data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer

from services.runtime.dead_letters import Rejected, dead_letter
from services.runtime.message import Lane

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = datetime(2026, 11, 23, 8, 30, tzinfo=UTC)


@pytest.fixture
def letters(kafka: str, topic_prefix: str) -> dict[str, str]:
    """An environment that names brokers with 30 dead letters."""
    producer = Producer({"bootstrap.servers": kafka})
    for number in range(30):
        value = {"payer": "wallet:6222020000000001", "payee_name": "王小明", "amount_minor": number}
        body = b"{" if number == 28 else json.dumps(value).encode()
        publish(producer, topic_prefix, number, body)
    assert producer.flush(30) == 0
    return {"KAFKA_BOOTSTRAP_SERVERS": kafka, "DATABASE_URL": "postgresql://u", "SLUICE_TOPIC_PREFIX": topic_prefix}


def publish(producer: Producer, prefix: str, number: int, value: bytes) -> None:
    topic, partition = ("rail.results" if number == 29 else "transfer.commands"), number % 3
    detail = f"number {number}: wallet:6222020000000001 called 13812345678"
    rejected = Rejected(topic, partition, number, b"wallet:6222020000000001", value, [], "malformed", detail)
    letter = dead_letter(rejected, Lane("wallet", partition), "transfer", NOW + timedelta(seconds=number), 1_000_000)
    headers: Any = list(letter.headers)
    where = (prefix + letter.topic, letter.value, letter.key, partition)
    producer.produce(*where, headers=headers)


def sluice(environment: dict[str, str], words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ops.cli", "dead-letters", *words],
        env=os.environ | environment | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def told(environment: dict[str, str], *words: str) -> list[dict[str, Any]]:
    done = sluice(environment, [*words, "--json"])
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_the_newest_come_first_with_the_reason_and_their_place(letters: dict[str, str]) -> None:
    found = told(letters)
    assert len(found) == 20
    assert [letter["of"].rpartition("/")[2] for letter in found] == [str(number) for number in range(29, 9, -1)]
    assert found[0] == {
        "topic": "rail.results.dlq",
        "partition": 2,
        "offset": 0,
        "at": "2026-11-23T08:30:29Z",
        "reason": "malformed",
        "detail": "number 29: wallet:***0001 called ***",
        "service": "transfer",
        "of": "rail.results/2/29",
        "key": "wallet:***0001",
    }


def test_a_topic_and_a_limit_narrow_it(letters: dict[str, str]) -> None:
    for topic in ("transfer.commands", "transfer.commands.dlq"):
        found = told(letters, topic, "--limit", "2")
        assert [letter["of"] for letter in found] == ["transfer.commands/1/28", "transfer.commands/0/27"]
    assert told(letters, "notify.events") == []
    shown = sluice(letters, ["notify.events"])
    assert (shown.returncode, shown.stdout) == (0, "There are no dead letters.\n")


def test_values_are_shown_on_demand_and_masked(letters: dict[str, str]) -> None:
    rail, broken, whole = told(letters, "--limit", "3", "--values")
    assert rail["value"]["amount_minor"] == 29
    assert broken["value"] == "1 bytes that are no JSON"
    assert whole["value"] == {"payer": "wallet:***0001", "payee_name": "***", "amount_minor": 27}
    shown = sluice(letters, ["--values", "--limit", "3"])
    assert "2026-11-23 16:30:29" in shown.stdout
    assert "The newest 3 of 30" in shown.stdout
    for personal in ("王小明", "62220200", "13812345678"):
        assert personal not in shown.stdout


def test_a_topic_that_is_none(letters: dict[str, str]) -> None:
    done = sluice(letters, ["transfer.nothing"])
    assert (done.returncode, done.stdout) == (2, "")
    assert "transfer.commands" in done.stderr
