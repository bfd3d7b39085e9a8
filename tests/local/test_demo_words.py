"""What the demo says of an event explains it, and says nothing twice."""

from __future__ import annotations

from typing import Any

import pytest

from local.demo_words import sentence_of

TRANSFER: dict[str, Any] = {
    "kind": "p2p",
    "payer": "wallet:a",
    "payee": "wallet:b",
    "amount_minor": 0,
    "fee_minor": 0,
    "currency": "CNY",
}
CLOSING: dict[str, Any] = {"case_id": "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f509", "subject": "wallet:a"}
PAYOUT: dict[str, Any] = {"payout_minor": 7, "currency": "CNY", "payee": "bank:DEMO:1"}
WHAT = "p2p 0.00 CNY, wallet:a → wallet:b"


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (
            {**TRANSFER, "type": "transfer.failed", "reason": {"code": "amount_invalid", "limit_minor": 10}},
            f"{WHAT}: failed because of amount_invalid (from 0.01 CNY to 0.10 CNY is possible)",
        ),
        (
            {**TRANSFER, "type": "transfer.expired", "reason": {"code": "expired"}},
            f"{WHAT}: expired",
        ),
        (
            {
                "type": "transfer.command_refused",
                "command_type": "account.configure",
                "account_id": "wallet:nobody",
                "reason": {"code": "account_unknown"},
            },
            "account.configure of wallet:nobody is refused because of account_unknown",
        ),
        (
            {**TRANSFER, "type": "transfer.refunded", "reason": {"code": "rail_timeout", "detail": "no record"}},
            f"{WHAT}: refunded because of rail_timeout (no record)",
        ),
        (
            {
                **CLOSING,
                "type": "closure.rejected",
                "reasons": [{"code": "obligation_open", "remedy": "pay_obligations"}],
                "obligations": [{"kind": "loan", "obligation_id": "x-1", "owed_minor": 5, "currency": "CNY"}],
            },
            "closing wallet:a: rejected (obligation_open: pay obligations; x-1 owes 0.05 CNY)",
        ),
        (
            {**CLOSING, "type": "closure.payout_failed", "reason": {"code": "rail_rejected"}, **PAYOUT},
            "closing wallet:a: payout failed because of rail_rejected (0.07 CNY to bank:DEMO:1)",
        ),
        (
            {**CLOSING, "type": "closure.closed", "erasure": "deferred", "why": "wallet_open"},
            "closing wallet:a: closed (erasing is deferred, wallet_open)",
        ),
        (
            {**CLOSING, "type": "credit.status_changed", "status": "closed"},
            "wallet:a: the credit registry hears that it is closed",
        ),
        (
            {
                "type": "closure.command_refused",
                "command_type": "closure.confirm",
                "reason": {"code": "state_conflict"},
            },
            "closure.confirm is refused because of state_conflict",
        ),
        (
            {
                "type": "clearance.finished",
                "dry_run": True,
                "wallets": 3,
                "cleared": 1,
                "paid": 2,
                "money": [{"currency": "CNY", "paid_out_minor": 50}],
            },
            "dry run of a clearance of 3 wallets: finished (1 cleared, 2 paid; 0.50 CNY paid out)",
        ),
        (
            {"type": "clearance.announced", "dry_run": False, "wallets": 3},
            "clearance of 3 wallets: announced",
        ),
    ],
)
def test_an_event_in_a_sentence(event: dict[str, Any], says: str) -> None:
    plain = sentence_of(event)
    for mark in ("[yellow]", "[/yellow]", "[cyan]", "[/cyan]"):
        plain = plain.replace(mark, "")
    assert plain == says
