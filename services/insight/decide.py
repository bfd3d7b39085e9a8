"""Decides when failures restrict a customer, when that is over, and what an event counts as."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from services.insight.model import OTHER, DeliveryKey, Failure, Flag, OutcomeKey, Suspicion

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.notify import NotificationEvent
    from schemas.transfer import TransferEvent
    from services.insight.policy import Rule
    from services.runtime.message import Cause

OUTCOMES: Final = {
    "transfer.settled": "settled",
    "transfer.failed": "failed",
    "transfer.refunded": "refunded",
    "transfer.cancelled": "cancelled",
    "transfer.expired": "expired",
}
"""How transfers end, by the type of the event; one that was paid back has settled before, and is counted twice."""


# --- Failures ---


def count_failure(known: Suspicion, failure: Failure, customer_id: str, rule: Rule, cause: Cause) -> Suspicion:
    """Count a failure, once; the one that makes too many raises a flag, which uses them all up.

    Time is that of the failures, so the same failures, whenever they are read, raise the same flag. While a flag is in
    force nothing counts: it is not prolonged.
    """
    if failure.at < known.counts_from or any(failure.transfer_id == one.transfer_id for one in known.failures):
        return known
    failures = sorted((*known.failures, failure))
    since = failures[-1].at - timedelta(seconds=rule.within_s)
    recent = tuple(one for one in failures if one.at > since)[-rule.count :]
    if len(recent) < rule.count:
        return replace(known, failures=recent)
    last = recent[-1]
    until = last.at + timedelta(seconds=rule.restrict_for_s)
    flag = Flag(_flag_id(customer_id, rule, last), customer_id, rule.name, last.at, until, cause)
    return Suspicion((), flag, until)


def _flag_id(customer_id: str, rule: Rule, failure: Failure) -> str:
    cause = repr((customer_id, rule.name, failure.transfer_id))
    return f"{hashlib.blake2b(cause.encode(), digest_size=16).hexdigest()}.flagged"


def cleared_id(flag: Flag) -> str:
    """Return the id of the event that says that a flag is over."""
    return f"{flag.id}.cleared"


def restricted_until(flag: Flag, flags: Iterable[Flag], now: datetime) -> datetime | None:
    """Return until when others of a customer's flags restrict them for longer than this one; None where none does."""
    others = [one.until for one in flags if one.id != flag.id and one.until > max(now, flag.until)]
    return max(others, default=None)


def cleared(known: Suspicion) -> Suspicion:
    """Return what stays known when a flag is over: that its failures have had their flag."""
    return replace(known, flag=None)


def due_at(known: Suspicion, rule: Rule | None) -> datetime:
    """Return when a flag is over, or else when nothing that is known can count any more, by a rule that may be gone."""
    if known.flag is not None:
        return known.flag.until
    last = known.failures[-1].at if known.failures else known.counts_from
    return last + timedelta(seconds=0 if rule is None else rule.within_s)


# --- Counts ---


def outcome_of(type_: str, event: TransferEvent) -> OutcomeKey | None:
    """Return what a transfer's event is counted as; None where it is no end."""
    outcome = OUTCOMES.get(type_)
    if outcome is None:
        return None
    reason = "" if event.reason is None else event.reason.code
    return OutcomeKey(outcome, reason, bank_of(event.payer) or bank_of(event.payee))


def as_other(key: OutcomeKey) -> OutcomeKey:
    """Return what an outcome is counted as when too many are told apart already: with any other bank."""
    return key._replace(bank=OTHER)


def bank_of(party: str) -> str:
    """Return the code of a party's bank, or nothing where it is no bank account."""
    kind, _, rest = party.partition(":")
    return rest.partition(":")[0] if kind == "bank" else ""


def delivery_of(type_: str, event: NotificationEvent) -> DeliveryKey:
    """Return what a notice's event is counted as."""
    return DeliveryKey(event.gateway or "", event.channel, type_.removeprefix("notification."))
