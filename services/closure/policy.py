"""The rules an operator may set: identity, fee, review, approval, payouts, erasing, reopening, keeping, clearances."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from schemas.closure import Cause, KeptBecause, KeptData
from schemas.fields import Currency, NonNegativeMinor
from services.runtime.checked_files import Strict, read_toml

DEFAULT_POLICY: Final = Path(__file__).with_name("policy.toml")

Seconds = Annotated[float, Field(gt=0, le=10 * 365 * 86_400)]
Age = Annotated[int, Field(ge=0, le=200)]


class Identity(Strict):
    """How often an application may be wrong before a person looks at it, and how long a case waits for a better one."""

    attempts: Annotated[int, Field(ge=1, le=100)] = 3
    answer_within_s: Seconds = 604_800


class Fee(Strict):
    """What the closing of a wallet costs, by currency."""

    minor: dict[Currency, NonNegativeMinor] = Field(default_factory=dict)


class Review(Strict):
    """What a person looks at, and from which balance on two; by currency, and without one at any balance."""

    person_from_minor: dict[Currency, NonNegativeMinor] = Field(default_factory=lambda: {"CNY": 5_000_000})
    four_eyes_from_minor: dict[Currency, NonNegativeMinor] = Field(default_factory=lambda: {"CNY": 50_000_000})
    person_below_age: Age = 18
    person_above_age: Age = 70
    other_holder: bool = True
    flagged: bool = True


class Approval(Strict):
    """How long a customer has to confirm."""

    confirm_within_s: Seconds = 259_200


class Obligations(Strict):
    """How long after a case has met a debt, or a loan that nobody knows, that is looked for once more."""

    look_again_s: Seconds = 2


class InFlight(Strict):
    """How often a wallet with money on its way is asked about."""

    look_again_s: Seconds = 15


class Payout(Strict):
    """When a payout that could not be made for a while is tried again, each time twice as late as the last."""

    retry_after_s: Seconds = 300
    retry_at_latest_s: Seconds = 86_400


class Retention(Strict):
    """Personal data that stays after the erasure, because of a law, for so many days."""

    what: KeptData
    why: KeptBecause
    days: Annotated[int, Field(ge=1, le=36_600)]


class Erasing(Strict):
    """Which services answer before a case is closed, and what stays."""

    services: tuple[str, ...] = ("transfer", "maintenance", "notify")
    retained: tuple[Retention, ...] = ()


class Reopening(Strict):
    """When somebody may come back, and how long the credit system has to answer."""

    cooling_s: Annotated[float, Field(ge=0, le=10 * 365 * 86_400)] = 2_592_000
    assess_within_s: Seconds = 604_800


class Residue(Strict):
    """When a closed case is looked at once more, and how often one whose erasure is deferred."""

    check_after_s: Seconds = 86_400


class Keeping(Strict):
    """How many days cases, applications to come back and clearances are kept after their end, and answers to commands.

    A case is kept no shorter than `erasing.retained` says of it.
    """

    cases_days: Annotated[int, Field(ge=400, le=36_600)] = 1_096
    answers_days: Annotated[int, Field(ge=35, le=36_600)] = 400


class Clearance(Strict):
    """How long before its start a clearance of a cause is announced, how many cases begin at once, who is told when."""

    notice_s: dict[Cause, Annotated[float, Field(ge=0, le=10 * 365 * 86_400)]] = Field(default_factory=dict)
    begun_at_once: Annotated[int, Field(ge=1, le=1_000)] = 500
    remind_before_s: tuple[Seconds, ...] = (604_800, 259_200, 86_400)
    progress_every_s: Seconds = 10


class Policy(Strict):
    """Everything in the policy file."""

    identity: Identity = Identity()
    fee: Fee = Fee()
    review: Review = Review()
    approval: Approval = Approval()
    obligations: Obligations = Obligations()
    in_flight: InFlight = InFlight()
    payout: Payout = Payout()
    erasing: Erasing = Erasing()
    reopening: Reopening = Reopening()
    residue: Residue = Residue()
    keeping: Keeping = Keeping()
    clearance: Clearance = Clearance()

    def kept_days(self, *what: str) -> int:
        """Return how long after its end something is kept in which these kinds of data are."""
        retained = (one.days for one in self.erasing.retained if one.what in what)
        return max((self.keeping.cases_days, *retained))


def read_policy(path: Path) -> Policy:
    """Read and check a policy file; FileError names the file and the setting that is wrong."""
    return read_toml(path, Policy)
