"""The rules an operator may set: which failures make somebody suspicious, and how much of the counts is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import Field, field_validator, model_validator

from schemas.reasons import REASONS
from services.runtime.checked_files import Strict, read_toml

DEFAULT_POLICY: Final = Path(__file__).with_name("policy.toml")

Seconds = Annotated[float, Field(gt=0, le=30 * 86_400)]
RESTRICTED: Final = "risk_restricted"


class Counts(Strict):
    """How many minutes of outcomes and deliveries are kept, and how many outcomes are told apart in each."""

    minutes_kept: Annotated[int, Field(ge=2, le=1_440)] = 60
    most_outcomes: Annotated[int, Field(ge=1, le=10_000)] = 500


class Rule(Strict):
    """So many failures of these reasons within a time restrict a customer for another."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    count: Annotated[int, Field(ge=2, le=1_000)]
    within_s: Seconds
    restrict_for_s: Seconds
    reasons: frozenset[str]

    @field_validator("reasons")
    @classmethod
    def _are_reasons(cls, reasons: frozenset[str]) -> frozenset[str]:
        if unknown := sorted(reasons - REASONS.keys()):
            raise ValueError(f"no such reasons: {', '.join(unknown)}")
        if RESTRICTED in reasons:
            raise ValueError(f"{RESTRICTED} would have a flag make the next one")
        return reasons


class Policy(Strict):
    """Everything in the policy file."""

    counts: Counts = Counts()
    rules: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        if len({rule.name for rule in self.rules}) < len(self.rules):
            raise ValueError("two rules have one name")
        return self


def read_policy(path: Path) -> Policy:
    """Read and check a policy file; FileError names the file and the setting that is wrong."""
    return read_toml(path, Policy)
