"""`sluice topics grow` and `sluice topics settle`: said before they are done, logged, and never beside a worker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from local.settings import runtime_settings
from schemas.topics import TOPICS
from services.insight.policy import Policy
from services.insight.topics import make_topics
from tests.conftest import PARTITIONS
from tests.ops.in_process import run
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping

MORE = PARTITIONS + 1
GROW = ["topics", "grow", "--partitions", str(MORE), "--why", "more workers", "--who", "an operator"]


@pytest.fixture
def named(kafka: str, database: str, topic_prefix: str) -> Mapping[str, str]:
    """An environment with a database and topics of its own."""
    return {"KAFKA_BOOTSTRAP_SERVERS": kafka, "DATABASE_URL": database, "SLUICE_TOPIC_PREFIX": topic_prefix}


def partitions(kafka: str, prefix: str) -> dict[str, int]:
    there = AdminClient({"bootstrap.servers": kafka}).list_topics(timeout=20).topics
    return {name: len(topic.partitions) for name, topic in there.items() if name.startswith(prefix)}


def test_every_topic_grows_once_no_worker_reads_it(named: Mapping[str, str], kafka: str, topic_prefix: str) -> None:
    settings = runtime_settings(kafka, named["DATABASE_URL"]).model_copy(update={"topic_prefix": topic_prefix})
    make_topics(settings, Policy())
    assert len(partitions(kafka, topic_prefix)) == len(TOPICS) + 4
    options = {"bootstrap.servers": kafka, "group.id": f"{topic_prefix}sluice.closure"}
    member = Consumer(options)
    member.subscribe([f"{topic_prefix}closure.commands"])
    wait_for(lambda: member.poll(0.05) or member.assignment(), what="a member")
    refused = run(named, [*GROW, "--yes"])
    assert refused.returncode == 1
    assert f"{topic_prefix}sluice.closure has 1 member: stop its workers first" in refused.stderr
    member.close()

    planned = run(named, GROW)
    assert "Nothing was done: --yes does it." in planned.stdout, planned.stderr
    assert set(partitions(kafka, topic_prefix).values()) == {PARTITIONS}
    done = run(named, [*GROW, "--yes"])
    assert f"Every topic has {MORE} partitions. From now on set SLUICE_PARTITIONS={MORE}." in done.stdout, done.stderr
    assert set(partitions(kafka, topic_prefix).values()) == {MORE}
    assert "Nothing was done." in run(named, [*GROW, "--yes"]).stdout
    acts = json.loads(run(named, ["acts", "--json"]).stdout)
    assert [(act["what"], act["about"], act["who"]) for act in acts] == [
        ("topics grow", f"{MORE} partitions", "an operator")
    ]
    fewer = run(named, ["topics", "grow", "--partitions", str(PARTITIONS), "--why", "fewer"])
    assert fewer.returncode == 1
    assert "Partitions can only be added" in fewer.stderr


def test_topics_are_kept_as_the_contract_says_again(named: Mapping[str, str], kafka: str, topic_prefix: str) -> None:
    admin, short = AdminClient({"bootstrap.servers": kafka}), f"{topic_prefix}transfer.events"
    kept = ConfigEntry("retention.ms", "60000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, short, incremental_configs=[kept])
    admin.incremental_alter_configs([resource])[resource].result(30)
    words = ["topics", "settle", "--why", "as it should be", "--who", "an operator"]
    said = f"{short}: retention.ms is 60000, and shall be 2592000000\nNothing was done: --yes does it."
    wait_for(lambda: said in run(named, words).stdout, what="what it would do")
    assert "Every topic is kept as the contract says." in run(named, [*words, "--yes"]).stdout
    wait_for(lambda: "is 60000" not in run(named, words).stdout, what="the brokers to know")
    acts = json.loads(run(named, ["acts", "--json"]).stdout)
    assert [(act["what"], act["about"]) for act in acts] == [("topics settle", "1 setting")]
