"""What can wait stands back while there is something to do."""

from __future__ import annotations

import asyncio
import time

from services.runtime.idle import let_others_run


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
