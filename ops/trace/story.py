"""The nouns of a trace: a line for each thing that happened, what an id is the id of, and where else to look."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias
from uuid import UUID

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

What: TypeAlias = Literal[
    "command", "decision", "event", "instruction", "answer", "entry", "notice", "attempt", "timer", "dead letter"
]
"""What a line is about. A decision is what was decided without being told to anybody."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Something that is traced: a transfer, a case, a window, a customer, …; a request is one to tell somebody."""

    kind: str
    id: str


def subject_named(body: bytes | None, *kinds: str) -> list[Subject]:
    """Return what the answer to a command was about: the first of these kinds of which it names the id."""
    said = orjson.loads(body or b"{}")
    return [Subject(kind, said[f"{kind}_id"]) for kind in kinds if f"{kind}_id" in said][:1]


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that happened: when, where, to what, and why; amounts in minor units.

    `said` is what the event or command says, personal data masked.
    """

    at: datetime
    service: str
    what: What
    name: str
    about: str
    status: str | None = None
    why: str | None = None
    amount_minor: int | None = None
    currency: str | None = None
    detail: str | None = None
    correlation: str | None = None
    event_id: str | None = None
    source: str | None = None
    """Who sent a command or an answer: its id is its sender's own, and others may use the same."""
    said: Mapping[str, Any] = field(default_factory=dict)


class Look(NamedTuple):
    """Records to look for in a topic: those that name one of these ids, around these moments, or since one.

    With a key only its partition is read; without one, all. `types` narrows them, by the short names' beginnings.
    """

    topic: str
    key: str | None
    needles: frozenset[str]
    moments: frozenset[datetime]
    types: tuple[str, ...] = ()
    since: datetime | None = None


@dataclass(slots=True)
class Chapter:
    """What one service knows of one thing: lines, what else it leads to, where else to look, and what to say of it."""

    lines: list[Line] = field(default_factory=list)
    links: list[Subject] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Story:
    """Everything that is known of an id: what it is, what it led to, each line in time order, and what is missing."""

    id: str
    found: list[Subject]
    followed: list[Subject]
    correlations: list[str]
    lines: list[Line]
    notes: list[str]


MOST: Final = 20
"""Of what there may be many, such as a window's transfers, so many are shown."""


def as_uuid(text: str) -> UUID | None:
    """Return the UUID that a text is, or None."""
    try:
        return UUID(text)
    except ValueError:
        return None
