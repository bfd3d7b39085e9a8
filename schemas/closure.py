"""The closure family: commands that end wallets and loans, and the events that say how far each case is."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from schemas.fields import (
    BusinessDate,
    Count,
    Currency,
    CustomerId,
    Digest,
    MessageId,
    Minor,
    Moment,
    Name,
    NonNegativeMinor,
    Party,
    Revision,
    ShortText,
    Subject,
    Text,
    Wallet,
    Wire,
)
from schemas.reasons import ClosingCode, ClosureRefusal, DocumentKind, Reason, Remedy


def event_id(kind: str, about: UUID, revision: int) -> str:
    """Return the `ce_id` of an event: of a case, a reopening or a clearance, which may have one id, and its change."""
    return f"{kind}.{about}.{revision}"


def about_of(id_: str) -> str:
    """Return the id of what such an event is about."""
    return id_.split(".")[1]


Cause = Literal["platform_transition", "regulation", "termination"]
Consequence = Literal["credit_record", "reopening_not_promised", "limit_not_promised", "data_erased"]
ObligationKind = Literal["loan", "credit_card", "negative_balance"]
KeptData = Literal["identity", "transfers", "loans", "closing"]
KeptBecause = Literal["money_laundering_law", "accounting_law", "credit_law", "contract_law"]
Deferred = Literal["wallet_open", "loan_open", "case_open"]
Subjects = Literal["all"] | Annotated[tuple[Wallet, ...], Field(min_length=1)]
"""The wallets that a clearance ends."""


# --- Commands ---


class Applicant(Wire):
    """Who applies, as they say it themselves."""

    name: Name
    id_number: ShortText
    phone: ShortText


class Payout(Wire):
    """Where the balance goes."""

    payee: Party
    payee_name: Name


class ClosureRequest(Wire):
    """Apply for the closing of a wallet or a loan."""

    case_id: UUID
    subject: Subject
    reason: Text
    applicant: Applicant
    claimed_balance_minor: Minor | None = None
    payout: Payout | None = None
    accepts_fee: bool = False


class ClosureCorrect(Wire):
    """Say again who applies, after what was wrong in it."""

    case_id: UUID
    applicant: Applicant
    claimed_balance_minor: Minor | None = None


class Document(Wire):
    """A document that proves who applies, and where it lies."""

    kind: DocumentKind
    sha256: Digest
    uri: Annotated[Text, Field(min_length=1)]


class ClosureDocuments(Wire):
    """Send the documents that a case waits for."""

    case_id: UUID
    documents: Annotated[tuple[Document, ...], Field(min_length=1, max_length=20)]


class ClosurePayoutAccount(Payout):
    """Name the account that the balance goes to, at first or another."""

    case_id: UUID


class ClosureReview(Wire):
    """A person's decision on a case that is in review."""

    case_id: UUID
    decision: Literal["approve", "reject"]
    reviewer: Name
    note: Text


class ClosureConfirm(Wire):
    """Accept the amount, the fee and the consequences."""

    case_id: UUID


class ClosureCancel(Wire):
    """Call a closing off."""

    case_id: UUID


class ClosureReopen(Wire):
    """Apply for a wallet or loan that was closed to be opened again."""

    request_id: UUID
    subject: Subject
    applicant: Applicant


class AssessmentAnswered(Wire):
    """The credit system's word on a loan that is to be opened again."""

    request_id: UUID
    approved: bool
    limit_minor: NonNegativeMinor | None = None
    currency: Currency | None = None


class ClearanceStart(Wire):
    """End many wallets, at so many a second; a dry run has no effects and tells nobody."""

    clearance_id: UUID
    cause: Cause
    subjects: Subjects
    announce_at: Moment
    starts_at: Moment
    deadline: Moment
    rate_per_s: Annotated[int, Field(ge=1, le=10_000)]
    dry_run: bool = False


class ClearancePause(Wire):
    """Begin no more cases until it is resumed."""

    clearance_id: UUID


class ClearanceResume(Wire):
    """Go on with a clearance that was paused."""

    clearance_id: UUID


# --- Events of a case ---


class CaseEvent(Wire):
    """One change of one case; `customer_id` is absent where the subject is nobody's that we know."""

    case_id: UUID
    subject: Subject
    customer_id: CustomerId | None = None
    revision: Revision
    occurred_at: Moment


