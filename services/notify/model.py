"""The nouns of the notifier: who is told, on which channel, how urgently, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, NamedTuple

from services.notify.contacts import Reach
from services.runtime.message import Lane

if TYPE_CHECKING:
    from datetime import datetime, time
    from uuid import UUID


class Locale(StrEnum):
    """The languages that every notice can be told in; the value is the profile's word."""

    CHINESE = "zh-CN"
    ENGLISH = "en"


class Channel(StrEnum):
    """How a notice reaches a person."""

    IN_APP = "in_app"
    EMAIL = "email"
    SMS = "sms"


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
    """What an event makes of the person it is told to; those concerned are many, and no event names them."""

    PAYER = "payer"
    PAYEE = "payee"
    RECIPIENT = "recipient"
    HOLDER = "holder"
    CONCERNED = "concerned"


class Status(StrEnum):
    """What became of a notice; the value is the word of `notify.events`, but for `pending`.

    `sent` is handed over to a gateway; a receipt may still say that it was delivered, or that it failed.
    """

    PENDING = "pending"
    SENT = "sent"
    DELIVERED = "delivered"
    FAILED = "failed"
    SUPPRESSED = "suppressed"


class Why(StrEnum):
    """Why a notice is pending, was suppressed, or failed; `unknown` is also said of what was sent, perhaps."""

    PROFILE_MISSING = "profile_missing"
    QUEUED = "queued"
    QUIET_HOURS = "quiet_hours"
    SCHEDULED = "scheduled"
    DIGEST = "digest"
    STANDBY = "standby"
    NOT_NEEDED = "not_needed"
    CHANNEL_OFF = "channel_off"
    NO_CONSENT = "no_consent"
    NO_ADDRESS = "no_address"
    UNVERIFIED = "unverified"
    ADDRESS_INVALID = "address_invalid"
    ADDRESS_DEAD = "address_dead"
    ERASED = "erased"
    EXPIRED = "expired"
    REJECTED = "rejected"
    UNDELIVERED = "undelivered"
    GATEWAY_FAILED = "gateway_failed"
    UNTELLABLE = "untellable"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


class ErasedBy(StrEnum):
    """What asks for an erasure: after a null profile another one is somebody new, a request knows of no profiles."""

    PROFILE = "profile"
    REQUEST = "request"


class Priority(IntEnum):
    """Which messages a gateway is given first."""

    URGENT = 0
    NORMAL = 1
    BROADCAST = 2


@dataclass(slots=True)
class Customer:
    """A customer as a batch sees them: locked while it is decided; until there is a profile, not known.

    `erasing` is what asked for an erasure that waits, `erased_at` when they were forgotten last; whoever is known since
    then has come back. Who is leaving has the receipt of their closing, and is told nothing after it.
    """

    customer_id: str
    is_known: bool
    locale: str
    time_zone: str
    tier: str
    wants_in_app: bool
    wants_email: bool
    wants_sms: bool
    wants_marketing: bool
    is_unsubscribed: bool
    quiet_from: time | None
    quiet_to: time | None
    phone_reach: str
    email_reach: str
    phone_hash: bytes
    inbox_count: int
    contacts: bytes | None
    erasing: str | None
    erased_at: datetime | None
    is_leaving: bool
    wrapped_key: bytes | None = None

    @property
    def is_gone(self) -> bool:
        """Whether the customer was forgotten, and has not come back."""
        return not self.is_known and self.erased_at is not None

    def is_gone_since(self, at: datetime | None) -> bool:
        """Whether what happened at a moment is told to nobody: who it happened to was forgotten after it."""
        return self.is_gone or (self.erased_at is not None and at is not None and at < self.erased_at)

    def wants(self, channel: str) -> bool:
        """Tell whether the customer wants to be told on a channel; who wants none at all is told in the app."""
        if channel == Channel.IN_APP:
            return self.wants_in_app or not (self.wants_email or self.wants_sms)
        return self.wants_email if channel == Channel.EMAIL else self.wants_sms

    def reach(self, channel: str) -> str:
        """Tell whether the address of a channel may be used, or why not; in the app everybody is reached."""
        if channel == Channel.IN_APP:
            return Reach.GOOD
        return self.email_reach if channel == Channel.EMAIL else self.phone_reach


class Text(NamedTuple):
    """What a person reads: a line and what follows from it."""

    title: str
    body: str


class Notice(NamedTuple):
    """One event told to one person on one channel; several may leave as one message, a digest."""

    notice_id: UUID
    event_id: str
    customer_id: str
    channel: str
    role: str
    category: str
    urgency: str
    template: str
    delivery_id: UUID | None
    lane_group: str
    partition: int
    status: str
    why: str | None
    told: str | None
    created_at: datetime
    ended_at: datetime | None

    @property
    def lane(self) -> Lane:
        """The lane of the event, by which everything is told that becomes of the notice."""
        return Lane(self.lane_group, self.partition)


class Announcement(NamedTuple):
    """An event or request that concerned somebody, for how many notices it was accepted, and what it follows from."""

    event_id: str
    type: str
    accepted: int
    accepted_at: datetime
    content_hash: bytes | None = None
    correlation_id: str | None = None
    traceparent: str | None = None


class Waiting(NamedTuple):
    """A notice that waits; for a profile, if there is the body of the event that it will tell."""

    notice: Notice
    body: bytes | None


class Delivery(NamedTuple):
    """A message that has to leave through a gateway, in its reader's language; a text message has no title.

    One that stands in for another leaves only if that one does not arrive.
    """

    delivery_id: UUID
    customer_id: str
    channel: str
    priority: int
    due_at: datetime
    expires_at: datetime
    stands_in_for: UUID | None
    is_marketing: bool
    locale: str
    text: Text


class DigestItem(NamedTuple):
    """A notice that is kept for a digest, the message of that id, in its reader's words."""

    delivery_id: UUID
    notice_id: UUID
    customer_id: str
    text: Text


class Gathering(NamedTuple):
    """Until when notices of a kind are gathered for a person, and whether a timer is set for what was."""

    closes_at: datetime
    has_timer: bool


class Gathered(NamedTuple):
    """A notice that was kept for a digest which goes out now."""

    notice: Notice
    text: Text


class InboxMessage(NamedTuple):
    """A notice in a person's inbox; they are numbered from 1 in each."""

    customer_id: str
    number: int
    notice_id: UUID
    locale: str
    text: Text
    arrived_at: datetime
