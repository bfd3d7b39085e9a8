"""Decides when a customer is forgotten, who has to forget them, and when that is done."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from services.closure.model import ENDED, Case, Customer
from services.runtime.erasing import erased, retain
from services.runtime.message import Cause

if TYPE_CHECKING:
    from uuid import UUID

    from services.closure.decide.book import Book
    from services.closure.policy import Retention
    from services.runtime.message import Caused, Lane, Outgoing

TOPIC: Final = "erasure.events"
SERVICE: Final = "closure"
_ACCOUNT: Final = "the number of the account that a balance was paid to, in what was said of its closing"
"""A repeat of a command is answered byte for byte, and the receipt has a digest: so it cannot be left out of them."""
_REPEATED_DAYS: Final = 400


def why_deferred(book: Book, case: Case) -> str | None:
    """Return what keeps a customer from being forgotten besides a case: a wallet, a loan or another case of theirs."""
    owner = case.customer_id or ""
    is_undone = book.is_undone(case)
    others = (one for one in book.wallets_of(owner) if is_undone or one.account_id != case.subject)
    if any(one.status != "closed" for one in others):
        return "wallet_open"
    if any(is_undone or subject != case.subject for subject in book.reopened_loans_of(owner)):
        return "loan_open"
    for position in book.positions_of(owner):
        is_own = case.is_loan and position.obligation_id == case.obligation_id
        if position.is_owed or (position.status != "settled" and not is_own):
            return "loan_open"
    is_other = any(one.case_id != case.case_id and one.status not in ENDED for one in book.cases_of(owner))
    return "case_open" if is_other or book.pending_reopenings_of(owner) else None


def begin_erasing(book: Book, lane: Lane, case: Case) -> None:
    """Forget a customer here, and have every other service do so."""
    customer_id = book.customer_of(case).customer_id
    id_ = f"{case.case_id}.erase"
    body = {"customer_id": customer_id, "case_id": str(case.case_id)}
    book.send(lane, TOPIC, "customer.erase", id_, body, customer_id, case)
    forget(book, lane, customer_id, id_, case, case.case_id)


def forget(book: Book, lane: Lane, customer_id: str, asked_by: str, cause: Caused, case_id: UUID | None = None) -> None:
    """Destroy a customer's key with everything that it sealed, and say what stays; `asked_by` is the id of what asked.

    `cause` is what all of it follows from.
    """
    customer = book.customers[customer_id]
    customer.profile = None
    customer.flags = {}
    customer.erase_wanted = None
    customer.erased_at = book.now
    _destroy(book, customer_id)
    book.outgoing.append(_answer(book, lane, customer_id, asked_by, cause, case_id))


def want_forgotten(book: Book, lane: Lane, customer: Customer, cause: str) -> None:
    """Forget a customer whose profile is gone, as soon as nothing about them is still to be decided or done."""
    customer.profile = None
    customer.erase_wanted = cause
    if not book.is_busy(customer.customer_id):
        forget(book, lane, customer.customer_id, cause, Cause(cause))


def forget_wanted(book: Book) -> None:
    """Forget those whose last case or application has ended, and who were to be forgotten then.

    Whatever ends it says so: the answer leaves by the same lane.
    """
    for customer in book.customers.values():
        if customer.erase_wanted is not None and book.outgoing and not book.is_busy(customer.customer_id):
            wanted = customer.erase_wanted
            forget(book, book.outgoing[-1].lane, customer.customer_id, wanted, Cause(wanted))


def forget_again(book: Book) -> None:
    """Destroy what somebody who was forgotten has applied with since, once nothing of it is open."""
    for customer_id in {case.customer_id or "" for case in book.changed.values()}:
        customer = book.customers.get(customer_id)
        if customer is not None and customer.erased_at is not None and not book.is_busy(customer_id):
            _destroy(book, customer_id)


def _destroy(book: Book, customer_id: str) -> None:
    customer = book.customers[customer_id]
    customer.wrapped_key = None
    book.changed_customers[customer_id] = customer
    book.erased.add(customer_id)
    for case in book.cases_of(customer_id):
        case.sealed = None
        book.applied.pop(case.case_id, None)


def _answer(book: Book, lane: Lane, customer_id: str, asked_by: str, cause: Caused, case_id: UUID | None) -> Outgoing:
    # Transfers are the transfer service's, and who somebody was is the identity system's: they say so themselves.
    own = [kept for kept in kept_of(book, customer_id) if kept.what in {"closing", "loans"}]
    retained = [retain(kept.what, kept.why, book.now + timedelta(days=kept.days)) for kept in own]
    if any(book.wallets_of(customer_id)):
        days = max((kept.days for kept in own if kept.what == "closing"), default=_REPEATED_DAYS)
        retained.append(retain(_ACCOUNT, "what was said is said again as it was", book.now + timedelta(days=days)))
    return erased(lane, asked_by, customer_id, SERVICE, retained, book.now, cause, case_id)


def kept_of(book: Book, customer_id: str) -> list[Retention]:
    """Return what the law makes the platform keep of a customer: of loans and transfers, if they had some."""
    has = {"transfers": any(book.wallets_of(customer_id)), "loans": any(book.positions_of(customer_id))}
    return [kept for kept in book.policy.erasing.retained if has.get(kept.what, True)]


def decide_erased(book: Book, case: Case, service: str) -> bool:
    """Take note that a service has forgotten a customer; tell whether that was the last that was waited for."""
    if not case.is_forgetting or service in case.erased_by:
        return False
    case.erased_by.append(service)
    book.note(case, f"erased by {service}")
    return set(book.policy.erasing.services) <= set(case.erased_by)
