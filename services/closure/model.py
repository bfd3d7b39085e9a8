"""The nouns of the closing service: cases and their steps, customers, wallets, what is owed, and what was answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID, uuid5

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from services.closure.identity import ProfileHashes


class Status(StrEnum):
    """Where a case stands."""

    RECEIVED = "received"
    IDENTITY = "identity"
    DOCUMENTS_REQUIRED = "documents_required"
    OBLIGATIONS = "obligations"
    IN_FLIGHT = "in_flight"
    POLICY = "policy"
    REVIEW = "review"
    APPROVED = "approved"
    CONFIRMED = "confirmed"
    ACCOUNT_WANTED = "account_wanted"
    DRAINING = "draining"
    PAYING_OUT = "paying_out"
    PAYOUT_STOPPED = "payout_stopped"
    PAYOUT_REVIEW = "payout_review"
    FINISHING = "finishing"
    ERASING = "erasing"
    REINSTATING = "reinstating"
    CLOSED = "closed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


LARGEST_MINOR: Final = 2**63 - 1
"""The largest amount that an event can carry."""

ENDED: Final = frozenset({Status.CLOSED, Status.REJECTED, Status.CANCELLED, Status.EXPIRED})
"""Nothing changes a case any more."""

IN_REVIEW: Final = frozenset({Status.REVIEW, Status.PAYOUT_REVIEW})
"""A person decides: about the case, or about the account that its balance is to go to."""

BEFORE_DRAINING: Final = frozenset(
    {
        Status.RECEIVED,
        Status.IDENTITY,
        Status.DOCUMENTS_REQUIRED,
        Status.OBLIGATIONS,
        Status.IN_FLIGHT,
        Status.POLICY,
        Status.REVIEW,
        Status.APPROVED,
        Status.CONFIRMED,
        Status.ACCOUNT_WANTED,
    }
)
"""The wallet or loan is still as it was: an obligation stops the case, and it can be called off."""

TRANSITIONS: Final[Mapping[Status, frozenset[Status]]] = {
    Status.RECEIVED: frozenset({Status.IDENTITY, Status.OBLIGATIONS, Status.REJECTED, Status.CANCELLED}),
    Status.IDENTITY: frozenset({Status.DOCUMENTS_REQUIRED, Status.OBLIGATIONS, Status.REVIEW}),
    Status.DOCUMENTS_REQUIRED: frozenset({Status.IDENTITY, Status.REVIEW, Status.REJECTED, Status.CANCELLED}),
    Status.OBLIGATIONS: frozenset(
        {
            Status.IN_FLIGHT,
            Status.REVIEW,
            Status.POLICY,
            Status.ACCOUNT_WANTED,
            Status.DRAINING,
            Status.REJECTED,
            Status.CANCELLED,
        }
    ),
    Status.IN_FLIGHT: frozenset(
        {Status.DOCUMENTS_REQUIRED, Status.REVIEW, Status.POLICY} | {Status.REJECTED, Status.CANCELLED}
    ),
    Status.POLICY: frozenset({Status.REVIEW, Status.APPROVED, Status.REJECTED}),
    Status.REVIEW: frozenset({Status.OBLIGATIONS, Status.APPROVED, Status.REJECTED, Status.CANCELLED}),
    Status.APPROVED: frozenset({Status.CONFIRMED, Status.REVIEW, Status.REJECTED, Status.CANCELLED, Status.EXPIRED}),
    Status.CONFIRMED: frozenset({Status.DRAINING, Status.ERASING, Status.CLOSED}),
    Status.ACCOUNT_WANTED: frozenset({Status.DRAINING, Status.REJECTED}),
    Status.DRAINING: frozenset(
        {
            Status.PAYING_OUT,
            Status.PAYOUT_STOPPED,
            Status.PAYOUT_REVIEW,
            Status.FINISHING,
            Status.REINSTATING,
            Status.REJECTED,
        }
    ),
    Status.PAYING_OUT: frozenset({Status.PAYOUT_STOPPED, Status.PAYOUT_REVIEW, Status.FINISHING}),
    Status.PAYOUT_STOPPED: frozenset({Status.PAYING_OUT, Status.PAYOUT_REVIEW, Status.REINSTATING}),
    Status.PAYOUT_REVIEW: frozenset({Status.PAYING_OUT, Status.PAYOUT_STOPPED, Status.REINSTATING}),
    Status.FINISHING: frozenset(
        {Status.PAYING_OUT, Status.PAYOUT_STOPPED, Status.PAYOUT_REVIEW, Status.ERASING, Status.CLOSED}
    ),
    Status.ERASING: frozenset({Status.CLOSED}),
    Status.REINSTATING: frozenset({Status.CANCELLED, Status.REJECTED}),
}
"""Which step may follow which; the database knows the same pairs (`case_transition`)."""


class Subject(StrEnum):
    """What a case closes: what its subject begins with."""

    WALLET = "wallet"
    LOAN = "loan"


EXPIRE_TIMER: Final = "expire"
LOOK_TIMER: Final = "look"
RETRY_TIMER: Final = "retry"
RESIDUE_TIMER: Final = "residue"
ASSESS_TIMER: Final = "assess"
"""The credit system has not answered in time; its subject is an application to come back, those of others are cases."""


LOOKING: Final = "looking"
LOOKED: Final = "looked"
FORGETTING: Final = "forgetting"
"""How far it is looked for what a closing left: it waits for a report, has had it, or waits for the erasure."""


@dataclass(frozen=True, slots=True)
class PayoutAccount:
    """A bank account, and its holder's name as it was given."""

    payee: str
    payee_name: str


