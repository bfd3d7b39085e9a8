"""The rules an operator may set: limits, fees and verification by tier, patience with banks, the calendar."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from services.runtime.checked_files import Strict, read_toml

DEFAULT_POLICY: Final = Path(__file__).with_name("policy.toml")

Amount = Annotated[int, Field(ge=0)]


class Limits(Strict):
    """The most a tier may send: at once, a day, a month; days and months are those of Asia/Shanghai."""

    single_minor: Amount | None = None
    daily_minor: Amount | None = None
    daily_count: Annotated[int, Field(ge=0)] | None = None
    monthly_minor: Amount | None = None


class Fee(Strict):
    """What the payer is charged for one kind of transfer."""

    kind: Literal["p2p", "withdrawal"]
    fixed_minor: Amount = 0
    basis_points: Annotated[int, Field(ge=0, le=10_000)] = 0
    minimum_minor: Amount = 0
    maximum_minor: Amount | None = None

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> Fee:
        if self.maximum_minor is not None and self.maximum_minor < self.minimum_minor:
            message = "maximum_minor is below minimum_minor"
            raise ValueError(message)
        return self

    def charge(self, amount_minor: int) -> int:
        """Return the fee for an amount, in minor units; fractions are rounded half up."""
        fee = self.fixed_minor + (amount_minor * self.basis_points + 5_000) // 10_000
        fee = max(fee, self.minimum_minor)
        return fee if self.maximum_minor is None else min(fee, self.maximum_minor)


class Verification(Strict):
    """From which amount a payer must prove who they are, and how often they may try."""

    from_minor: Annotated[int, Field(gt=0)]
    methods: Annotated[tuple[Literal["sms_otp", "fingerprint", "face"], ...], Field(min_length=1)]
    attempts: Annotated[int, Field(ge=1, le=100)] = 3
    resends: Annotated[int, Field(ge=0, le=100)] = 3
    expires_after_s: Annotated[int, Field(gt=0)] = 300
    cooling_s: Annotated[int, Field(ge=0)] = 900


class Tier(Strict):
    """What applies to the accounts of one tier."""

    limits: Limits = Limits()
    fees: tuple[Fee, ...] = ()
    verification: Verification | None = None

    @model_validator(mode="after")
    def _one_fee_a_kind(self) -> Tier:
        kinds = [fee.kind for fee in self.fees]
        if len(kinds) != len(set(kinds)):
            message = "two fees for one kind"
            raise ValueError(message)
        return self

    def fee_minor(self, kind: str, amount_minor: int) -> int:
        """Return what a transfer of this kind costs its payer, in minor units."""
        return next((fee.charge(amount_minor) for fee in self.fees if fee.kind == kind), 0)


class Payouts(Strict):
    """How long a bank may be silent before the customer and an operator hear of it."""

    delayed_after_s: Annotated[float, Field(gt=0)] = 120
    inquire_every_s: Annotated[float, Field(gt=0)] = 3600
    refund_within_business_days: Annotated[int, Field(ge=1, le=30)] = 3


class Refunds(Strict):
    """What a refund that a command asks for gives back."""

    returns_fee: bool = False


class Calendar(Strict):
    """Days that are holidays or working days whatever the calendar library says."""

    holidays: frozenset[date] = frozenset()
    workdays: frozenset[date] = frozenset()


class Retention(Strict):
    """How long transfers are kept after their customer is erased."""

    transfers_kept_days: Annotated[int, Field(ge=1_827)] = 3_653


class Policy(Strict):
    """Everything in the policy file."""

    tiers: dict[str, Tier]
    payouts: Payouts = Payouts()
    refunds: Refunds = Refunds()
    calendar: Calendar = Calendar()
    retention: Retention = Retention()

    @model_validator(mode="after")
    def _built_in_tiers(self) -> Policy:
        if "standard" not in self.tiers:
            message = "the tier `standard` is missing"
            raise ValueError(message)
        if self.tiers.setdefault("unlimited", Tier()) != Tier():
            message = "the tier `unlimited` has no limits, fees or verification"
            raise ValueError(message)
        return self


def read_policy(path: Path) -> Policy:
    """Read and check a policy file; FileError names the file and the setting that is wrong."""
    return read_toml(path, Policy)
