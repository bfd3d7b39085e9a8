"""The command line's own promises: it is quick, complete, and says in one sentence what to mend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import psutil
import pytest

from ops.cli import COMMANDS, GROUPS
from ops.running import NotRunning, find_running
from tests.ops.in_process import run

if TYPE_CHECKING:
    from pathlib import Path

ENGINES = ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL", "SLUICE_TOPIC_PREFIX", "SLUICE_CLOCK", "SLUICE_HOME")


def help_in_a_process() -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ops.cli", "--help"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder where nothing runs, and an environment that names nothing."""
    for name in ENGINES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLUICE_HOME", str(tmp_path))
    return tmp_path


def test_help_lists_every_command_and_imports_none_of_them() -> None:
    done = help_in_a_process()
    assert done.returncode == 0
    assert all(command.split()[0] in done.stdout for command in COMMANDS)
    script = "import sys, ops.cli; ops.cli.build([]); print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    slow = {"asyncpg", "confluent_kafka", "pydantic", "aiohttp", "services", "schemas", "local"}
    assert slow.isdisjoint(loaded)


def test_help_is_quick() -> None:
    def seconds() -> float:
        """Return what it takes of a processor, for the machine may be busy."""
        before = os.times()
        help_in_a_process()
        after = os.times()
        return sum(after[2:4]) - sum(before[2:4])

    assert min(seconds() for _ in range(3)) < 0.5


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_own_help(command: str) -> None:
    done = run({}, [*command.split(), "--help"])
    assert done.returncode == 0, done.stderr
    assert COMMANDS[command][1].split()[0] in done.stdout
    module, _, name = COMMANDS[command][0].partition(":")
    assert getattr(import_module(module), name).__doc__


def test_every_group_says_what_it_is_about() -> None:
    groups = {command.rpartition(" ")[0] for command in COMMANDS if " " in command}
    assert groups | {group.rpartition(" ")[0] for group in groups if " " in group} == GROUPS.keys()


@pytest.mark.parametrize("words", [["audit"], ["statement", "wallet:a"], ["offsets", "show"], ["migrate"]])
def test_without_a_running_system_a_command_says_how_to_start_one(nowhere: Path, words: list[str]) -> None:
    done = run({}, words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "Nothing is running here: start it with `sluice up`, or set KAFKA_BOOTSTRAP_SERVERS and DATABASE_URL.\n"
    )


def failing_import(module: str, error: str) -> subprocess.CompletedProcess[str]:
    """Run `sluice audit`, in which an import goes wrong."""
    script = f"""
import sys

class Failing:
    def find_spec(self, name, *_):
        if name == {module!r}:
            raise {error}

sys.meta_path.insert(0, Failing())
sys.argv = ["sluice", "audit"]
from ops.cli import main
main()
"""
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("module", ["typer", "asyncpg"])
def test_interrupted_while_it_is_still_imported_it_ends_quietly(module: str) -> None:
    done = failing_import(module, "KeyboardInterrupt")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_bug_is_shown_whole_and_is_no_answer() -> None:
    done = failing_import("asyncpg", "RuntimeError('a bug')")
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert "RuntimeError: a bug" in done.stderr


@pytest.mark.parametrize(
    "words", [["up", "--workers", "transfer=65"], ["up", "--workers", "bank=2"], ["audit", "--nothing"], ["statement"]]
)
def test_wrong_words_are_a_usage_error(nowhere: Path, words: list[str]) -> None:
    done = run({}, words)
    assert done.returncode == 2
    assert "Usage" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_environment_names_the_running_system_first(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka.example:9092")
    monkeypatch.setenv("DATABASE_URL", "postgresql://db.example/x")
    monkeypatch.setenv("SLUICE_TOPIC_PREFIX", "p.")
    found = find_running()
    assert (found.kafka, found.database, found.topic_prefix, found.clock) == (
        "kafka.example:9092",
        "postgresql://db.example/x",
        "p.",
        "real",
    )


@pytest.mark.parametrize(
    ("given", "missing"),
    [("DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS"), ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL")],
)
def test_an_environment_that_names_one_engine_of_two_names_no_system(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, given: str, missing: str
) -> None:
    here = {"kafka": "k:1", "database": "postgresql://d", "topic_prefix": "", "clock": "real", "services": []}
    me = {"pid": os.getpid(), "started": psutil.Process().create_time()}
    (nowhere / "run.json").write_text(json.dumps(here | me))
    assert find_running().kafka == "k:1"
    monkeypatch.setenv(given, "postgresql://production.example/x")
    for words in (["audit"], ["statement", "wallet:a"], ["offsets", "show"], ["migrate"]):
        done = run({}, words)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"{missing} is not set, but {given} is: ")
        assert done.stderr.count("\n") == 1


def test_what_another_process_of_the_same_number_left_is_not_running(nowhere: Path) -> None:
    said = {"kafka": "k:1", "database": "postgresql://d", "topic_prefix": "", "clock": "real", "services": []}
    (nowhere / "run.json").write_text(json.dumps(said | {"pid": os.getpid(), "started": 1.0}))
    with pytest.raises(NotRunning):
        find_running()
    (nowhere / "run.json").write_text("{")
    with pytest.raises(NotRunning):
        find_running()
