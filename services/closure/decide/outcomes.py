"""Decides what cases make of what others say: the transfer service, the profile, obligations, and of moments come."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from services.closure.decide import cases, commands, draining, reopening, reports, residue
from services.closure.decide.rejecting import reject
from services.closure.model import EXPIRE_TIMER, LOOK_TIMER, RETRY_TIMER, Case, Status, Wallet

if TYPE_CHECKING:
    from schemas.account import AccountReported
    from schemas.transfer import TransferCommandRefused
    from services.closure.decide.book import Book
    from services.runtime.message import Lane, Message, Timer


def decide_account(book: Book, message: Message, case: Case) -> None:
    """Decide what an event of a wallet, which names the case that it is about, makes of that."""
    data: Any = message.data
    if data.account_id != case.subject:
        return
    if message.type == "account.drained":
        draining.decide_drained(book, message.lane, case, data.posted_minor, data.currency)
    elif message.type == "account.closed":
        draining.decide_closed(book, message.lane, case)
    elif message.type == "account.reinstated":
        draining.decide_reinstated(book, message.lane, case)
    elif message.type == "account.reopened":
        reopening.decide_reopened(book, message.lane, case)


def decide_report(book: Book, lane: Lane, case: Case, report: AccountReported) -> None:
    """Go on with a case that has asked how its wallet stands, also with one that is looked at once more."""
    if report.report_id != case.report_id:
        return
    if case.status == Status.RECEIVED and case.customer_id is None:
        _learn_owner(book, lane, case, report)
    elif case.status == Status.IN_FLIGHT:
        _look(book, lane, case, report)
    elif case.status == Status.DRAINING:
        if reports.note(book, case, report.account_id, report.posted_minor):
            _go_on_reported(book, lane, case)
    else:
        residue.decide_report(book, lane, case, report)


def _learn_owner(book: Book, lane: Lane, case: Case, report: AccountReported) -> None:
    case.customer_id = report.customer_id
    # Sealed anew, by the customer's own key.
    book.apply(case, book.application_of(case))
    book.learn_wallet(Wallet(report.account_id, report.customer_id, report.currency, report.status, report.version))
    commands.take_on(book, lane, case)


def _look(book: Book, lane: Lane, case: Case, report: AccountReported) -> None:
    if report.account_id == case.subject and report.status == "closed":
        reject(book, lane, case, "subject_unknown", detail="the wallet is closed")
        return
    if report.account_id == case.subject:
        case.balance_minor, case.currency = report.posted_minor, report.currency
        book.change(case)
    if report.account_id == case.subject and report.reserved_minor:
        due_at = book.now + timedelta(seconds=book.policy.in_flight.look_again_s)
        book.set_timer(lane, LOOK_TIMER, case.case_id, due_at)
    elif reports.note(book, case, report.account_id, report.posted_minor):
        _go_on_reported(book, lane, case)


def _go_on(book: Book, lane: Lane, case: Case) -> None:
    """Go on with a case of which it is known what its customer's wallets hold."""
    if cases.stop_for_obligations(book, lane, case):
        return
    if case.claimed_balance_minor not in {None, case.balance_minor}:
        item = {"code": cases.BALANCE_MISMATCH, "field": "claimed_balance_minor", "remedy": "check_balance"}
        cases.ask_documents(book, lane, case, [item])
    else:
        cases.decide_policy(book, lane, case)


def decide_refused(book: Book, lane: Lane, case: Case, refused: TransferCommandRefused) -> None:
    """Decide what it means to a case that the transfer service refused one of its commands."""
    command_type, command_id = refused.command_type, refused.command_id
    if command_type == "accounts.report" and command_id == reports.command_id(case):
        _decide_not_reported(book, lane, case, refused.account_id)
    elif command_id == draining.close_command_id(case) and case.status == Status.DRAINING:
        if refused.reason.code == "account_closing":
            reject(book, lane, case, "case_open", detail="the wallet is being closed for another case")
        else:
            reject(book, lane, case, "subject_unknown", detail="the wallet cannot be closed")
    elif command_type == "transfer.request":
        draining.decide_not_asked(book, lane, case, command_id)
    elif command_id == draining.reinstate_command_id(case):
        # It was never closed for this case: there is nothing to restore.
        draining.decide_reinstated(book, lane, case)
    elif command_type == "account.reopen":
        reopening.decide_not_reopened(book, lane, case, command_id)


def _decide_not_reported(book: Book, lane: Lane, case: Case, account_id: str | None) -> None:
    if account_id not in {None, case.subject}:
        # Another wallet that the transfer service does not know holds nothing.
        if reports.note(book, case, account_id or "", 0):
            _go_on_reported(book, lane, case)
    elif case.status in {Status.RECEIVED, Status.IN_FLIGHT}:
        reject(book, lane, case, "subject_unknown")


def _go_on_reported(book: Book, lane: Lane, case: Case) -> None:
    if case.status == Status.IN_FLIGHT:
        _go_on(book, lane, case)
    elif case.status == Status.DRAINING:
        draining.go_on_drained(book, lane, case)


def decide_timer(book: Book, timer: Timer, case: Case) -> None:
    """Decide what a moment means to a case; one that has moved on does nothing."""
    lane = timer.lane
    if timer.kind == EXPIRE_TIMER and case.expires_at is not None and case.expires_at <= book.now:
        _expire(book, lane, case)
    elif timer.kind == LOOK_TIMER and case.status == Status.OBLIGATIONS:
        cases.look_at_obligations(book, lane, case, is_last=True)
    elif timer.kind == LOOK_TIMER and case.status == Status.IN_FLIGHT:
        reports.ask_all(book, lane, case)
    elif timer.kind == LOOK_TIMER and case.status == Status.RECEIVED and case.is_loan:
        case.customer_id = commands.owner_of(book, case)
        if case.customer_id is None:
            reject(book, lane, case, "subject_unknown")
        else:
            book.apply(case, book.application_of(case))
            commands.take_on(book, lane, case)
    elif timer.kind == RETRY_TIMER and case.status == Status.PAYOUT_STOPPED:
        draining.try_again(book, lane, case)


def _expire(book: Book, lane: Lane, case: Case) -> None:
    if case.status == Status.DOCUMENTS_REQUIRED:
        reject(book, lane, case, "documents_expired")
    elif case.status == Status.APPROVED:
        book.enter(case, Status.EXPIRED)
        book.say(lane, case, "closure.expired")
