"""Which accounts, transfers, refunds and answers a batch is about, so that none is asked for twice."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from services.transfer.decide.commands import answer_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from services.runtime.message import Message, Timer
    from services.transfer.model import AnswerKey


@dataclass(slots=True)
class Subjects:
    """The ids that a part of a batch names; those that only the database knows are added while loading."""

    accounts: set[str] = field(default_factory=set)
    openings: set[str] = field(default_factory=set)
    transfers: set[UUID] = field(default_factory=set)
    refunds: set[UUID] = field(default_factory=set)
    answers: set[AnswerKey] = field(default_factory=set)
    has_names: bool = False


def subjects_of(parts: Sequence[Sequence[Message]], timers: Iterable[Timer]) -> list[Subjects]:
    """Return what each part of a batch is about, at least one.

    What its timers are about counts to the first, and so do all answers and openings: a message of an early part may
    change what one of a later part asks for.
    """
    first = Subjects()
    found = [first, *(Subjects(openings=first.openings, answers=first.answers) for _ in parts[1:])]
    for subjects, messages in zip(found, parts, strict=True):
        for message in messages:
            _add_message(subjects, message)
    for timer in timers:
        _add_timer(first, timer)
    for later in found[1:]:
        later.openings, later.answers = set(), set()
    return found


def _add_message(subjects: Subjects, message: Message) -> None:
    data: Any = message.data
    if message.type == "transfer.request":
        _add_request(subjects, data)
        return
    key = answer_key(message)
    if key is not None:
        subjects.answers.add(key)
    if message.type == "transfer.batch":
        for item in data.items:
            _add_request(subjects, item)
    elif message.type == "transfer.quote":
        _add_parties(subjects, data)
    elif message.type.startswith("account."):
        subjects.accounts.add(data.account_id)
        if message.type == "account.open":
            subjects.openings.add(data.account_id)
    else:
        subjects.transfers.add(data.transfer_id)
        if message.type == "transfer.refund":
            subjects.transfers.add(data.refund_id)
        if message.type.startswith("payout.") or message.type == "transfer.resolve":
            subjects.refunds.add(data.transfer_id)


def _add_request(subjects: Subjects, request: Any) -> None:
    subjects.transfers.add(request.transfer_id)
    if request.kind == "withdrawal":
        subjects.refunds.add(request.transfer_id)
    _add_parties(subjects, request)


def _add_parties(subjects: Subjects, request: Any) -> None:
    for party in (request.payer, request.payee):
        if party.startswith("wallet:"):
            subjects.accounts.add(party)
    if request.payee_name is not None:
        subjects.has_names = True


def _add_timer(subjects: Subjects, timer: Timer) -> None:
    if timer.kind.startswith("release_"):
        subjects.accounts.add(timer.subject)
        return
    subjects.transfers.add(UUID(timer.subject))
    if timer.kind in {"payout", "overdue"}:
        subjects.refunds.add(UUID(timer.subject))
    else:
        # What waited may carry a payee's name to check again.
        subjects.has_names = True
