"""Decides what closings have left, a balance, a status, data, and forgets customers whose erasure was deferred."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.closure.decide import reports
from services.closure.decide.draining import close, look_later
from services.closure.decide.erasing import begin_erasing, decide_erased, why_deferred
from services.closure.model import FORGETTING, LOOKED, LOOKING, RESIDUE_TIMER, Status

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from schemas.account import AccountReported
    from schemas.erasure import CustomerErased
    from services.closure.decide.book import Book
    from services.closure.model import Case
    from services.runtime.message import Lane

_EVERYBODY_FORGETS: Final = "every service has forgotten the customer"
_NOTHING_KEPT: Final = "nothing of the customer is kept here"
_NO_WALLET: Final = "the wallet is empty and closed"
_NO_LOAN: Final = "nothing owed, settled"


def look(book: Book, lane: Lane, case: Case, sealed: Collection[str]) -> None:
    """Look at a case whose moment has come; `sealed` are customers of whom something sealed is left."""
    if case.is_forgetting:
        _say_who_is_silent(book, lane, case)
    elif case.status != Status.CLOSED:
        return
    elif case.refusal == LOOKED:
        # What a wallet or loan leaves is looked for once.
        if case.erasure == "deferred":
            forget_after_all(book, lane, case)
        else:
            _tell(book, lane, case, list(_left_of_customer(book, case, sealed)))
    elif book.is_undone(case):
        book.note(case, "opened_again")
        _go_on(book, lane, case)
    elif case.is_loan:
        _tell(book, lane, case, [*_left_of_loan(book, case), *_left_of_customer(book, case, sealed)])
        _go_on(book, lane, case)
    else:
        if case.refusal != LOOKING:
            _say_found(book, lane, case, _left_of_customer(book, case, sealed))
        case.refusal = LOOKING
        # Asked again where no report comes.
        look_later(book, lane, case)
        reports.ask_report(book, lane, case)


def decide_report(book: Book, lane: Lane, case: Case, report: AccountReported) -> None:
    """Say what is left in a wallet that was closed."""
    if case.status != Status.CLOSED or case.refusal != LOOKING or report.report_id != case.report_id:
        return
    case.refusal = LOOKED
    book.clear_timers(case.case_id, (RESIDUE_TIMER,))
    if book.is_undone(case):
        book.note(case, "opened_again")
    else:
        _tell(book, lane, case, list(_left_in_wallet(report)))
    _go_on(book, lane, case)


def _tell(book: Book, lane: Lane, case: Case, findings: list[tuple[str, str]]) -> None:
    _say_found(book, lane, case, findings)
    if not findings:
        book.note(case, "nothing_left")


def _say_found(book: Book, lane: Lane, case: Case, findings: Iterable[tuple[str, str]]) -> None:
    for expected, found in findings:
        book.say(lane, case, "closure.discrepancy", expected=expected, found=found)


def _left_in_wallet(report: AccountReported) -> Iterator[tuple[str, str]]:
    if report.status != "closed":
        yield _NO_WALLET, f"status {report.status}"
    if report.posted_minor:
        yield _NO_WALLET, f"posted_minor {report.posted_minor}"
    if report.reserved_minor:
        yield _NO_WALLET, f"reserved_minor {report.reserved_minor}"


def _left_of_loan(book: Book, case: Case) -> Iterator[tuple[str, str]]:
    position = book.positions.get(case.obligation_id)
    if position is None:
        return
    for name in ("principal_minor", "interest_minor", "penalty_minor"):
        if getattr(position, name):
            yield _NO_LOAN, f"{name} {getattr(position, name)}"
    if position.status != "settled":
        yield _NO_LOAN, f"status {position.status}"


def _left_of_customer(book: Book, case: Case, sealed: Collection[str]) -> Iterator[tuple[str, str]]:
    """Say what is kept of a customer who was forgotten; of one who has come back, what they brought is theirs."""
    customer = book.customer_of(case)
    if case.erasure != "done" or customer.erased_at is None or book.is_busy(customer.customer_id):
        return
    if customer.profile is not None:
        yield _NOTHING_KEPT, "hashes of the profile"
    if customer.wrapped_key is not None:
        yield _NOTHING_KEPT, "a key"
    if customer.customer_id in sealed:
        yield _NOTHING_KEPT, "an application"


def _say_who_is_silent(book: Book, lane: Lane, case: Case) -> None:
    silent = [one for one in book.policy.erasing.services if one not in case.erased_by]
    if silent:
        found = f"no answer of {', '.join(silent)}"
        book.say(lane, case, "closure.discrepancy", expected=_EVERYBODY_FORGETS, found=found)


# --- Whoever could not be forgotten at the closing ---


def _go_on(book: Book, lane: Lane, case: Case) -> None:
    """Have a case whose customer is still to be forgotten looked at again, as often as it takes."""
    case.refusal = LOOKED
    book.change(case)
    if case.erasure == "deferred":
        forget_after_all(book, lane, case)


def forget_after_all(book: Book, lane: Lane, case: Case) -> None:
    """Forget a customer when nothing of theirs is open any more; until then look again."""
    look_later(book, lane, case)
    is_begun = any(one.is_forgetting for one in book.cases_of(case.customer_id or ""))
    if is_begun or why_deferred(book, case) is not None:
        return
    case.refusal = FORGETTING
    case.erased_by.clear()
    begin_erasing(book, lane, case)
    book.note(case, FORGETTING)


def decide_answer(book: Book, lane: Lane, answer: CustomerErased) -> None:
    """Take note that a service has forgotten a customer; when all have, no case of theirs waits for that any more.

    What answers a null profile, or another case, says nothing of what came here since.
    """
    customer_id = answer.customer_id
    asking = [one for one in book.cases_of(customer_id) if one.case_id == answer.case_id]
    if not [one for one in asking if decide_erased(book, one, answer.service)]:
        return
    for case in book.cases_of(customer_id):
        if case.status == Status.ERASING:
            case.erasure = "done"
            close(book, lane, case)
        elif case.status == Status.CLOSED and case.erasure == "deferred":
            _end_erasing(book, lane, case)


def _end_erasing(book: Book, lane: Lane, case: Case) -> None:
    case.erasure = "done"
    if case.refusal in {LOOKED, FORGETTING}:
        case.refusal = LOOKED
        look_later(book, lane, case)
    book.say(lane, case, "closure.closed", receipt_sha256=case.receipt_sha256, erasure=case.erasure)
