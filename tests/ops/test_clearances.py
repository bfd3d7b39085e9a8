"""`sluice clearance` writes amounts as people read them, and says what it leaves out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ops.clearances import print_statement
from ops.console import console

if TYPE_CHECKING:
    import pytest

AMOUNTS = ("total", "paid_out", "fee", "waiting", "blocked", "moved")
FOUND: dict[str, Any] = {
    "cause": "regulation", "dry_run": True, "status": "finished", "paused": False, "wallets": 3,
    "starts_at": datetime(2026, 12, 1, tzinfo=UTC), "deadline": datetime(2027, 1, 1, tzinfo=UTC),
    "cleared": 0, "paid": 0, "waiting": 0, "blocked": 3, "pending": 0,
    "money": [{"currency": "CNY", **{f"{name}_minor": 123_450 for name in AMOUNTS}}],
    "blockers": [{"subject": "wallet:a", "code": "obligation_open", "owed_minor": 120, "currency": "CNY"}],
}  # fmt: skip


def test_amounts_are_written_out_and_what_is_not_listed_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    print_statement(console(), FOUND)
    said = capsys.readouterr().out
    assert "1,234.50 CNY" in said
    assert "wallet:a  obligation_open: 1.20 CNY" in said
    assert "and 2 more; --limit" in said
    assert "Nothing was closed or paid" in said
    print_statement(console(), {**FOUND, "dry_run": False, "blocked": 1})
    said = capsys.readouterr().out
    assert "more" not in said
    assert "Nothing was closed" not in said
