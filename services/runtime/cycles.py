"""Collects what is in cycles by the clock: the collector counts objects, and few of them may hold much."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress
from typing import Final

# A batch's objects, some 200,000 at most at a time, die together and are in no cycles: by itself, the collector looks
# only when more than that stay.
_THRESHOLDS: Final = (500_000, 20, 50)


async def collect_cycles(stopping: asyncio.Event, *, every_s: float = 10.0) -> None:
    """Collect now and then until told to stop; what is there at the beginning stays, and is not looked at again.

    The client drops what it fetched of a partition that is paused or sought, up to a megabyte each time, in a cycle of
    three objects: without this a worker whose partitions wait for each other grows by as much.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    while not stopping.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(every_s):
                await stopping.wait()
        gc.collect()