@dataclass(frozen=True, slots=True)
class Application:
    """What an applicant said of themselves and where the money goes: personal data, kept sealed until the erasure.

    `payee` and `payee_name` are the account that was named last. Only `judged` is paid to: the policy, or a person
    where it says so, has let it pass.
    """

    name: str = ""
    id_number: str = ""
    phone: str = ""
    reason: str = ""
    payee: str | None = None
    payee_name: str | None = None
    documents: tuple[Mapping[str, Any], ...] = ()
    reviews: tuple[Mapping[str, Any], ...] = ()
    judged: PayoutAccount | None = None

    @property
    def named(self) -> PayoutAccount | None:
        """The account that was named last."""
        return None if self.payee is None or self.payee_name is None else PayoutAccount(self.payee, self.payee_name)


@dataclass(slots=True)
class Case:
    """A case as a batch sees it, with its latest event.

    `balance_minor` is what the wallet held when that was last said, `start_minor` what it held when a clearance began.
    `payout_minor` is what the latest payout was for, `paid_minor` and `fee_paid_minor` what has arrived,
    `paid_numbers` the payouts and `fee_paid_number` the latest fee that are counted there. `refusal` is why a case
    that waits does: the code of what is wrong with an application, or of what stopped a payout; of a closed case, how
    far it is looked for what it left: `looking`, `looked` or `forgetting`. `reported` is what each wallet that
    the latest report is about has posted, None for one that is still awaited. `reviewed_minor` is the balance that was
    approved.
    """

    case_id: UUID
    content_hash: bytes
    subject: str
    received_at: datetime
    customer_id: str | None = None
    clearance_id: UUID | None = None
    correlation_id: str | None = None
    traceparent: str | None = None
    status: str = Status.RECEIVED
    step_count: int = 0
    revision: int = 0
    event_type: str = ""
    event_body: bytes = b""
    occurred_at: datetime | None = None
    expires_at: datetime | None = None
    accepts_fee: bool = False
    claimed_balance_minor: int | None = None
    attempts: int = 0
    review_of: str | None = None
    approved_by: list[str] = field(default_factory=list)
    reports: int = 0
    currency: str | None = None
    start_minor: int = 0
    balance_minor: int = 0
    fee_minor: int = 0
    payouts: int = 0
    payout_minor: int = 0
    paid_minor: int = 0
    paid_numbers: list[int] = field(default_factory=list)
    fee_paid_minor: int = 0
    fee_paid_number: int = 0
    refusal: str | None = None
    erased_by: list[str] = field(default_factory=list)
    receipt_sha256: str | None = None
    erasure: str | None = None
    id_number_hash: bytes | None = None
    ended_at: datetime | None = None
    sealed: bytes | None = None
    reported: dict[str, int | None] = field(default_factory=dict)
    reviewed_minor: int = 0
    wrapped_key: bytes | None = None

    @property
    def is_forgetting(self) -> bool:
        """Whether it waits until everybody has forgotten its customer."""
        return self.status == Status.ERASING or (self.status == Status.CLOSED and self.refusal == FORGETTING)

    @property
    def is_loan(self) -> bool:
        """Whether it closes a loan and no wallet."""
        return self.subject.startswith(f"{Subject.LOAN}:")

    @property
    def obligation_id(self) -> str:
        """The loan that it closes."""
        return self.subject.partition(":")[2]

    @property
    def awaits_reports(self) -> bool:
        """Whether the latest report has not told of all of its customer's wallets yet."""
        return None in self.reported.values()

    @property
    def total_minor(self) -> int:
        """What its wallet held before it paid anything out."""
        return self.balance_minor + self.paid_minor + self.fee_paid_minor

    @property
    def owes_payout(self) -> bool:
        """Whether the latest payout, or the fee where there is nothing else to pay, has not arrived yet."""
        if self.payout_minor:
            return self.payouts not in self.paid_numbers
        return self.fee_minor > self.fee_paid_minor

    @property
    def report_id(self) -> UUID:
        """The id of the latest report that it asked for."""
        return uuid5(self.case_id, f"report/{self.reports}")

    @property
    def payout_id(self) -> UUID:
        """The id of the latest payout that it asked for."""
        return payout_id(self.case_id, self.payouts)

    def number_of(self, id_: UUID) -> int | None:
        """Return which of its payouts has an id, the latest or one before; None for what is none of them."""
        return next((number for number in range(self.payouts, 0, -1) if payout_id(self.case_id, number) == id_), None)

    @property
    def fee_id(self) -> UUID:
        """The id of the transfer that takes the fee, where the latest payout is only that."""
        return fee_id(self.case_id, self.payouts)


