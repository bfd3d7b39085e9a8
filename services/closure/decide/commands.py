"""Decides the commands about cases: what applicants, reviewers and customers say."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from services.closure.decide import accounts, cases
from services.closure.decide.cases import IDENTITY, approve, check_obligations, confirm, identify, resume
from services.closure.decide.draining import CANCELLED, name_account, pay_to_named, reinstate, turn_down
from services.closure.decide.rejecting import reject
from services.closure.model import BEFORE_DRAINING, ENDED, IN_REVIEW, Application, Case, Refusal, Status
from services.runtime.identity_hash import fold

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from schemas import closure as wire
    from services.closure.decide.book import Book
    from services.runtime.message import Lane, Message

_BANK: Final = "bank:"


def decide_request(book: Book, message: Message, request: wire.ClosureRequest) -> None:
    """Decide a `closure.request`: a new case, a repeat, or another content under a known id."""
    content_hash = book.hash_content(message.type, request)
    known = book.cases.get(request.case_id)
    if known is not None:
        if known.content_hash != content_hash:
            book.refuse(message, Refusal("duplicate_id_conflict", "case_id"))
        elif known.revision:
            book.publish_case(message.lane, known)
        return
    if request.payout is not None and not request.payout.payee.startswith(_BANK):
        book.refuse(message, Refusal("payout_account_invalid", "payout.payee", "the balance goes to a bank account"))
        return
    _receive(book, message, request, content_hash)


def _receive(book: Book, message: Message, request: wire.ClosureRequest, content_hash: bytes) -> None:
    case = Case(
        case_id=request.case_id,
        content_hash=content_hash,
        subject=request.subject,
        received_at=book.now,
        correlation_id=message.correlation_id,
        traceparent=message.traceparent,
        accepts_fee=request.accepts_fee,
        claimed_balance_minor=request.claimed_balance_minor,
    )
    other = book.open_case_of(case.subject)
    applicant, payout = request.applicant, request.payout
    book.apply(
        case,
        Application(
            applicant.name,
            applicant.id_number,
            applicant.phone,
            request.reason,
            payout.payee if payout else None,
            payout.payee_name if payout else None,
        ),
    )
    case.customer_id = owner_of(book, case)
    book.enter(case, Status.RECEIVED)
    if other is not None:
        reject(book, message.lane, case, "case_open", detail=str(other.case_id))
    elif case.customer_id is None:
        cases.ask_whose(book, message.lane, case)
    else:
        take_on(book, message.lane, case)


def owner_of(book: Book, case: Case) -> str | None:
    """Return whose a case's wallet or loan is, as far as that is known."""
    if case.is_loan:
        position = book.positions.get(case.obligation_id)
        return None if position is None else position.customer_id
    wallet = book.wallets.get(case.subject)
    return None if wallet is None else wallet.customer_id


def take_on(book: Book, lane: Lane, case: Case) -> None:
    """Begin with a case of a customer who is known."""
    if case.is_loan:
        case.currency = book.positions[case.obligation_id].currency
        if book.closing_of(case.subject) is not None:
            reject(book, lane, case, "subject_unknown", detail="the loan is closed")
            return
    else:
        wallet = book.wallets[case.subject]
        case.currency = wallet.currency
        if wallet.status == "closed":
            reject(book, lane, case, "subject_unknown", detail="the wallet is closed")
            return
    book.say(lane, case, "closure.received")
    identify(book, lane, case)


def decide_change(book: Book, message: Message, data: Any) -> None:
    """Decide a command about a case that is there already."""
    case = book.cases.get(data.case_id)
    if case is None:
        book.refuse(message, Refusal("case_unknown", "case_id"))
        return
    refusal = _CHANGES[message.type](book, message.lane, case, data)
    if refusal is not None:
        # Whoever looks at the case sees what was asked in vain.
        book.note(case, f"{message.type} refused: {refusal.code}")
        is_told = message.type == "closure.confirm" and case.status in _CONFIRMED_IN_VAIN
        book.refuse(message, refusal, case if is_told else None)


_CONFIRMED_IN_VAIN: Final = BEFORE_DRAINING | (ENDED - {Status.CLOSED})
"""Where a customer who confirms has to know that nothing comes of it; who confirms twice need not."""


def _conflict(case: Case) -> Refusal:
    return Refusal("state_conflict", detail=f"the case is {case.status}", is_final=case.status in ENDED)


def _correct(book: Book, lane: Lane, case: Case, command: wire.ClosureCorrect) -> Refusal | None:
    if case.status != Status.DOCUMENTS_REQUIRED:
        return _conflict(case)
    resume(book, case)
    said = command.applicant
    before = book.application_of(case)
    book.apply(case, replace(before, name=said.name, id_number=said.id_number, phone=said.phone))
    # A claim that is not made again is none any more.
    case.claimed_balance_minor = command.claimed_balance_minor
    identify(book, lane, case)
    return None


