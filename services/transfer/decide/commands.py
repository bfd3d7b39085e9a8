"""Decides the commands about a transfer that exists, quotes and batches; each is done once."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import orjson

from schemas.envelope import encode_headers
from schemas.fields import as_text
from services.runtime.message import Outgoing, identity_of
from services.transfer.decide import payouts
from services.transfer.decide.drafts import draft_request, draft_transfer
from services.transfer.decide.ledger import EVENTS, SOURCE, as_reason
from services.transfer.decide.requests import (
    Check,
    cancel,
    climb,
    decide_request,
    end_waiting,
    fail,
    go_on,
    is_late,
    limits_left,
    name_customers,
    needs_verification,
    refuse_closed,
    refuse_cooling,
    require_verification,
    waits_for,
)
from services.transfer.model import AT_THE_BANK, WAITING, Answer, AnswerKey, Kind, Refusal, Status, Transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from uuid import UUID

    from pydantic import BaseModel

    from schemas.transfer import (
        TransferBatch,
        TransferCancel,
        TransferQuote,
        TransferRequest,
        TransferResolve,
        TransferVerificationResend,
        TransferVerify,
    )
    from services.runtime.message import Lane, Message
    from services.transfer.decide.ledger import Ledger


# --- Once each ---


def answer_key(message: Message) -> AnswerKey | None:
    """Return what a message is remembered by: its own id, else its source and `ce_id`; None for what needs neither.

    A bank's word is remembered by what it is about, too: one that is lost is worse than one that is heard twice.
    """
    own_id = _OWN_ID.get(message.type)
    if own_id is not None:
        return AnswerKey(own_id, str(getattr(message.data, own_id)))
    if message.type in _REMEMBERED:
        return AnswerKey(f"source:{message.source}", message.id)
    if message.type.startswith("payout."):
        data: Any = message.data
        return AnswerKey(f"source:{message.source}", f"{message.type}/{data.transfer_id}/{message.id}")
    return None


_OWN_ID: Final = {
    "transfer.batch": "batch_id",
    "transfer.quote": "quote_id",
    "transfer.refund": "refund_id",
    "accounts.report": "report_id",
}
_REMEMBERED: Final = frozenset(
    {
        "transfer.verify",
        "transfer.verification_resend",
        "transfer.cancel",
        "transfer.resolve",
        "account.configure",
        "account.restrict",
        "account.release",
        "account.close",
        "account.reinstate",
        "account.finish",
        "account.reopen",
    }
)


def decide_once(
    ledger: Ledger, message: Message, data: BaseModel, decide: Callable[[Ledger, Message, Any], None]
) -> None:
    """Decide a command that has not been seen before; answer a repeat as before, and another content with a refusal."""
    key = answer_key(message)
    if key is None:
        decide(ledger, message, data)
        return
    own_id = _OWN_ID.get(message.type)
    content_hash = ledger.rules.hash_content(data, "" if own_id else message.type)
    known = ledger.answers.get(key)
    if known is None:
        before = len(ledger.outgoing)
        decide(ledger, message, data)
        answer = _take_answer(ledger, key, content_hash, ledger.outgoing[before:])
        ledger.answers[key] = ledger.answered[key] = answer
    elif known.content_hash != content_hash:
        conflict = Refusal("duplicate_id_conflict", field=own_id or "ce_id")
        ledger.refuse(message, conflict, transfer_id=None if own_id else getattr(data, "transfer_id", None))
    elif key.scope == "batch_id":
        decide(ledger, message, data)
    else:
        _answer_again(ledger, message, known)


def _take_answer(ledger: Ledger, key: AnswerKey, content_hash: bytes, published: list[Outgoing]) -> Answer:
    events = [message for message in published if message.topic == EVENTS]
    # A batch is answered item by item, and its items are remembered as transfers.
    if not events or key.scope == "batch_id":
        return Answer(key, content_hash, None, None, None, None, ledger.now)
    # A report is answered by its end.
    event = events[-1] if key.scope == "report_id" else events[0]
    type_, event_id = identity_of(event)
    return Answer(key, content_hash, event.key, type_, event_id, event.value, ledger.now)


def _answer_again(ledger: Ledger, message: Message, known: Answer) -> None:
    if known.type is None or known.event_id is None:
        return
    headers = encode_headers(
        known.type,
        id=known.event_id,
        source=SOURCE,
        time=as_text(known.occurred_at),
        subject=_subject_of(known),
        correlation_id=message.correlation_id,
        traceparent=message.traceparent,
    )
    ledger.outgoing.append(Outgoing(message.lane, EVENTS, known.message_key, known.body, headers))


def _subject_of(known: Answer) -> str:
    body = orjson.loads(known.body or b"{}")
    return str(body.get("transfer_id") or body.get("account_id") or known.key.id)


# --- Verification ---


def decide_verify(ledger: Ledger, message: Message, command: TransferVerify) -> None:
    """Decide a `transfer.verify`: the transfer goes on, is asked for again, or fails and its payer cools down."""
    transfer = _find(ledger, message, command.transfer_id, {Status.VERIFICATION_REQUIRED})
    if transfer is None:
        return
    if _has_run_out(ledger, transfer):
        decide_verification_expired(ledger, message.lane, transfer)
        return
    tier = ledger.tier_for(transfer, ledger.accounts[transfer.payer])
    policy = tier.verification
    if (cooling := refuse_cooling(ledger, transfer, tier)) is not None:
        # The tries were used up by another of this payer's transfers.
        end_waiting(ledger, transfer)
        fail(ledger, message.lane, transfer, cooling)
    elif policy is not None and command.method not in policy.methods:
        detail = f"verified by {command.method}, which the policy does not accept"
        ledger.refuse(message, Refusal("state_conflict", field="method", detail=detail), transfer=transfer)
    elif command.outcome == "passed":
        transfer.verified = True
        ledger.clear_timer("verification", transfer.transfer_id)
        go_on(ledger, message.lane, transfer)
    else:
        _count_failed_try(ledger, message.lane, transfer)


def _has_run_out(ledger: Ledger, transfer: Transfer) -> bool:
    return transfer.verification_expires_at is not None and transfer.verification_expires_at <= ledger.now


def _count_failed_try(ledger: Ledger, lane: Lane, transfer: Transfer) -> None:
    transfer.attempts_left = max(0, (transfer.attempts_left or 0) - 1)
    if transfer.attempts_left:
        require_verification(ledger, lane, transfer, renewed=False)
        return
    payer = ledger.accounts[transfer.payer]
    policy = ledger.tier_of(payer).verification
    cooling_s = policy.cooling_s if policy else 0
    payer.verification_blocked_until = ledger.now + timedelta(seconds=cooling_s)
    ledger.reconfigured[payer.account_id] = payer
    end_waiting(ledger, transfer)
    fail(ledger, lane, transfer, Refusal("verification_failed", available_at=payer.verification_blocked_until))


def decide_verification_expired(ledger: Ledger, lane: Lane, transfer: Transfer) -> None:
    """End a transfer whose payer did not prove who they are in time."""
    end_waiting(ledger, transfer)
    fail(ledger, lane, transfer, Refusal("verification_expired"))


def decide_verification_resend(ledger: Ledger, message: Message, command: TransferVerificationResend) -> None:
    """Decide a `transfer.verification_resend`: asked for again with new time, a limited number of times."""
    transfer = _find(ledger, message, command.transfer_id, {Status.VERIFICATION_REQUIRED})
    if transfer is None:
        return
    if _has_run_out(ledger, transfer):
        decide_verification_expired(ledger, message.lane, transfer)
        return
    if ledger.tier_for(transfer, ledger.accounts[transfer.payer]).verification is None:
        # Its payer's tier asks for no proof any more.
        go_on(ledger, message.lane, transfer)
        return
    if not transfer.resends_left:
        ledger.refuse(message, Refusal("state_conflict", detail="no resend is left"), transfer=transfer)
        return
    transfer.resends_left -= 1
    require_verification(ledger, message.lane, transfer, renewed=True)


# --- Cancelling and resolving ---


def decide_cancel(ledger: Ledger, message: Message, command: TransferCancel) -> None:
    """Decide a `transfer.cancel`: possible until something moves; a bank has moved the money of a top-up already."""
    transfer = _find(ledger, message, command.transfer_id, WAITING)
    if transfer is None:
        return
    if transfer.kind == Kind.TOP_UP:
        detail = "the bank has handed over the money of a top-up"
        ledger.refuse(message, Refusal("state_conflict", detail=detail), transfer=transfer)
        return
    cancel(ledger, message.lane, transfer)


def decide_resolve(ledger: Ledger, message: Message, command: TransferResolve) -> None:
    """Decide a `transfer.resolve`: a person's word in the place of the bank's, where the bank gave none."""
    refund = ledger.refunds.get(command.transfer_id)
    transfer_id = refund.transfer_id if refund else command.transfer_id
    if refund is None:
        transfer = _find(ledger, message, transfer_id, AT_THE_BANK)
    else:
        transfer = ledger.transfers.get(transfer_id)
        if transfer is not None and payouts.is_stuck(refund) and command.outcome == "settled":
            payouts.complete_refund(ledger, message.lane, transfer, refund)
            return
        if transfer is not None and not payouts.is_open(transfer, refund):
            ledger.refuse(
                message, Refusal("state_conflict", detail=f"the refund is {refund.status}"), transfer=transfer
            )
            return
    if transfer is None:
        return
    if command.outcome == "settled":
        payouts.decide_settled(ledger, message.lane, transfer, refund)
    else:
        refusal = Refusal("rail_rejected", detail="decided by an operator")
        payouts.decide_failed(ledger, message.lane, transfer, refund, refusal)


def _find(ledger: Ledger, message: Message, transfer_id: UUID, statuses: Collection[str]) -> Transfer | None:
    transfer = ledger.transfers.get(transfer_id)
    if transfer is None:
        ledger.refuse(message, Refusal("transfer_unknown", field="transfer_id"), transfer_id=transfer_id)
        return None
    if transfer.status not in statuses:
        ledger.refuse(
            message, Refusal("state_conflict", detail=f"the transfer is {transfer.status}"), transfer=transfer
        )
        return None
    return transfer


# --- Quotes ---


def decide_quote(ledger: Ledger, message: Message, command: TransferQuote) -> None:
    """Decide a `transfer.quote`: what the same request would cost and come to now; nothing changes."""
    transfer = draft_transfer(message, command, command.quote_id, b"", ledger.now)
    check = climb(ledger, transfer, command.payee_name, today=True)
    late = Refusal("expired", field="expires_at") if is_late(ledger, transfer) else None
    refusal = check.refusal or late or refuse_cooling(ledger, transfer, check.tier)
    closed = None if refusal or needs_verification(transfer, check.tier) else refuse_closed(ledger, transfer)
    waits = closed is not None and waits_for(transfer, closed) is not None
    check = check._replace(refusal=refusal or (None if waits else closed))
    payer = ledger.accounts.get(command.payer)
    body: dict[str, Any] = {
        "quote_id": str(command.quote_id),
        "fee_minor": check.fee_minor,
        "spendable_minor": payer.spendable_minor if payer else 0,
        "limits_left": limits_left(ledger, payer, ledger.tier_for(transfer, payer).limits) if payer else {},
        "would": "hold" if waits else _outcome_of(transfer, check),
        "occurred_at": ledger.now_text,
    }
    if check.refusal is not None:
        body["reason"] = as_reason(check.refusal)
    headers = encode_headers(
        "transfer.quoted",
        id=f"quote.{command.quote_id}",
        source=SOURCE,
        time=ledger.now_text,
        subject=str(command.quote_id),
        correlation_id=message.correlation_id,
        traceparent=message.traceparent,
    )
    ledger.outgoing.append(Outgoing(message.lane, EVENTS, transfer.key.encode(), orjson.dumps(body), headers))


def _outcome_of(transfer: Transfer, check: Check) -> str:
    if check.refusal is not None:
        return "refuse"
    return "verify" if needs_verification(transfer, check.tier) else "settle"


# --- Batches ---


def decide_batch(ledger: Ledger, message: Message, command: TransferBatch) -> None:
    """Decide a `transfer.batch`, answered item by item; an atomic one starts all of its items or none."""
    if not command.atomic:
        for item in command.items:
            decide_request(ledger, message, item)
        return
    savepoint = ledger.savepoint([party for item in command.items for party in (item.payer, item.payee)])
    refusals = [decide_request(ledger, message, item) for item in command.items]
    if any(refusals):
        ledger.roll_back(savepoint)
        for item, refusal in zip(command.items, refusals, strict=True):
            _reject_item(ledger, message, item, refusal or Refusal("batch_rejected"))


def _reject_item(ledger: Ledger, message: Message, item: TransferRequest, refusal: Refusal) -> None:
    if item.transfer_id in ledger.transfers:
        decide_request(ledger, message, item)
        return
    transfer = draft_request(message, item, ledger.rules, ledger.now)
    name_customers(ledger, transfer)
    fail(ledger, message.lane, transfer, refusal)
