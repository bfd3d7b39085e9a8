"""Decides how a wallet is emptied and ended: draining, payout, finishing, erasing; and how a loan is."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import orjson

from schemas.fields import as_text
from schemas.reasons import FOR_A_WHILE
from services.closure.decide import accounts, reports
from services.closure.decide.erasing import begin_erasing, kept_of, why_deferred
from services.closure.decide.rejecting import reject
from services.closure.model import RESIDUE_TIMER, RETRY_TIMER, Case, Status, payout_id
from services.runtime.calendar import business_date

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from schemas.transfer import TransferEvent
    from services.closure.decide.book import Book
    from services.runtime.message import Lane

AMOUNT: Final = "amount"
"""What a person looks at where a balance is large."""
FEES: Final = "platform:fees"


def drain(book: Book, lane: Lane, case: Case) -> None:
    """Have the wallet take nothing new, and wait for what is under way."""
    case.reported = {}
    book.enter(case, Status.DRAINING)
    book.say(lane, case, "closure.draining")
    book.order(lane, case, "account.close", close_command_id(case), {"account_id": case.subject})


def close_command_id(case: Case) -> str:
    """Return the id of the command that has a wallet take nothing new, which a refusal of it names."""
    return f"{case.case_id}.close"


def decide_drained(book: Book, lane: Lane, case: Case, posted_minor: int, currency: str) -> None:
    """Go on with a wallet in which nothing is under way any more: pay out what it holds, or finish it."""
    if case.status not in _EMPTYING:
        return
    case.balance_minor, case.currency = posted_minor, currency
    book.change(case)
    if case.status == Status.DRAINING:
        # From now on nothing comes in from the customer's other wallets: what those hold now is what counts.
        if not case.awaits_reports and (posted_minor < 0 or not reports.ask_others(book, lane, case)):
            go_on_drained(book, lane, case)
    elif posted_minor == 0:
        if case.status == Status.PAYING_OUT:
            _finish(book, lane, case)
    elif case.status in {Status.PAYOUT_STOPPED, Status.PAYOUT_REVIEW}:
        if case.refusal is None:
            pay(book, lane, case)
    elif not (case.status == Status.PAYING_OUT and case.owes_payout):
        # More has come in, by a refund: the rest follows.
        pay(book, lane, case)


def go_on_drained(book: Book, lane: Lane, case: Case) -> None:
    """Pay out or finish a wallet, unless one of its holder's is below zero."""
    if reports.below_zero(book, case):
        reinstate(book, lane, case, "obligation_open")
    elif case.balance_minor == 0:
        _finish(book, lane, case)
    else:
        pay(book, lane, case)


def _why_looked_at(book: Book, case: Case, amount_minor: int) -> Iterator[str]:
    """Say why a person has to look at a case before anything more is paid out."""
    if amount_minor and _needs_more_eyes(book, case):
        yield AMOUNT
    if amount_minor and not accounts.judge(book, case):
        yield accounts.OTHER_HOLDER


def _needs_more_eyes(book: Book, case: Case) -> bool:
    """Whether more persons have to look at what a wallet held than at what was approved."""
    rules = book.policy.review
    return case.clearance_id is None and any(
        reaches(limits, case.currency, case.total_minor) and not reaches(limits, case.currency, case.reviewed_minor)
        for limits in (rules.person_from_minor, rules.four_eyes_from_minor)
    )


def reaches(limits: Mapping[str, int], currency: str | None, balance_minor: int) -> bool:
    """Whether a balance is at least the limit of its currency; without one, anything is."""
    limit_minor = limits.get(currency or "")
    return balance_minor > 0 if limit_minor is None else balance_minor >= limit_minor


_EMPTYING: Final = frozenset(
    {Status.DRAINING, Status.PAYING_OUT, Status.PAYOUT_STOPPED, Status.PAYOUT_REVIEW, Status.FINISHING}
)