def _take_documents(book: Book, lane: Lane, case: Case, command: wire.ClosureDocuments) -> Refusal | None:
    if case.status != Status.DOCUMENTS_REQUIRED:
        return _conflict(case)
    resume(book, case)
    documents = tuple(one.model_dump(mode="json") for one in command.documents)
    before = book.application_of(case)
    book.apply(case, replace(before, documents=(*before.documents, *documents)))
    cases.review(book, lane, case, IDENTITY)
    return None


def _name_account(book: Book, lane: Lane, case: Case, command: wire.ClosurePayoutAccount) -> Refusal | None:
    if case.is_loan or case.status not in _TAKES_ACCOUNT:
        return _conflict(case)
    if not command.payee.startswith(_BANK):
        return Refusal("payout_account_invalid", "payee", "the balance goes to a bank account")
    is_looked_at = case.status in IN_REVIEW and case.review_of != IDENTITY
    if is_looked_at and not accounts.is_own(book, case, command.payee_name):
        # Whoever looks at a case decides about what they have seen.
        return Refusal("state_conflict", "payee_name", "a person looks at the case; name it when they have")
    name_account(book, lane, case, command.payee, command.payee_name)
    if case.status == Status.APPROVED and not accounts.judge(book, case):
        resume(book, case)
        cases.review(book, lane, case, accounts.OTHER_HOLDER)
    return None


_TAKES_ACCOUNT: Final = (BEFORE_DRAINING - {Status.RECEIVED}) | {
    Status.DRAINING,
    Status.PAYOUT_STOPPED,
    Status.PAYOUT_REVIEW,
}


def _review(book: Book, lane: Lane, case: Case, command: wire.ClosureReview) -> Refusal | None:
    if case.status not in IN_REVIEW:
        return _conflict(case)
    if command.decision == "approve" and fold(command.reviewer) in map(fold, case.approved_by):
        return Refusal("reviewer_must_differ", "reviewer", "this reviewer has approved it; another one has to")
    before = book.application_of(case)
    book.apply(case, replace(before, reviews=(*before.reviews, command.model_dump(mode="json", exclude={"case_id"}))))
    if command.decision == "reject":
        if case.status == Status.PAYOUT_REVIEW:
            turn_down(book, lane, case)
        else:
            reject(book, lane, case, "review_rejected")
        return None
    case.approved_by.append(command.reviewer)
    if len(case.approved_by) < cases.eyes_needed(book, case):
        book.note(case, "approved_by_one")
        return None
    if case.status == Status.PAYOUT_REVIEW:
        pay_to_named(book, lane, case)
        return None
    is_identity, case.review_of = case.review_of == IDENTITY, None
    if not is_identity:
        accounts.accept(book, case)
        approve(book, lane, case)
        return None
    case.approved_by.clear()
    # Whoever looked at it knows the applicant better than a claim does.
    case.claimed_balance_minor = None
    check_obligations(book, lane, case)
    return None


def _confirm(book: Book, lane: Lane, case: Case, _command: wire.ClosureConfirm) -> Refusal | None:
    if case.status != Status.APPROVED or case.expires_at is None or case.expires_at <= book.now:
        return _conflict(case)
    if case.balance_minor > case.fee_minor and book.application_of(case).named is None:
        return Refusal("payout_account_missing", detail="name one with closure.payout_account")
    confirm(book, lane, case)
    return None


_CALLED_OFF: Final = frozenset({Status.DRAINING, Status.PAYOUT_STOPPED, Status.PAYOUT_REVIEW})
"""Where a case still can be called off, unless something was paid."""


def _cancel(book: Book, lane: Lane, case: Case, _command: wire.ClosureCancel) -> Refusal | None:
    if case.clearance_id is not None:
        return Refusal("state_conflict", detail="a clearance is not called off by a customer")
    if case.status in BEFORE_DRAINING:
        resume(book, case)
        book.enter(case, Status.CANCELLED)
        book.say(lane, case, "closure.cancelled")
        return None
    if case.status in _CALLED_OFF and not (case.paid_minor or case.fee_paid_minor):
        reinstate(book, lane, case, CANCELLED)
        return None
    return _conflict(case)


_CHANGES: Final[Mapping[str, Callable[[Book, Lane, Case, Any], Refusal | None]]] = {
    "closure.correct": _correct,
    "closure.documents": _take_documents,
    "closure.payout_account": _name_account,
    "closure.review": _review,
    "closure.confirm": _confirm,
    "closure.cancel": _cancel,
}
