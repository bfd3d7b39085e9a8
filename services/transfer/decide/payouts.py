"""Decides what a bank's word, or its silence, means for money that is on its way to it."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

from services.transfer.calendar import add_business_days, start_of
from services.transfer.decide.ledger import as_reason
from services.transfer.model import (
    AT_THE_BANK,
    FEES_ACCOUNT,
    SUSPENSE_ACCOUNT,
    UNCLAIMED_ACCOUNT,
    AccountStatus,
    AnswerKey,
    Kind,
    Purpose,
    Refund,
    RefundStatus,
    Refusal,
    Status,
    Transfer,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.runtime.message import Lane
    from services.transfer.decide.ledger import Ledger

_WRONG_ACCOUNT_CODES: Final = frozenset({"AC01", "AC02", "AC03", "AC13", "AC14", "BE06"})
"""ISO 20022 codes with which a bank says that it knows no such account."""

_SECOND_ANSWER: Final = 2


# --- Telling the bank ---


def instruct_payout(ledger: Ledger, lane: Lane, transfer: Transfer, payee_name: str | None) -> None:
    """Ask the bank to pay out a withdrawal, and watch for its silence."""
    body = {
        "transfer_id": str(transfer.transfer_id),
        "payee": transfer.payee,
        "amount_minor": transfer.amount_minor,
        "currency": transfer.currency,
        "reference": transfer.reference or str(transfer.transfer_id),
    }
    if payee_name is not None:
        body["payee_name"] = payee_name
    ledger.instruct(lane, transfer, "payout.instructed", f"{transfer.transfer_id}.payout", body)
    _watch(ledger, lane, transfer.transfer_id, ledger.policy.payouts.delayed_after_s)


def return_to_bank(ledger: Ledger, lane: Lane, transfer: Transfer) -> None:
    """Send money back that a bank handed over and no wallet could take."""
    refund = Refund(
        refund_id=ledger.rules.return_id(transfer.transfer_id),
        transfer_id=transfer.transfer_id,
        amount_minor=transfer.amount_minor,
        fee_minor=0,
        status=RefundStatus.SENT,
        source_account=SUSPENSE_ACCOUNT,
        requested_at=ledger.now,
        due_on=due_date(ledger),
        inquiries=0,
        unknown_answers=0,
        contradiction=None,
    )
    ledger.refunds[refund.refund_id] = ledger.refunds_made[refund.refund_id] = refund
    instruct_return(ledger, lane, transfer, refund)


def instruct_return(ledger: Ledger, lane: Lane, transfer: Transfer, refund: Refund) -> None:
    """Ask the bank that a top-up came from to take money back."""
    body = {
        "transfer_id": str(refund.refund_id),
        "payee": transfer.payer,
        "amount_minor": refund.amount_minor,
        "currency": transfer.currency,
        "reference": transfer.reference or str(transfer.transfer_id),
        "return_of": str(transfer.transfer_id),
    }
    ledger.instruct(lane, transfer, "payout.instructed", f"{refund.refund_id}.payout", body)
    _watch(ledger, lane, refund.refund_id, ledger.policy.payouts.delayed_after_s)


def _inquire(ledger: Ledger, lane: Lane, transfer: Transfer, payout: Transfer | Refund) -> None:
    payout.inquiries += 1
    payout_id = payout_id_of(payout)
    ledger.instruct(
        lane, transfer, "payout.inquired", f"{payout_id}.inquiry.{payout.inquiries}", {"transfer_id": str(payout_id)}
    )


def payout_id_of(payout: Transfer | Refund) -> Any:
    """Return the id by which the bank knows a payout: the withdrawal's or the refund's own."""
    return payout.refund_id if isinstance(payout, Refund) else payout.transfer_id


def due_date(ledger: Ledger) -> date:
    """Return the business day by which money that did not arrive is back."""
    days = ledger.policy.payouts.refund_within_business_days
    return add_business_days(ledger.today, days, ledger.policy.calendar)


def _watch(ledger: Ledger, lane: Lane, payout_id: object, seconds: float) -> None:
    ledger.set_timer(lane, "payout", payout_id, ledger.now + timedelta(seconds=seconds))


def _stop_watching(ledger: Ledger, payout_id: object, *, was_delayed: bool) -> None:
    ledger.clear_timer("payout", payout_id)
    if was_delayed:
        ledger.clear_timer("overdue", payout_id)


# --- The bank's silence ---


def decide_silence(ledger: Ledger, lane: Lane, transfer: Transfer, refund: Refund | None) -> None:
    """Tell the customer that the bank is late, once, and ask the bank again."""
    payout = refund or transfer
    if refund is None and transfer.status == Status.SENT:
        transfer.refund_due_on = due_date(ledger)
        extra = {"refund_due_on": transfer.refund_due_on.isoformat()}
        ledger.advance(lane, transfer, "transfer.delayed", Status.DELAYED, extra)
        _set_overdue(ledger, lane, transfer.transfer_id, transfer.refund_due_on)
    elif refund is not None and refund.status == RefundStatus.SENT:
        refund.status = RefundStatus.DELAYED
        if refund.due_on is not None:
            _set_overdue(ledger, lane, refund.refund_id, refund.due_on)
    _inquire(ledger, lane, transfer, payout)
    _watch(ledger, lane, payout_id_of(payout), ledger.policy.payouts.inquire_every_s)
    note_change(ledger, transfer, refund)


def _set_overdue(ledger: Ledger, lane: Lane, payout_id: object, due_on: date) -> None:
    # The whole of the day belongs to the bank.
    ledger.set_timer(lane, "overdue", payout_id, start_of(due_on + timedelta(days=1)))


def decide_overdue(ledger: Ledger, lane: Lane, transfer: Transfer, refund: Refund | None) -> None:
    """Say that the day by which the money should be back has passed; a person decides from here."""
    due_on = refund.due_on if refund else transfer.refund_due_on
    extra: dict[str, Any] = {} if due_on is None else {"refund_due_on": due_on.isoformat()}
    if refund is not None:
        extra["refund_id"] = str(refund.refund_id)
    ledger.advance(lane, transfer, "transfer.refund_overdue", transfer.status, extra)


# --- The bank's word on a withdrawal ---


def is_open(transfer: Transfer, refund: Refund | None) -> bool:
    """Tell whether a payout still waits for its end."""
    if refund is not None:
        return refund.status in {RefundStatus.SENT, RefundStatus.DELAYED}
    return transfer.status in AT_THE_BANK


def decide_settled(ledger: Ledger, lane: Lane, transfer: Transfer, refund: Refund | None) -> None:
    """Post a payout that arrived; after another end it is a discrepancy and moves nothing."""
    if not is_open(transfer, refund):
        _compare(ledger, lane, transfer, refund, found="settled")
    elif refund is not None:
        complete_refund(ledger, lane, transfer, refund)
    else:
        total = transfer.amount_minor + transfer.fee_minor
        _stop_watching(ledger, transfer.transfer_id, was_delayed=transfer.status == Status.DELAYED)
        ledger.reserve(lane, transfer.payer, -total)
        ledger.move(lane, transfer, Purpose.TRANSFER, transfer.amount_minor, transfer.payer, transfer.payee)
        if transfer.fee_minor:
            ledger.move(lane, transfer, Purpose.FEE, transfer.fee_minor, transfer.payer, FEES_ACCOUNT)
        ledger.advance(lane, transfer, "transfer.settled", Status.SETTLED)


def decide_failed(
    ledger: Ledger, lane: Lane, transfer: Transfer, refund: Refund | None, refusal: Refusal, found: str = "failed"
) -> None:
    """Give back what was set aside for a payout that failed, fee and limits included, once."""
    if not is_open(transfer, refund):
        _compare(ledger, lane, transfer, refund, found=found)
    elif refund is not None:
        _fail_refund(ledger, lane, transfer, refund, refusal)
    else:
        _stop_watching(ledger, transfer.transfer_id, was_delayed=transfer.status == Status.DELAYED)
        ledger.reserve(lane, transfer.payer, -(transfer.amount_minor + transfer.fee_minor))
        _end_refunded(ledger, lane, transfer, refusal)


def decide_returned(ledger: Ledger, lane: Lane, transfer: Transfer, refund: Refund | None, refusal: Refusal) -> None:
    """Take back a payout that the bank returned: reversed when it had been posted, freed when it had not."""
    came_back_after_all = refund is None and transfer.status == Status.SETTLED and transfer.kind == Kind.WITHDRAWAL
    if not came_back_after_all:
        decide_failed(ledger, lane, transfer, refund, refusal, found="returned")
        return
    pay_back(ledger, lane, transfer, transfer.amount_minor, transfer.fee_minor)
    _end_refunded(ledger, lane, transfer, refusal)
    say_unclaimed(ledger, lane, transfer)


def pay_back(ledger: Ledger, lane: Lane, transfer: Transfer, amount_minor: int, fee_minor: int) -> None:
    """Move money and fee back to the payer; where that wallet is closed, to what nobody has claimed."""
    receiver = UNCLAIMED_ACCOUNT if has_closed_payer(ledger, transfer) else transfer.payer
    ledger.move(lane, transfer, Purpose.REFUND, amount_minor, transfer.payee, receiver)
    if fee_minor:
        ledger.move(lane, transfer, Purpose.FEE_REFUND, fee_minor, FEES_ACCOUNT, receiver)


def say_unclaimed(ledger: Ledger, lane: Lane, transfer: Transfer, extra: Mapping[str, Any] | None = None) -> None:
    """Say that what was paid back found its wallet closed; a person sends it on."""
    if has_closed_payer(ledger, transfer):
        _raise_discrepancy(ledger, lane, transfer, transfer.status, "refunded", "unclaimed", dict(extra or {}))


def has_closed_payer(ledger: Ledger, transfer: Transfer) -> bool:
    """Tell whether a transfer was paid by a wallet that is closed."""
    payer = ledger.accounts.get(transfer.payer)
    return payer is not None and payer.status == AccountStatus.CLOSED


def _end_refunded(ledger: Ledger, lane: Lane, transfer: Transfer, refusal: Refusal) -> None:
    give_limits_back(ledger, transfer, transfer.amount_minor, is_last=True)
    transfer.refunded_minor = transfer.amount_minor
    transfer.refunded_fee_minor = transfer.fee_minor
    extra = {"reason": as_reason(refusal), "refunded_total_minor": transfer.refunded_minor}
    ledger.advance(lane, transfer, "transfer.refunded", Status.REFUNDED, extra)
    ledger.watch_balance(lane, transfer.payer)


def decide_unknown(ledger: Ledger, lane: Lane, transfer: Transfer, refund: Refund | None) -> None:
    """Ask once more when the bank has no record; a second such answer means that it failed.

    Its patience stays what it was: a delay is told when it is due, whatever the bank said meanwhile.
    """
    payout = refund or transfer
    if not is_open(transfer, refund):
        _compare(ledger, lane, transfer, refund, found="unknown")
        return
    payout.unknown_answers += 1
    if payout.unknown_answers >= _SECOND_ANSWER:
        refusal = Refusal("rail_timeout", detail="the bank has no record of it")
        decide_failed(ledger, lane, transfer, refund, refusal)
    else:
        _inquire(ledger, lane, transfer, payout)
        note_change(ledger, transfer, refund)


def bank_refusal(rail_code: str | None, detail: str | None) -> Refusal:
    """Return the reason for a payout that the bank refused, with the bank's own words."""
    words = ": ".join(part for part in (rail_code, detail) if part) or None
    if rail_code in _WRONG_ACCOUNT_CODES:
        return Refusal("payee_unknown", field="payee", detail=words)
    return Refusal("rail_rejected", detail=words)


