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
