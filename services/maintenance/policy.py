"""The rules an operator may set: what plans are taken, overruns, surveys, compensation, rails that stop answering."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from services.runtime.checked_files import Strict, read_toml

DEFAULT_POLICY: Final = Path(__file__).with_name("policy.toml")

Seconds = Annotated[float, Field(gt=0, le=10 * 365 * 86_400)]


class Planning(Strict):
    """Which plans are taken; without `banks`, every bank's code is known."""

    late_by_s: Seconds = 900
    longest_s: Seconds = 2_592_000
    banks: frozenset[str] = frozenset()


class Overrun(Strict):
    """How long a window may stay closed past its end before operators are called."""

    escalate_after_s: Seconds = 1_800


class Survey(Strict):
    """When people are asked how a window was, and how long their answers count."""

    after_s: Seconds = 3_600
    answer_within_s: Seconds = 604_800


class Compensating(Strict):
    """How long what makes up for a window can be used."""

    expires_after_s: Seconds = 7_776_000


class Rails(Strict):
    """How many payouts to one bank may become delayed within a time before a window is made for it; 0 makes none."""

    trip_at: Annotated[int, Field(ge=0)] = 0
    within_s: Seconds = 1_800
    expected_s: Seconds = 3_600


class Policy(Strict):
    """Everything in the policy file."""

    planning: Planning = Planning()
    overrun: Overrun = Overrun()
    survey: Survey = Survey()
    compensation: Compensating = Compensating()
    rails: Rails = Rails()


def read_policy(path: Path) -> Policy:
    """Read and check a policy file; FileError names the file and the setting that is wrong."""
    return read_toml(path, Policy)
