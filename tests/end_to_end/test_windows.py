"""What maintenance windows promise: closed when they say, and what waited goes on in order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from schemas.envelope import short_type
from schemas.fields import as_text
from tests.end_to_end.system import Clock, Reader, System, running_system

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running_system(tmp_path_factory.mktemp("windows") / "home", maintainers=1, movable_clock=True) as system:
        yield system


def _plan(starts_at: datetime, ends_at: datetime, **more: Any) -> dict[str, Any]:
    return {
        "window_id": str(uuid.uuid4()),
        "title": "Upgrade",
        "reason": "Upgrade of the ledger",
        "starts_at": as_text(starts_at),
        "ends_at": as_text(ends_at),
        "functions": ["transfer"],
        "treatment": "hold",
        "alternatives": [{"kind": "card", "text": "Pay by card"}],
        **more,
    }


def _types(reader: Reader, window_id: str) -> list[str]:
    return [short_type(headers["ce_type"]) for headers, _ in reader.records if headers["ce_subject"] == window_id]


def test_a_window_closes_transfers_and_what_waited_goes_on_in_order(system: System) -> None:
    clock = Clock(system)
    transfers, windows = Reader(system.kafka), Reader(system.kafka, "maintenance.events")
    payer, payee = system.open_wallets(2, overdraft_minor=10_000)
    plan = _plan(clock.now() + timedelta(hours=2), clock.now() + timedelta(hours=3))
    system.send("window.schedule", plan["window_id"], plan, topic="maintenance.commands")
    windows.read_until(lambda: "window.scheduled" in _types(windows, plan["window_id"]))
    before = system.request("p2p", payer, payee, 1)
    transfers.read_until(lambda: transfers.status(before) == "settled")
    clock.advance(timedelta(hours=2, seconds=1))
    windows.read_until(lambda: "window.started" in _types(windows, plan["window_id"]))
    held = [system.request("p2p", payer, payee, amount) for amount in range(2, 12)]
    refused = system.request("p2p", payer, payee, 50, on_maintenance="reject")
    transfers.read_until(lambda: all(transfers.status(id_) for id_ in (*held, refused)))
    assert {transfers.status(id_) for id_ in held} == {"held"}
    said = transfers.latest[held[0]]
    assert (said["window_id"], said["resume_at"]) == (plan["window_id"], plan["ends_at"])
    assert transfers.latest[refused]["reason"]["code"] == "maintenance"
    assert transfers.latest[refused]["window_id"] == plan["window_id"]
    clock.advance(timedelta(hours=1))
    transfers.read_until(lambda: all(transfers.status(id_) == "settled" for id_ in held))
    settled = [headers["ce_subject"] for headers, _ in transfers.records if "transfer.settled" in headers["ce_type"]]
    assert settled == [before, *held]
    windows.read_until(lambda: "window.ended" in _types(windows, plan["window_id"]))
    told = ["window.scheduled", "window.reminder", "window.started", "window.ended"]
    assert _types(windows, plan["window_id"]) == told


def _sluice(system: System, *words: str, exit_code: int = 0) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "ops.cli", *words],
        env=os.environ | {"SLUICE_HOME": str(system.home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == exit_code, done.stderr
    return json.loads(done.stdout) if "--json" in words else done.stdout + done.stderr


def test_operators_plan_see_and_end_windows(system: System) -> None:
    clock = Clock(system)
    reader = Reader(system.kafka)
    payer, payee = system.open_wallets(2, overdraft_minor=10_000)
    late, early = as_text(clock.now() + timedelta(hours=5)), as_text(clock.now() + timedelta(hours=1))
    what = ("--title", "Repair", "--reason", "Repair of the ledger", "--function", "transfer")
    refused = _sluice(system, "windows", "plan", *what, "--from", late, "--to", early, exit_code=1)
    assert "times_invalid" in refused
    assert "ends_at" in refused
    both = ("--reason-zh", "账务修复", "--alternative", "card=Pay by card", "--waive-fees", "2")
    now = ("--from", "now", "--to", late, "--confirmed")
    said = _sluice(system, "windows", "plan", *what, *both, *now, "--json")
    id_ = said["window_id"]
    assert (said["type"], said["reason_in"]) == ("window.started", [{"locale": "zh-CN", "text": "账务修复"}])
    assert said["compensation"]["text"] == "Your next 2 fees are waived."
    assert said["compensation"]["text_in"] == [{"locale": "zh-CN", "text": "免收接下来 2 笔手续费。"}]
    again = ("--from", said["starts_at"], "--to", late, "--confirmed", "--window", id_)
    assert "closed now" in _sluice(system, "windows", "plan", *what, *both, *again)
    held = system.request("p2p", payer, payee, 5)
    reader.read_until(lambda: reader.status(held) == "held")
    assert "started" in _sluice(system, "windows")
    assert "Extend or end" in _sluice(system, "windows", "cancel", id_, exit_code=1)
    _sluice(system, "windows", "end", id_)
    reader.read_until(lambda: reader.status(held) == "settled")
    window = next(one for one in _sluice(system, "windows", "--json") if one["window_id"] == id_)
    figures = {name: window[name] for name in ("window_id", "status", "held", "refused", "released", "waiting")}
    assert figures == {"window_id": id_, "status": "ended", "held": 1, "refused": 0, "released": 1, "waiting": 0}
    assert isinstance(window["announced"], int)
    assert window["over_at"] < window["ends_at"]
    shown = _sluice(system, "windows", "--window", id_)
    told = ("Repair of the ledger", "账务修复", "held until", "(card): Pay by card", "next 2 fees", "window.ended")
    assert [text for text in told if text not in shown] == []
    assert _sluice(system, "audit", "--json")["clean"]


def test_operators_move_a_window_start_it_and_are_told_of_ids_that_are_none(system: System) -> None:
    clock = Clock(system)
    first, second, third = (as_text(clock.now() + timedelta(hours=hours)) for hours in (5, 6, 7))
    what = ("--title", "Repair", "--reason", "Repair of the ledger", "--function", "transfer")
    id_ = _sluice(system, "windows", "plan", *what, "--from", first, "--to", second, "--json")["window_id"]
    why = ("--reason", "The parts are late", "--reason-zh", "配件延迟")
    moved = _sluice(system, "windows", "reschedule", id_, "--from", second, "--to", third, *why, "--json")
    assert (moved["type"], moved["starts_at"], moved["ends_at"]) == ("window.rescheduled", second, third)
    assert moved["change_reason_in"] == [{"locale": "zh-CN", "text": "配件延迟"}]
    assert "closed now" in _sluice(system, "windows", "start", id_)
    nobody = str(uuid.uuid4())
    for words in (("end",), ("cancel",), ("start",), ("extend", "--to", third, "--reason", "Late")):
        said = _sluice(system, "windows", words[0], nobody, *words[1:], exit_code=1)
        assert said == f"There is no window {nobody}.\n"
