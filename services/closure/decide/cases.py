"""Decides how a case goes on, from an application to the confirmation: identity, obligations, policy, review."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from schemas.fields import as_text
from schemas.reasons import REMEDIES
from services.closure.decide import accounts, reports
from services.closure.decide.draining import AMOUNT, close_loan, drain, reaches
from services.closure.decide.rejecting import WAITING_TIMERS, reject
from services.closure.identity import Applicant, compare, parse_id_number
from services.closure.model import (
    EXPIRE_TIMER,
    LOOK_TIMER,
    Case,
    Position,
    Status,
)
from services.runtime.calendar import business_date

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from services.closure.decide.book import Book
    from services.closure.model import Application
    from services.runtime.message import Lane

BALANCE_MISMATCH: Final = "balance_mismatch"
IDENTITY: Final = "identity"
"""What a person looks at where an application's details did not fit, or documents came."""


# --- Whose it is ---


def ask_whose(book: Book, lane: Lane, case: Case) -> None:
    """Find out whose a wallet or loan is that nothing was heard of yet: it may have been opened a moment ago."""
    if case.is_loan:
        look_soon(book, lane, case)
    else:
        reports.ask_report(book, lane, case)


# --- Identity ---


def identify(book: Book, lane: Lane, case: Case) -> None:
    """Compare what an applicant says with their profile; every mismatch is named at once."""
    book.enter(case, Status.IDENTITY)
    application = book.application_of(case)
    number = parse_id_number(application.id_number)
    case.id_number_hash = None if number is None else book.rules.hashes.id_number(number.text)
    profile = book.customer_of(case).profile
    mismatches = compare(_applicant(application), profile, book.rules.hashes)
    if not mismatches:
        check_obligations(book, lane, case)
        return
    items = [{"code": one.code, "field": one.field, "remedy": _remedy(one.code, case)} for one in mismatches]
    ask_documents(book, lane, case, items)


def _applicant(application: Application) -> Applicant:
    return Applicant(application.name, application.id_number, application.phone)


def _remedy(code: Any, case: Case) -> str:
    remedies = REMEDIES[code]
    return remedies[min(case.attempts, len(remedies) - 1)]


def ask_documents(book: Book, lane: Lane, case: Case, items: Sequence[dict[str, str]]) -> None:
    """Say what is wrong and what would mend it; after so many times, a person looks at it."""
    case.attempts += 1
    case.refusal = items[0]["code"]
    if case.attempts >= book.policy.identity.attempts:
        review(book, lane, case, IDENTITY)
        return
    case.expires_at = book.now + timedelta(seconds=book.policy.identity.answer_within_s)
    book.set_timer(lane, EXPIRE_TIMER, case.case_id, case.expires_at)
    book.enter(case, Status.DOCUMENTS_REQUIRED, ", ".join(item["code"] for item in items))
    book.say(lane, case, "closure.documents_required", items=items, expires_at=as_text(case.expires_at))


def look_at_profile(book: Book, lane: Lane, case: Case) -> None:
    """Compare again because the profile has changed; a case that would still wait says nothing."""
    if case.status != Status.DOCUMENTS_REQUIRED or case.refusal == BALANCE_MISMATCH or case.customer_id is None:
        return
    application = book.application_of(case)
    if not compare(_applicant(application), book.customer_of(case).profile, book.rules.hashes):
        resume(book, case)
        identify(book, lane, case)


_LOOKED_AT: Final = frozenset({Status.OBLIGATIONS, Status.IN_FLIGHT, Status.REVIEW, Status.APPROVED})
"""It was found who applies, and they have not confirmed yet."""


def look_at_person(book: Book, lane: Lane, case: Case) -> None:
    """Have a person look at a case whose customer has got another name or ID number since it was found who applies."""
    if case.status not in _LOOKED_AT or case.clearance_id is not None:
        return
    mismatches = compare(_applicant(book.application_of(case)), book.customer_of(case).profile, book.rules.hashes)
    if not {one.code for one in mismatches} & _OF_A_PERSON:
        return
    # An account that was theirs by the name of before is judged anew.
    book.apply(case, replace(book.application_of(case), judged=None))
    look_again(book, lane, case, IDENTITY)


_OF_A_PERSON: Final = frozenset({"name_mismatch", "id_number_mismatch"})


