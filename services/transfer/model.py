"""The nouns of the transfer service: accounts, transfers, refunds, movements and what refuses them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

from services.runtime.message import Cause

if TYPE_CHECKING:
    from datetime import date
    from typing import Self

    from services.runtime.message import Caused, Lane

LARGEST_AMOUNT_MINOR: Final = 10**15
"""The ledger's range for one transfer: a hundred of these still fit a balance."""

LARGEST_BALANCE_MINOR: Final = 10**18
"""A balance beyond this would come near the end of a signed 64-bit integer."""

OPEN_END: Final = datetime(9999, 12, 31, tzinfo=UTC)
"""When a restriction without an end is stored to end; no command can name a moment that late."""


class Kind(StrEnum):
    """Why money moves; the value is the contract's word."""

    P2P = "p2p"
    WITHDRAWAL = "withdrawal"
    TOP_UP = "top_up"
    FEE = "fee"
    INTEREST = "interest"


class Status(StrEnum):
    """Where a transfer stands; the value is the contract's word."""

    SCHEDULED = "scheduled"
    VERIFICATION_REQUIRED = "verification_required"
    HELD = "held"
    SENT = "sent"
    DELAYED = "delayed"
    SETTLED = "settled"
    REFUNDING = "refunding"
    REFUNDED = "refunded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


WAITING: Final = frozenset({Status.SCHEDULED, Status.VERIFICATION_REQUIRED, Status.HELD})
"""Nothing has moved yet and the user may still cancel."""

AT_THE_BANK: Final = frozenset({Status.SENT, Status.DELAYED})
"""Reserved and instructed; only the bank, or a person in its place, says how it ends."""


class AccountStatus(StrEnum):
    """Whether an account takes movements."""

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class Purpose(StrEnum):
    """What a movement is for, within its transfer."""

    TRANSFER = "transfer"
    FEE = "fee"
    REFUND = "refund"
    FEE_REFUND = "fee_refund"
    SUSPENSE = "suspense"


class RefundStatus(StrEnum):
    """Where a refund that goes through a bank stands."""

    SENT = "sent"
    DELAYED = "delayed"
    SETTLED = "settled"
    FAILED = "failed"


FORGET_TIMER: Final = "forget"
"""No late news of who was erased can come any more; its subject is the customer, its lane that of the erasure."""

RELEASE_TIMER: Final = "release"
"""Looks whether what a window holds in a lane may go on; its subject is that of a `Hold`."""

DRAIN_TIMER: Final = "drain"
"""Cancels more of what waits in a wallet that is closing; its subject is the wallet."""

REPORT_TIMER: Final = "report"
"""Tells more of a report of all wallets; its subject is the report's id."""

FEES_ACCOUNT: Final = "platform:fees"
SUSPENSE_ACCOUNT: Final = "platform:suspense"
UNCLAIMED_ACCOUNT: Final = "platform:unclaimed"
"""Holds what came back to wallets that were closed by then."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something was not done: one code of the contract's table and the figures that explain it."""

    code: str
    field: str | None = None
    detail: str | None = None
    shortfall_minor: int | None = None
    limit_minor: int | None = None
    available_at: datetime | None = None
    closed_by: ClosedWindow | None = None


@dataclass(frozen=True, slots=True)
class ClosedWindow:
    """A maintenance window as this service knows it; without banks or currencies it closes all of them."""

    window_id: UUID
    functions: tuple[str, ...]
    banks: tuple[str, ...]
    currencies: tuple[str, ...]
    starts_at: datetime
    ends_at: datetime
    is_confirmed: bool
    holds: bool
    alternatives: list[dict[str, Any]]

    def closes_at(self, moment: datetime) -> bool:
        """Tell whether it is in force: to its end, or where that has to be confirmed until somebody says so."""
        return self.starts_at <= moment and (self.is_confirmed or moment < self.ends_at)

    def resumes_after(self, moment: datetime) -> datetime | None:
        """Return when it is expected to open; None when that has passed and nobody knows."""
        return self.ends_at if self.ends_at > moment else None


class WindowChange(NamedTuple):
    """How a window stands after one of its events."""

    window: ClosedWindow
    revision: int
    is_over: bool


class FlagChanges(NamedTuple):
    """What became of risk flags, each of a customer and a rule: what is cleared goes, then the flags are kept."""

    flags: dict[tuple[str, str], datetime]
    cleared: set[tuple[str, str]]
    cleared_customers: set[str]


class Hold(NamedTuple):
    """Which window a transfer waits for, and in which lane."""

    window_id: UUID
    partition: int

    @property
    def subject(self) -> str:
        """The subject of the lane's own timers for it."""
        return f"{self.window_id}/{self.partition}"

    def subject_after(self, revision: int) -> str:
        """The subject of the timer that a change of the window sets.

        One of its own, which the lane does not hold while it waits for the change to be recorded.
        """
        return f"{self.subject}/{revision}"

    @classmethod
    def of(cls, subject: str) -> Self:
        """Return what a timer is about."""
        window_id, partition, *_ = subject.split("/")
        return cls(UUID(window_id), int(partition))


@dataclass(slots=True)
class Tally:
    """How many transfers a window held, refused and released."""

    held: int = 0
    refused: int = 0
    released: int = 0


@dataclass(slots=True)
class Waiver:
    """Fees that a customer need not pay."""

    compensation_id: UUID
    customer_id: str
    window_id: UUID
    remaining: int
    expires_at: datetime


