"""Ends a case that something stands against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from schemas.reasons import REMEDIES
from services.closure.model import EXPIRE_TIMER, LOOK_TIMER, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.closure.decide.book import Book
    from services.closure.model import Case
    from services.runtime.message import Lane

WAITING_TIMERS: Final = (EXPIRE_TIMER, LOOK_TIMER)
"""What wakes a case that is not draining yet."""


def reject(
    book: Book,
    lane: Lane,
    case: Case,
    code: Any,
    *,
    detail: str | None = None,
    obligations: Sequence[dict[str, Any]] = (),
) -> None:
    """End a case; once what is wrong is mended, a new application may pass."""
    book.clear_timers(case.case_id, WAITING_TIMERS)
    book.enter(case, Status.REJECTED, code)
    reason = {"code": code, "remedy": REMEDIES[code][0]} | ({} if detail is None else {"detail": detail})
    book.say(lane, case, "closure.rejected", reasons=[reason], obligations=list(obligations) or None)
