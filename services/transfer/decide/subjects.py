"""Which accounts, transfers, refunds and answers a batch is about, so that none is asked for twice."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from services.transfer.decide.commands import answer_key
from services.transfer.model import DRAIN_TIMER, RELEASE_TIMER, REPORT_TIMER, AnswerKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from services.runtime.message import Message, Timer


@dataclass(slots=True)
class Subjects:
    """The ids that a batch names; those that only the database knows are added while loading."""

    accounts: list[set[str]]
    """By the part of the batch whose messages name them; what its timers are about counts to the first."""
    announced: set[str] = field(default_factory=set)
    """Accounts of whom a repeat of a command is answered with their latest event."""
    closings: set[str] = field(default_factory=set)
    """Accounts of whom it matters what waits, whether or not they are closing already."""
    draining: set[str] = field(default_factory=set)
    reinstated: set[str] = field(default_factory=set)
    """Accounts whose closing may be called off, and with it what waits of its case."""
    reports: set[UUID] = field(default_factory=set)
    transfers: set[UUID] = field(default_factory=set)
    refunds: set[UUID] = field(default_factory=set)
    answers: set[AnswerKey] = field(default_factory=set)
    has_names: bool = False


def subjects_of(parts: Sequence[Sequence[Message]], timers: Iterable[Timer]) -> Subjects:
    """Return what a batch of commands, results and timers is about; it has at least one part."""
    subjects = Subjects(accounts=[set() for _ in parts])
    for accounts, messages in zip(subjects.accounts, parts, strict=True):
        for message in messages:
            _add_message(subjects, accounts, message)
    for timer in timers:
        _add_timer(subjects, timer)
    return subjects


def _add_message(subjects: Subjects, accounts: set[str], message: Message) -> None:
    data: Any = message.data
    if message.type == "transfer.request":
        _add_request(subjects, accounts, data)
        return
    key = answer_key(message)
    if key is not None:
        subjects.answers.add(key)
    if message.type == "transfer.batch":
        for item in data.items:
            _add_request(subjects, accounts, item)
    elif message.type == "transfer.quote":
        _add_parties(subjects, accounts, data)
    elif message.type.startswith("account."):
        _add_account(subjects, accounts, message.type, data.account_id)
    elif message.type == "accounts.report":
        accounts.update(() if data.subjects == "all" else data.subjects)
    else:
        subjects.transfers.add(data.transfer_id)
        if message.type == "transfer.refund":
            subjects.transfers.add(data.refund_id)
            subjects.refunds.add(data.refund_id)
        if message.type.startswith("payout.") or message.type == "transfer.resolve":
            subjects.refunds.add(data.transfer_id)


_ANSWERED_AGAIN: Final = frozenset(
    {"account.open", "account.close", "account.reinstate", "account.finish", "account.reopen"}
)


def _add_account(subjects: Subjects, accounts: set[str], type_: str, account_id: str) -> None:
    accounts.add(account_id)
    if type_ in _ANSWERED_AGAIN:
        subjects.announced.add(account_id)
    if type_ == "account.close":
        subjects.closings.add(account_id)
    elif type_ == "account.reinstate":
        subjects.reinstated.add(account_id)


def _add_request(subjects: Subjects, accounts: set[str], request: Any) -> None:
    subjects.transfers.add(request.transfer_id)
    if request.kind == "withdrawal":
        subjects.refunds.add(request.transfer_id)
    _add_parties(subjects, accounts, request)


def _add_parties(subjects: Subjects, accounts: set[str], request: Any) -> None:
    for party in (request.payer, request.payee):
        if party.startswith("wallet:"):
            accounts.add(party)
    if request.payee_name is not None:
        subjects.has_names = True


def _add_timer(subjects: Subjects, timer: Timer) -> None:
    if timer.kind == RELEASE_TIMER:
        # What is held is known by the database alone.
        subjects.has_names = True
        return
    if timer.kind == DRAIN_TIMER:
        subjects.draining.add(timer.subject)
        subjects.accounts[0].add(timer.subject)
        return
    if timer.kind == REPORT_TIMER:
        subjects.reports.add(UUID(timer.subject))
        subjects.answers.add(AnswerKey("report_id", timer.subject))
        return
    if timer.kind.startswith("release_"):
        subjects.accounts[0].add(timer.subject)
        return
    subjects.transfers.add(UUID(timer.subject))
    if timer.kind in {"payout", "overdue"}:
        subjects.refunds.add(UUID(timer.subject))
    else:
        # What waited may carry a payee's name to check again.
        subjects.has_names = True
