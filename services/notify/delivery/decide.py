"""Decides how a message goes on after what a gateway said of it, or did not say."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from services.notify.delivery.store import Advance, Early, Ending, Move, Out
from services.notify.gateways.gateway import Answer, Outcome
from services.notify.model import Status, Why

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from services.notify.policy import Delivering

QUEUED: Final = "queued"
HELD: Final = "held"
SENDING: Final = "sending"
UNKNOWN: Final = "unknown"
AWAITING: Final = "awaiting"


class Step(NamedTuple):
    """How a message goes on: without a move nothing more can become of it."""

    ending: Ending
    move: Move | None
    advance: Advance | None


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a decision is drawn from besides the message and what was said of it.

    `real_now` is the world's time, in which gateways answer, whatever `now` is moved to; `jitter` between 0 and 1
    spreads what is tried again; `has_receipts` is whether receipts are to be expected.
    """

    policy: Delivering
    now: datetime
    real_now: datetime
    can_inquire: bool
    has_receipts: bool
    jitter: float

    def really_later(self, seconds: float) -> datetime:
        """Return the world's time so many seconds from now."""
        return self.real_now + timedelta(seconds=seconds)


def after_answer(out: Out, answer: Answer, around: Circumstances) -> Step:
    """Decide how a message goes on that was just handed over, or tried to be."""
    ending = Ending(out.delivery_id, out.number, answer.outcome, answer.provider_message_id, answer.code, answer.why)
    match answer.outcome:
        case Outcome.ACCEPTED:
            sent = Advance(out.delivery_id, Status.SENT)
            if not around.has_receipts:
                return Step(ending, None, sent)
            return Step(ending, Move(out.delivery_id, AWAITING, _ask_at(out, around)), sent)
        case Outcome.DELIVERED:
            return Step(ending, None, Advance(out.delivery_id, Status.DELIVERED))
        case Outcome.TEMPORARY | Outcome.TECHNICAL | Outcome.ABSENT:
            return Step(ending, *_try_again(out, answer.outcome, around))
        case Outcome.PERMANENT:
            return Step(ending, None, Advance(out.delivery_id, Status.FAILED, Why.REJECTED))
        case Outcome.UNUSABLE:
            return Step(ending, None, Advance(out.delivery_id, Status.SUPPRESSED, answer.why))
        case Outcome.UNKNOWN:
            if not around.can_inquire:
                return Step(ending, None, Advance(out.delivery_id, Status.SENT, Why.UNKNOWN))
            # What the gateway is slow to take must not look absent.
            return Step(
                ending, Move(out.delivery_id, UNKNOWN, around.really_later(around.policy.answer_within_s)), None
            )


def after_inquiry(out: Out, answer: Answer, around: Circumstances) -> Step:
    """Decide how a message goes on of which its gateway was asked."""
    ending = Ending(out.delivery_id, out.number, answer.outcome, answer.provider_message_id, answer.code, answer.why)
    is_over = around.now >= out.expires_at
    match answer.outcome:
        case Outcome.ACCEPTED:
            move = None if is_over else Move(out.delivery_id, AWAITING, _ask_at(out, around))
            return Step(ending, move, Advance(out.delivery_id, Status.SENT))
        case Outcome.DELIVERED:
            return Step(ending, None, Advance(out.delivery_id, Status.DELIVERED))
        case Outcome.PERMANENT | Outcome.TEMPORARY:
            # The gateway has given up, for good or in the time that it gives a message.
            return Step(ending, None, Advance(out.delivery_id, Status.FAILED, Why.UNDELIVERED))
        case Outcome.ABSENT if out.state != AWAITING:
            return Step(ending, *_try_again(out, Outcome.ABSENT, around))
        case _:
            # No answer; or none of it is left at a gateway that had it, which is no reason to send it again.
            if is_over:
                return Step(ending, None, give_up(out))
            return Step(ending, Move(out.delivery_id, out.state, _ask_at(out, around)), None)


def give_up(out: Out) -> Advance | None:
    """Return what becomes of a message of which nobody will say more: it may have been sent, so it counts as sent."""
    return None if out.state == AWAITING else Advance(out.delivery_id, Status.SENT, Why.UNKNOWN)


def after_receipt(attempt: tuple[UUID, int], receipt: Early) -> tuple[Ending, Advance]:
    """Decide what becomes of a message of which its gateway says by itself how it ended."""
    ending = Ending(*attempt, receipt.outcome, receipt.provider_message_id, receipt.code)
    if receipt.outcome == Outcome.DELIVERED:
        return ending, Advance(attempt[0], Status.DELIVERED)
    return ending, Advance(attempt[0], Status.FAILED, Why.UNDELIVERED)


def _try_again(out: Out, outcome: Outcome, around: Circumstances) -> tuple[Move | None, Advance | None]:
    policy = around.policy
    backoff_s = min(policy.retry_at_most_after_s, policy.retry_after_s * 2 ** min(out.number - 1, 30))
    # A gateway that fails as a whole says nothing against the message: another may take it at once.
    wait_s = 0.0 if outcome in (Outcome.ABSENT, Outcome.TECHNICAL) else backoff_s * (0.5 + around.jitter / 2)
    next_at = around.now + timedelta(seconds=wait_s)
    if next_at >= out.expires_at:
        return None, Advance(out.delivery_id, Status.FAILED, Why.GATEWAY_FAILED)
    return Move(out.delivery_id, QUEUED, next_at), None


def _ask_at(out: Out, around: Circumstances) -> datetime:
    """Return when a gateway is asked of a message; one that cannot be asked is given until the message expires."""
    if not around.can_inquire:
        return around.real_now + (out.expires_at - around.now)
    return around.really_later(around.policy.inquire_after_s)
