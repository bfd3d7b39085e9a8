"""The customer family: who a customer is and how they want to be reached, from the identity system."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from schemas.fields import NO_NUL, CustomerId, LocaleName, Name, ShortText, TierName, Wire

_LONGEST_ID: Final = 128
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
    locale: LocaleName = "zh-CN"
    time_zone: ShortText = "Asia/Shanghai"
    tier: TierName = "standard"
    preferences: Preferences = Preferences()


def erased_customer(key: bytes | None) -> str:
    """Return the id of the customer whom a null value under this key erases.

    Raises:
        ValueError: It is nobody's id; says why without quoting it.
    """
    if key is None:
        raise ValueError("a null value without a key erases nobody")
    try:
        customer_id = key.decode()
    except UnicodeDecodeError:
        raise ValueError("the key of a null value is not UTF-8") from None
    if not 1 <= len(customer_id) <= _LONGEST_ID:
        raise ValueError(f"the key of a null value has {len(customer_id)} characters; 1 to {_LONGEST_ID} are allowed")
    if "\x00" in customer_id:
        raise ValueError("the key of a null value contains the NUL character")
    return customer_id
