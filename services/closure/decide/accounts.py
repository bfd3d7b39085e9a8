"""Judges the account that a balance is to go to: nothing is paid to one that was not judged."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from services.closure.decide.book import Book
    from services.closure.model import Case

OTHER_HOLDER: Final = "other_holder"
"""What a person looks at where an account is not known to be the customer's own."""


def name(book: Book, case: Case, payee: str, payee_name: str) -> None:
    """Take note of an account that the balance is to go to, whoever's it is."""
    book.apply(case, replace(book.application_of(case), payee=payee, payee_name=payee_name))
    book.note(case, "payout_account_named")


def judge(book: Book, case: Case) -> bool:
    """Let the account that was named last pass, if the policy does; tell whether nobody has to look at it."""
    application = book.application_of(case)
    is_judged = application.named == application.judged
    if not is_judged and application.named is not None and not is_own(book, case, application.named.payee_name):
        return False
    accept(book, case)
    return True


def is_own(book: Book, case: Case, payee_name: str) -> bool:
    """Whether an account of somebody of a name is the customer's, as far as the policy asks for that.

    Of whom there is no profile, no account is known to be theirs.
    """
    profile = book.customer_of(case).profile
    is_theirs = profile is not None and profile.name_hash == book.rules.hashes.name(payee_name)
    return is_theirs or not book.policy.review.other_holder


def accept(book: Book, case: Case) -> None:
    """Let the account that was named last pass, because a person has looked at it or need not."""
    application = book.application_of(case)
    if application.judged != application.named:
        book.apply(case, replace(application, judged=application.named))


def turn_down(book: Book, case: Case) -> None:
    """Pay nothing to the account that was named, nor to one before it."""
    book.apply(case, replace(book.application_of(case), payee=None, payee_name=None, judged=None))