# --- Refunds that go through a bank ---


def is_stuck(refund: Refund) -> bool:
    """Tell whether money is left in suspense because the bank did not take it back: a person sends it on."""
    return refund.status == RefundStatus.FAILED and refund.source_account == SUSPENSE_ACCOUNT


def complete_refund(ledger: Ledger, lane: Lane, transfer: Transfer, refund: Refund) -> None:
    """Post a refund that arrived at the bank that the money came from."""
    _stop_watching(ledger, refund.refund_id, was_delayed=refund.status == RefundStatus.DELAYED)
    refund.status = RefundStatus.SETTLED
    if refund.source_account == SUSPENSE_ACCOUNT:
        purpose = Purpose.SUSPENSE
    else:
        purpose = Purpose.REFUND
        ledger.reserve(lane, refund.source_account, -refund.amount_minor)
        transfer.refunding_minor -= refund.amount_minor
    ledger.move(lane, transfer, purpose, refund.amount_minor, refund.source_account, transfer.payer)
    note_change(ledger, transfer, refund)
    finish_refund(ledger, lane, transfer, refund)


def finish_refund(ledger: Ledger, lane: Lane, transfer: Transfer, refund: Refund) -> None:
    """Say that a refund is there; the transfer stays settled until everything is refunded."""
    transfer.refunded_minor += refund.amount_minor
    transfer.refunded_fee_minor += refund.fee_minor
    extra = {
        "refund_id": str(refund.refund_id),
        "amount_minor": refund.amount_minor,
        "fee_minor": refund.fee_minor,
        "refunded_total_minor": transfer.refunded_minor,
    }
    ledger.advance(lane, transfer, "transfer.refunded", settled_status(transfer), extra)
    if transfer.kind == Kind.TOP_UP and refund.source_account != SUSPENSE_ACCOUNT:
        ledger.renew_answer(AnswerKey("refund_id", str(refund.refund_id)))


