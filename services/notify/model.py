"""The nouns of the notifier: who is told, on which channel, how urgently, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID


class Locale(StrEnum):
    """The languages that every notice can be told in; the value is the profile's word."""

    CHINESE = "zh-CN"
    ENGLISH = "en"


class Channel(StrEnum):
    """How a notice reaches a person."""

    IN_APP = "in_app"


class Category(StrEnum):
    """Why a person is told; what is a service or for security's sake cannot be switched off as a whole."""

    SERVICE = "service"
    SECURITY = "security"
    MARKETING = "marketing"


class Urgency(StrEnum):
    """Whether a notice may wait for others and for quiet hours."""

    NORMAL = "normal"
    URGENT = "urgent"


class Role(StrEnum):
    """What an event makes of the person it is told to."""

    PAYER = "payer"
    PAYEE = "payee"
    HOLDER = "holder"


class Status(StrEnum):
    """What became of a notice; the value is the word of `notify.events`, but for `pending`."""

    PENDING = "pending"
    SENT = "sent"
    DELIVERED = "delivered"
    FAILED = "failed"
    SUPPRESSED = "suppressed"


class Why(StrEnum):
    """Why a notice is pending or suppressed."""

    PROFILE_MISSING = "profile_missing"
    CHANNEL_OFF = "channel_off"
    ERASED = "erased"


@dataclass(slots=True)
class Customer:
    """A customer as a batch sees them: locked while it is decided; until there is a profile, not known."""

    customer_id: str
    is_known: bool
    locale: str
    time_zone: str
    wants_in_app: bool
    inbox_count: int


class Text(NamedTuple):
    """What a person reads: a line and what follows from it."""

    title: str
    body: str


class Notice(NamedTuple):
    """One event told to one person on one channel."""

    notice_id: UUID
    event_id: str
    customer_id: str
    channel: str
    role: str
    category: str
    urgency: str
    status: str
    why: str | None
    created_at: datetime
    ended_at: datetime | None


class Announcement(NamedTuple):
    """An event that concerned somebody, and for how many notices it was accepted."""

    event_id: str
    type: str
    accepted: int
    accepted_at: datetime


class Waiting(NamedTuple):
    """A notice that waits, and the event that it will tell, as it was read."""

    notice: Notice
    type: str
    body: bytes


class InboxMessage(NamedTuple):
    """A notice in a person's inbox; they are numbered from 1 in each."""

    customer_id: str
    number: int
    notice_id: UUID
    locale: str
    title: str
    body: str
    arrived_at: datetime
