"""Reads what the maintenance service says: which windows close what, and which fees are waived for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schemas.maintenance import CompensationGranted, CompensationUsed, WindowEvent
from services.transfer.model import OPEN_END, ClosedWindow, Waiver, WindowChange

if TYPE_CHECKING:
    from datetime import datetime

    from pydantic import BaseModel

_OVER: Final = frozenset({"window.ended", "window.cancelled", "survey.requested"})


def read_window(type_: str, data: BaseModel | None) -> WindowChange | None:
    """Return how a window stands after an event; None where it closes nothing: drills, refusals, compensation."""
    if not isinstance(data, WindowEvent) or data.drill:
        return None
    window = ClosedWindow(
        window_id=data.window_id,
        functions=data.functions,
        banks=data.scope.banks,
        currencies=data.scope.currencies,
        starts_at=data.starts_at,
        ends_at=data.ends_at,
        is_confirmed=data.ends == "confirmed",
        holds=data.treatment == "hold",
        alternatives=[way.model_dump(mode="json", exclude_defaults=True) for way in data.alternatives],
    )
    return WindowChange(window, data.revision, type_ in _OVER)


def read_waiver(data: BaseModel | None) -> tuple[Waiver, datetime] | None:
    """Return the fees that a customer need not pay, and when they were given, where an event grants some."""
    if not isinstance(data, CompensationGranted) or isinstance(data, CompensationUsed):
        return None
    if data.compensation.kind != "fee_waiver":
        return None
    waiver = Waiver(
        compensation_id=data.compensation_id,
        customer_id=data.customer_id,
        window_id=data.window_id,
        remaining=data.compensation.value,
        expires_at=data.expires_at or OPEN_END,
    )
    return waiver, data.occurred_at
