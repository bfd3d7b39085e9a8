"""What the README tells other programs to do works, word for word, with clients that are not ours."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.end_to_end.closings import Cases
from tests.end_to_end.system import Reader, System, running_system
from tests.waiting import wait_for

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
    with running_system(tmp_path_factory.mktemp("readme") / "home", notifiers=1, maintainers=1, closers=1) as started:
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
    opened, read, moved, known, inbox, told, closed, ended, leaves, confirmed = _shell_blocks(system)
    functions = opened.partition("\n\n")[0]
    events = Reader(system.kafka)
    _run(["bash", "-euc", opened], system)
    events.read_until(lambda: any(headers["ce_subject"] == "wallet:bob" for headers, _ in events.records), 30)
    shown = _run(["bash", "-euc", f"{functions}\n{read}"], system)
    assert "ce_type=sluice.account.opened.v1" in shown
    events.read_until(lambda: any(event["payee"] == "wallet:bob" for event in events.latest.values()), 30)
    shown = _run(["bash", "-euc", moved], system)
    assert "ce_type=sluice.transfer.settled.v1" in shown
    assert "+25.00 CNY" in shown
    _run(["bash", "-euc", f"{functions}\n{known}"], system)
    wait_for(lambda: _unread(system, inbox), what="what happened before she was known is in her inbox")
    _run(["bash", "-euc", f"{functions}\n{told}"], system)
    notices = Reader(system.kafka, "notify.events")
    notices.read_until(lambda: any("broadcast.finished" in headers["ce_type"] for headers, _ in notices.records), 30)
    notices.close()
    shown = _run(["bash", "-euc", f"{functions}\n{closed}\necho window=$WINDOW"], system)
    assert "it is closed now" in shown
    window = shown.rpartition("window=")[2].strip()
    events.read_until(lambda: any(event["status"] == "held" for event in events.latest.values()), 30)
    shown = _run(["bash", "-euc", f"WINDOW={window}\n{ended}"], system)
    assert "window.ended" in shown
    events.read_until(lambda: all(event["status"] == "settled" for event in events.latest.values()), 30)
    events.close()
    _leave(system, functions, leaves, confirmed)


def _leave(system: System, functions: str, leaves: str, confirmed: str) -> None:
    cases = Cases(system.kafka)
    case_id = _run(["bash", "-euc", f"{functions}\n{leaves}\necho $CASE"], system).strip()
    cases.wait(case_id, "approved")
    shown = _run(["bash", "-euc", f"CASE={case_id}\n{functions}\n{confirmed}"], system)
    assert "waits for customer" in shown
    cases.wait(case_id, "closed")
    assert cases.body(case_id, "closure.closed")["erasure"] == "done"


def _shell_blocks(system: System) -> list[str]:
    """Return the blocks for a shell that talk to the system, with this test's system in the place of the reader's."""
    ours = {
        ".venv/bin/sluice": f"{sys.executable} -m ops.cli",
        ".venv/bin/python": sys.executable,
        ".sluice/": f"{system.home}/",
    }
    blocks = [
        block for block in _blocks("") if any(word in block for word in ("kcat", "| send", "curl", "$WINDOW", "$CASE"))
    ]
    # At once: what one puts in may look like what another replaces.
    theirs = re.compile("|".join(map(re.escape, ours)))
    return [theirs.sub(lambda found: ours[found[0]], block) for block in blocks]


def _unread(system: System, block: str) -> int:
    done = subprocess.run(
        ["bash", "-euc", block],
        env=os.environ | {"INBOX": system.endpoints()["inbox"], "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # Until the profile is known there is no inbox.
    return int(json.loads(done.stdout)["unread"]) if done.returncode == 0 else 0
