"""The transfer family: commands that move money, and the events that say what became of them."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from schemas.fields import (
    BusinessDate,
    Currency,
    CustomerId,
    Items,
    MessageId,
    Minor,
    Moment,
    Name,
    NonNegativeMinor,
    Party,
    Reference,
    ShortText,
    Text,
    Translations,
    Wallet,
    Wire,
)
from schemas.reasons import Reason

TransferKind = Literal["p2p", "withdrawal", "top_up", "fee", "interest"]
TransferStatus = Literal[
    "scheduled",
    "verification_required",
    "held",
    "sent",
    "delayed",
    "settled",
    "refunding",
    "refunded",
    "failed",
    "cancelled",
    "expired",
]
Method = Literal["sms_otp", "fingerprint", "face"]


# --- Commands ---


class Order(Wire):
    """What a request and a quote have in common."""

    kind: TransferKind
    payer: Party
    payee: Party
    payee_name: Name | None = None
    amount_minor: Minor
    currency: Currency
    reference: Reference | None = None
    execute_at: Moment | None = None
    expires_at: Moment | None = None
    on_maintenance: Literal["hold", "reject"] = "hold"
    case_id: UUID | None = None


class TransferRequest(Order):
    """Move money once. The same id and content again is answered again and moves nothing."""

    transfer_id: UUID


class TransferBatch(Wire):
    """Up to 1,000 requests, answered item by item; an atomic batch starts all of them or none."""

    batch_id: UUID
    atomic: bool
    items: Annotated[Items[TransferRequest], Field(min_length=1, max_length=1000)]


class TransferQuote(Order):
    """Ask what a request would cost and whether it would be accepted now."""

    quote_id: UUID
    transfer_id: UUID | None = None


class TransferVerify(Wire):
    """The authentication system's word on a transfer that waits for its payer to prove who they are."""

    transfer_id: UUID
    method: Method
    outcome: Literal["passed", "failed"]


class TransferVerificationResend(Wire):
    """Ask the payer again, a limited number of times."""

    transfer_id: UUID


class TransferCancel(Wire):
    """Cancel a transfer that is scheduled, held or waits for verification."""

    transfer_id: UUID
    reason: Text | None = None


class TransferRefund(Wire):
    """Give back a settled transfer, whole or in part."""

    refund_id: UUID
    transfer_id: UUID
    amount_minor: Minor | None = None
    reason: Text


class TransferResolve(Wire):
    """An operator's word where the bank gave none; the id is the transfer's or the refund's."""

    transfer_id: UUID
    outcome: Literal["settled", "failed"]
    evidence: Annotated[Text, Field(min_length=1)]
    by: Name


# --- Events ---


class TransferEvent(Wire):
    """One change of one transfer; `seq` counts them from 1."""

    transfer_id: UUID
    seq: Annotated[int, Field(ge=1)]
    kind: TransferKind
    payer: Party
    payee: Party
    payer_customer_id: CustomerId | None = None
    payee_customer_id: CustomerId | None = None
    amount_minor: Minor
    fee_minor: NonNegativeMinor
    currency: Currency
    status: TransferStatus
    reason: Reason | None = None
    case_id: UUID | None = None
    payer_available_minor: Minor | None = None
    payee_available_minor: Minor | None = None
    requested_at: Moment
    occurred_at: Moment


class TransferSettled(TransferEvent):
    """The money has arrived."""


class Alternative(Wire):
    """Another way to do what is not possible now; readers of a language that its texts do not have are not told."""

    kind: ShortText
    text: Text
    text_in: Translations = ()


class TransferFailed(TransferEvent):
    """Refused: nothing moved, or what a bank had handed over goes back to it; maintenance names its window."""

    reason: Reason
    window_id: UUID | None = None
    resume_at: Moment | None = None
    alternatives: Items[Alternative] = ()


class TransferHeld(TransferEvent):
    """Maintenance: the transfer waits for the window's end, and is checked again then."""

    window_id: UUID
    resume_at: Moment | None = None
    alternatives: Items[Alternative] = ()


class TransferScheduled(TransferEvent):
    """The transfer waits for the time it was asked for."""

    execute_at: Moment


class TransferVerificationRequired(TransferEvent):
    """The payer must prove who they are, in time and within some tries."""

    methods: Items[Method]
    attempts_left: Annotated[int, Field(ge=0)]
    expires_at: Moment


class TransferSent(TransferEvent):
    """Reserved; the bank has its instruction."""


class TransferDelayed(TransferEvent):
    """The bank is silent; the money is back by `refund_due_on` at the latest, unless it arrives."""

    refund_due_on: BusinessDate


class TransferRefundStarted(TransferEvent):
    """A refund is on its way through the bank that the money came from; `refund_amount_minor` is its own."""

    refund_id: UUID | None = None
    refund_amount_minor: NonNegativeMinor | None = None
    refund_due_on: BusinessDate


class TransferRefunded(TransferEvent):
    """Money is back: `amount_minor` and `fee_minor` are this refund's; settled until everything is refunded."""

    refund_id: UUID | None = None
    refunded_total_minor: NonNegativeMinor


class TransferRefundOverdue(TransferEvent):
    """The day by which the money should have been back has passed."""

    refund_id: UUID | None = None
    refund_due_on: BusinessDate


class TransferCancelled(TransferEvent):
    """Cancelled before anything moved."""


class TransferExpired(TransferEvent):
    """`expires_at` passed before anything moved."""

    reason: Reason


class TransferDiscrepancy(TransferEvent):
    """A bank's answer contradicts the end already reached and moved nothing, or money came back to a closed wallet.

    Of the latter `found` is `unclaimed`: it was booked to `platform:unclaimed`.
    """

    refund_id: UUID | None = None
    expected: Text
    found: Text


class FeeWaived(Wire):
    """A transfer cost its payer no fee, because of what they got for a maintenance window."""

    transfer_id: UUID
    customer_id: CustomerId
    window_id: UUID
    compensation_id: UUID
    fee_minor: NonNegativeMinor
    currency: Currency
    occurred_at: Moment


class LimitsLeft(Wire):
    """What a payer may still send; a limit that the tier does not have is absent."""

    single_minor: NonNegativeMinor | None = None
    daily_minor: NonNegativeMinor | None = None
    daily_count: Annotated[int, Field(ge=0)] | None = None
    monthly_minor: NonNegativeMinor | None = None


class TransferQuoted(Wire):
    """The answer to a quote."""

    quote_id: UUID
    fee_minor: NonNegativeMinor
    spendable_minor: Minor
    limits_left: LimitsLeft
    would: Literal["settle", "refuse", "verify", "hold"]
    reason: Reason | None = None
    occurred_at: Moment


class TransferCommandRefused(Wire):
    """A command was refused; the transfer or account that it names stays as it is."""

    command_type: MessageId
    command_id: MessageId
    transfer_id: UUID | None = None
    account_id: Wallet | None = None
    case_id: UUID | None = None
    reason: Reason
    occurred_at: Moment
