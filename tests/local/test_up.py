"""`sluice up` as a person and a test drive it: what it writes, replaces, refuses and leaves behind."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast
from urllib.request import urlopen

import psutil
import pytest

from local.engines import Engines
from local.settings import load_local_settings
from local.up import AlreadyRunning, Plan, _only_one, _System
from tests.ops import in_process
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UP_WITHIN_S = 120
NAMED = {"KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL", "SLUICE_HOME", "SLUICE_TOPIC_PREFIX", "SLUICE_CLOCK"}


_SERVICES_ALONE = ("--workers", "insight=0", "--no-console", "--no-monitor")
"""What is started more than once in a test leaves out what takes its time."""


class Supervised:
    """One `sluice up` in a folder of its own."""

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        folder.chmod(0o711)
        self.folder = folder
        self.home = folder / ".sluice"
        self.output = folder / "up.out"
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                sluice("up", *options),
                cwd=folder,
                env=environment_of(**environment),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def endpoints(self) -> dict[str, Any]:
        """Return the endpoints, once this process has written them."""

        def written() -> dict[str, Any] | None:
            assert self.process.poll() is None, self.output.read_text()
            with suppress(FileNotFoundError):
                said: dict[str, Any] = json.loads((self.home / "run.json").read_text())
                return said if said["pid"] == self.process.pid else None
            return None

        found: dict[str, Any] = wait_for(written, deadline_s=UP_WITHIN_S, what="endpoints")
        return found

    def family(self) -> list[psutil.Process]:
        """Return every process that lives because of this one."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            finally:
                self.process.kill()
                self.process.wait()


def sluice(*words: str) -> list[str]:
    return [sys.executable, "-m", "ops.cli", *words]


def environment_of(**more: str) -> dict[str, str]:
    """Return this environment without what would name engines or a place, so that the folder decides."""
    path = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])  # noqa: PTH109 - the command runs elsewhere
    return {name: value for name, value in os.environ.items() if name not in NAMED} | {"PYTHONPATH": path} | more


def run(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        sluice(*words),
        cwd=folder,
        env=environment_of(**environment),
        capture_output=True,
        text=True,
        timeout=UP_WITHIN_S,
        check=False,
    )


@contextmanager
def supervised(folder: Path, *options: str, **environment: str) -> Iterator[Supervised]:
    system = Supervised(folder, *options, **environment)
    try:
        yield system
    finally:
        system.end()


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    folder = tmp_path_factory.mktemp("up")
    folder.parent.chmod(0o711)
    with supervised(folder, "--endpoints", "endpoints.json", "--workers", "transfer=2", "--movable-clock") as started:
        started.endpoints()
        yield started


def are_gone(family: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in family)


def services_replaced(system: Supervised, before: dict[str, Any]) -> dict[str, Any]:
    def replaced() -> dict[str, Any] | None:
        now = system.endpoints()
        return now if now["services"] != before["services"] else None

    found: dict[str, Any] = wait_for(replaced, deadline_s=30, what="another worker")
    return found


def is_ready(service: dict[str, Any]) -> bool:
    with suppress(OSError), urlopen(f"{service['health']}/readyz", timeout=2) as answer:
        return bool(answer.status == 200)
    return False


def test_the_endpoints_say_where_everything_is_once_everything_is_ready(system: Supervised) -> None:
    said = system.endpoints()
    assert json.loads((system.folder / "endpoints.json").read_text()) == said
    assert stat.S_IMODE((system.home / "run.json").stat().st_mode) == 0o600
    assert [service["name"] for service in said["services"]] == [
        "transfer",
        "transfer",
        "maintenance",
        "closure",
        "notify",
        "insight",
    ]
    assert all(is_ready(service) for service in said["services"])
    assert said["pid"] == system.process.pid
    assert psutil.pid_exists(said["bank"]["pid"])
    for sandbox in ("mail_sandbox", "sms_sandbox"):
        with urlopen(f"{said[sandbox]}/messages", timeout=2) as answer:
            assert json.load(answer) == []
    with urlopen(f"{said['monitor']}/metrics", timeout=5) as answer:
        assert b"sluice_group_paused" in answer.read()
    assert said["topic_prefix"] == ""
    assert said["clock"] == f"file:{system.home / 'clock'}"
    assert (system.home / "clock").read_text() == "0"
    assert {path.name for path in (system.home / "logs").iterdir()} >= {"transfer-1.log", "transfer-2.log", "bank.log"}