class ClosureReceived(CaseEvent):
    """A case is begun: applied for, or with `cause` by a clearance; a payout account is wanted by `deadline`."""

    clearance_id: UUID | None = None
    cause: Cause | None = None
    deadline: Moment | None = None


class DocumentsItem(Wire):
    """One thing that is wrong with the applicant's identity, and what mends it."""

    code: ClosingCode
    field: ShortText
    remedy: Remedy


class ClosureDocumentsRequired(CaseEvent):
    """The case waits for `closure.correct` or `closure.documents`."""

    items: Annotated[tuple[DocumentsItem, ...], Field(min_length=1)]
    expires_at: Moment


class Rejection(Wire):
    """Why a case ends, and what would mend it; `available_at` is when a new application may pass."""

    code: ClosingCode
    remedy: Remedy
    detail: Text | None = None
    available_at: Moment | None = None


class Obligation(Wire):
    """What is still owed: `owed_minor` is principal, interest and penalty, or what a wallet is below zero."""

    kind: ObligationKind
    obligation_id: ShortText | None = None
    account_id: ShortText | None = None
    """Which of the customer's other wallets it is; without one, the one that was to be closed."""
    principal_minor: Minor
    interest_minor: Minor
    penalty_minor: Minor
    owed_minor: Minor
    currency: Currency


class ClosureRejected(CaseEvent):
    """The case has ended; once what is wrong is mended, a new application may pass."""

    reasons: Annotated[tuple[Rejection, ...], Field(min_length=1)]
    obligations: tuple[Obligation, ...] = ()


class ClosureInReview(CaseEvent):
    """The case waits for a person's decision."""


class ClosureApproved(CaseEvent):
    """The case waits for the customer's `closure.confirm`; all amounts are 0 for a loan."""

    balance_minor: NonNegativeMinor
    fee_minor: NonNegativeMinor
    payout_minor: NonNegativeMinor
    currency: Currency
    payee: Party | None = None
    consequences: tuple[Consequence, ...]
    expires_at: Moment


class ClosureConfirmed(CaseEvent):
    """The customer has accepted the amount, the fee and the consequences."""


class ClosureDraining(CaseEvent):
    """The wallet takes nothing new; what is under way is awaited."""


class ClosurePayingOut(CaseEvent):
    """The balance is on its way."""

    transfer_id: UUID
    payout_minor: NonNegativeMinor
    currency: Currency
    payee: Party


class ClosurePayoutFailed(CaseEvent):
    """The balance did not arrive; the case waits for `closure.payout_account`."""

    transfer_id: UUID
    payout_minor: NonNegativeMinor
    currency: Currency
    payee: Party
    reason: Reason
    expires_at: Moment | None = None


class ClosurePayoutAccountRequired(CaseEvent):
    """The balance waits for `closure.payout_account`: none was named; a clearance reminds of it until `deadline`."""

    payout_minor: NonNegativeMinor
    currency: Currency
    deadline: Moment | None = None


class Kept(Wire):
    """Personal data that the law makes the platform keep, until a day."""

    what: KeptData
    why: KeptBecause
    until: BusinessDate


class Receipt(Wire):
    """What a customer may show of a closing; its digest is over its JSON as RFC 8785 has it."""

    number: Annotated[str, Field(pattern=r"^[A-Z0-9-]{1,40}$", examples=["R-20261123-4F50A"])]
    subject: Subject
    balance_minor: NonNegativeMinor
    fee_minor: NonNegativeMinor
    payout_minor: NonNegativeMinor
    currency: Currency
    payee: Party | None = None
    transfer_id: UUID | None = None
    finished_at: Moment
    retained: tuple[Kept, ...] = ()


class ClosureErasing(CaseEvent):
    """Personal data is erased from now on: the last that the customer can be told."""

    receipt: Receipt


class ClosureClosed(CaseEvent):
    """The case is done; where erasing is deferred, `why` says what is still open, and here is the receipt."""

    receipt_sha256: Digest
    receipt: Receipt | None = None
    erasure: Literal["done", "deferred"]
    why: Deferred | None = None


class ClosureCancelled(CaseEvent):
    """The closing was called off; the subject stays as it was."""


class ClosureExpired(CaseEvent):
    """The customer did not confirm in time; the subject stays as it was."""


class ClosureDiscrepancy(CaseEvent):
    """After the closing something is left that should not be."""

    expected: Text
    found: Text