def payout_id(case_id: UUID, number: int) -> UUID:
    """Return the id of a payout of a case."""
    return uuid5(case_id, f"payout/{number}")


def fee_id(case_id: UUID, number: int) -> UUID:
    """Return the id of the transfer that takes the fee, where a payout is only that."""
    return uuid5(case_id, f"fee/{number}")


class ReopeningStatus(StrEnum):
    """Where an application to come back stands: it waits for the credit system, or the transfer service, or no more."""

    ASSESSING = "assessing"
    REOPENING = "reopening"
    REOPENED = "reopened"
    REFUSED = "refused"


@dataclass(slots=True)
class Reopening:
    """An application to come back as a batch sees it, with its latest event; `case_id` is the closing's."""

    request_id: UUID
    content_hash: bytes
    subject: str
    received_at: datetime
    customer_id: str | None = None
    case_id: UUID | None = None
    correlation_id: str | None = None
    traceparent: str | None = None
    status: str = ReopeningStatus.REFUSED
    revision: int = 0
    event_type: str = ""
    event_body: bytes = b""
    occurred_at: datetime | None = None
    expires_at: datetime | None = None

    @property
    def is_pending(self) -> bool:
        """Whether it waits for an answer."""
        return self.status in {ReopeningStatus.ASSESSING, ReopeningStatus.REOPENING}


class ClearanceStatus(StrEnum):
    """Where a clearance stands."""

    PLANNED = "planned"
    ANNOUNCED = "announced"
    REPORTING = "reporting"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(slots=True)
class Clearance:
    """A clearance as a batch sees it, with its latest event; its wallets stay in the database.

    `asked_at` is when the transfer service was asked how the wallets stand. `wallets` is how many it ends, as far as
    that is known. Cases begin at a rate counted from `rate_from`, when `rate_begun` of them had.
    """

    clearance_id: UUID
    content_hash: bytes
    cause: str
    dry_run: bool
    announce_at: datetime
    starts_at: datetime
    deadline: datetime
    rate_per_s: int
    status: str = ClearanceStatus.PLANNED
    paused: bool = False
    correlation_id: str | None = None
    traceparent: str | None = None
    wallets: int = 0
    revision: int = 0
    event_type: str = ""
    event_body: bytes = b""
    occurred_at: datetime | None = None
    asked_at: datetime | None = None
    last_account: str = ""
    begun: int = 0
    rate_from: datetime | None = None
    rate_begun: int = 0
    wave_at: datetime | None = None
    wave_after: str = ""


class ClearedWallet(NamedTuple):
    """A wallet as a clearance found it."""

    account_id: str
    customer_id: str
    currency: str
    posted_minor: int


class Step(NamedTuple):
    """One step of a case: where it came from, why, and what was said of it, if anything."""

    case_id: UUID
    number: int
    previous: str | None
    status: str
    why: str | None
    revision: int | None
    event_type: str | None
    event_body: bytes | None
    occurred_at: datetime


@dataclass(slots=True)
class Customer:
    """A customer as far as closing needs them; without a profile there are no hashes.

    `flags` are until when each rule suspects them. `erase_wanted` is the id of what asked that they be forgotten, which
    waits for the end of their cases.
    """

    customer_id: str
    profile: ProfileHashes | None = None
    wrapped_key: bytes | None = None
    flags: dict[str, datetime] = field(default_factory=dict)
    erase_wanted: str | None = None
    erased_at: datetime | None = None

    @property
    def flagged_until(self) -> datetime | None:
        """Until when a rule suspects them, whichever does longest."""
        return max(self.flags.values(), default=None)


@dataclass(slots=True)
class Wallet:
    """A wallet as it was last published, by its highest version."""

    account_id: str
    customer_id: str
    currency: str
    status: str
    version: int


@dataclass(frozen=True, slots=True)
class Position:
    """What a customer owes on a loan or card."""

    obligation_id: str
    customer_id: str
    account: str | None
    kind: str
    principal_minor: int
    interest_minor: int
    penalty_minor: int
    currency: str
    status: str

    @property
    def is_owed(self) -> bool:
        """Whether anything of it is not zero: amounts decide, not the status."""
        return bool(self.principal_minor or self.interest_minor or self.penalty_minor)

    @property
    def owed_minor(self) -> int:
        """Principal, interest and penalty; no more than an event can carry, each of them may be as much."""
        total_minor = self.principal_minor + self.interest_minor + self.penalty_minor
        return max(-LARGEST_MINOR, min(total_minor, LARGEST_MINOR))


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a command is refused, and nothing changes; it `is_final` where it can never become true any more."""

    code: str
    field: str | None = None
    detail: str | None = None
    is_final: bool = False


class AnswerKey(NamedTuple):
    """A command without an id of its own: who said it, and its `ce_id`."""

    source: str
    id: str


class Answer(NamedTuple):
    """What a command was answered with; without a type, with nothing."""

    key: AnswerKey
    content_hash: bytes
    message_key: bytes | None
    type: str | None
    event_id: str | None
    subject: str | None
    body: bytes | None
    occurred_at: datetime
    correlation_id: str | None = None
    traceparent: str | None = None
