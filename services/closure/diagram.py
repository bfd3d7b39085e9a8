"""Draws the states of a case from the table of its transitions: `python -m services.closure.diagram`."""

from __future__ import annotations

import sys
from typing import Final

from services.closure.model import ENDED, TRANSITIONS, Status

_WORDS: Final = {
    (Status.RECEIVED, Status.OBLIGATIONS): "clearance",
    (Status.IDENTITY, Status.DOCUMENTS_REQUIRED): "a mismatch",
    (Status.IDENTITY, Status.REVIEW): "too many",
    (Status.DOCUMENTS_REQUIRED, Status.IDENTITY): "correct, profile",
    (Status.DOCUMENTS_REQUIRED, Status.REVIEW): "documents",
    (Status.DOCUMENTS_REQUIRED, Status.REJECTED): "too late",
    (Status.OBLIGATIONS, Status.POLICY): "loan",
    (Status.OBLIGATIONS, Status.REVIEW): "profile",
    (Status.OBLIGATIONS, Status.ACCOUNT_WANTED): "clearance, with money",
    (Status.OBLIGATIONS, Status.DRAINING): "clearance, empty",
    (Status.IN_FLIGHT, Status.DOCUMENTS_REQUIRED): "claimed another balance",
    (Status.POLICY, Status.REVIEW): "amount, age, risk, other holder",
    (Status.REVIEW, Status.OBLIGATIONS): "identity approved",
    (Status.REVIEW, Status.APPROVED): "approved",
    (Status.APPROVED, Status.CONFIRMED): "confirm",
    (Status.APPROVED, Status.REVIEW): "other holder named, risk, profile",
    (Status.APPROVED, Status.EXPIRED): "too late",
    (Status.CONFIRMED, Status.DRAINING): "wallet",
    (Status.CONFIRMED, Status.ERASING): "loan",
    (Status.CONFIRMED, Status.CLOSED): "loan, erasure deferred",
    (Status.ACCOUNT_WANTED, Status.DRAINING): "payout_account",
    (Status.DRAINING, Status.PAYING_OUT): "drained",
    (Status.DRAINING, Status.PAYOUT_STOPPED): "no account named",
    (Status.DRAINING, Status.PAYOUT_REVIEW): "unseen amount, other holder",
    (Status.DRAINING, Status.FINISHING): "drained, empty",
    (Status.DRAINING, Status.REINSTATING): "cancel, below zero",
    (Status.PAYING_OUT, Status.PAYOUT_STOPPED): "failed",
    (Status.PAYING_OUT, Status.PAYOUT_REVIEW): "more came in, other holder",
    (Status.PAYING_OUT, Status.FINISHING): "settled",
    (Status.PAYOUT_STOPPED, Status.PAYING_OUT): "payout_account, again",
    (Status.PAYOUT_STOPPED, Status.PAYOUT_REVIEW): "other holder named",
    (Status.PAYOUT_STOPPED, Status.REINSTATING): "cancel",
    (Status.PAYOUT_REVIEW, Status.PAYING_OUT): "approved, payout_account",
    (Status.PAYOUT_REVIEW, Status.PAYOUT_STOPPED): "turned down",
    (Status.PAYOUT_REVIEW, Status.REINSTATING): "cancel",
    (Status.FINISHING, Status.PAYING_OUT): "more came in",
    (Status.FINISHING, Status.PAYOUT_STOPPED): "returned",
    (Status.FINISHING, Status.PAYOUT_REVIEW): "more came in, other holder",
    (Status.FINISHING, Status.CLOSED): "erasure deferred",
    (Status.ERASING, Status.CLOSED): "all have forgotten",
}
"""What takes a case from one state to another, where the names do not say it."""


def draw() -> str:
    """Return the states as a Mermaid diagram: those that a case passes, and of each the ends that it may find."""
    lines = ["stateDiagram-v2", f"    [*] --> {Status.RECEIVED}"]
    for status in Status:
        for following in (each for each in Status if each in TRANSITIONS.get(status, ())):
            words = _WORDS.get((status, following))
            lines.append(f"    {status} --> {following}{f' : {words}' if words else ''}")
    lines += [f"    {status} --> [*]" for status in Status if status in ENDED]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(draw() + "\n")
