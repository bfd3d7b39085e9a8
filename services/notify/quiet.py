"""The hours in which a person does not want to be disturbed, in their own time zone."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from schemas.customer import QuietHours
    from services.notify.model import Customer


def read_quiet_hours(hours: QuietHours | None) -> tuple[time | None, time | None]:
    """Return when quiet hours begin and end; nothing where there are none, or where they begin when they end."""
    if hours is None:
        return None, None
    begin, end = time.fromisoformat(hours.from_), time.fromisoformat(hours.to)
    return (None, None) if begin == end else (begin, end)


def end_of_quiet(customer: Customer, now: datetime) -> datetime:
    """Return when a customer may be disturbed again: now, outside of their quiet hours."""
    if customer.quiet_from is None or customer.quiet_to is None:
        return now
    zone = ZoneInfo(customer.time_zone)
    local = now.astimezone(zone)
    begin, end, at = customer.quiet_from, customer.quiet_to, local.timetz().replace(tzinfo=None)
    is_quiet = begin <= at < end if begin < end else at >= begin or at < end
    if not is_quiet:
        return now
    day = local.date() + timedelta(days=1 if at >= end else 0)
    # A time that the clocks show twice, or skip, is the later of its two readings: so it is for the database, too.
    return max(datetime.combine(day, end.replace(fold=fold), zone).astimezone(now.tzinfo) for fold in (0, 1))
