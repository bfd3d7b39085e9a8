"""The loop's promise in quiet times: each message has its effect once, and is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.runtime.world import World


async def test_each_message_is_entered_once_and_answered(world: World) -> None:
    ids = [f"m{number}" for number in range(300)]
    await world.add(ids)
    async with world.worker() as consumer:
        assert sorted(await world.entered(300)) == sorted(ids)
        await world.ready(consumer)
    assert sorted(await world.answered()) == sorted(ids)
    assert sorted(await world.answered("toy.follow_ups")) == sorted(ids)


async def test_a_stopped_worker_leaves_nothing_to_publish_again(world: World) -> None:
    await world.add(["a", "b"])
    async with world.worker():
        await world.entered(2)
    assert await world.value("select count(*) from outbox") == 0
    await world.add(["c"])
    async with world.worker():
        await world.entered(3)
    assert sorted(await world.answered()) == ["a", "b", "c"]
