"""The reasons for which something is not done: one code a failure path, with what it means to the publisher."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field

from schemas.fields import Minor, Moment, ShortText, Text, Wire

if TYPE_CHECKING:
    from collections.abc import Mapping

RefundKind = Literal["none", "automatic", "manual"]


@dataclass(frozen=True, slots=True)
class ReasonEntry:
    """What the contract's table says of a code; `iso20022` is the external status reason code."""

    iso20022: str | None
    retryable: bool = False
    refund: RefundKind = "none"


REASONS: Final[Mapping[str, ReasonEntry]] = MappingProxyType(
    {
        "insufficient_balance": ReasonEntry("AM04", retryable=True),
        "payer_unknown": ReasonEntry("AC02"),
        "payee_unknown": ReasonEntry("AC03"),
        "same_account": ReasonEntry("AC03"),
        "payee_name_mismatch": ReasonEntry("BE01"),
        "payee_name_unverified": ReasonEntry("BE01", retryable=True),
        "account_closed": ReasonEntry("AC04"),
        "account_closing": ReasonEntry("AC07"),
        "account_restricted": ReasonEntry("AC06", retryable=True),
        "limit_single": ReasonEntry("AM02"),
        "limit_daily_amount": ReasonEntry("AM14", retryable=True),
        "limit_daily_count": ReasonEntry("SL15", retryable=True),
        "limit_monthly_amount": ReasonEntry("SL16", retryable=True),
        "amount_invalid": ReasonEntry("AM12"),
        "currency_mismatch": ReasonEntry("AM03"),
        "maintenance": ReasonEntry("AB08", retryable=True),
        "verification_failed": ReasonEntry("AG08", retryable=True),
        "verification_expired": ReasonEntry("DS24", retryable=True),
        "expired": ReasonEntry("DS24", retryable=True),
        "risk_restricted": ReasonEntry("FR01", retryable=True),
        "rail_timeout": ReasonEntry("AB05", retryable=True, refund="automatic"),
        "rail_rejected": ReasonEntry("MS03", retryable=True, refund="automatic"),
        "rail_returned": ReasonEntry("MS03", retryable=True, refund="automatic"),
        "duplicate_id_conflict": ReasonEntry("AM05"),
        "transfer_unknown": ReasonEntry(None),
        "state_conflict": ReasonEntry(None),
        "refund_exceeds": ReasonEntry(None),
        "batch_rejected": ReasonEntry(None, retryable=True),
        "account_exists": ReasonEntry(None),
        "account_unknown": ReasonEntry(None),
        "tier_unknown": ReasonEntry(None),
        "regulatory": ReasonEntry("RR04"),
    }
)
"""`retryable` says that a new request, with a new id, may succeed later; a refused id stays refused."""

ReasonCode = Literal[
    "insufficient_balance",
    "payer_unknown",
    "payee_unknown",
    "same_account",
    "payee_name_mismatch",
    "payee_name_unverified",
    "account_closed",
    "account_closing",
    "account_restricted",
    "limit_single",
    "limit_daily_amount",
    "limit_daily_count",
    "limit_monthly_amount",
    "amount_invalid",
    "currency_mismatch",
    "maintenance",
    "verification_failed",
    "verification_expired",
    "expired",
    "risk_restricted",
    "rail_timeout",
    "rail_rejected",
    "rail_returned",
    "duplicate_id_conflict",
    "transfer_unknown",
    "state_conflict",
    "refund_exceeds",
    "batch_rejected",
    "account_exists",
    "account_unknown",
    "tier_unknown",
    "regulatory",
]


class Reason(Wire):
    """Why something was not done, for programs; the customer's words for it live with the templates."""

    code: Annotated[ReasonCode, Field(examples=["insufficient_balance"])]
    iso20022: Annotated[str, Field(pattern=r"^[A-Z0-9]{4}$", examples=["AM04"])] | None = None
    retryable: bool
    refund: RefundKind
    field: ShortText | None = None
    detail: Text | None = None
    shortfall_minor: Minor | None = None
    limit_minor: Minor | None = None
    available_at: Moment | None = None


