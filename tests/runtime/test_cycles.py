"""What is in cycles is freed by the clock, however few objects it is."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING

import pytest

from services.runtime.cycles import collect_cycles
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


class Fetched:
    """Refers to itself through what reads it, as the client's fetched records do."""

    def __init__(self) -> None:
        self.reading = self._read()
        next(self.reading)

    def _read(self) -> Iterator[Fetched]:
        yield self


@pytest.fixture(autouse=True)
def _own_thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


async def test_what_is_dropped_in_a_cycle_is_freed_while_a_worker_runs() -> None:
    stopping = asyncio.Event()
    collecting = asyncio.create_task(collect_cycles(stopping, every_s=0.01))
    await asyncio.sleep(0)
    dropped = weakref.ref(Fetched())
    assert dropped() is not None

    async def is_freed() -> bool:
        return dropped() is None

    await wait_until(is_freed, what="the cycle freed")
    stopping.set()
    await collecting
