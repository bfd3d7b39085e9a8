"""The nouns of the insight service: failures, what somebody is suspected of, flags, and counts by the minute."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from services.runtime.message import Cause

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
OTHER = "other"
"""What a bank is called when too many are named in one minute."""


class Failure(NamedTuple):
    """A transfer that was refused; those of a customer are told apart by the transfer."""

    at: datetime
    transfer_id: str
    reason: str


class Flag(NamedTuple):
    """A restriction that a rule has brought about; its id, correlation and trace are of the failure that did it."""

    id: str
    customer_id: str
    rule: str
    since: datetime
    until: datetime
    cause: Cause = Cause()


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What one rule knows of one customer: recent failures, the oldest first, and the flag that is in force.

    Failures before `counts_from` have had their flag, and count no more.
    """

    failures: tuple[Failure, ...] = ()
    flag: Flag | None = None
    counts_from: datetime = BEGINNING

    def as_json(self) -> dict[str, Any]:
        """Return what stands in the table."""
        return {
            "failures": [[failure.at.isoformat(), *failure[1:]] for failure in self.failures],
            "flag": None
            if self.flag is None
            else [*self.flag[:3], self.flag.since.isoformat(), self.flag.until.isoformat(), *self.flag.cause],
            "counts_from": self.counts_from.isoformat(),
        }

    @classmethod
    def of_json(cls, body: dict[str, Any]) -> Suspicion:
        """Return what the table has."""
        flag = body["flag"]
        return cls(
            tuple(Failure(datetime.fromisoformat(at), id_, reason) for at, id_, reason in body["failures"]),
            None if flag is None else _flag_of_json(flag),
            datetime.fromisoformat(body["counts_from"]),
        )


def _flag_of_json(body: list[Any]) -> Flag:
    id_, customer_id, rule, since, until, *cause = body
    return Flag(id_, customer_id, rule, datetime.fromisoformat(since), datetime.fromisoformat(until), Cause(*cause))


class OutcomeKey(NamedTuple):
    """How a transfer ended: its outcome, the code of its reason and its bank, each empty where there is none."""

    outcome: str
    reason: str
    bank: str


class DeliveryKey(NamedTuple):
    """What became of a notice: which gateway had it last, none where it did not leave, its channel and its status."""

    gateway: str
    channel: str
    status: str
