"""What every service answers when it has forgotten a customer."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final
from uuid import UUID

from schemas.envelope import encode_headers
from schemas.erasure import CustomerErased, Retained
from schemas.fields import as_text
from services.runtime.calendar import business_date
from services.runtime.message import Outgoing

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from services.runtime.message import Caused, Lane

EVENTS: Final = "erasure.events"


def retain(what: str, why: str, until: datetime) -> Retained:
    """Return that something is kept, until the day in Asia/Shanghai to which a moment belongs."""
    return Retained(what=what, why=why, until=business_date(until).isoformat())


def erased(
    lane: Lane,
    message_id: str,
    customer_id: str,
    service: str,
    retained: Iterable[Retained],
    now: datetime,
    cause: Caused,
    case_id: UUID | str | None = None,
) -> Outgoing:
    """Return the answer of a service that has forgotten a customer, and all that it had to keep.

    `message_id` is the id of what asked for it, a command or a null profile: asked again with it, the answer has the
    same id. `cause` is the same, or what it is done for. `case_id` is the one that the command named, so that it is
    known which erasure this answers.
    """
    # The customer is part of it, because two publishers may use one id for two customers.
    asked = hashlib.blake2b(f"{customer_id}\n{message_id}".encode(), digest_size=16).hexdigest()
    headers = encode_headers(
        "customer.erased",
        id=f"{asked}.{service}",
        source=f"sluice/{service}",
        time=as_text(now),
        subject=customer_id,
        correlation_id=cause.correlation_id,
        traceparent=cause.traceparent,
    )
    body = CustomerErased(
        customer_id=customer_id,
        service=service,
        case_id=UUID(str(case_id)) if case_id else None,
        retained=tuple(retained),
    )
    return Outgoing(lane, EVENTS, customer_id.encode(), body.model_dump_json(exclude_none=True).encode(), headers)
