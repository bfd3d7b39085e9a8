"""Decides a refund that a command asks for: never more than was paid, back the way the money came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from services.transfer.decide.payouts import (
    due_date,
    finish_refund,
    give_limits_back,
    has_closed_payer,
    instruct_return,
    pay_back,
    say_unclaimed,
)
from services.transfer.model import (
    UNCLAIMED_ACCOUNT,
    Account,
    AccountStatus,
    Kind,
    Refund,
    RefundStatus,
    Refusal,
    Status,
    Transfer,
)

if TYPE_CHECKING:
    from uuid import UUID

    from schemas.transfer import TransferRefund
    from services.runtime.message import Lane, Message
    from services.transfer.decide.ledger import Ledger

_REFUNDABLE = frozenset({Status.SETTLED, Status.REFUNDING})


def decide_refund(ledger: Ledger, message: Message, command: TransferRefund) -> None:
    """Decide a `transfer.refund`: refused, done at once, or on its way to the bank that the money came from."""
    transfer = ledger.transfers.get(command.transfer_id)
    if transfer is None:
        unknown = Refusal("transfer_unknown", field="transfer_id")
        ledger.refuse(message, unknown, transfer_id=command.transfer_id)
        return
    if (owner := _owner_of(ledger, command.refund_id)) is not None:
        # A bank knows payouts and refunds by one id each.
        conflict = Refusal("duplicate_id_conflict", field="refund_id", detail=f"{owner} has this id")
        ledger.refuse(message, conflict, transfer=transfer)
        return
    left = transfer.amount_minor - transfer.refunded_minor - transfer.refunding_minor
    amount = left if command.amount_minor is None else command.amount_minor
    refusal = _find_refusal(ledger, transfer, amount, left)
    if refusal is not None:
        ledger.refuse(message, refusal, transfer=transfer)
        return
    refund = _new_refund(ledger, command, transfer, amount)
    ledger.refunds[refund.refund_id] = ledger.refunds_made[refund.refund_id] = refund
    if transfer.kind == Kind.TOP_UP:
        _send_back(ledger, message.lane, transfer, refund)
    else:
        _pay_back(ledger, message.lane, transfer, refund)
    ledger.watch_balance(message.lane, transfer.payee, transfer.payer)


def _owner_of(ledger: Ledger, refund_id: UUID) -> str | None:
    if refund_id in ledger.refunds:
        return "the return of a top-up"
    transfer = ledger.transfers.get(refund_id)
    return "a withdrawal" if transfer is not None and transfer.kind == Kind.WITHDRAWAL else None


def _find_refusal(ledger: Ledger, transfer: Transfer, amount: int, left: int) -> Refusal | None:
    if transfer.kind == Kind.WITHDRAWAL:
        return Refusal("state_conflict", detail="only the bank can return a withdrawal")
    if transfer.status == Status.REFUNDED:
        return Refusal("refund_exceeds", field="amount_minor", limit_minor=0)
    if transfer.status not in _REFUNDABLE:
        return Refusal("state_conflict", detail=f"the transfer is {transfer.status}")
    if amount <= 0:
        is_all_gone = left == 0
        return Refusal("refund_exceeds" if is_all_gone else "amount_invalid", field="amount_minor")
    if amount > left:
        return Refusal("refund_exceeds", field="amount_minor", limit_minor=left)
    if transfer.payee == UNCLAIMED_ACCOUNT and has_closed_payer(ledger, transfer):
        return Refusal("account_closed", field="payer")
    payee = ledger.accounts.get(transfer.payee)
    return None if payee is None else _refuse_payee(ledger, payee, amount)


def _refuse_payee(ledger: Ledger, payee: Account, amount: int) -> Refusal | None:
    if payee.status != AccountStatus.OPEN:
        is_closed = payee.status == AccountStatus.CLOSED
        return Refusal("account_closed" if is_closed else "account_closing", field="payee")
    if payee.debit_restricted_until is not None and payee.debit_restricted_until > ledger.now:
        return Refusal("account_restricted", field="payee")
    shortfall = amount - payee.spendable_minor
    return Refusal("insufficient_balance", shortfall_minor=shortfall) if shortfall > 0 else None


def _new_refund(ledger: Ledger, command: TransferRefund, transfer: Transfer, amount: int) -> Refund:
    is_last = transfer.refunded_minor + transfer.refunding_minor + amount == transfer.amount_minor
    returns_fee = is_last and ledger.policy.refunds.returns_fee
    is_sent = transfer.kind == Kind.TOP_UP
    return Refund(
        refund_id=command.refund_id,
        transfer_id=transfer.transfer_id,
        amount_minor=amount,
        fee_minor=transfer.fee_minor - transfer.refunded_fee_minor if returns_fee else 0,
        status=RefundStatus.SENT if is_sent else RefundStatus.SETTLED,
        source_account=transfer.payee,
        requested_at=ledger.now,
        due_on=due_date(ledger) if is_sent else None,
        inquiries=0,
        unknown_answers=0,
        contradiction=None,
    )


def _pay_back(ledger: Ledger, lane: Lane, transfer: Transfer, refund: Refund) -> None:
    pay_back(ledger, lane, transfer, refund.amount_minor, refund.fee_minor)
    is_last = transfer.refunded_minor + refund.amount_minor == transfer.amount_minor
    give_limits_back(ledger, transfer, refund.amount_minor, is_last=is_last)
    finish_refund(ledger, lane, transfer, refund)
    say_unclaimed(ledger, lane, transfer, {"refund_id": str(refund.refund_id)})


def _send_back(ledger: Ledger, lane: Lane, transfer: Transfer, refund: Refund) -> None:
    ledger.reserve(lane, transfer.payee, refund.amount_minor)
    transfer.refunding_minor += refund.amount_minor
    extra: dict[str, Any] = {"refund_id": str(refund.refund_id), "refund_amount_minor": refund.amount_minor}
    if refund.due_on is not None:
        extra["refund_due_on"] = refund.due_on.isoformat()
    ledger.advance(lane, transfer, "transfer.refund_started", Status.REFUNDING, extra)
    instruct_return(ledger, lane, transfer, refund)
