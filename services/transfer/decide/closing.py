"""Decides how a wallet is closed: what waits is cancelled, what is sent is awaited, then it is drained and finished."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from services.transfer.decide.requests import cancel
from services.transfer.model import DRAIN_TIMER, WAITING, Account, AccountStatus, Drain, Refusal

if TYPE_CHECKING:
    from uuid import UUID

    from schemas.account import AccountClose, AccountFinish, AccountReinstate, AccountReopen
    from services.runtime.message import Lane, Message
    from services.transfer.decide.ledger import Ledger


def decide_close(ledger: Ledger, message: Message, command: AccountClose) -> None:
    """Decide an `account.close`: from now on nothing new is taken, but for the case's own."""
    account = _find(ledger, message, command.account_id)
    if account is None:
        return
    if account.status == AccountStatus.OPEN:
        # Only one that was opened in this very batch is not known yet.
        drain = ledger.drains.setdefault(account.account_id, Drain(waits_elsewhere=False, waiting=set()))
        drain.closed_by = message
        ledger.restate(message.lane, account, "account.closing", AccountStatus.CLOSING, command.case_id)
        if drain.waits:
            ledger.set_timer(message.lane, DRAIN_TIMER, account.account_id, ledger.now)
    elif account.status == AccountStatus.CLOSED:
        _refuse(ledger, message, "account_closed")
    elif account.case_id == command.case_id:
        _answer_again(ledger, message, account)
    else:
        _refuse(ledger, message, "account_closing", "it is closing for another case")


def decide_reinstate(ledger: Ledger, message: Message, command: AccountReinstate) -> None:
    """Decide an `account.reinstate`: the closing is called off, and what waits of its case, such as a payout."""
    account = _find(ledger, message, command.account_id)
    if account is None:
        return
    if account.status == AccountStatus.CLOSED:
        _refuse(ledger, message, "account_closed")
    elif account.status == AccountStatus.CLOSING and account.case_id == command.case_id:
        _cancel_own(ledger, message.lane, account)
        ledger.restate(message.lane, account, "account.reinstated", AccountStatus.OPEN, command.case_id)
    elif _was_said(ledger, account, "account.reinstated", command.case_id):
        _answer_again(ledger, message, account)
    else:
        _refuse(ledger, message, "state_conflict", _standing(account))


def _cancel_own(ledger: Ledger, lane: Lane, account: Account) -> None:
    """Cancel what waits of a wallet's case: in an open wallet it would go on as anybody's."""
    for transfer_id in sorted(ledger.drains[account.account_id].waiting):
        transfer = ledger.transfers[transfer_id]
        if transfer.case_id == account.case_id:
            cancel(ledger, lane, transfer)


def decide_finish(ledger: Ledger, message: Message, command: AccountFinish) -> None:
    """Decide an `account.finish`: closed, if nothing is in the wallet and nothing under way."""
    account = _find(ledger, message, command.account_id)
    if account is None:
        return
    is_this_case = account.case_id == command.case_id
    if account.status == AccountStatus.CLOSED and is_this_case:
        _answer_again(ledger, message, account)
    elif account.status != AccountStatus.CLOSING or not is_this_case:
        _refuse(ledger, message, "state_conflict", _standing(account))
    elif account.posted_minor or account.reserved_minor or ledger.drains[account.account_id].waits:
        _refuse(ledger, message, "state_conflict", "something is posted, reserved or under way")
    else:
        ledger.restate(message.lane, account, "account.closed", AccountStatus.CLOSED, command.case_id)


def decide_reopen(ledger: Ledger, message: Message, command: AccountReopen) -> None:
    """Decide an `account.reopen`: a closed wallet takes movements again, by the settings that it had.

    Only the case that closed it is known to whoever may say so.
    """
    account = _find(ledger, message, command.account_id)
    if account is None:
        return
    if account.status == AccountStatus.CLOSED and account.case_id == command.case_id:
        ledger.restate(message.lane, account, "account.reopened", AccountStatus.OPEN, command.case_id)
    elif _was_said(ledger, account, "account.reopened", command.case_id):
        _answer_again(ledger, message, account)
    else:
        _refuse(ledger, message, "state_conflict", _standing(account))


def decide_drain(ledger: Ledger, lane: Lane, account_id: str) -> None:
    """Cancel more of what waits in a wallet that is closing, but for its case's own."""
    account = ledger.accounts.get(account_id)
    if account is None or account.status != AccountStatus.CLOSING:
        return
    for transfer_id in ledger.draining.get(account_id, ()):
        transfer = ledger.transfers[transfer_id]
        if transfer.status in WAITING and transfer.case_id != account.case_id:
            cancel(ledger, lane, transfer, Refusal("account_closing"))
    if ledger.draining_is_full:
        # There may be more than one batch should take.
        ledger.set_timer(lane, DRAIN_TIMER, account_id, ledger.now)


def say_drained(ledger: Ledger) -> None:
    """Say of each closing wallet that the batch changed that it is drained, if nothing is under way in it now."""
    for account_id, drain in ledger.drains.items():
        account = ledger.accounts.get(account_id)
        if account is None or drain.changed_in is None or account.status != AccountStatus.CLOSING:
            continue
        if not drain.waits and not account.reserved_minor:
            ledger.cause = drain.closed_by
            ledger.announce_account(drain.changed_in, account, "account.drained", {"case_id": str(account.case_id)})


def _find(ledger: Ledger, message: Message, account_id: str) -> Account | None:
    account = ledger.accounts.get(account_id)
    if account is None:
        _refuse(ledger, message, "account_unknown")
    return account


def _refuse(ledger: Ledger, message: Message, code: str, detail: str | None = None) -> None:
    ledger.refuse(message, Refusal(code, field="account_id", detail=detail))


def _answer_again(ledger: Ledger, message: Message, account: Account) -> None:
    ledger.publish_account(message.lane, ledger.account_events[account.account_id])


def _was_said(ledger: Ledger, account: Account, type_: str, case_id: UUID) -> bool:
    latest = ledger.account_events[account.account_id]
    return latest.type == type_ and orjson.loads(latest.body)["case_id"] == str(case_id)


def _standing(account: Account) -> str:
    return f"the wallet is {account.status}" + (" for another case" if account.case_id is not None else "")
