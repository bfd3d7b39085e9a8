"""Waits for a condition with a deadline: tests never sleep for a fixed time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_LOOK_EVERY_S = 0.02


async def wait_until(condition: Callable[[], Awaitable[Any]], *, deadline_s: float = 20, what: str = "") -> Any:
    """Return the condition's first true answer; fail, naming what was waited for, when there is none in time."""
    deadline = time.monotonic() + deadline_s
    answer: Any = None
    while time.monotonic() < deadline:
        if answer := await condition():
            return answer
        await asyncio.sleep(_LOOK_EVERY_S)
    message = f"not within {deadline_s} s: {what or condition} (last: {answer!r})"
    raise AssertionError(message)


def wait_for(condition: Callable[[], Any], *, deadline_s: float = 20, what: str = "") -> Any:
    """Return the condition's first true answer, outside of an event loop."""
    deadline = time.monotonic() + deadline_s
    answer: Any = None
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(_LOOK_EVERY_S)
    message = f"not within {deadline_s} s: {what or condition} (last: {answer!r})"
    raise AssertionError(message)
