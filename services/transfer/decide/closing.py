"""Decides how a wallet is closed for a case, reinstated, finished and reopened, and what reports say of wallets."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import orjson

from services.transfer.decide.ledger import as_reason
from services.transfer.decide.requests import end_waiting, fail
from services.transfer.model import (
    CLOSE_TIMER,
    REPORT_TIMER,
    WAITING,
    Account,
    AccountStatus,
    AnswerKey,
    Kind,
    Refusal,
    Report,
    Status,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.account import AccountClose, AccountFinish, AccountReinstate, AccountReopen, AccountsReport
    from services.runtime.message import Lane, Message
    from services.transfer.decide.ledger import Ledger

_MOST_NAMED: Final = 20


# --- Closing ---


def decide_close(ledger: Ledger, message: Message, command: AccountClose) -> None:
    """Decide an `account.close`: from now on nothing new, what waits is cancelled, what is under way is awaited."""
    account = _find(ledger, message, command.account_id)
    if account is None:
        return
    if account.status == AccountStatus.CLOSED:
        ledger.refuse(message, Refusal("account_closed", field="account_id"))
    elif account.status == AccountStatus.OPEN:
        account.case_id = command.case_id
        _change(ledger, message.lane, account, AccountStatus.CLOSING, "account.closing", command)
        ledger.closing[account.account_id] = None
        ledger.unsettled.add(account.account_id)
        cancel_waiting(ledger, message.lane, account)
    elif account.case_id == command.case_id:
        ledger.publish_account(message.lane, ledger.account_events[account.account_id])
    else:
        ledger.refuse(message, Refusal("account_closing", field="account_id", detail=f"by case {account.case_id}"))


def cancel_waiting(ledger: Ledger, lane: Lane, account: Account) -> None:
    """Cancel what waits to leave a wallet, and send back what waits to come in; the rest of many in the next batch."""
    loaded = ledger.waiting.pop(account.account_id, ())
    for transfer_id in {**dict.fromkeys(loaded), **dict.fromkeys(ledger.waits.get(account.account_id, ()))}:
        transfer = ledger.transfers[transfer_id]
        if transfer.status not in WAITING:
            continue
        refusal = Refusal("account_closing", field="payer")
        end_waiting(ledger, transfer)
        if transfer.kind == Kind.TOP_UP:
            fail(ledger, lane, transfer, Refusal("account_closing", field="payee"))
        else:
            extra = {"reason": as_reason(refusal)}
            ledger.advance(lane, transfer, "transfer.cancelled", Status.CANCELLED, extra)
    account.has_waiting = len(loaded) >= ledger.waiting_at_most
    ledger.reconfigured[account.account_id] = account
    ledger.unsettled.add(account.account_id)
    if account.has_waiting:
        ledger.set_timer(lane, CLOSE_TIMER, account.account_id, ledger.now)


def announce_drained(ledger: Ledger, lane: Lane) -> None:
    """Say of closing wallets that a message changed that nothing is under way in them, where that is so."""
    for account_id in sorted(ledger.unsettled):
        account = ledger.accounts[account_id]
        state = (account.posted_minor, account.reserved_minor, account.has_waiting)
        if account.status != AccountStatus.CLOSING or ledger.closing.get(account_id) == state:
            continue
        ledger.closing[account_id] = state
        if not account.reserved_minor and not account.has_waiting:
            ledger.announce_account(lane, account, "account.drained", {"case_id": str(account.case_id)})
    ledger.unsettled.clear()


def decide_reinstate(ledger: Ledger, message: Message, command: AccountReinstate) -> None:
    """Decide an `account.reinstate`: a closing that is called off."""
    account = _find(ledger, message, command.account_id)
    if account is None:
        return
    if account.status == AccountStatus.CLOSED:
        ledger.refuse(message, Refusal("account_closed", field="account_id"))
    elif account.status == AccountStatus.CLOSING and account.case_id == command.case_id:
        account.case_id = None
        account.has_waiting = False
        ledger.clear_timer(CLOSE_TIMER, account.account_id)
        _change(ledger, message.lane, account, AccountStatus.OPEN, "account.reinstated", command)
    else:
        _say_again(ledger, message, account, "account.reinstated", command)


def decide_finish(ledger: Ledger, message: Message, command: AccountFinish) -> None:
    """Decide an `account.finish`: only of a wallet that is empty, with nothing under way."""
    account = _find(ledger, message, command.account_id)
    if account is None:
        return
    if account.status != AccountStatus.CLOSING or account.case_id != command.case_id:
        _say_again(ledger, message, account, "account.closed", command)
    elif account.posted_minor or account.reserved_minor or account.has_waiting:
        detail = "the wallet is not empty, or something is under way in it"
        ledger.refuse(message, Refusal("state_conflict", field="account_id", detail=detail))
    else:
        _change(ledger, message.lane, account, AccountStatus.CLOSED, "account.closed", command)


def decide_reopen(ledger: Ledger, message: Message, command: AccountReopen) -> None:
    """Decide an `account.reopen`: a closed wallet takes movements again, for the same holder."""
    account = _find(ledger, message, command.account_id)
    if account is None:
        return
    if account.status == AccountStatus.CLOSED:
        account.case_id = None
        _change(ledger, message.lane, account, AccountStatus.OPEN, "account.reopened", command)
    else:
        _say_again(ledger, message, account, "account.reopened", command)


def _find(ledger: Ledger, message: Message, account_id: str) -> Account | None:
    account = ledger.accounts.get(account_id)
    if account is None:
        ledger.refuse(message, Refusal("account_unknown", field="account_id"))
    return account


def _change(ledger: Ledger, lane: Lane, account: Account, status: AccountStatus, type_: str, command: Any) -> None:
    account.status = status
    ledger.reconfigured[account.account_id] = account
    ledger.announce_account(lane, account, type_, {"case_id": str(command.case_id)})


def _say_again(ledger: Ledger, message: Message, account: Account, type_: str, command: Any) -> None:
    """Answer what was done for the same case before with its event; refuse anything else."""
    event = ledger.account_events.get(account.account_id)
    if event is not None and event.type == type_ and orjson.loads(event.body).get("case_id") == str(command.case_id):
        ledger.publish_account(message.lane, event)
    else:
        detail = f"the wallet is {account.status}"
        ledger.refuse(message, Refusal("state_conflict", field="account_id", detail=detail))


# --- Reports ---


def decide_report(ledger: Ledger, message: Message, command: AccountsReport) -> None:
    """Decide an `accounts.report`: of named wallets at once, of all in slices that others have their turn between."""
    if command.subjects == "all":
        report = Report(command.report_id, "", 0, {})
        ledger.reports[report.report_id] = ledger.reported[report.report_id] = report
        ledger.set_timer(message.lane, REPORT_TIMER, report.report_id, ledger.now)
        return
    asked = dict.fromkeys(command.subjects)
    unknown = [id_ for id_ in asked if id_ not in ledger.accounts]
    if unknown:
        detail = f"{len(unknown)} unknown: {', '.join(unknown[:_MOST_NAMED])}"
        ledger.refuse(message, Refusal("account_unknown", field="subjects", detail=detail))
    report = Report(command.report_id, "", 0, {})
    _tell(ledger, message.lane, report, (ledger.accounts[id_] for id_ in asked if id_ in ledger.accounts))
    _finish(ledger, message.lane, report)


def go_on_reporting(ledger: Ledger, lane: Lane, report: Report) -> None:
    """Tell of the next wallets of a report of all, or that it is complete."""
    accounts = ledger.slices.pop(report.report_id, [])
    ledger.reported[report.report_id] = report
    _tell(ledger, lane, report, accounts)
    if len(accounts) < ledger.reported_at_once:
        report.is_finished = True
        _finish(ledger, lane, report)
    else:
        report.last_account = accounts[-1].account_id
        ledger.set_timer(lane, REPORT_TIMER, report.report_id, ledger.now)


def _tell(ledger: Ledger, lane: Lane, report: Report, accounts: Iterable[Account]) -> None:
    totals = Counter(report.totals)
    for account in accounts:
        report.count += 1
        totals[account.currency] += account.posted_minor
        ledger.report_account(lane, account, report.report_id)
    report.totals = dict(totals)


def _finish(ledger: Ledger, lane: Lane, report: Report) -> None:
    ledger.finish_report(lane, report)
    ledger.renew_answer(AnswerKey("report_id", str(report.report_id)))
