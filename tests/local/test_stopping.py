"""Told to stop, a command that started engines ends them, tidies up and says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

HISTORY = {
    "customers.csv": "customer_id,name\na,A\n",
    "accounts.csv": "account_id,customer_id,currency,overdraft_limit_minor,tier\nwallet:a,a,CNY,0,unlimited\n",
    "transfers.csv": "transfer_id,occurred_on,kind,payer,payee,amount_minor,currency,expected_balance_minor\n"
    "6f1c0f4e-6f0b-4b0e-8f0a-000000000001,1993-01-01,top_up,bank:AB:1,wallet:a,100,CNY,100\n",
}
REAL = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "DATABASE_URL": "postgresql://production.example/x"}
ENGINES = {"KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL", "SLUICE_HOME", "SLUICE_TOPIC_PREFIX", "SLUICE_CLOCK"}


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("words", "named", "says"),
    [
        # A real system is not for the demo: it starts its own.
        (["demo"], REAL, "nothing of the demo stays"),
        (["replay", "history"], {}, "Nothing is lost"),
    ],
    ids=["demo", "replay"],
)
def test_a_command_that_is_told_to_stop_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals, words: list[str], named: dict[str, str], says: str
) -> None:
    history, temporary = tmp_path / "history", tmp_path / "temporary"
    for folder in (tmp_path, history, temporary):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o711)
    for name, text in HISTORY.items():
        (history / name).write_text(text)
    python_path = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])  # noqa: PTH109 - it runs elsewhere
    environment = {name: value for name, value in os.environ.items() if name not in ENGINES}
    with subprocess.Popen(
        [sys.executable, "-m", "ops.cli", *words],
        cwd=tmp_path,
        env=environment | named | {"TMPDIR": str(temporary), "PYTHONPATH": python_path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        started = psutil.Process(command.pid)
        # `sluice up` and an engine of it.
        wait_for(lambda: len(started.children(recursive=True)) > 1, deadline_s=60, what="an engine")
        family = started.children(recursive=True)
        command.send_signal(number)
        _, said = command.communicate(timeout=60)
    assert command.returncode == 128 + number
    assert said.count("\n") == 1
    assert says in said
    # What was killed takes a moment to be gone.
    wait_for(lambda: not any(is_alive(process) for process in family), what="no process left")
    assert not list(temporary.iterdir())
