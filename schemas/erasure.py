"""The erasure family: whom every service has to forget, and what each had to keep."""

from __future__ import annotations

from uuid import UUID

from schemas.fields import BusinessDate, CustomerId, ShortText, Wire


class Retained(Wire):
    """Personal data that the law makes a service keep, until a day."""

    what: ShortText
    why: ShortText
    until: BusinessDate


class CustomerErase(Wire):
    """Forget a customer; without a case it was a null profile that asked for it."""

    customer_id: CustomerId
    case_id: UUID | None = None


class CustomerErased(Wire):
    """A service has forgotten a customer, but for what it names; `case_id` is that of the command that it answers."""

    customer_id: CustomerId
    service: ShortText
    case_id: UUID | None = None
    retained: tuple[Retained, ...] = ()
