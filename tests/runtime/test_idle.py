"""What can wait stands back while there is something to do, and what uses the connection ends before it is needed."""

from __future__ import annotations

import asyncio
import time

import pytest

from services.runtime.idle import let_others_run, make_beside
from services.runtime.message import Effects


async def test_work_that_can_wait_goes_on_when_there_is_nothing_else_to_do() -> None:
    order: list[str] = []

    async def urgent() -> None:
        for _ in range(5):
            until = time.perf_counter() + 0.002
            while time.perf_counter() < until:
                pass
            order.append("urgent")
            await asyncio.sleep(0)

    async def patient() -> None:
        await let_others_run()
        order.append("patient")

    await asyncio.gather(patient(), urgent())
    assert order == ["urgent"] * 5 + ["patient"]


async def test_it_does_not_wait_for_ever_for_one_that_is_never_done() -> None:
    async def restless() -> None:
        while True:
            until = time.perf_counter() + 0.001
            while time.perf_counter() < until:
                pass
            await asyncio.sleep(0)

    task = asyncio.create_task(restless())
    try:
        await asyncio.wait_for(let_others_run(), 10)
    finally:
        task.cancel()


@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError])
async def test_the_connection_is_free_though_the_making_beside_it_ends(error: type[BaseException]) -> None:
    """An error waits for the end of the talk; a cancellation ends it, also what it waits for."""
    ended: list[str] = []

    async def statement() -> None:
        try:
            for _ in range(5):
                await asyncio.sleep(0)
            ended.append("done")
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    recording = asyncio.create_task(statement())

    async def making() -> None:
        await asyncio.sleep(0)
        raise error

    with pytest.raises(error):
        await make_beside(Effects(recording=recording).recorded(), making())
    assert recording.done()
    assert ended == ["cancelled" if error is asyncio.CancelledError else "done"]
