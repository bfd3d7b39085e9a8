"""Business days of the Chinese calendar with 调休, and the days and months that limits count by."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Final

import chinese_calendar

from services.runtime.calendar import BUSINESS_ZONE

if TYPE_CHECKING:
    from services.transfer.policy import Calendar

_SATURDAY: Final = 5


def start_of(day: date) -> datetime:
    """Return the first moment of a day in Asia/Shanghai, in UTC."""
    return datetime.combine(day, time(), BUSINESS_ZONE).astimezone(UTC)


def first_of_next_month(day: date) -> date:
    """Return the first day of the month after a day's."""
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def is_business_day(day: date, overrides: Calendar) -> bool:
    """Tell whether banks work on a day; beyond the years the library knows, Monday to Friday."""
    if day in overrides.holidays:
        return False
    if day in overrides.workdays:
        return True
    try:
        return bool(chinese_calendar.is_workday(day))
    except NotImplementedError:
        return day.weekday() < _SATURDAY


def add_business_days(day: date, count: int, overrides: Calendar) -> date:
    """Return the business day that is `count` business days after a day."""
    while count:
        day += timedelta(days=1)
        count -= is_business_day(day, overrides)
    return day