def pay(book: Book, lane: Lane, case: Case) -> None:
    """Send what a wallet holds, less the fee, to the account that was judged; then take the fee.

    One that was named since is judged now: where a person has to look at it, or at how much it has become, the payout
    waits for that.
    """
    amount_minor = _left_to_pay(case)
    if why := ", ".join(_why_looked_at(book, case, amount_minor)):
        _have_looked_at(book, lane, case, why)
        return
    case.review_of = None
    account = book.application_of(case).judged if amount_minor else None
    if amount_minor and account is None:
        _want_account(book, lane, case, amount_minor)
        return
    case.payouts += 1
    case.payout_minor = amount_minor
    case.refusal = None
    if case.status != Status.PAYING_OUT:
        book.enter(case, Status.PAYING_OUT)
    if account is None:
        # It is taken last: a closing that is called off because its payout fails costs nothing.
        _request(book, lane, case, str(case.fee_id), kind="fee", payee=FEES, amount_minor=case.balance_minor)
    else:
        payout = {"payee": account.payee, "payee_name": account.payee_name}
        _request(book, lane, case, str(case.payout_id), kind="withdrawal", amount_minor=amount_minor, **payout)
        transfer = {"transfer_id": str(case.payout_id), "payee": account.payee}
        book.say(lane, case, "closure.paying_out", payout_minor=amount_minor, currency=case.currency, **transfer)
    book.change(case)


def _left_to_pay(case: Case) -> int:
    """Return what a wallet holds beyond the rest of the fee."""
    return case.balance_minor - min(case.fee_minor - case.fee_paid_minor, case.balance_minor)


def _request(book: Book, lane: Lane, case: Case, transfer_id: str, **order: Any) -> None:
    order = {name: value for name, value in order.items() if value is not None}
    body = {"transfer_id": transfer_id, "payer": case.subject, "currency": case.currency, **order}
    book.order(lane, case, "transfer.request", _request_id(case), body)


def _request_id(case: Case) -> str:
    """Return the id of the command that asked for the latest payout or fee, which a refusal of it names."""
    return f"{case.case_id}.pay.{case.payouts}"


def decide_not_asked(book: Book, lane: Lane, case: Case, command_id: str) -> None:
    """Ask once more, under the next id, where somebody else has used the latest payout's for a transfer of theirs."""
    if case.status == Status.PAYING_OUT and command_id == _request_id(case):
        pay(book, lane, case)


def _want_account(book: Book, lane: Lane, case: Case, amount_minor: int) -> None:
    case.refusal = "payout_account_missing"
    book.enter(case, Status.PAYOUT_STOPPED, case.refusal)
    payout = {"payout_minor": amount_minor, "currency": case.currency}
    book.say(lane, case, "closure.payout_account_required", **payout, deadline=_deadline_of(book, case))


def _deadline_of(book: Book, case: Case) -> str | None:
    """Return until when a clearance waits for an account; nothing once that has passed, or without a clearance."""
    at = case.expires_at if case.clearance_id is not None else None
    return as_text(at) if at is not None and at > book.now else None


def _have_looked_at(book: Book, lane: Lane, case: Case, why: str) -> None:
    """Have a person look at a case before anything is paid; the wallet stays as it is until then."""
    case.refusal = case.review_of = why
    if case.status == Status.PAYOUT_REVIEW:
        book.note(case, why)
        return
    case.approved_by.clear()
    book.enter(case, Status.PAYOUT_REVIEW, case.review_of)
    book.say(lane, case, "closure.in_review")


def pay_to_named(book: Book, lane: Lane, case: Case) -> None:
    """Pay to the account that a case waits with: a person has looked at that, and at how much it is."""
    case.reviewed_minor = case.total_minor
    accounts.accept(book, case)
    pay(book, lane, case)


def turn_down(book: Book, lane: Lane, case: Case) -> None:
    """Ask for another account in place of the one that a person has turned down, or give back what is too much."""
    if accounts.OTHER_HOLDER in (case.review_of or ""):
        want_another(book, lane, case)
    else:
        reinstate(book, lane, case, "review_rejected")


def want_another(book: Book, lane: Lane, case: Case) -> None:
    """Ask for another account in place of the one that a person has turned down."""
    case.review_of = None
    accounts.turn_down(book, case)
    _want_account(book, lane, case, _left_to_pay(case))


# --- What became of a payout ---


def decide_transfer(book: Book, lane: Lane, case: Case, type_: str, data: TransferEvent) -> None:
    """Take note of what became of a payout or a fee that a case asked for."""
    if data.payer != case.subject:
        # Somebody else's, under an id that they foresaw.
        return
    if data.transfer_id == case.fee_id:
        _decide_fee(book, lane, case, type_, data.amount_minor)
        return
    number = case.number_of(data.transfer_id)
    if number is None:
        return
    if type_ == "transfer.settled":
        if number == case.payouts and number not in case.paid_numbers:
            case.paid_numbers.append(number)
            case.paid_minor += data.amount_minor
            book.change(case)
    elif type_ in _UNDONE:
        _take_back(book, lane, case, number, data)


