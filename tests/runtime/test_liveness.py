"""Workers that come back by themselves: after a broker's restart, and after having been frozen."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from local.kafka import start_kafka
from services.runtime.liveness import Hopeless
from services.runtime.service import Subscription
from tests.runtime.toy.service import Add, toy
from tests.runtime.world import make_world
from tests.waiting import wait_until

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from services.runtime.database import Connection
    from services.runtime.message import Batch, Effects
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
        await world.entered(600, within_s=60)
        frozen.signal(signal.SIGCONT)
        await world.add(["last"])
        await world.entered(601)
        await world.settled()
        await frozen.settled_ready()
    assert sorted(await world.entries()) == sorted([*ids, "last"])
    assert set(await world.answered()) == {*ids, "last"}


async def test_a_worker_that_stands_still_is_rebuilt_once_and_then_gives_up(world: World) -> None:
    async def never_ends(_connection: Connection, _batch: Batch, _now: datetime) -> Effects:
        await asyncio.Event().wait()
        raise AssertionError

    stuck = Subscription("sums", {"toy.sums": {"toy.add": Add}}, never_ends)
    service = replace(toy(), subscriptions=(stuck,))
    await world.add(["a"])
    with pytest.raises(Hopeless, match="Stalled"):
        async with world.worker(service, stall_timeout_s=1), asyncio.timeout(30):
            await world.ended()


async def test_a_worker_that_fails_for_an_unknown_reason_gives_up(world: World) -> None:
    await world.fetch("alter table lane rename to street")
    with pytest.raises(Hopeless, match="UndefinedTableError"):
        async with world.worker(), asyncio.timeout(30):
            await world.ended()
