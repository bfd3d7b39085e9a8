"""The rules an operator may set: which event reaches whom, how, and how long a notice waits for a profile."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.notify.model import Category, Channel, Role, Urgency

DEFAULT_POLICY: Final = Path(__file__).with_name("policy.toml")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rule(_Strict):
    """Whom an event is told to, and how."""

    to: Annotated[tuple[Role, ...], Field(min_length=1)]
    channels: Annotated[tuple[Channel, ...], Field(min_length=1)] = (Channel.IN_APP,)
    urgency: Urgency = Urgency.NORMAL
    category: Category = Category.SERVICE


class Waiting(_Strict):
    """How long a notice waits for what it needs."""

    profile_within_s: Annotated[float, Field(gt=0)] = 86_400


class Policy(_Strict):
    """Everything in the policy file; an event that it does not name is told to nobody."""

    events: dict[str, Rule]
    waiting: Waiting = Waiting()


class PolicyError(ValueError):
    """The policy file cannot be used: one sentence says where and why."""


def read_policy(path: Path) -> Policy:
    """Read and check a policy file.

    Raises:
        PolicyError: the file is missing, not TOML, or breaks a rule; names the file and the setting.
    """
    try:
        return Policy.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"SLUICE_NOTIFY_POLICY: {path} cannot be read: {error}."
        raise PolicyError(message) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        message = f"SLUICE_NOTIFY_POLICY: {path}: {where}: {first['msg']}."
        raise PolicyError(message) from error
