"""One of something is told in the singular."""

from __future__ import annotations

import pytest

from ops.counts import count_text
from ops.ledger import Audited


@pytest.mark.parametrize(
    ("count", "words", "text"),
    [
        (0, ("wallet",), "0 wallets"),
        (1, ("wallet",), "1 wallet"),
        (1_000, ("entry", "entries"), "1,000 entries"),
        (1, ("entry", "entries"), "1 entry"),
    ],
)
def test_how_a_count_is_told(count: int, words: tuple[str, ...], text: str) -> None:
    assert count_text(count, *words) == text


def test_an_audit_of_one_of_each() -> None:
    counts = dict.fromkeys(("accounts", "transfers", "entries", "events_told", "notices", "windows", "closings"), 1)
    assert Audited(counts, ()).looked_at == "1 account, 1 transfer, 1 entry, 1 notice, 1 window, 1 closing"
