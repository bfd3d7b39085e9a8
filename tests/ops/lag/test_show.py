"""`sluice lag`: a table for people, exactly the promised fields for programs, and an exit code."""

from __future__ import annotations

import json
import signal
import uuid
from concurrent.futures import Future
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ListConsumerGroupsResult

from ops.lag import collector, show
from ops.lag.model import Row, Verdict
from tests.ops.in_process import run
from tests.ops.lag.test_collector import commit, make_topic

if TYPE_CHECKING:
    from collections.abc import Mapping

FIELDS = [
    "group", "topic", "partition", "lag", "lag_seconds", "rate_in", "rate_out", "eta_seconds", "owner", "verdict", "why"
]  # fmt: skip


@pytest.fixture(scope="module")
def seen(kafka: str) -> Mapping[str, str]:
    """An environment whose brokers have a topic of ten records, one group that is done and one that was overtaken."""
    topic = make_topic(kafka, 1)
    producer = Producer({"bootstrap.servers": kafka})
    for _ in range(10):
        producer.produce(topic, b"x")
    assert producer.flush(10) == 0
    commit(kafka, topic, {f"{topic}-done": [10], f"{topic}-overtaken": [2]})
    admin = AdminClient({"bootstrap.servers": kafka})
    for future in admin.delete_records([TopicPartition(topic, 0, 7)]).values():
        future.result(30)
    # Lag is told without a database, too.
    return {"KAFKA_BOOTSTRAP_SERVERS": kafka, "DATABASE_URL": "postgresql://127.0.0.1:1/none", "TOPIC": topic}


def told(seen: Mapping[str, str], name: str) -> tuple[int, list[dict[str, Any]]]:
    done = run(seen, ["lag", f"{seen['TOPIC']}-{name}", "--json"])
    return done.returncode, json.loads(done.stdout)


def test_a_program_gets_every_field_and_the_exit_code_says_whether_all_is_ok(seen: Mapping[str, str]) -> None:
    code, [row] = told(seen, "overtaken")
    assert code == 1
    assert list(row) == FIELDS
    assert row["verdict"] == "gap"
    assert row["lag"] == 3
    assert row["lag_seconds"] > 0
    assert "5 records before 7 are gone unread" in row["why"]
    code, [row] = told(seen, "done")
    assert code == 0
    assert list(row) == FIELDS
    assert (row["verdict"], row["lag"], row["lag_seconds"], row["owner"]) == ("ok", 0, 0, None)


def test_people_see_what_is_not_ok_and_why(seen: Mapping[str, str]) -> None:
    done = run(seen, ["lag", seen["TOPIC"]])
    assert done.returncode == 1
    overtaken = next(line for line in done.stdout.splitlines() if f"{seen['TOPIC']}-overtaken" in line)
    assert "gap" in overtaken
    assert "retention overtook it" in overtaken
    well = next(line for line in done.stdout.splitlines() if f"{seen['TOPIC']}-done" in line)
    assert "all" in well.split()
    assert "ok" in well.split()


def test_a_program_watches_by_a_line_a_look(seen: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(show, "time", SimpleNamespace(sleep=sleep))
    done = run(seen, ["lag", f"{seen['TOPIC']}-done", "--watch", "--json"])
    assert (done.returncode, done.stderr) == (130, "Stopped watching.\n")
    assert [list(row) for line in done.stdout.splitlines() for row in json.loads(line)] == [FIELDS, FIELDS]


@pytest.mark.parametrize(
    ("work", "done_in"),
    [([(0, 0.0), (3, None)], None), ([(5, 2.0), (3, 8.0)], 8.0), ([(0, 0.0), (3, 8.0)], 8.0), ([(0, 0.0)], 0.0)],
)
def test_several_partitions_are_done_when_each_is_and_never_where_one_stands_still(
    work: list[tuple[int, float | None]], done_in: float | None
) -> None:
    rows = [
        Row("g", "t", number, lag, 0.0, 0.0, 0.0, eta, None, Verdict.OK, "") for number, (lag, eta) in enumerate(work)
    ]
    assert show.together(rows).eta_seconds == done_in


def test_of_no_group_it_says_so(seen: Mapping[str, str]) -> None:
    assert run(seen, ["lag", uuid.uuid4().hex]).stdout == "There is no consumer group.\n"
    assert told(seen, "nobody") == (0, [])


def test_it_looks_again_where_a_broker_could_not_name_its_groups_yet(
    seen: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    list_groups, asked = AdminClient.list_consumer_groups, []

    def loading(admin: AdminClient, **options: float) -> Any:
        asked.append(options)
        if len(asked) > 1:
            return list_groups(admin, **options)
        answer: Future[Any] = Future()
        error = KafkaError(KafkaError.COORDINATOR_LOAD_IN_PROGRESS)
        answer.set_result(ListConsumerGroupsResult(valid=[], errors=[error]))
        return answer

    monkeypatch.setattr(AdminClient, "list_consumer_groups", loading)
    code, [row] = told(seen, "overtaken")
    assert (code, row["verdict"]) == (1, "gap")


def test_without_brokers_it_could_not_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "_LIST_TIMEOUT_S", 0.5)
    nowhere = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "DATABASE_URL": "postgresql://127.0.0.1:1/none"}
    for words in (["lag"], ["lag", "of-nobody"]):
        done = run(nowhere, words)
        assert done.returncode == 2
        assert "Kafka at 127.0.0.1:1 does not answer" in done.stderr
