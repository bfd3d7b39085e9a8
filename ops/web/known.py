"""What the public page knows of windows."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

_KEPT_S: Final = 3.0


class Known:
    """The windows as they were a moment ago: however many look, also at once, the database is asked once."""

    def __init__(self) -> None:
        self._at = float("-inf")
        self._windows: Sequence[Mapping[str, Any]] = ()
        self._reading = asyncio.Lock()

    async def windows(self, read: Callable[[], Awaitable[Sequence[Mapping[str, Any]]]]) -> Sequence[Mapping[str, Any]]:
        """Return the windows; they are read where what is known is too old."""
        async with self._reading:
            if time.monotonic() - self._at > _KEPT_S:
                self._windows = await read()
                self._at = time.monotonic()
            return self._windows
