"""Timers: in order, by the clock that everybody shares, once."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from services.runtime.message import Effects, Lane, Timer, TimerKey
from services.runtime.timers import record
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.runtime.world import World


async def fired(world: World, count: int) -> list[str]:
    """Wait for a number of timers to fire and return their subjects in order."""

    async def enough() -> bool:
        return bool(await world.value("select count(*) >= $1 from firing", count))

    await wait_until(enough, what=f"{count} timers")
    return [row["subject"] for row in await world.fetch("select subject from firing order by number")]


async def test_timers_fire_in_the_order_in_which_they_are_due_and_publish(world: World) -> None:
    async with world.worker():
        for name, after_s in (("third", 0.9), ("first", 0.3), ("second", 0.6)):
            await world.add([name], partition=0, timer_after_s=after_s)
        assert await fired(world, 3) == ["first", "second", "third"]
        late = await world.value("select max(fired_at - due_at) from firing")
        assert late < timedelta(seconds=1)

        async def is_published() -> bool:
            return "remind/third" in await world.answered()

        await wait_until(is_published, what="timer's message")
    assert await world.value("select count(*) from timer") == 0


async def test_a_timer_set_again_moves_and_a_cleared_one_does_not_fire(world: World) -> None:
    async with world.worker():
        await world.add(["moved", "cleared"], partition=0, timer_after_s=60)
        await world.entered(2)
        await world.add(["moved"], partition=0, timer_after_s=0.1)
        await world.add(["x"], partition=0, clear_timer="cleared")
        assert await fired(world, 1) == ["moved"]

        async def none_left() -> bool:
            return not await world.value("select count(*) from timer")

        await wait_until(none_left, what="no timers")
    assert await fired(world, 1) == ["moved"]


async def test_a_timer_whose_handling_fails_is_parked_and_the_others_fire(world: World) -> None:
    async with world.worker():
        await world.add(["good1", "good2"], partition=0, timer_after_s=0.2)
        await world.add(["bad"], partition=0, timer_after_s=0.2, timer_kind="broken")
        assert sorted(await fired(world, 2)) == ["good1", "good2"]

        async def is_parked() -> bool:
            return bool(await world.value("select count(*) from timer where parked_at is not null"))

        await wait_until(is_parked, what="parked timer")
    failure = await world.value("select failure from timer")
    assert "RuntimeError" in failure
    assert "Zhang San" not in failure


async def test_moving_the_clock_makes_timers_due(world: World, tmp_path: Path) -> None:
    offset = tmp_path / "clock"
    async with world.worker(clock=f"file:{offset}"):
        await world.add(["tomorrow"], timer_after_s=86_400)
        await world.entered(1)
        assert await world.value("select count(*) from timer") == 1
        started = time.monotonic()
        offset.write_text("86401")
        assert await fired(world, 1) == ["tomorrow"]
        assert time.monotonic() - started < 5


async def test_a_lane_without_an_owner_keeps_its_timers_for_the_next(world: World) -> None:
    now = datetime.now(UTC)
    async with world.pool.acquire() as connection:
        due = [Timer(Lane("sums", n % 4), "remind", f"s{n}", now - timedelta(minutes=n)) for n in range(50)]
        await record(connection, Effects(timers_set=due))
    async with world.worker(batch_size=7):
        assert await fired(world, 50) == [f"s{n}" for n in reversed(range(50))]


async def test_timers_are_cleared_before_they_are_set(world: World) -> None:
    timer = Timer(Lane("sums", 0), "remind", "s", datetime.now(UTC))
    async with world.pool.acquire() as connection:
        await record(connection, Effects(timers_set=[timer], timers_cleared=[TimerKey("remind", "s")]))
    assert await world.value("select count(*) from timer") == 1