_UNDONE: Final = frozenset({"transfer.failed", "transfer.refunded", "transfer.cancelled", "transfer.expired"})


def _decide_fee(book: Book, lane: Lane, case: Case, type_: str, amount_minor: int) -> None:
    if type_ == "transfer.settled" and case.fee_paid_number != case.payouts:
        case.fee_paid_number = case.payouts
        case.fee_paid_minor += amount_minor
    elif type_ in _UNDONE:
        # A closing is not stopped by its own fee: what cannot be taken is let go.
        case.fee_minor = case.fee_paid_minor
        if case.status == Status.PAYING_OUT and not case.payout_minor:
            # There was nothing else to wait for.
            pay(book, lane, case)
    book.change(case)


def _take_back(book: Book, lane: Lane, case: Case, number: int, data: TransferEvent) -> None:
    was_paid = number in case.paid_numbers
    if was_paid:
        case.paid_numbers.remove(number)
        case.paid_minor -= data.amount_minor
        book.change(case)
    # Where another payout or the fee is under way, what came back is paid once more after it.
    is_waiting = number == case.payouts or (was_paid and not case.owes_payout)
    if case.status in {Status.PAYING_OUT, Status.FINISHING} and is_waiting:
        _stop(book, lane, case, data)
    elif was_paid and case.status in {Status.ERASING, Status.CLOSED}:
        book.note(case, "payout_returned")
        found = f"payout {data.transfer_id} came back"
        book.say(lane, case, "closure.discrepancy", expected="the balance was paid out", found=found)


def _stop(book: Book, lane: Lane, case: Case, data: TransferEvent) -> None:
    reason: Any = data.reason
    code = data.status if reason is None else reason.code
    case.refusal = code
    book.enter(case, Status.PAYOUT_STOPPED, code)
    if code in FOR_A_WHILE:
        at: datetime = reason.available_at or book.now + _next_try_after(book, case)
        book.set_timer(lane, RETRY_TIMER, case.case_id, max(at, book.now + timedelta(seconds=1)))
        return
    judged = book.application_of(case).judged
    book.say(
        lane,
        case,
        "closure.payout_failed",
        transfer_id=str(data.transfer_id),
        payout_minor=data.amount_minor,
        currency=case.currency,
        payee=None if judged is None else judged.payee,
        expires_at=_deadline_of(book, case),
        reason=_EXPLAINED if reason is None else reason.model_dump(mode="json", exclude_none=True),
    )


def _next_try_after(book: Book, case: Case) -> timedelta:
    rules = book.policy.payout
    tries = case.payouts - max(case.paid_numbers, default=0)
    # Beyond some tries it is the latest anyway.
    return timedelta(seconds=min(rules.retry_after_s * 2 ** min(tries - 1, 30), rules.retry_at_latest_s))


def decide_released(book: Book, lane: Lane, case: Case) -> None:
    """Try a payout again that a restriction refused which has ended."""
    if case.status == Status.PAYOUT_STOPPED and case.refusal == "account_restricted":
        try_again(book, lane, case)


_EXPLAINED: Final = {"code": "rail_returned", "iso20022": "MS03", "retryable": True, "refund": "automatic"}


def name_account(book: Book, lane: Lane, case: Case, payee: str, payee_name: str) -> None:
    """Take note of where the balance goes; a case that waits for that goes on."""
    accounts.name(book, case, payee, payee_name)
    if case.status == Status.ACCOUNT_WANTED:
        drain(book, lane, case)
    elif case.status == Status.PAYOUT_STOPPED:
        try_again(book, lane, case)
    elif case.status == Status.PAYOUT_REVIEW:
        # Where it is the customer's own, nobody has to look at that any more.
        pay(book, lane, case)


def try_again(book: Book, lane: Lane, case: Case) -> None:
    """Pay out once more; where what came back is not booked yet, as soon as that is heard of."""
    book.clear_timers(case.case_id, (RETRY_TIMER,))
    case.refusal = None
    book.change(case)
    if case.balance_minor > 0:
        pay(book, lane, case)


