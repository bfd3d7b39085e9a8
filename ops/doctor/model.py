"""What the doctor says of one thing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How a thing is, the worst last."""

    OK = "ok"
    ADVICE = "advice"
    """It works, and something would be better."""
    WRONG = "wrong"
    UNKNOWN = "unknown"
    """It could not be looked at."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; `todo` is empty where there is nothing to do."""

    area: str
    state: State
    found: str
    todo: str = ""


def ok(area: str, found: str) -> Check:
    """Return that something is as it should be."""
    return Check(area, State.OK, found)


def advice(area: str, found: str, todo: str) -> Check:
    """Return that something works and could be better."""
    return Check(area, State.ADVICE, found, todo)


def wrong(area: str, found: str, todo: str) -> Check:
    """Return that something is not as it should be."""
    return Check(area, State.WRONG, found, todo)


def unknown(area: str, found: str, todo: str) -> Check:
    """Return that something could not be looked at."""
    return Check(area, State.UNKNOWN, found, todo)
