"""Decides reports of how wallets stand: of some at once, of all slice by slice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from schemas.envelope import encode_headers
from services.runtime.message import Outgoing
from services.transfer.decide.ledger import EVENTS, SOURCE, state_of
from services.transfer.model import REPORT_TIMER, Account, AnswerKey, Refusal, Report

if TYPE_CHECKING:
    from uuid import UUID

    from schemas.account import AccountsReport
    from services.runtime.message import Lane, Message
    from services.transfer.decide.ledger import Ledger


def decide_report(ledger: Ledger, message: Message, command: AccountsReport) -> None:
    """Decide an `accounts.report`: those named are told of now, each once; a report of all begins."""
    report = Report(command.report_id, "", 0, {}, message.correlation_id, message.traceparent)
    if command.subjects == "all":
        _go_on(ledger, message.lane, report)
        return
    for account_id in dict.fromkeys(command.subjects):
        account = ledger.accounts.get(account_id)
        if account is None:
            ledger.refuse(message, Refusal("account_unknown", field="subjects"), account_id=account_id)
        else:
            _tell(ledger, message.lane, report, account)
    _finish(ledger, message.lane, report)


def decide_slice(ledger: Ledger, lane: Lane, report_id: UUID) -> None:
    """Tell of the next wallets of a report of all; after the last it is finished."""
    report = ledger.reports.get(report_id)
    if report is None:
        return
    told = ledger.slices.get(report_id, ())
    for account in told:
        # What this batch has changed of it counts.
        _tell(ledger, lane, report, ledger.accounts.get(account.account_id, account))
    if told:
        report.last_account_id = told[-1].account_id
        _go_on(ledger, lane, report)
    else:
        _finish(ledger, lane, report)
        ledger.reports_changed[report_id] = None
        ledger.renew_answer(AnswerKey("report_id", str(report_id)))


def _go_on(ledger: Ledger, lane: Lane, report: Report) -> None:
    ledger.reports[report.report_id] = ledger.reports_changed[report.report_id] = report
    ledger.set_timer(lane, REPORT_TIMER, report.report_id, ledger.now)


def _tell(ledger: Ledger, lane: Lane, report: Report, account: Account) -> None:
    report.count += 1
    total = report.total_minor.get(account.currency, 0)
    report.total_minor[account.currency] = total + account.posted_minor
    body = {"report_id": str(report.report_id), **state_of(account)}
    id_ = f"{report.report_id}.{account.account_id}"
    _publish(ledger, lane, "account.reported", id_, account.account_id, body, report)


def _finish(ledger: Ledger, lane: Lane, report: Report) -> None:
    report_id = str(report.report_id)
    body = {"report_id": report_id, "count": report.count, "total_minor": report.total_minor}
    _publish(ledger, lane, "accounts.report_finished", f"{report_id}.finished", report_id, body, report)


def _publish(
    ledger: Ledger, lane: Lane, type_: str, id_: str, subject: str, body: dict[str, Any], report: Report
) -> None:
    headers = encode_headers(
        type_,
        id=id_,
        source=SOURCE,
        time=ledger.now_text,
        subject=subject,
        correlation_id=report.correlation_id,
        traceparent=report.traceparent,
    )
    ledger.outgoing.append(Outgoing(lane, EVENTS, subject.encode(), orjson.dumps(body), headers))