# --- Called off ---


def reinstate(book: Book, lane: Lane, case: Case, why: str) -> None:
    """Have the wallet take movements again; the case ends when it does."""
    book.clear_timers(case.case_id, (RETRY_TIMER,))
    case.refusal = why
    book.enter(case, Status.REINSTATING, why)
    book.order(lane, case, "account.reinstate", reinstate_command_id(case), {"account_id": case.subject})


def reinstate_command_id(case: Case) -> str:
    """Return the id of the command that has a wallet take movements again, which a refusal of it names."""
    return f"{case.case_id}.reinstate"


CANCELLED: Final = "cancelled"


def decide_reinstated(book: Book, lane: Lane, case: Case) -> None:
    """End a case whose wallet takes movements again."""
    if case.status != Status.REINSTATING:
        return
    if case.refusal == CANCELLED:
        book.enter(case, Status.CANCELLED)
        book.say(lane, case, "closure.cancelled")
        return
    owed = reports.below_zero(book, case) if case.refusal == "obligation_open" else []
    reject(book, lane, case, case.refusal, obligations=owed)


# --- The end ---


def _finish(book: Book, lane: Lane, case: Case) -> None:
    book.enter(case, Status.FINISHING)
    id_ = f"{case.case_id}.finish.{case.step_count}"
    book.order(lane, case, "account.finish", id_, {"account_id": case.subject})


def decide_closed(book: Book, lane: Lane, case: Case) -> None:
    """Erase the holder of a wallet that is closed, or say why that has to wait."""
    if case.status == Status.FINISHING:
        _end(book, lane, case)


def close_loan(book: Book, lane: Lane, case: Case) -> None:
    """Tell lending and the credit registry that a loan is closed, and end its case."""
    book.say(lane, case, "loan.disabled")
    book.say(lane, case, "credit.status_changed", status="closed")
    _end(book, lane, case)


def _end(book: Book, lane: Lane, case: Case) -> None:
    receipt = _receipt(book, case)
    profile = book.customer_of(case).profile
    if case.id_number_hash is None and profile is not None:
        # Nobody applied with one; this is who has to come back, if anybody does.
        case.id_number_hash = profile.id_number_hash
    case.receipt_sha256 = hashlib.sha256(orjson.dumps(receipt, option=orjson.OPT_SORT_KEYS)).hexdigest()
    why = why_deferred(book, case)
    if why is None:
        book.enter(case, Status.ERASING)
        book.say(lane, case, "closure.erasing", receipt=receipt)
        # Who has not answered by then is named.
        look_later(book, lane, case)
        begin_erasing(book, lane, case)
        return
    case.erasure = "deferred"
    close(book, lane, case, why=why, receipt=receipt)


def close(book: Book, lane: Lane, case: Case, why: str | None = None, **extra: Any) -> None:
    """End a case; it is looked at once more later."""
    look_later(book, lane, case)
    case.refusal = None
    book.enter(case, Status.CLOSED, why)
    said = {"receipt_sha256": case.receipt_sha256, "erasure": case.erasure, "why": why}
    book.say(lane, case, "closure.closed", **said, **extra)


def look_later(book: Book, lane: Lane, case: Case) -> None:
    """Have it looked for what a closing left."""
    due_at = book.now + timedelta(seconds=book.policy.residue.check_after_s)
    book.set_timer(lane, RESIDUE_TIMER, case.case_id, due_at)


def _receipt(book: Book, case: Case) -> dict[str, Any]:
    today = business_date(book.now)
    paid_minor = case.paid_minor
    receipt: dict[str, Any] = {
        "number": f"R-{today:%Y%m%d}-{case.case_id.hex[:12].upper()}",
        "subject": case.subject,
        "balance_minor": paid_minor + case.fee_paid_minor,
        "fee_minor": case.fee_paid_minor,
        "payout_minor": paid_minor,
        "currency": case.currency,
        "finished_at": as_text(book.now),
        "retained": [
            {"what": kept.what, "why": kept.why, "until": (today + timedelta(days=kept.days)).isoformat()}
            for kept in kept_of(book, case.customer_id or "")
        ],
    }
    judged = book.application_of(case).judged
    if case.paid_numbers and judged is not None:
        receipt |= {"payee": judged.payee, "transfer_id": str(payout_id(case.case_id, case.paid_numbers[-1]))}
    return receipt