# --- Windows ---

WindowReasonCode = Literal[
    "window_unknown",
    "times_invalid",
    "function_unknown",
    "bank_unknown",
    "currency_unknown",
    "compensation_invalid",
    "plan_too_large",
    "duplicate_id_conflict",
    "state_conflict",
]


class WindowReason(Wire):
    """Why a command about a window was refused; a new command may be right where `retryable`."""

    code: Annotated[WindowReasonCode, Field(examples=["state_conflict"])]
    retryable: bool
    refund: Literal["none"] = "none"
    field: ShortText | None = None
    detail: Text | None = None


# --- Closing ---

ClosureRefusalCode = Literal[
    "case_unknown",
    "request_unknown",
    "clearance_unknown",
    "payout_account_missing",
    "payout_account_invalid",
    "reviewer_must_differ",
    "times_invalid",
    "duplicate_id_conflict",
    "state_conflict",
]

FOR_A_WHILE: Final = frozenset({"maintenance", "account_restricted", "risk_restricted"})
"""What refuses a closing's payout now and will not for ever: it is tried again, without anybody doing anything."""

CLOSURE_REFUSALS: Final[Mapping[str, bool]] = MappingProxyType(
    {
        "case_unknown": False,
        "request_unknown": False,
        "clearance_unknown": False,
        "payout_account_missing": True,
        "payout_account_invalid": True,
        "reviewer_must_differ": True,
        "times_invalid": True,
        "duplicate_id_conflict": False,
        "state_conflict": True,
    }
)
"""Why commands about closings are refused, and whether a new one may be right."""


class ClosureRefusal(Wire):
    """Why a command about a closing was refused; a new command may be right where `retryable`."""

    code: Annotated[ClosureRefusalCode, Field(examples=["state_conflict"])]
    retryable: bool
    field: ShortText | None = None
    detail: Text | None = None


ClosingCode = Literal[
    "name_mismatch",
    "id_number_invalid",
    "id_number_mismatch",
    "phone_mismatch",
    "phone_unverified",
    "profile_missing",
    "balance_mismatch",
    "obligation_open",
    "fee_not_accepted",
    "subject_unknown",
    "case_open",
    "cooling_period",
    "review_rejected",
    "documents_expired",
    "assessment_refused",
    "assessment_missing",
]
Remedy = Literal[
    "correct_name",
    "correct_id_number",
    "correct_phone",
    "send_id_card",
    "send_name_change_certificate",
    "send_phone_certificate",
    "verify_phone",
    "complete_profile",
    "check_balance",
    "pay_obligations",
    "accept_fee",
    "check_subject",
    "follow_open_case",
    "wait",
    "contact_support",
    "apply_again",
]
DocumentKind = Literal["id_card", "name_change_certificate", "phone_certificate", "other"]

REMEDIES: Final[Mapping[ClosingCode, tuple[Remedy, ...]]] = MappingProxyType(
    {
        "name_mismatch": ("correct_name", "send_id_card", "send_name_change_certificate"),
        "id_number_invalid": ("correct_id_number",),
        "id_number_mismatch": ("correct_id_number", "send_id_card"),
        "phone_mismatch": ("correct_phone", "send_phone_certificate"),
        "phone_unverified": ("verify_phone",),
        "profile_missing": ("complete_profile",),
        "balance_mismatch": ("check_balance",),
        "obligation_open": ("pay_obligations",),
        "fee_not_accepted": ("accept_fee",),
        "subject_unknown": ("check_subject",),
        "case_open": ("follow_open_case",),
        "cooling_period": ("wait",),
        "review_rejected": ("contact_support",),
        "documents_expired": ("apply_again",),
        "assessment_refused": ("contact_support",),
        "assessment_missing": ("apply_again",),
    }
)
"""What a customer can do about each closing code: the first at first, the others where it did not help."""
