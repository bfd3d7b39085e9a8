"""A paused service takes no record and no timer, in any worker and after any restart, and loses none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from services.runtime.pausing import Pause, begin_pause, end_pause, load_pause
from tests.waiting import wait_until

if TYPE_CHECKING:
    from services.runtime.consumer import Consumer
    from tests.runtime.world import World

IDS = [f"paused-{number}" for number in range(40)]


async def _pause(world: World) -> None:
    async with world.pool.acquire() as connection:
        assert await begin_pause(connection, "somebody", "the bank asked")


async def _is_paused(*workers: Consumer) -> None:
    async def all_know() -> bool:
        return all(worker.pause is not None for worker in workers)

    await wait_until(all_know, what="every worker to know of the pause")


async def test_nothing_is_taken_until_it_goes_on_and_then_everything_once(world: World) -> None:
    # Shorter than the pause: who stands still for a reason is not rebuilt.
    async with world.worker(stall_timeout_s=0.6) as worker:
        await world.add(["before"], partition=0, timer_after_s=1.2)
        assert await world.entered(1) == ["before"]
        await _pause(world)
        await _is_paused(worker)
        await world.add(IDS)
        async with world.worker(stall_timeout_s=0.6) as another:
            # The one that joins has partitions of its own, and the timer's time passes.
            await _is_paused(another)
            await world.ready(another)
            await world.ready(worker)

            async def is_due() -> bool:
                return bool(await world.value("select bool_and(due_at < now() - interval '1 s') from timer"))

            await wait_until(is_due, what="the timer's time to pass")
            assert await world.entries() == ["before"]
            assert await world.value("select count(*) from firing") == 0
            assert worker.reasons_not_ready() == another.reasons_not_ready() == []
            async with world.pool.acquire() as connection:
                assert await end_pause(connection)
            assert sorted(await world.entered(1 + len(IDS))) == sorted(["before", *IDS])

            async def has_fired() -> bool:
                return bool(await world.value("select count(*) = 1 from firing"))

            await wait_until(has_fired, what="the timer")
            await world.published()


async def test_a_worker_that_starts_while_it_is_paused_takes_nothing_and_says_so(world: World) -> None:
    await _pause(world)
    await world.add(IDS)
    async with world.process() as process:
        await process.ready()
        told = {"status": "paused", "why": "paused by somebody: the bank asked"}
        assert json.loads((await process.get("/readyz"))[1]) == told
        assert await world.entries() == []
        async with world.pool.acquire() as connection:
            await end_pause(connection)
        assert sorted(await world.entered(len(IDS))) == sorted(IDS)
        assert json.loads((await process.get("/readyz"))[1]) == {"status": "ready"}


async def test_a_pause_stands_as_it_was_ordered_first(world: World) -> None:
    await _pause(world)
    async with world.pool.acquire() as connection:
        assert not await begin_pause(connection, "another", "me too")
        found = await load_pause(connection)
        assert found is not None
        assert str(found) == "paused by somebody: the bank asked"
        assert await end_pause(connection) == Pause("somebody", "the bank asked", found.since)
        assert await end_pause(connection) is None
        assert await load_pause(connection) is None
