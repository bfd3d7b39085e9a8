"""Engines that the environment names are used as they are; preparing them is a command of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from local.engines import start_engines
from tests.conftest import PARTITIONS

if TYPE_CHECKING:
    from pathlib import Path


def set_up(**environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "local.setup"]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_engines_that_are_given_are_neither_started_nor_stopped(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with start_engines(data, "kafka.example:9092", "postgresql://db.example/x") as engines:
        assert (engines.bootstrap, engines.dsn) == ("kafka.example:9092", "postgresql://db.example/x")
        assert engines.kafka is engines.postgres is None
    assert not data.exists()


def test_setting_up_twice_is_setting_up_once(kafka: str, database: str, topic_prefix: str) -> None:
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "DATABASE_URL": database,
        "SLUICE_TOPIC_PREFIX": topic_prefix,
        "SLUICE_PARTITIONS": str(PARTITIONS),
    }
    for _ in range(2):
        done = set_up(**environment)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"KAFKA_BOOTSTRAP_SERVERS": "", "DATABASE_URL": ""}, "KAFKA_BOOTSTRAP_SERVERS and DATABASE_URL must be set"),
        ({"SLUICE_PARTITIONS": "0"}, "SLUICE_PARTITIONS"),
        ({"SLUICE_CREATE_TOPICS": "perhaps"}, "SLUICE_CREATE_TOPICS"),
    ],
)
def test_a_wrong_setting_is_one_sentence(environment: dict[str, str], says: str) -> None:
    done = set_up(**environment)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_topics_that_others_should_have_made_are_named(kafka: str, database: str) -> None:
    environment = {"KAFKA_BOOTSTRAP_SERVERS": kafka, "DATABASE_URL": database, "SLUICE_TOPIC_PREFIX": "nobody-made."}
    done = set_up(**environment, SLUICE_CREATE_TOPICS="false")
    assert done.returncode == 2
    assert "nobody-made.transfer.commands" in done.stderr
