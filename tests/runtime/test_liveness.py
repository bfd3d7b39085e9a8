"""Workers that come back by themselves: after a broker's restart, and after having been frozen."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from local.kafka import start_kafka
from tests.runtime.world import make_world
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.runtime.world import World


async def test_a_worker_outlives_its_broker(postgres_dsn: str, tmp_path: Path) -> None:
    broker = await asyncio.to_thread(start_kafka, tmp_path)
    try:
        world = await make_world(broker.bootstrap, postgres_dsn)
        world.create_topics()
        async with world.process() as worker:
            await worker.ready()
            await world.add(["before"])
            await world.entered(1)
            await asyncio.to_thread(broker.restart)

            async def sent() -> bool:
                await world.add(["after"])
                return True

            await wait_until(sent, what="broker back")
            await world.entered(2, within_s=60)
            await worker.settled_ready()
            worker.signal(signal.SIGTERM)
            assert await worker.ended() == 0
        await world.close()
        world.pool.terminate()
    finally:
        await asyncio.to_thread(broker.stop)


async def test_a_frozen_worker_that_wakes_up_does_nothing_twice(world: World) -> None:
    ids = [f"m{number}" for number in range(600)]
    async with world.process(SLUICE_BATCH_SIZE="5") as frozen, world.process() as other:
        await asyncio.gather(frozen.ready(), other.ready())
        await world.add(ids[:300])
        frozen.signal(signal.SIGSTOP)
        await world.add(ids[300:])
        await world.entered(600, within_s=45)
        frozen.signal(signal.SIGCONT)
        await world.add(["last"])
        await world.entered(601)
        await world.settled()
        await frozen.settled_ready()
    assert sorted(await world.entries()) == sorted([*ids, "last"])
    assert set(await world.answered()) == {*ids, "last"}
