"""The business zone: whose days the platform counts by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from datetime import date, datetime

BUSINESS_ZONE: Final = ZoneInfo("Asia/Shanghai")


def business_date(moment: datetime) -> date:
    """Return the day in Asia/Shanghai that a moment belongs to."""
    return moment.astimezone(BUSINESS_ZONE).date()
