"""The notify family: what became of every notice."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from schemas.fields import CustomerId, MessageId, Moment, ShortText, Wire

Channel = Literal["in_app"]
Category = Literal["service", "security", "marketing"]
SuppressionReason = Literal["profile_missing", "channel_off", "erased"]


class NotificationEvent(Wire):
    """What became of one event's notice to one person on one channel; `template` is the event's type."""

    notice_id: UUID
    event_id: MessageId
    customer_id: CustomerId
    channel: Annotated[Channel, Field(examples=["in_app"])]
    template: Annotated[ShortText, Field(examples=["transfer.settled"])]
    category: Category
    occurred_at: Moment


class NotificationDelivered(NotificationEvent):
    """It has reached the person: it lies in their inbox."""


class NotificationSuppressed(NotificationEvent):
    """It was not sent, and will not be; `why` says the reason."""

    why: SuppressionReason
