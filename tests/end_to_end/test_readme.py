"""What the README tells other programs to do works, word for word, with clients that are not ours."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.end_to_end.system import Reader, System, running_system

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


def _blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text("utf-8")
    # All of them, in order: what closes one block must not open another.
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for said, block in blocks if said == language]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running_system(tmp_path_factory.mktemp("readme") / "home", notifiers=1) as started:
        yield started


def _run(command: list[str], system: System) -> str:
    environment = os.environ | {"KAFKA": system.kafka, "SLUICE_HOME": str(system.home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_program_publishes_a_transfer_and_reads_its_outcome(system: System) -> None:
    (program,) = _blocks("python")
    said = _run([sys.executable, "-c", program.replace("127.0.0.1:9092", system.kafka)], system)
    assert "'status': 'settled'" in said
    assert "'payee_available_minor': 10000" in said


@pytest.mark.tools
def test_the_lines_for_kcat_publish_transfers_and_read_their_outcomes(system: System) -> None:
    first, second, third, fourth = (block for block in _blocks("") if "kcat" in block)
    functions = first.partition("\n\n")[0]
    _run(["bash", "-euc", first], system)
    reader = Reader(system.kafka)
    reader.read_until(lambda: any(headers["ce_subject"] == "wallet:bob" for headers, _ in reader.records), 30)
    shown = _run(["bash", "-euc", f"{functions}\n{second}"], system)
    assert "ce_type=sluice.account.opened.v1" in shown
    reader.read_until(lambda: any(event["payee"] == "wallet:bob" for event in reader.latest.values()), 30)
    reader.close()
    shown = _run(["bash", "-euc", third.replace(".venv/bin/sluice", f"{sys.executable} -m ops.cli")], system)
    assert "ce_type=sluice.transfer.settled.v1" in shown
    assert "+25.00 CNY" in shown
    _run(["bash", "-euc", f"{functions}\n{fourth.replace('.venv/bin/sluice', f'{sys.executable} -m ops.cli')}"], system)
    reader = Reader(system.kafka, "notify.events")
    reader.read_until(lambda: any("broadcast.finished" in headers["ce_type"] for headers, _ in reader.records), 30)
    reader.close()
