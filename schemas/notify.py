"""The notify family: what other systems have people told, what gateways say, and what became of every notice."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, model_validator

from schemas.fields import CustomerId, LocaleName, MessageId, Moment, ShortText, Text, TierName, Wire

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
    "not_needed",
    "cancelled",
]
FailureReason = Literal["expired", "rejected", "undelivered", "gateway_failed", "untellable"]


class NotificationEvent(Wire):
    """What became of one event's notice to one person on one channel; `template` is the event's type.

    `gateway` names the one that had it last, where it left through any.
    """

    notice_id: UUID
    event_id: MessageId
    customer_id: CustomerId
    channel: Annotated[Channel, Field(examples=["in_app"])]
    template: Annotated[ShortText, Field(examples=["transfer.settled"])]
    category: Category
    gateway: Annotated[ShortText | None, Field(examples=["sms-a"])] = None
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


# --- What other systems ask for ---


class Audience(Wire):
    """Whom a broadcast reaches: everybody, who moved money with a bank in 90 days, a tier, a language, or a list."""

    all: Literal[True] | None = None
    bank: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{2,16}$", examples=["ICBC"])] | None = None
    tier: TierName | None = None
    locale: LocaleName | None = None
    customers: (
        Annotated[
            tuple[CustomerId, ...],
            Field(
                min_length=1,
                max_length=10_000,
                fail_fast=True,
                description="As many as the message's 256 KiB hold, which are about 6,700 UUIDs, and at most 10,000;"
                " more people are told by several requests, each with an id of its own.",
            ),
        ]
        | None
    ) = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if sum(one is not None for one in (self.all, self.bank, self.tier, self.locale, self.customers)) != 1:
            raise ValueError("an audience is one of all, bank, tier, locale and customers")
        return self


DataName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
DataValue = Text | int | bool | dict[LocaleName, Text]
"""What a template is filled with; a text may be said in each language; `…_minor` is money in the data's `currency`."""


class NotificationRequest(Wire):
    """Tell one customer, or an audience, by a template of the wording and the data that it needs."""

    notification_id: UUID
    customer_id: CustomerId | None = None
    audience: Audience | None = None
    template: Annotated[ShortText, Field(examples=["announcement"])]
    data: Annotated[dict[DataName, DataValue], Field(max_length=50)] = Field(default={})
    channels: Annotated[tuple[Channel, ...], Field(min_length=1, max_length=3, fail_fast=True)] | None = None
    category: Category
    not_before: Moment | None = None
    expires_at: Moment | None = None

    @model_validator(mode="after")
    def _is_to_somebody(self) -> Self:
        if (self.customer_id is None) == (self.audience is None):
            raise ValueError("it is to one of customer_id and audience")
        if self.channels is not None and len(set(self.channels)) < len(self.channels):
            raise ValueError("a channel is named twice")
        return self


class BroadcastControl(Wire):
    """What is done about a broadcast that is under way."""

    notification_id: UUID


class BroadcastPause(BroadcastControl):
    """Hand nothing more over until it is resumed."""


class BroadcastResume(BroadcastControl):
    """Go on."""


class BroadcastCancel(BroadcastControl):
    """End it: what has not left is suppressed, and who was not reached yet is not told."""


class BroadcastCounts(Wire):
    """Where the notices of a broadcast stand: accepted = delivered + sent + failed + suppressed + pending.

    `notification_id` is the request's, or the `ce_id` of the event that concerned many.
    """

    notification_id: MessageId
    accepted: Annotated[int, Field(ge=0)]
    delivered: Annotated[int, Field(ge=0)]
    sent: Annotated[int, Field(ge=0)]
    failed: Annotated[int, Field(ge=0)]
    suppressed: Annotated[int, Field(ge=0)]
    pending: Annotated[int, Field(ge=0)]
    occurred_at: Moment


class BroadcastProgress(BroadcastCounts):
    """A broadcast goes on; `eta` is when it will be done as it goes now, where that can be said."""

    status: Literal["running", "paused"]
    eta: Moment | None = None


class BroadcastFinished(BroadcastCounts):
    """A broadcast has ended: nothing of it is pending."""

    status: Literal["finished", "cancelled"]