def test_what_it_prints_is_plain_and_holds_no_secret(system: Supervised) -> None:
    wait_for(lambda: "Ctrl-C" in system.output.read_text(), what="the last line")
    printed = system.output.read_text()
    assert "\x1b" not in printed
    assert "Sluice is up." in printed
    secrets = json.loads((system.home / "secrets.json").read_text())
    assert stat.S_IMODE((system.home / "secrets.json").stat().st_mode) == 0o600
    password = system.endpoints()["database"].partition("@")[0].rpartition(":")[2]
    for secret in (*secrets.values(), password):
        assert secret not in printed


def test_the_tools_find_it_from_a_folder_below(system: Supervised) -> None:
    below = system.folder / "a" / "b"
    below.mkdir(parents=True, exist_ok=True)
    for words in (["audit"], ["migrate"], ["topics", "create"], ["offsets", "show"]):
        done = run(below, *words)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_doctor_finds_nothing_wrong_with_it(system: Supervised) -> None:
    done = subprocess.run(
        sluice("doctor"),
        cwd=system.folder,
        env=environment_of(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All is well." in done.stdout
    assert "looks at the lag" in done.stdout


def test_a_second_one_in_the_same_place_says_who_runs(system: Supervised) -> None:
    done = run(system.folder, "up")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"process {system.process.pid}" in done.stderr
    assert str(system.home / "run.json") in done.stderr


def test_a_killed_worker_is_replaced_and_the_endpoints_say_so(system: Supervised) -> None:
    before = system.endpoints()
    os.kill(before["services"][0]["pid"], signal.SIGKILL)
    after = services_replaced(system, before)
    assert len(after["services"]) == 6
    asked_for = system.folder / "endpoints.json"
    wait_for(lambda: json.loads(asked_for.read_text()) == after, what="both files")
    wait_for(lambda: all(is_ready(service) for service in after["services"]), deadline_s=60, what="ready")


def test_engines_that_die_come_back_where_they_were(system: Supervised) -> None:
    before = system.endpoints()
    for pid in before["engines"].values():
        os.kill(pid, signal.SIGKILL)

    def are_back() -> bool:
        now = system.endpoints()["engines"]
        return all(now[name] != pid for name, pid in before["engines"].items())

    wait_for(are_back, deadline_s=60, what="engines")
    after = system.endpoints()
    assert (after["kafka"], after["database"]) == (before["kafka"], before["database"])

    def are_ready() -> bool:
        return all(is_ready(service) for service in system.endpoints()["services"])

    wait_for(are_ready, deadline_s=90, what="services ready again")
    assert run(system.folder, "audit").returncode == 0


def test_killed_it_takes_everything_with_it_and_the_next_goes_on_and_ends_in_order(tmp_path: Path) -> None:
    with supervised(tmp_path, *_SERVICES_ALONE) as first:
        first.endpoints()
        family = first.family()
        assert len(family) >= 4
        keys = (first.home / "secrets.json").read_text()
        first.process.kill()
        first.process.wait()
        wait_for(lambda: are_gone(family), deadline_s=40, what="no process left")
        assert (first.home / "run.json").exists()
        assert run(tmp_path, "audit").returncode == 2

    # What the killed one left lying about is no obstacle.
    with supervised(tmp_path, *_SERVICES_ALONE) as second:
        assert second.endpoints()["clock"] == "real"
        assert run(tmp_path, "audit").returncode == 0
        family = second.family()
        second.process.terminate()
        assert second.process.wait(60) == 0
        assert are_gone(family)
    assert not (second.home / "run.json").exists()
    assert (second.home / "secrets.json").read_text() == keys
    done = run(tmp_path, "audit")
    assert (done.returncode, done.stdout) == (2, "")
    assert "sluice up" in done.stderr


def test_told_to_stop_while_it_starts_it_stops(tmp_path: Path) -> None:
    with supervised(tmp_path, *_SERVICES_ALONE) as starting:
        wait_for(starting.family, deadline_s=30, what="an engine")
        family = starting.family()
        starting.process.send_signal(signal.SIGINT)
        assert starting.process.wait(60) == 130
        wait_for(lambda: are_gone(family), what="no process left")


@pytest.mark.parametrize(
    ("environment", "options", "says"),
    [
        ({"SLUICE_POLICY": "nowhere.toml"}, [], "nowhere.toml"),
        ({"SLUICE_PARTITIONS": "many"}, [], "SLUICE_PARTITIONS"),
        ({}, ["--endpoints", "nowhere/endpoints.json"], "nowhere"),
    ],
)
def test_a_wrong_setting_ends_it_with_one_sentence(
    tmp_path: Path,
    kafka: str,
    database: str,
    topic_prefix: str,
    environment: dict[str, str],
    options: list[str],
    says: str,
) -> None:
    named = {"KAFKA_BOOTSTRAP_SERVERS": kafka, "DATABASE_URL": database, "SLUICE_TOPIC_PREFIX": topic_prefix}
    done = run(tmp_path, "up", *options, **(named | {"SLUICE_PARTITIONS": "3"} | environment))
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SLUICE_MASTER_KEY", "short"),
        ("SLUICE_POLICY", "nowhere.toml"),
        ("SLUICE_CLOCK", "sundial"),
        ("SLUICE_LOG_LEVEL", "loud"),
        ("SLUICE_BATCH_SIZE", "0"),
        ("SLUICE_BANK_FAILURE_RATE", "2"),
        ("SLUICE_NOTIFY_POLICY", "nowhere.toml"),
        ("SLUICE_WORDING", "nowhere"),
        ("DATABASE_URL", "mysql://u:geheim@db/x"),
    ],
)
def test_a_wrong_setting_is_found_before_an_engine_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for named in NAMED:
        monkeypatch.delenv(named, raising=False)
    done = in_process.run({name: value}, ["up"])
    assert (done.returncode, done.stdout) == (2, "")
    assert name in done.stderr
    assert done.stderr.count("\n") == 1
    assert "geheim" not in done.stderr
    assert not (tmp_path / ".sluice" / "data").exists()