def look_at_risk(book: Book, lane: Lane, case: Case) -> None:
    """Have a person look at a case that was approved, or is being, before its customer was flagged."""
    if case.status in {Status.REVIEW, Status.APPROVED} and case.clearance_id is None and is_flagged(book, case):
        look_again(book, lane, case, RISK)


def look_again(book: Book, lane: Lane, case: Case, why: str) -> None:
    """Have a person look at what has come up since a case was looked at; approvals of before count no more."""
    resume(book, case)
    if case.status != Status.REVIEW:
        review(book, lane, case, why)
        return
    # A review of who applies comes before all others: what is known by then decides whether they follow.
    is_identity = IDENTITY in {why, case.review_of}
    case.review_of = IDENTITY if is_identity else ", ".join(dict.fromkeys([*(case.review_of or "").split(", "), why]))
    case.approved_by.clear()
    book.note(case, f"looked at again: {why}")


def resume(book: Book, case: Case) -> None:
    """Have a case wait for nothing any more."""
    book.clear_timers(case.case_id, WAITING_TIMERS)
    case.expires_at = case.refusal = None


# --- Obligations ---


def check_obligations(book: Book, lane: Lane, case: Case) -> None:
    """Go on where nothing is owed; else look once more, because what was paid may be on its way here."""
    book.enter(case, Status.OBLIGATIONS)
    if obligations_of(book, case):
        look_soon(book, lane, case)
    else:
        _go_on_free(book, lane, case)


def look_soon(book: Book, lane: Lane, case: Case) -> None:
    """Look at a case once more when everything that was published before now is known."""
    due_at = book.now + timedelta(seconds=book.policy.obligations.look_again_s)
    book.set_timer(lane, LOOK_TIMER, case.case_id, due_at)


def look_at_obligations(book: Book, lane: Lane, case: Case, *, is_last: bool = False) -> None:
    """Stop a case that something stands against; one that waits for what was paid goes on when nothing does."""
    if case.status != Status.OBLIGATIONS:
        stop_for_obligations(book, lane, case)
    elif not obligations_of(book, case):
        book.clear_timers(case.case_id, (LOOK_TIMER,))
        _go_on_free(book, lane, case)
    elif is_last:
        stop_for_obligations(book, lane, case)


def _go_on_free(book: Book, lane: Lane, case: Case) -> None:
    if case.is_loan:
        decide_policy(book, lane, case)
    elif case.clearance_id is not None:
        _go_on_clearing(book, lane, case)
    else:
        book.enter(case, Status.IN_FLIGHT)
        reports.ask_all(book, lane, case)


def _go_on_clearing(book: Book, lane: Lane, case: Case) -> None:
    """Empty what holds nothing at once; whoever has money there may say until the deadline where it goes."""
    if case.balance_minor == 0 or (case.expires_at is not None and case.expires_at <= book.now):
        drain(book, lane, case)
    else:
        book.enter(case, Status.ACCOUNT_WANTED)


def stop_for_obligations(book: Book, lane: Lane, case: Case) -> bool:
    """End a case that is not draining yet where anything is owed; tell whether it did."""
    if case.status not in _IDENTIFIED or case.review_of == IDENTITY:
        return False
    owed = obligations_of(book, case)
    if owed:
        reject(book, lane, case, "obligation_open", detail=f"{len(owed)} still open", obligations=owed)
    return bool(owed)


def obligations_of(book: Book, case: Case) -> list[dict[str, Any]]:
    """Return everything that stands against a case; against a wallet's, also each wallet of its holder below zero."""
    owed = [_as_obligation(position) for position in owed_by(book, case)]
    return owed if case.is_loan else [*owed, *reports.below_zero(book, case)]


_IDENTIFIED: Final = frozenset(
    {Status.OBLIGATIONS, Status.IN_FLIGHT, Status.POLICY, Status.REVIEW, Status.APPROVED, Status.ACCOUNT_WANTED}
)
"""What somebody owes is said of a case only once it is known that they apply."""


def owed_by(book: Book, case: Case) -> list[Position]:
    """Return what stands against a case: of a loan's its own amounts, of a wallet's everything that its holder owes."""
    owed = [position for position in book.positions_of(case.customer_id or "") if position.is_owed]
    return [position for position in owed if not case.is_loan or position.obligation_id == case.obligation_id]


