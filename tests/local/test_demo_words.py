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
    ],
)
def test_an_event_in_a_sentence(event: dict[str, Any], says: str) -> None:
    plain = sentence_of(event)
    for mark in ("[yellow]", "[/yellow]", "[cyan]", "[/cyan]"):
        plain = plain.replace(mark, "")
    assert plain == says
