"""The customer family: who a customer is and how they want to be reached, from the identity system."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schemas.fields import NO_NUL, CustomerId, Name, ShortText, TierName, Wire

_TIME_OF_DAY = r"^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?$"


class Channels(Wire):
    """Which channels a customer wants; service and security notices cannot all be switched off."""

    sms: bool = True
    email: bool = True
    in_app: bool = True


class QuietHours(Wire):
    """When a customer does not want to be disturbed, in their own time zone."""

    from_: Annotated[str, Field(alias="from", pattern=_TIME_OF_DAY, examples=["22:00"])]
    to: Annotated[str, Field(pattern=_TIME_OF_DAY, examples=["07:30"])]


class Preferences(Wire):
    """How a customer wants to be told."""

    channels: Channels = Channels()
    quiet_hours: QuietHours | None = None
    marketing: bool = False


class CustomerProfile(Wire):
    """A customer as the identity system knows them; a null value in its place erases them."""

    customer_id: CustomerId
    name: Name
    id_number: ShortText | None = None
    phone: ShortText | None = None
    phone_verified: bool = False
    email: Annotated[str, Field(max_length=320, pattern=NO_NUL)] | None = None
    locale: Literal["zh-CN", "en"] = "zh-CN"
    time_zone: ShortText = "Asia/Shanghai"
    tier: TierName = "standard"
    preferences: Preferences = Preferences()
