"""`sluice clearance` says what is where, and refuses what could not be taken before anything is sent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from ops.clearances import print_statement
from ops.cli import name_ids
from ops.terminal import terminal
from tests.ops.test_one_sentence import refusal, sluice

AMOUNTS = ("total", "paid_out", "fee", "waiting", "blocked", "moved")
FOUND: dict[str, Any] = {
    "cause": "regulation", "dry_run": True, "status": "finished", "paused": False, "wallets": 3,
    "clearance_id": "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f509", "is_over": False, "pending_by": {},
    "starts_at": datetime(2026, 12, 1, tzinfo=UTC), "deadline": datetime(2027, 1, 1, tzinfo=UTC),
    "cleared": 0, "paid": 0, "waiting": 0, "blocked": 3, "pending": 0,
    "money": [{"currency": "CNY", **{f"{name}_minor": 123_450 for name in AMOUNTS}}],
    "blockers": [{"subject": "wallet:a", "code": "obligation_open", "owed_minor": 120, "currency": "CNY"}],
}  # fmt: skip


def test_amounts_are_written_out_and_what_is_not_listed_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    print_statement(terminal(), FOUND)
    said = capsys.readouterr().out
    assert "1,234.50 CNY" in said
    assert "wallet:a  obligation_open: 1.20 CNY" in said
    assert "and 2 more; --limit" in said
    assert "Nothing was closed or paid" in said
    print_statement(terminal(), {**FOUND, "dry_run": False, "blocked": 1})
    said = capsys.readouterr().out
    assert "more" not in said
    assert "Nothing was closed" not in said


def test_past_its_deadline_it_says_what_it_waits_for(capsys: pytest.CaptureFixture[str]) -> None:
    late = {**FOUND, "dry_run": False, "status": "running", "is_over": True}
    print_statement(terminal(), {**late, "pending": 1, "pending_by": {"draining": 1}})
    said = capsys.readouterr().out
    assert "Its deadline has passed: it waits for 1 wallet (1 draining), see `sluice cases --clearance 0192" in said
    assert "waiting has what is pending, too" in said
    print_statement(terminal(), {**late, "paused": True})
    said = capsys.readouterr().out
    assert "when it is resumed, `sluice clearance resume 0192" in said
    assert "is pending" not in said


ID = "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f509"
START = ("clearance", "start", "--cause", "regulation", "--from", "2090-01-02", "--to", "2090-02-02")
NOWHERE = {"kafka": "127.0.0.1:1", "database": "postgresql://nobody/x"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((*START, "--rate", "10"), "Say which wallets end: "),
        ((*START, "--rate", "10", "--all", "--wallet", "wallet:a"), "Say which wallets end: "),
        ((*START, "--rate", "0", "--all"), "--rate: "),
        ((*START, "--rate", "10", "--wallet", "nonsense"), "--wallet: "),
        ((*START, "--rate", "10", "--all", "--announce", "soon"), "'soon' is not a time"),
    ],
)
def test_what_nobody_could_take_is_refused_before_it_is_sent(words: tuple[str, ...], says: str) -> None:
    assert refusal(words, **NOWHERE).startswith(says)


@pytest.mark.parametrize(
    ("option", "time"), [("--announce", "2090-01-03"), ("--to", "2090-01-01"), ("--announce", "2020-01-01")]
)
def test_times_that_the_service_would_refuse_are_refused_at_once(option: str, time: str) -> None:
    done = sluice((*START, "--rate", "10", "--all", option, time), **NOWHERE)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Refused (times_invalid): ")


def test_an_id_may_stand_alone_unless_it_is_a_commands() -> None:
    assert name_ids(["clearance", ID, "--json"]) == ["clearance", "--clearance", ID, "--json"]
    assert name_ids(["clearance", "pause", ID]) == ["clearance", "pause", ID]
    assert name_ids(["clearance", "start", "--clearance", ID]) == ["clearance", "start", "--clearance", ID]
