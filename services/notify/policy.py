"""The rules an operator may set: which event reaches whom, how, and how long a notice waits for a profile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from services.notify.model import Category, Channel, Role, Urgency
from services.runtime.checked_files import Strict, read_toml

DEFAULT_POLICY: Final = Path(__file__).with_name("policy.toml")


class Rule(Strict):
    """Whom an event is told to, and how."""

    to: Annotated[tuple[Role, ...], Field(min_length=1)]
    channels: Annotated[tuple[Channel, ...], Field(min_length=1)] = (Channel.IN_APP,)
    urgency: Urgency = Urgency.NORMAL
    category: Category = Category.SERVICE


class Waiting(Strict):
    """How long a notice waits for what it needs."""

    profile_within_s: Annotated[float, Field(gt=0)] = 86_400


class Policy(Strict):
    """Everything in the policy file; an event that it does not name is told to nobody."""

    events: dict[str, Rule]
    waiting: Waiting = Waiting()


def read_policy(path: Path) -> Policy:
    """Read and check a policy file; FileError names the file and the setting that is wrong."""
    return read_toml(path, Policy)
