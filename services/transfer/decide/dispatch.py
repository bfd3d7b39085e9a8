"""Which rule decides which message or timer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from services.runtime.message import Cause
from services.transfer.decide import accounts, closing, commands, payouts, reports
from services.transfer.decide.keys import is_mis_keyed
from services.transfer.decide.refunds import decide_refund
from services.transfer.decide.requests import decide_request, expire, go_on
from services.transfer.model import (
    DRAIN_TIMER,
    RELEASE_TIMER,
    REPORT_TIMER,
    WAITING,
    Answer,
    Hold,
    Refund,
    Refusal,
    Status,
    Transfer,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.rail import PayoutFailed, PayoutReturned
    from services.runtime.message import Lane, Message, Timer
    from services.transfer.decide.ledger import Ledger

_Payout = tuple[Transfer, Refund | None]


def decide_message(ledger: Ledger, message: Message, draft: Transfer | None = None) -> None:
    """Decide one message of a batch, in its order; `draft` is what was made of a request beforehand."""
    ledger.cause = message
    if is_mis_keyed(ledger, message):
        ledger.mis_keyed[message.topic] += 1
    data: Any = message.data
    if message.type == "transfer.request":
        decide_request(ledger, message, data, draft)
    elif message.type == "account.open":
        accounts.decide_open(ledger, message, data)
    elif message.data is not None and message.type in REMEMBERED:
        commands.decide_once(ledger, message, message.data, REMEMBERED[message.type])
    else:
        _decide_result_once(ledger, message)


REMEMBERED: Final[dict[str, Callable[[Ledger, Message, Any], None]]] = {
    "transfer.batch": commands.decide_batch,
    "transfer.quote": commands.decide_quote,
    "transfer.verify": commands.decide_verify,
    "transfer.verification_resend": commands.decide_verification_resend,
    "transfer.cancel": commands.decide_cancel,
    "transfer.refund": decide_refund,
    "transfer.resolve": commands.decide_resolve,
    "account.configure": accounts.decide_configure,
    "account.restrict": accounts.decide_restrict,
    "account.release": accounts.decide_release,
    "account.close": closing.decide_close,
    "account.reinstate": closing.decide_reinstate,
    "account.finish": closing.decide_finish,
    "account.reopen": closing.decide_reopen,
    "accounts.report": reports.decide_report,
}
"""Commands that are remembered by an answer of their own."""


# --- What a bank answers ---


def _decide_result_once(ledger: Ledger, message: Message) -> None:
    """Decide what a bank says; the same record again is the same word, and asks for no answer."""
    key = commands.answer_key(message)
    if key is None or key in ledger.answers:
        return
    _decide_result(ledger, message)
    ledger.answers[key] = ledger.answered[key] = Answer(key, b"", None, None, None, None, ledger.now)


def _decide_result(ledger: Ledger, message: Message) -> None:
    data: Any = message.data
    found = _find_payout(ledger, data.transfer_id)
    if found is None:
        ledger.refuse(message, Refusal("transfer_unknown", field="transfer_id"), transfer_id=data.transfer_id)
        return
    transfer, refund = found
    if message.type == "payout.settled":
        payouts.decide_settled(ledger, message.lane, transfer, refund)
    elif message.type == "payout.failed":
        payouts.decide_failed(ledger, message.lane, transfer, refund, _failure(data))
    elif message.type == "payout.returned":
        payouts.decide_returned(ledger, message.lane, transfer, refund, _return(data))
    else:
        payouts.decide_unknown(ledger, message.lane, transfer, refund)


def _failure(data: PayoutFailed) -> Refusal:
    return payouts.bank_refusal(data.rail_code, data.detail)


def _return(data: PayoutReturned) -> Refusal:
    words = ": ".join(part for part in (data.rail_code, data.detail) if part) or None
    return Refusal("rail_returned", detail=words)


def _find_payout(ledger: Ledger, payout_id: UUID) -> _Payout | None:
    refund = ledger.refunds.get(payout_id)
    transfer = ledger.transfers.get(refund.transfer_id if refund else payout_id)
    if transfer is None or (refund is None and transfer.kind != "withdrawal"):
        return None
    return transfer, refund


# --- What is due ---


def decide_timer(ledger: Ledger, timer: Timer) -> None:
    """Decide one timer that is due; one whose subject has moved on does nothing."""
    ledger.cause = Cause()
    if timer.kind == RELEASE_TIMER:
        _release(ledger, timer.lane, Hold.of(timer.subject))
        return
    if timer.kind == DRAIN_TIMER:
        closing.decide_drain(ledger, timer.lane, timer.subject)
        return
    if timer.kind == REPORT_TIMER:
        reports.decide_slice(ledger, timer.lane, UUID(timer.subject))
        return
    if timer.kind.startswith("release_"):
        account = ledger.accounts.get(timer.subject)
        if account is not None:
            accounts.decide_restriction_ended(ledger, timer.lane, account, timer.kind.removeprefix("release_"))
        return
    found = _find_subject(ledger, timer)
    if found is None:
        return
    transfer, refund = found
    ledger.cause = transfer
    if timer.kind in _BANK_TIMERS:
        if payouts.is_open(transfer, refund):
            _BANK_TIMERS[timer.kind](ledger, timer.lane, transfer, refund)
    elif transfer.status in WAITING:
        _decide_waiting(ledger, timer, transfer)


def _release(ledger: Ledger, lane: Lane, hold: Hold) -> None:
    window = ledger.gate.closed.get(hold.window_id)
    if window is not None:
        ledger.look_for_release(lane, hold, window.ends_at)
        return
    # A change of the window may have set a second timer for the same: one of them is enough.
    released = ledger.releasing.pop(hold, ())
    for transfer_id in released:
        transfer = ledger.transfers[transfer_id]
        if transfer.status == Status.HELD:
            ledger.cause = transfer
            go_on(ledger, lane, transfer)
            ledger.tally(hold).released += 1
    if released:
        # There may be more than one batch should take.
        ledger.set_timer(lane, RELEASE_TIMER, hold.subject, ledger.now)


_BANK_TIMERS: Final = {"payout": payouts.decide_silence, "overdue": payouts.decide_overdue}


def _find_subject(ledger: Ledger, timer: Timer) -> _Payout | None:
    subject = UUID(timer.subject)
    # A refund may have the id of a transfer that waits.
    refund = ledger.refunds.get(subject) if timer.kind in _BANK_TIMERS else None
    transfer = ledger.transfers.get(refund.transfer_id if refund else subject)
    return None if transfer is None else (transfer, refund)


def _decide_waiting(ledger: Ledger, timer: Timer, transfer: Transfer) -> None:
    if timer.kind == "expire":
        expire(ledger, timer.lane, transfer)
    elif timer.kind == "execute" and transfer.status == Status.SCHEDULED:
        go_on(ledger, timer.lane, transfer)
    elif timer.kind == "verification" and transfer.status == Status.VERIFICATION_REQUIRED:
        commands.decide_verification_expired(ledger, timer.lane, transfer)
