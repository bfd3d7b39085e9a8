"""Decides applications to come back: who applies for what was closed, when that may be, and what answers make of it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson

from schemas.fields import as_text
from schemas.reasons import REMEDIES
from services.closure.decide import cases
from services.closure.identity import Applicant, compare, parse_id_number
from services.closure.model import ASSESS_TIMER, Refusal, Reopening, ReopeningStatus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from schemas import closure as wire
    from schemas.reasons import ClosingCode
    from services.closure.decide.book import Book
    from services.closure.model import Case
    from services.runtime.message import Lane, Message

_Reason = dict[str, Any]


# --- The application ---


def decide_reopen(book: Book, message: Message, request: wire.ClosureReopen) -> None:
    """Decide a `closure.reopen`: a new application, a repeat, or another content under a known id."""
    content_hash = book.hash_content(message.type, request)
    known = book.reopenings.get(request.request_id)
    if known is not None:
        if known.content_hash != content_hash:
            book.refuse(message, Refusal("duplicate_id_conflict", "request_id"))
        elif known.revision:
            _publish(book, message.lane, known)
        return
    closing = book.closing_of(request.subject)
    reopening = Reopening(
        request_id=request.request_id,
        content_hash=content_hash,
        subject=request.subject,
        received_at=book.now,
        customer_id=None if closing is None else closing.customer_id,
        case_id=None if closing is None else closing.case_id,
        correlation_id=message.correlation_id,
        traceparent=message.traceparent,
    )
    reasons = list(_reasons(book, request, closing))
    if closing is None or reasons:
        _refuse(book, message.lane, reopening, reasons)
    elif closing.is_loan:
        _ask_assessment(book, message.lane, reopening)
    else:
        _order(book, message.lane, reopening, closing)


def _reasons(book: Book, request: wire.ClosureReopen, closing: Case | None) -> Iterator[_Reason]:
    """Say all that stands against an application; what is owed only to whom it is known to be."""
    busy = _busy_with(book, request.subject, closing)
    if busy is not None:
        yield _reason("case_open", detail=busy)
        return
    if closing is None or closing.customer_id is None or not _is_closed(book, closing):
        yield _reason("subject_unknown", detail="nothing of it was closed, or it is open again")
        return
    may_from = (closing.ended_at or book.now) + timedelta(seconds=book.policy.reopening.cooling_s)
    if may_from > book.now:
        yield _reason("cooling_period", available_at=as_text(may_from))
    wrong = list(_mismatches(book, request.applicant, closing))
    yield from wrong
    if not wrong:
        yield from _owed(book, closing)


def _busy_with(book: Book, subject: str, closing: Case | None) -> str | None:
    """Return what is still to end before anything of a subject or its owner can be opened."""
    open_case = book.open_case_of(subject)
    if open_case is not None:
        return str(open_case.case_id)
    pending = next((one for one in book.reopenings.values() if one.subject == subject and one.is_pending), None)
    if pending is not None:
        return str(pending.request_id)
    # Whoever is being forgotten comes back when that is done: it would take what they bring with them.
    owner = "" if closing is None else closing.customer_id or ""
    forgetting = next((one for one in book.cases_of(owner) if one.is_forgetting), None)
    return None if forgetting is None else str(forgetting.case_id)


def _is_closed(book: Book, closing: Case) -> bool:
    wallet = book.wallets.get(closing.subject)
    return closing.is_loan or (wallet is not None and wallet.status == "closed")


def _mismatches(book: Book, said: wire.Applicant, closing: Case) -> Iterator[_Reason]:
    """Compare with the profile of now, and with whom it was closed for: no id passes to another person."""
    applicant = Applicant(said.name, said.id_number, said.phone)
    codes = [one.code for one in compare(applicant, book.customer_of(closing).profile, book.rules.hashes)]
    # Each code once: a profile may lack more than one thing.
    for code in dict.fromkeys(codes):
        yield _reason(code)
    number = parse_id_number(said.id_number)
    if closing.id_number_hash is None:
        # Nobody can show that it was theirs; a person has to find out.
        yield _reason("id_number_mismatch", remedy="contact_support", detail="no ID number was known at the closing")
    elif (
        number is not None
        and book.rules.hashes.id_number(number.text) != closing.id_number_hash
        and "id_number_mismatch" not in codes
    ):
        yield _reason("id_number_mismatch", detail="another than at the closing")


def _owed(book: Book, closing: Case) -> Iterator[_Reason]:
    owed = cases.owed_by(book, closing)
    if owed:
        yield _reason("obligation_open", detail=f"{len(owed)} still open")


def _reason(code: ClosingCode, *, remedy: str | None = None, **more: str) -> _Reason:
    return {"code": code, "remedy": remedy or REMEDIES[code][0], **more}


# --- A wallet: the transfer service opens it ---


def _order(book: Book, lane: Lane, reopening: Reopening, closing: Case) -> None:
    reopening.status = ReopeningStatus.REOPENING
    _change(book, reopening)
    id_ = _order_id(reopening)
    book.order(lane, closing, "account.reopen", id_, {"account_id": closing.subject})


def _order_id(reopening: Reopening) -> str:
    """Return the id of the order, which a refusal names; it begins with the closing, as those of its case do."""
    return f"{reopening.case_id}.reopen.{reopening.request_id}"


def decide_reopened(book: Book, lane: Lane, closing: Case) -> None:
    """Take note that a wallet takes movements again."""
    for reopening in _waiting_for_wallet(book, closing):
        _reopen(book, lane, reopening)


def decide_not_reopened(book: Book, lane: Lane, closing: Case, command_id: str) -> None:
    """End an application whose wallet the transfer service would not open."""
    for reopening in _waiting_for_wallet(book, closing):
        if _order_id(reopening) == command_id:
            _refuse(book, lane, reopening, [_reason("subject_unknown", detail="the wallet cannot be opened")])


def _waiting_for_wallet(book: Book, closing: Case) -> list[Reopening]:
    pending = book.pending_reopenings_of(closing.customer_id or "")
    return [one for one in pending if one.case_id == closing.case_id and one.status == ReopeningStatus.REOPENING]


# --- A loan: the credit system assesses anew ---


def _ask_assessment(book: Book, lane: Lane, reopening: Reopening) -> None:
    reopening.status = ReopeningStatus.ASSESSING
    reopening.expires_at = book.now + timedelta(seconds=book.policy.reopening.assess_within_s)
    book.set_timer(lane, ASSESS_TIMER, reopening.request_id, reopening.expires_at)
    _say(book, lane, reopening, "assessment.requested")


def decide_answer(book: Book, message: Message, answer: wire.AssessmentAnswered) -> None:
    """Decide an `assessment.answered`: the first that comes in time counts."""
    reopening = book.reopenings.get(answer.request_id)
    if reopening is None:
        book.refuse(message, Refusal("request_unknown", "request_id"))
        return
    if reopening.status != ReopeningStatus.ASSESSING or _is_late(book, reopening):
        book.refuse(message, Refusal("state_conflict", detail=f"the application is {reopening.status}"))
        return
    book.clear_timers(reopening.request_id, (ASSESS_TIMER,))
    reasons = list(_reasons_by_now(book, reopening, answer))
    if reasons:
        _refuse(book, message.lane, reopening, reasons)
        return
    closing = _closing(book, reopening)
    currency = None if answer.limit_minor is None else answer.currency or (closing and closing.currency)
    # The limit of before is never looked at: it is not promised.
    _reopen(book, message.lane, reopening, limit_minor=answer.limit_minor, currency=currency)


def _is_late(book: Book, reopening: Reopening) -> bool:
    return reopening.expires_at is not None and reopening.expires_at <= book.now


def _reasons_by_now(book: Book, reopening: Reopening, answer: wire.AssessmentAnswered) -> Iterator[_Reason]:
    """Say what has come up while the credit system looked."""
    if not answer.approved:
        yield _reason("assessment_refused")
        return
    closing = _closing(book, reopening)
    if book.customers[reopening.customer_id or ""].profile is None:
        yield _reason("profile_missing")
    elif closing is not None:
        yield from _owed(book, closing)


def _closing(book: Book, reopening: Reopening) -> Case | None:
    return None if reopening.case_id is None else book.cases.get(reopening.case_id)


def decide_not_assessed(book: Book, lane: Lane, request_id: UUID) -> None:
    """End an application that the credit system did not answer in time."""
    reopening = book.reopenings.get(request_id)
    if reopening is not None and reopening.status == ReopeningStatus.ASSESSING and _is_late(book, reopening):
        _refuse(book, lane, reopening, [_reason("assessment_missing")])


# --- What is said ---


def _reopen(book: Book, lane: Lane, reopening: Reopening, **extra: Any) -> None:
    reopening.status = ReopeningStatus.REOPENED
    reopening.expires_at = None
    _say(book, lane, reopening, "closure.reopened", **extra)


def _refuse(book: Book, lane: Lane, reopening: Reopening, reasons: list[_Reason]) -> None:
    reopening.status = ReopeningStatus.REFUSED
    reopening.expires_at = None
    _say(book, lane, reopening, "closure.reopen_refused", reasons=reasons)


def _say(book: Book, lane: Lane, reopening: Reopening, type_: str, **extra: Any) -> None:
    reopening.revision += 1
    reopening.event_type = type_
    reopening.occurred_at = book.now
    body: dict[str, Any] = {"request_id": str(reopening.request_id), "subject": reopening.subject}
    body |= {} if reopening.case_id is None else {"case_id": str(reopening.case_id)}
    body |= {} if reopening.customer_id is None else {"customer_id": reopening.customer_id}
    body |= {"revision": reopening.revision, "occurred_at": book.now_text}
    reopening.event_body = orjson.dumps(body | {name: one for name, one in extra.items() if one is not None})
    _change(book, reopening)
    _publish(book, lane, reopening)


def _change(book: Book, reopening: Reopening) -> None:
    book.reopenings[reopening.request_id] = book.changed_reopenings[reopening.request_id] = reopening


def _publish(book: Book, lane: Lane, reopening: Reopening) -> None:
    book.publish(lane, reopening.subject, reopening.request_id, reopening)
