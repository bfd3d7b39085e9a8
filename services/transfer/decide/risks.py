"""Reads what the insight service says: whom a rule suspects and until when, and whom no longer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.risk import RiskCleared, RiskFlagged
from services.transfer.model import FlagChanges

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from pydantic import BaseModel


def read_risks(said: Iterable[BaseModel | None], now: datetime) -> FlagChanges:
    """Return what events about customers change, in their order; a flag whose time is over by now is none."""
    changes = FlagChanges({}, set(), set())
    for one in said:
        if isinstance(one, RiskFlagged):
            _flag(changes, one, now)
        elif isinstance(one, RiskCleared):
            _clear(changes, one)
    return changes


def _flag(changes: FlagChanges, one: RiskFlagged, now: datetime) -> None:
    key = (one.customer_id, one.rule)
    if one.until > now:
        changes.flags[key] = one.until
    else:
        changes.flags.pop(key, None)
        changes.cleared.add(key)


def _clear(changes: FlagChanges, one: RiskCleared) -> None:
    if one.rule is not None:
        changes.flags.pop((one.customer_id, one.rule), None)
        changes.cleared.add((one.customer_id, one.rule))
        return
    for key in [key for key in changes.flags if key[0] == one.customer_id]:
        del changes.flags[key]
    changes.cleared_customers.add(one.customer_id)