@dataclass(slots=True)
class Account:
    """A wallet as a batch sees it: loaded once under a lock, changed in memory, recorded once."""

    account_id: str
    customer_id: str
    currency: str
    tier: str
    status: str
    overdraft_limit_minor: int
    low_balance_threshold_minor: int | None
    low_balance_warned: bool
    debit_restricted_until: datetime | None
    credit_restricted_until: datetime | None
    verification_blocked_until: datetime | None
    posted_minor: int
    reserved_minor: int
    entry_count: int
    version: int
    used_on: date
    used_day_minor: int
    used_day_count: int
    used_month_minor: int
    opened_at: datetime
    opening_hash: bytes
    case_id: UUID | None = None
    """The case for which it is closing or closed."""

    @property
    def available_minor(self) -> int:
        """What is posted less what is set aside for payouts on their way; may be negative."""
        return self.posted_minor - self.reserved_minor

    @property
    def spendable_minor(self) -> int:
        """What a debit may use: available and the overdraft."""
        return self.posted_minor - self.reserved_minor + self.overdraft_limit_minor


@dataclass(slots=True)
class Transfer:
    """A transfer as a batch sees it, with its latest event; a new one has none, and what its fields begin with."""

    transfer_id: UUID
    content_hash: bytes
    kind: str
    payer: str
    payee: str
    payer_customer_id: str | None
    payee_customer_id: str | None
    amount_minor: int
    fee_minor: int
    currency: str
    reference: str | None
    case_id: UUID | None
    correlation_id: str | None
    traceparent: str | None
    requested_at: datetime
    execute_at: datetime | None
    expires_at: datetime | None
    occurred_at: datetime
    status: str
    seq: int = 0
    event_type: str = ""
    event_body: bytes = b""
    verified: bool = False
    attempts_left: int | None = None
    resends_left: int | None = None
    verification_expires_at: datetime | None = None
    used_on: date | None = None
    inquiries: int = 0
    unknown_answers: int = 0
    refund_due_on: date | None = None
    refunding_minor: int = 0
    refunded_minor: int = 0
    refunded_fee_minor: int = 0
    contradiction: str | None = None
    may_be_held: bool = True

    @property
    def key(self) -> str:
        """The key of this transfer's messages."""
        return ordering_wallet(self.payer, self.payee)

    @property
    def waiting_of(self) -> str | None:
        """The wallet whose closing cancels this transfer: it waits to pay, or to take the money of a top-up."""
        if self.status not in WAITING:
            return None
        if self.payer.startswith("wallet:"):
            return self.payer
        return self.payee if self.kind == Kind.TOP_UP else None


def ordering_wallet(payer: str, payee: str) -> str:
    """Return the party whose messages a transfer is ordered among: the wallet debited, else the one credited."""
    return payer if payer.startswith("wallet:") else payee


@dataclass(slots=True)
class Refund:
    """Money on its way back to a bank: asked for by a command, or returned because it could not be booked."""

    refund_id: UUID
    transfer_id: UUID
    amount_minor: int
    fee_minor: int
    status: str
    source_account: str
    requested_at: datetime
    due_on: date | None
    inquiries: int
    unknown_answers: int
    contradiction: str | None


@dataclass(slots=True)
class Drain:
    """What keeps a wallet that is closing, or is asked to, from being drained."""

    waits_elsewhere: bool
    """Whether transfers of it wait that the batch is not about."""
    waiting: set[UUID]
    """Those that wait of what the batch is about."""
    changed_in: Lane | None = None
    """In which lane the batch changed its balance, its status, or what waits of it."""
    closed_by: Caused = field(default_factory=Cause)
    """What the wallet's latest event follows from: as a rule, that it is to be closed."""

    @property
    def waits(self) -> bool:
        """Whether any transfer of the wallet waits."""
        return self.waits_elsewhere or bool(self.waiting)


@dataclass(slots=True)
class Report:
    """How far a report on wallets has come; `total_minor` is by currency."""

    report_id: UUID
    last_account_id: str
    count: int
    total_minor: dict[str, int]
    correlation_id: str | None = None
    traceparent: str | None = None


class Movement(NamedTuple):
    """Money from one account to another: two entries that sum to zero because they are one row."""

    transfer_id: UUID
    purpose: str
    currency: str
    amount_minor: int
    debit_account: str
    debit_number: int | None
    debit_after_minor: int | None
    credit_account: str
    credit_number: int | None
    credit_after_minor: int | None
    moved_at: datetime


class Step(NamedTuple):
    """An event of a transfer that a later one has followed."""

    transfer_id: UUID
    seq: int
    type: str
    body: bytes
    occurred_at: datetime


class AccountEvent(NamedTuple):
    """The latest event of an account, and what it followed from."""

    account_id: str
    version: int
    type: str
    body: bytes
    occurred_at: datetime
    correlation_id: str | None = None
    traceparent: str | None = None


class AnswerKey(NamedTuple):
    """Whose id, and the id: what a command is remembered by."""

    scope: str
    id: str


class Answer(NamedTuple):
    """What a command was answered with; without a type, it was answered by events of a transfer."""

    key: AnswerKey
    content_hash: bytes
    message_key: bytes | None
    type: str | None
    event_id: str | None
    body: bytes | None
    occurred_at: datetime