class ClosureCommandRefused(Wire):
    """A command was refused; the case, application or clearance that it names stays as it is.

    `customer_id` is there where the customer is told: they have confirmed a closing in vain.
    """

    command_type: MessageId
    command_id: MessageId
    case_id: UUID | None = None
    customer_id: CustomerId | None = None
    request_id: UUID | None = None
    clearance_id: UUID | None = None
    subject: Subject | None = None
    reason: ClosureRefusal
    occurred_at: Moment


class CreditStatusChanged(CaseEvent):
    """For the credit registry: the loan is closed."""

    status: Literal["closed"]


class LoanDisabled(CaseEvent):
    """For lending: the loan lends nothing any more."""


# --- Events of coming back ---


class ReopeningEvent(Wire):
    """One change of one application for reopening; `case_id` is the closing's, if there was one."""

    request_id: UUID
    case_id: UUID | None = None
    subject: Subject
    customer_id: CustomerId | None = None
    revision: Revision
    occurred_at: Moment


class AssessmentRequested(ReopeningEvent):
    """For the credit system: it is asked for `assessment.answered`."""


class ClosureReopened(ReopeningEvent):
    """The wallet or loan is open again; a loan with a new limit."""

    limit_minor: NonNegativeMinor | None = None
    currency: Currency | None = None


class ClosureReopenRefused(ReopeningEvent):
    """It stays closed."""

    reasons: Annotated[tuple[Rejection, ...], Field(min_length=1)]


# --- Events of a clearance ---


class ClearanceEvent(Wire):
    """One change of one clearance; `wallets` is how many it ends."""

    clearance_id: UUID
    revision: Revision
    cause: Cause
    dry_run: bool
    wallets: Count
    occurred_at: Moment


class ClearanceAnnounced(ClearanceEvent):
    """Wallets will be ended from `starts_at` on; payout accounts are wanted by `deadline`.

    The holders of the wallets that are named are told, or without `subjects` those of every wallet.
    """

    subjects: Subjects = "all"
    starts_at: Moment
    deadline: Moment


class ClearedMoney(Wire):
    """What became of what the wallets held when the clearance began, in one currency.

    `total_minor` is the sum of the others: paid out, taken as a fee, waiting for a payout account (and, until the
    clearance is finished, not paid out yet), left in wallets that are blocked, and moved by the holders themselves
    before their wallets took nothing new, which is below zero where more came in than went out; moved is also what
    another clearance paid out, so that no two count the same money.
    """

    currency: Currency
    total_minor: Minor
    paid_out_minor: Minor
    fee_minor: Minor
    waiting_minor: Minor
    blocked_minor: Minor = 0
    moved_minor: Minor = 0


class Blocker(Wire):
    """What keeps a clearance from ending a wallet: what its holder owes, or a case that is open; or nobody knows it.

    `case_id` is the case that it was left in, or another clearance's.
    """

    subject: Wallet
    code: ClosingCode
    case_id: UUID | None = None
    owed_minor: Minor | None = None
    currency: Currency | None = None


class ClearanceProgress(ClearanceEvent):
    """How far a clearance is: `cleared`, `paid`, `waiting`, `blocked` and what is `pending` add up to `wallets`.

    `cleared` are wallets that are closed and held nothing, `paid` those that are closed and paid out, `waiting` those
    without a payout account that works, `blocked` those that stay because their holder owes something, another
    clearance has them or nobody knows them, or from the deadline on because a case of the holder's own waits for
    somebody. From the deadline on, those whose bank is silent are `waiting`, too.
    """

    cleared: Count
    paid: Count = 0
    waiting: Count
    blocked: Count = 0
    pending: Count
    paused: bool
    money: tuple[ClearedMoney, ...]


class ClearanceFinished(ClearanceEvent):
    """The final statement of a clearance: `cleared`, `paid`, `waiting` and `blocked` add up to `wallets`.

    It names the first 100 `blockers`. Of a dry run it says what would be at the deadline: `waiting` are those who have
    named no payout account yet, which is all but those whose own case has gone past that.
    """

    cleared: Count
    paid: Count = 0
    waiting: Count
    blocked: Count = 0
    money: tuple[ClearedMoney, ...]
    blockers: Annotated[tuple[Blocker, ...], Field(max_length=100)] = ()