def _as_obligation(position: Position) -> dict[str, Any]:
    return {
        "kind": position.kind,
        "obligation_id": position.obligation_id,
        "principal_minor": position.principal_minor,
        "interest_minor": position.interest_minor,
        "penalty_minor": position.penalty_minor,
        "owed_minor": position.owed_minor,
        "currency": position.currency,
    }


# --- Policy, review, approval ---


def decide_policy(book: Book, lane: Lane, case: Case) -> None:
    """Say what it costs, and whether a person has to look at it."""
    book.enter(case, Status.POLICY)
    if not case.is_loan:
        fee_minor = min(book.policy.fee.minor.get(case.currency or "", 0), case.balance_minor)
        if fee_minor and not case.accepts_fee:
            reject(book, lane, case, "fee_not_accepted", detail=f"{fee_minor} minor units of {case.currency}")
            return
        case.fee_minor = fee_minor
    why = ", ".join(_why_a_person(book, case))
    if why:
        review(book, lane, case, why)
    else:
        approve(book, lane, case)


def _why_a_person(book: Book, case: Case) -> Iterable[str]:
    rules = book.policy.review
    if reaches(rules.person_from_minor, case.currency, case.balance_minor):
        yield AMOUNT
    application = book.application_of(case)
    number = parse_id_number(application.id_number)
    if number is not None:
        age = number.age_on(business_date(book.now))
        if not rules.person_below_age <= age <= rules.person_above_age:
            yield "age"
    if is_flagged(book, case):
        yield RISK
    if not accounts.judge(book, case):
        yield accounts.OTHER_HOLDER


RISK: Final = "risk"
"""What a person looks at where the customer is flagged."""


def is_flagged(book: Book, case: Case) -> bool:
    """Whether a customer has a risk flag in force that the policy asks about."""
    until = book.customer_of(case).flagged_until
    return book.policy.review.flagged and until is not None and until > book.now


def review(book: Book, lane: Lane, case: Case, why: str) -> None:
    """Have a person look at a case; who approved it before has not seen this."""
    case.review_of = why
    case.approved_by.clear()
    book.enter(case, Status.REVIEW, why)
    book.say(lane, case, "closure.in_review")


def eyes_needed(book: Book, case: Case) -> int:
    """Return how many persons have to approve a case."""
    is_large = reaches(book.policy.review.four_eyes_from_minor, case.currency, case.total_minor)
    return 2 if is_large and case.review_of != IDENTITY else 1


def approve(book: Book, lane: Lane, case: Case) -> None:
    """Show the amount, the fee and the consequences, and wait for the customer to confirm them."""
    account = book.application_of(case).judged
    case.reviewed_minor = case.balance_minor
    profile = book.customer_of(case).profile
    if profile is not None and profile.id_number_hash is not None:
        # Whoever comes back is compared with this: a person may have let another number pass.
        case.id_number_hash = profile.id_number_hash
    case.expires_at = book.now + timedelta(seconds=book.policy.approval.confirm_within_s)
    book.set_timer(lane, EXPIRE_TIMER, case.case_id, case.expires_at)
    book.enter(case, Status.APPROVED)
    consequences = ["credit_record", "limit_not_promised"] if case.is_loan else ["data_erased"]
    book.say(
        lane,
        case,
        "closure.approved",
        balance_minor=case.balance_minor,
        fee_minor=case.fee_minor,
        payout_minor=case.balance_minor - case.fee_minor,
        currency=case.currency,
        payee=None if account is None else account.payee,
        consequences=[*consequences, "reopening_not_promised"],
        expires_at=as_text(case.expires_at),
    )


def confirm(book: Book, lane: Lane, case: Case) -> None:
    """Go on with what the customer has accepted, unless a debt has come up."""
    resume(book, case)
    if stop_for_obligations(book, lane, case):
        return
    theirs = {position.obligation_id for position in book.positions_of(case.customer_id or "")}
    if case.is_loan and case.obligation_id not in theirs:
        reject(book, lane, case, "subject_unknown", detail="the loan is the customer's no more")
        return
    book.enter(case, Status.CONFIRMED)
    book.say(lane, case, "closure.confirmed")
    if case.is_loan:
        close_loan(book, lane, case)
    else:
        drain(book, lane, case)
