"""The nouns of the maintenance service: windows, what was said of them, and whom they owe something."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID


class Status(StrEnum):
    """Where a window stands."""

    SCHEDULED = "scheduled"
    STARTED = "started"
    EXTENDED = "extended"
    OVERRUN = "overrun"
    ENDED = "ended"
    CANCELLED = "cancelled"


CLOSING: Final = frozenset({Status.STARTED, Status.EXTENDED, Status.OVERRUN})
"""What the window covers is closed."""

OVER: Final = frozenset({Status.ENDED, Status.CANCELLED})
"""Nothing changes a window any more."""

REMINDERS: Final[Mapping[str, timedelta]] = {
    "7d": timedelta(days=7),
    "1d": timedelta(days=1),
    "1h": timedelta(hours=1),
}
"""How long before its start people are reminded of a window."""

REMINDER_TIMER: Final = "reminder_"
START_TIMER: Final = "start"
END_TIMER: Final = "end"
ESCALATE_TIMER: Final = "escalate"
SURVEY_TIMER: Final = "survey"
GRANT_TIMER: Final = "grant"
FORGET_TIMER: Final = "forget"
"""No late news of who was erased can come any more; the subject is the customer."""


@dataclass(slots=True)
class Window:
    """A window as a batch sees it, with its latest event; `plan` is what of it never changes, as it is published."""

    window_id: UUID
    content_hash: bytes
    plan: Mapping[str, Any]
    starts_at: datetime
    ends_at: datetime
    correlation_id: str | None
    status: str = Status.SCHEDULED
    revision: int = 0
    event_type: str = ""
    event_body: bytes = b""
    occurred_at: datetime | None = None
    answer_by: datetime | None = None
    traceparent: str | None = None

    @property
    def is_confirmed(self) -> bool:
        """Whether it stays closed past its end until somebody says that it has ended."""
        is_confirmed: bool = self.plan["ends"] == "confirmed"
        return is_confirmed

    @property
    def compensates(self) -> bool:
        """Whether those whose transfers it held or refused get something for it."""
        return "compensation" in self.plan and self.plan["drill"] is False


class Step(NamedTuple):
    """One event of a window."""

    window_id: UUID
    revision: int
    type: str
    status: str
    body: bytes
    occurred_at: datetime


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a command about a window is refused."""

    code: str
    field: str | None = None
    detail: str | None = None


class AnswerKey(NamedTuple):
    """A command without an id of its own: who said it, and its `ce_id`."""

    source: str
    id: str


class Answer(NamedTuple):
    """What a command was answered with; without a type, with nothing."""

    key: AnswerKey
    content_hash: bytes
    window_id: UUID
    type: str | None
    event_id: str | None
    body: bytes | None
    occurred_at: datetime


class SurveyAnswer(NamedTuple):
    """What a customer says of a window; their last word counts."""

    window_id: UUID
    customer_id: str
    score: int
    answered_at: datetime


class Affected(NamedTuple):
    """A customer whose transfer a window held or refused, last at a moment."""

    window_id: UUID
    customer_id: str
    compensation_id: UUID
    occurred_at: datetime


class Grant(NamedTuple):
    """What a customer gets for a window."""

    window_id: UUID
    customer_id: str
    compensation_id: UUID
    expires_at: datetime
