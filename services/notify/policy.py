"""The rules an operator may set: which event reaches whom, how, and how long a notice waits for a profile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, field_validator

from services.notify.model import Category, Channel, Role, Urgency
from services.runtime.checked_files import Strict, read_toml

DEFAULT_POLICY: Final = Path(__file__).with_name("policy.toml")


class Rule(Strict):
    """Whom an event is told to, and how."""

    to: Annotated[tuple[Role, ...], Field(min_length=1)]
    channels: Annotated[tuple[Channel, ...], Field(min_length=1)] = (Channel.IN_APP,)
    urgency: Urgency = Urgency.NORMAL
    category: Category = Category.SERVICE
    of_closings: bool = True
    """Whether the payer is told of it, too, where it is a closing's own transfer."""

    @field_validator("to", "channels")
    @classmethod
    def _names_each_once(cls, named: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(named)) < len(named):
            raise ValueError("each once")
        return named


class Waiting(Strict):
    """How long a notice waits for what it needs."""

    profile_within_s: Annotated[float, Field(gt=0)] = 86_400


class Ladder(Strict):
    """How many messages one number may get: what operators allow; what is more waits until it is allowed."""

    a_minute: Annotated[int, Field(gt=0)] = 10
    an_hour: Annotated[int, Field(gt=0)] = 100
    a_day: Annotated[int, Field(gt=0)] = 300


class Sms(Strict):
    """How long a text message may be, how marketing is answered to get no more of it, and how many a number may get."""

    segments: Annotated[int, Field(gt=0, le=10)] = 5
    reply_to_leave: Annotated[str, Field(pattern="^[A-Za-z0-9]{0,10}$")] = ""
    ladder: Ladder = Ladder()


class Digest(Strict):
    """For how long, after one notice of a kind, others of it are gathered into one message; 0 gathers nothing."""

    within_s: Annotated[float, Field(ge=0)] = 120


class Delivering(Strict):
    """How long messages may be on their way; a gateway that says "not now" is tried again until then."""

    urgent_within_s: Annotated[float, Field(gt=0)] = 6 * 3_600
    normal_within_s: Annotated[float, Field(gt=0)] = 2 * 86_400
    stand_in_after_s: Annotated[float, Field(gt=0)] = 300
    retry_after_s: Annotated[float, Field(gt=0)] = 2
    retry_at_most_after_s: Annotated[float, Field(gt=0)] = 900
    hand_over_within_s: Annotated[float, Field(gt=0)] = 10
    answer_within_s: Annotated[float, Field(gt=0)] = 30
    inquire_after_s: Annotated[float, Field(gt=0)] = 60


class Erasing(Strict):
    """How long the receipt of a closing may take to leave before its reader is forgotten, and what is kept.

    Accounting goes when it is that old, whoever it is about; while it is there, a repeat is known as one, which the
    contract promises for 400 days.
    """

    receipt_within_s: Annotated[float, Field(ge=0)] = 3_600
    accounting_kept_days: Annotated[int, Field(ge=400, le=36_500)] = 1_825


class Failover(Strict):
    """When a gateway is given less, and how soon more again."""

    bad_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    slow_after_s: Annotated[float, Field(gt=0)] = 5
    rest_s: Annotated[float, Field(gt=0)] = 0.2
    rest_at_most_s: Annotated[float, Field(gt=0)] = 10
    gain_every_s: Annotated[float, Field(gt=0)] = 2
    left_to_others_s: Annotated[float, Field(ge=0)] = 5


class Policy(Strict):
    """Everything in the policy file; an event that it does not name is told to nobody."""

    events: dict[str, Rule]
    waiting: Waiting = Waiting()
    sms: Sms = Sms()
    digest: Digest = Digest()
    delivering: Delivering = Delivering()
    failover: Failover = Failover()
    erasing: Erasing = Erasing()


def read_policy(path: Path) -> Policy:
    """Read and check a policy file; FileError names the file and the setting that is wrong."""
    return read_toml(path, Policy)
