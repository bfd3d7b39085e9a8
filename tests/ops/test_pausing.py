"""`sluice pause` and `sluice resume`: one act each, in the log with who and why; lag says why nothing moves."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

import asyncpg
import pytest
from confluent_kafka import Consumer, Producer

from local.setup import WORKERS
from ops.lag.model import Verdict
from ops.lag.system import make_collector
from ops.moments import moment_text
from ops.pausing import PAUSABLE
from ops.running import Running
from tests.ops.in_process import run
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping


@pytest.fixture
def named(kafka: str, database: str, topic_prefix: str) -> Mapping[str, str]:
    """An environment with a database of its own."""
    return {"KAFKA_BOOTSTRAP_SERVERS": kafka, "DATABASE_URL": database, "SLUICE_TOPIC_PREFIX": topic_prefix}


def test_every_service_can_be_paused() -> None:
    assert set(PAUSABLE) == set(WORKERS)


def test_each_act_is_done_once_and_logged(named: Mapping[str, str]) -> None:
    done = run(named, ["pause", "transfer", "--why", "the bank asked", "--who", "an operator"])
    assert done.returncode == 0, done.stderr
    assert "transfer is paused by an operator: the bank asked" in done.stdout
    assert "`sluice resume transfer --why TEXT`" in done.stdout
    again = run(named, ["pause", "transfer", "--why", "me too", "--who", "another"])
    assert again.returncode == 1
    assert "paused by an operator: the bank asked" in again.stderr
    since = moment_text(datetime.fromisoformat(json.loads(run(named, ["acts", "--json"]).stdout)[0]["at"]))
    assert f"since {since[:-3]}" in again.stderr
    done = run(named, ["resume", "transfer", "--why", "it is over", "--who", "another"])
    assert done.returncode == 0, done.stderr
    assert run(named, ["resume", "transfer", "--why", "once more"]).returncode == 1
    acts = json.loads(run(named, ["acts", "--json"]).stdout)
    assert [(act["what"], act["about"], act["who"], act["why"]) for act in acts] == [
        ("resume", "transfer", "another", "it is over"),
        ("pause", "transfer", "an operator", "the bank asked"),
    ]
    assert acts[0]["detail"] == {"paused_by": "an operator", "paused_because": "the bank asked"}


def test_who_names_no_service_or_no_reason_is_told(named: Mapping[str, str]) -> None:
    done = run(named, ["pause", "bank", "--why", "x"])
    assert done.returncode == 2
    assert "one of transfer, maintenance" in done.stderr
    assert run(named, ["pause", "transfer", "--why", " "]).returncode == 2


async def test_an_act_that_cannot_be_logged_is_not_done(named: Mapping[str, str]) -> None:
    connection = await asyncpg.connect(named["DATABASE_URL"])
    await connection.execute("drop schema ops cascade")
    assert run_in_thread(named) == 2
    assert await connection.fetchval("select count(*) from transfer.pause") == 0
    await connection.close()


def test_whoever_looks_at_the_lag_learns_of_a_pause_and_of_its_end(
    named: Mapping[str, str], kafka: str, database: str, topic_prefix: str
) -> None:
    group, topic = f"{topic_prefix}sluice.closure", f"{topic_prefix}closure.commands"
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce(topic, b"x", partition=0)
    assert producer.flush(10) == 0
    options = {"bootstrap.servers": kafka, "group.id": group, "enable.auto.commit": False}
    member = Consumer({**options, "auto.offset.reset": "earliest"})
    member.subscribe([topic])
    collector = make_collector(Running(kafka, database, topic_prefix, "real"), only=group)

    def paused() -> bool:
        member.poll(0.05)
        [row] = [row for row in collector.collect() if (row.topic, row.partition) == (topic, 0)]
        return row.verdict is Verdict.BEHIND and row.why.startswith("paused by an operator: the bank asked; its oldest")

    run(named, ["pause", "closure", "--why", "the bank asked", "--who", "an operator"])
    wait_for(paused, what="the pause")
    run(named, ["resume", "closure", "--why", "it is over"])
    wait_for(lambda: not paused(), what="its end")
    member.close()


def run_in_thread(named: Mapping[str, str]) -> int:
    """Run the command beside the test's own loop."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run, named, ["pause", "transfer", "--why", "x"]).result().returncode