def test_a_database_that_is_not_there_is_one_sentence(tmp_path: Path, kafka: str, topic_prefix: str) -> None:
    named = {"KAFKA_BOOTSTRAP_SERVERS": kafka, "DATABASE_URL": "postgresql://postgres:secret@127.0.0.1:1/x"}
    done = run(tmp_path, "up", SLUICE_TOPIC_PREFIX=topic_prefix, SLUICE_PARTITIONS="3", **named)
    assert done.returncode == 2
    assert "DATABASE_URL" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr


async def test_an_engine_that_a_full_disk_keeps_from_starting_is_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full:
        def restart(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    with ThreadPoolExecutor(1) as thread:
        system = _System(Plan(), load_local_settings(), tmp_path, [], Engines("", "", None, None), thread)
        system._stopping.set()
        await system._revive("Kafka", cast("Any", Full()))
    assert "No space left on device" in capsys.readouterr().out


def test_who_starts_is_not_taken_for_whoever_has_the_number_of_a_killed_run(tmp_path: Path) -> None:
    left_behind = {"pid": os.getpid(), "started": psutil.Process().create_time() - 1000}
    (tmp_path / "run.json").write_text(json.dumps(left_behind))
    with _only_one(tmp_path), pytest.raises(AlreadyRunning, match="is starting or stopping here"), _only_one(tmp_path):
        pass