def settled_status(transfer: Transfer) -> str:
    """Return where a transfer stands by what of it has been refunded, or is about to be."""
    if transfer.refunded_minor >= transfer.amount_minor:
        return Status.REFUNDED
    return Status.REFUNDING if transfer.refunding_minor else Status.SETTLED


def _fail_refund(ledger: Ledger, lane: Lane, transfer: Transfer, refund: Refund, refusal: Refusal) -> None:
    _stop_watching(ledger, refund.refund_id, was_delayed=refund.status == RefundStatus.DELAYED)
    refund.status = RefundStatus.FAILED
    note_change(ledger, transfer, refund)
    if refund.source_account != SUSPENSE_ACCOUNT:
        ledger.reserve(lane, refund.source_account, -refund.amount_minor)
        transfer.refunding_minor -= refund.amount_minor
    # Money in suspense stays there: where it goes next is a person's decision.
    status = transfer.status if refund.source_account == SUSPENSE_ACCOUNT else settled_status(transfer)
    extra = {"refund_id": str(refund.refund_id), "reason": as_reason(refusal)}
    _raise_discrepancy(ledger, lane, transfer, status, "refunded", "failed", extra)
    if refund.source_account != SUSPENSE_ACCOUNT:
        ledger.renew_answer(AnswerKey("refund_id", str(refund.refund_id)))
        ledger.watch_balance(lane, transfer.payee)


