"""The notify family: what gateways say of messages, and what became of every notice."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from schemas.fields import CustomerId, MessageId, Moment, ShortText, Wire

Channel = Literal["in_app", "email", "sms"]
Category = Literal["service", "security", "marketing"]
SuppressionReason = Literal[
    "profile_missing",
    "channel_off",
    "no_consent",
    "no_address",
    "unverified",
    "address_invalid",
    "address_dead",
    "erased",
]
FailureReason = Literal["expired", "rejected", "undelivered", "gateway_failed", "untellable"]


class NotificationEvent(Wire):
    """What became of one event's notice to one person on one channel; `template` is the event's type."""

    notice_id: UUID
    event_id: MessageId
    customer_id: CustomerId
    channel: Annotated[Channel, Field(examples=["in_app"])]
    template: Annotated[ShortText, Field(examples=["transfer.settled"])]
    category: Category
    occurred_at: Moment


class NotificationSent(NotificationEvent):
    """A gateway has it, and may still say what became of it; or it is not known whether it has it, as `why` says."""

    why: Literal["unknown"] | None = None


class NotificationDelivered(NotificationEvent):
    """It has reached the person: it lies in their inbox, or their phone has it."""


class NotificationFailed(NotificationEvent):
    """It did not reach the person, and will not; `why` says the reason."""

    why: FailureReason


class NotificationSuppressed(NotificationEvent):
    """It was not sent, and will not be; `why` says the reason."""

    why: SuppressionReason


class MessageReceipt(Wire):
    """What a gateway says of a message that it took; it is named by the gateway's id, or by our reference too."""

    provider: Annotated[ShortText, Field(examples=["sms-a"])]
    provider_message_id: Annotated[ShortText, Field(examples=["0a1b2c3d"])]
    client_reference: ShortText | None = None
    code: ShortText | None = None
    at: Moment


class MessageDelivered(MessageReceipt):
    """It reached the phone or the mailbox."""


class MessageFailed(MessageReceipt):
    """It did not, and will not; `code` is the gateway's own."""


class MessageExpired(MessageReceipt):
    """The gateway gave up before it could be delivered."""
