"""What the public page knows of windows, and since when."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ops.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import datetime

    from services.runtime.clock import Clock

_KEPT_S: Final = 3.0
_WAIT_S: Final = 1.0
_FIRST_WAIT_S: Final = 3.0
_WITHIN_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Seen:
    """The windows as they were at a moment; `is_old` where the database did not answer when it was asked again."""

    windows: Sequence[Mapping[str, Any]]
    at: datetime
    is_old: bool = False


class Known:
    """The windows as they were a moment ago: however many look, also at once, the database is asked once.

    While it does not answer nobody waits for it longer than a second.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: Seen | None = None
        self._fresh_until = float("-inf")
        self._reading: asyncio.Task[None] | None = None
        self._began = 0.0

    async def windows(self, read: Callable[[], Awaitable[Sequence[Mapping[str, Any]]]]) -> Seen | None:
        """Return the newest that is known, read anew where it is too old; None where nothing is known yet."""
        if time.monotonic() < self._fresh_until:
            return self._seen
        if self._reading is None or self._reading.done():
            self._reading, self._began = asyncio.create_task(self._read(read)), time.monotonic()
        waits = (_FIRST_WAIT_S if self._seen is None else _WAIT_S) + self._began - time.monotonic()
        done, _ = await asyncio.wait({self._reading}, timeout=max(0.0, waits))
        for task in done:
            # What went wrong otherwise is a mistake, and not kept to itself.
            task.result()
        if self._seen is None or time.monotonic() < self._fresh_until:
            return self._seen
        return Seen(self._seen.windows, self._seen.at, is_old=True)

    async def _read(self, read: Callable[[], Awaitable[Sequence[Mapping[str, Any]]]]) -> None:
        at = self._clock.now()
        try:
            async with asyncio.timeout(_WITHIN_S):
                self._seen = Seen(await read(), at)
        except (UserError, TimeoutError):
            return
        self._fresh_until = time.monotonic() + _KEPT_S