def give_limits_back(ledger: Ledger, transfer: Transfer, amount_minor: int, *, is_last: bool) -> None:
    """Give back what a transfer used of the limits that are still counting; the last part gives back its number."""
    if transfer.used_on is None:
        return
    payer = ledger.accounts[transfer.payer]
    if payer.used_on == transfer.used_on:
        payer.used_day_minor = max(0, payer.used_day_minor - amount_minor)
        payer.used_day_count = max(0, payer.used_day_count - is_last)
    if payer.used_on.replace(day=1) == transfer.used_on.replace(day=1):
        payer.used_month_minor = max(0, payer.used_month_minor - amount_minor)
    ledger.touched[transfer.payer] = payer


# --- Answers that contradict an end already reached ---

_ENDS: Final[Mapping[str, frozenset[str]]] = {
    Status.SETTLED: frozenset({"settled"}),
    Status.REFUNDED: frozenset({"failed", "returned", "unknown"}),
    RefundStatus.FAILED: frozenset({"failed", "returned", "unknown"}),
}


def _compare(ledger: Ledger, lane: Lane, transfer: Transfer, refund: Refund | None, found: str) -> None:
    payout = refund or transfer
    if found in _ENDS.get(payout.status, frozenset()) or payout.contradiction == found:
        return
    payout.contradiction = found
    note_change(ledger, transfer, refund)
    extra = {} if refund is None else {"refund_id": str(refund.refund_id)}
    _raise_discrepancy(ledger, lane, transfer, transfer.status, str(payout.status), found, extra)


def _raise_discrepancy(
    ledger: Ledger, lane: Lane, transfer: Transfer, status: str, expected: str, found: str, extra: dict[str, Any]
) -> None:
    said = {**extra, "expected": expected, "found": found}
    ledger.advance(lane, transfer, "transfer.discrepancy", status, said)


def note_change(ledger: Ledger, transfer: Transfer, refund: Refund | None) -> None:
    """Have a changed transfer or refund recorded, also where it makes no event."""
    if refund is not None:
        if refund.refund_id not in ledger.refunds_made:
            ledger.refunds_changed[refund.refund_id] = refund
    elif transfer.transfer_id not in ledger.created:
        ledger.changed[transfer.transfer_id] = transfer
