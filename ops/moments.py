"""Moments as people write and read them: in the zone of the business where they have no offset."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from ops.errors import UserError
from services.runtime.calendar import BUSINESS_ZONE

FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LAST: Final = datetime(9999, 1, 1, tzinfo=UTC)
"""Between these every moment has a place in every zone and in the database."""


class NoMoment(UserError):
    """The words given are no time; the text says which, and how to write one."""


def moment_of(text: str) -> datetime:
    """Return the moment that the text says, one without an offset as clocks there show it; raises NoMoment."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise NoMoment(f"{text!r} is not a time: write 2026-11-23 or 2026-11-23T08:30:00+08:00.") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=BUSINESS_ZONE)
    if not FIRST <= moment <= LAST:
        raise NoMoment(f"{text!r} is out of reach: name a time between 1970 and 9998.")
    return moment


def shown(text: str) -> str:
    """Return a moment that an event says, as clocks there show it."""
    return moment_text(moment_of(text))


def moment_text(moment: datetime) -> str:
    """Return `2026-11-23 08:30:00`, as clocks there show it."""
    return moment.astimezone(BUSINESS_ZONE).strftime("%Y-%m-%d %H:%M:%S")
