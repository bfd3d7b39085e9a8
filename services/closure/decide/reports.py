"""Asks how wallets stand, a case's own and the others of its customer, and says which of them are below zero."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from services.closure.decide.book import Book
    from services.closure.model import Case
    from services.runtime.message import Lane

_MOST: Final = 1_000
"""A report is asked for no more wallets than this."""


def ask_report(book: Book, lane: Lane, case: Case) -> None:
    """Ask the transfer service how a case's own wallet stands now."""
    _ask(book, lane, case, [case.subject])


def ask_all(book: Book, lane: Lane, case: Case) -> None:
    """Ask how all of a customer's wallets stand now: one below zero stands against the closing of another."""
    _ask(book, lane, case, [case.subject, *_others(book, case)][:_MOST])


def ask_others(book: Book, lane: Lane, case: Case) -> bool:
    """Ask how a customer's other wallets stand now; tell whether there are any."""
    others = _others(book, case)[:_MOST]
    if others:
        _ask(book, lane, case, others)
    return bool(others)


def _others(book: Book, case: Case) -> list[str]:
    theirs = book.wallets_of(case.customer_id or "")
    return sorted(one.account_id for one in theirs if one.status != "closed" and one.account_id != case.subject)


def _ask(book: Book, lane: Lane, case: Case, wallets: list[str]) -> None:
    case.reports += 1
    case.reported = dict.fromkeys(wallets)
    body = {"report_id": str(case.report_id), "subjects": wallets}
    book.order(lane, case, "accounts.report", command_id(case), body)
    book.change(case)


def command_id(case: Case) -> str:
    """Return the id of the command that asked for the latest report, which a refusal of it names."""
    return f"{case.case_id}.report.{case.reports}"


def note(book: Book, case: Case, account_id: str, posted_minor: int) -> bool:
    """Take note of what a wallet holds; tell whether that was the last that was awaited."""
    if account_id not in case.reported or case.reported[account_id] is not None:
        return False
    case.reported = {**case.reported, account_id: posted_minor}
    book.change(case)
    return not case.awaits_reports


def below_zero(book: Book, case: Case) -> list[dict[str, Any]]:
    """Return what a wallet owes that is below zero: the case's own, and others of its customer by the latest report."""
    found = [] if case.balance_minor >= 0 else [_as_obligation(-case.balance_minor, case.currency)]
    for account_id, posted_minor in case.reported.items():
        wallet = book.wallets.get(account_id)
        if account_id != case.subject and posted_minor is not None and posted_minor < 0 and wallet is not None:
            found.append(_as_obligation(-posted_minor, wallet.currency, account_id))
    return found


def _as_obligation(owed_minor: int, currency: str | None, account_id: str | None = None) -> dict[str, Any]:
    named = {} if account_id is None else {"account_id": account_id}
    amounts = {"principal_minor": owed_minor, "interest_minor": 0, "penalty_minor": 0, "owed_minor": owed_minor}
    return {"kind": "negative_balance", **named, **amounts, "currency": currency}
