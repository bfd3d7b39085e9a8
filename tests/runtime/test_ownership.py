"""Lanes have one owner: what rebalances, fights and deaths do to them."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import uuid
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from services.runtime import offsets, outbox
from services.runtime.message import Lane, Outgoing
from services.runtime.offsets import Fenced, Move
from services.runtime.topics import Place
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.runtime.world import World


async def test_a_second_worker_takes_its_share_and_nothing_happens_twice(world: World) -> None:
    ids = [f"m{number}" for number in range(400)]
    async with world.worker(batch_size=10) as first:
        await world.add(ids[:200])
        await world.ready(first)
        async with world.worker(batch_size=10) as second:
            await world.add(ids[200:300])
            await world.ready(second)

            async def both_own() -> bool:
                return bool(await world.value("select count(distinct owner) = 2 from lane"))

            await wait_until(both_own, what="two owners")
        await world.add(ids[300:])
        assert sorted(await world.entered(400)) == sorted(ids)
        await world.settled()
    # Nobody died, so nothing was even published twice.
    assert sorted(await world.answered()) == sorted(ids)


async def test_a_session_that_lost_its_lane_gets_no_effect(world: World) -> None:
    lane, place = Lane("sums", 0), Place("toy.sums", 0)
    old, new = uuid.uuid4(), uuid.uuid4()
    async with world.pool.acquire() as connection:
        await connection.execute("insert into consumed_offset values ('toy.sums', 0, 'id', 5)")
        claimed = await offsets.claim_lanes(connection, old, [lane])
        assert claimed == {lane: 0}
        numbers = await offsets.advance(connection, old, claimed, [Move(place, 5, 6)], [])
        assert numbers == {lane: 1}
        outdated: list[tuple[uuid.UUID, dict[Lane, int], list[Move]]] = [
            # The same owner with an outdated place, with a place that goes back, and with an outdated batch: it was
            # committed and the answer lost, which for timers is the only sign.
            (old, numbers, [Move(place, 5, 7)]),
            (old, numbers, [Move(place, 6, 6)]),
            (old, claimed, []),
        ]
        for owner, lanes, moves in outdated:
            transaction = connection.transaction()
            await transaction.start()
            with pytest.raises(Fenced):
                await offsets.advance(connection, owner, lanes, moves, [])
            await transaction.rollback()
        # And an outdated owner with everything else right.
        assert await offsets.claim_lanes(connection, new, [lane]) == numbers
        with pytest.raises(Fenced):
            await offsets.advance(connection, old, numbers, [Move(place, 6, 7)], [])


async def test_a_claim_waits_for_the_old_owners_transaction(world: World) -> None:
    lane, place = Lane("sums", 0), Place("toy.sums", 0)
    old, new = uuid.uuid4(), uuid.uuid4()
    async with world.pool.acquire() as one, world.pool.acquire() as other:
        await one.execute("insert into consumed_offset values ('toy.sums', 0, 'id', 5)")
        claimed = await offsets.claim_lanes(one, old, [lane])
        transaction = one.transaction()
        await transaction.start()
        await offsets.advance(one, old, claimed, [Move(place, 5, 6)], [])
        claim = asyncio.create_task(offsets.claim_lanes(other, new, [lane]))
        done, _ = await asyncio.wait([claim], timeout=0.2)
        assert not done
        await transaction.commit()
        await claim
        assert await offsets.load_next_offsets(other, [place]) == {place: 6}


async def test_two_sessions_that_both_believe_they_own_a_lane_do_nothing_twice(world: World) -> None:
    ids = [f"m{number}" for number in range(300)]
    async with world.worker(batch_size=10) as consumer:
        for start in range(0, 300, 30):
            await world.add(ids[start : start + 30])
            # Somebody else claims everything, as the group's next choice of owner would.
            async with world.pool.acquire() as connection:
                await connection.execute("update lane set owner = gen_random_uuid()")
        assert sorted(await world.entered(300, within_s=60)) == sorted(ids)
        await world.settled()
        await world.ready(consumer)
    assert set(await world.answered()) == set(ids)


async def test_what_a_dead_owner_left_is_published_before_anything_new(world: World) -> None:
    lane = Lane("sums", 0)
    async with world.pool.acquire() as connection:
        await offsets.claim_lanes(connection, uuid.uuid4(), [lane])
        for number, names in ((1, "ab"), (2, "cd")):
            left = [
                Outgoing(lane, topic, b"key", json.dumps({"id": name}).encode(), [("ce_id", b"x")])
                for name in names
                for topic in ("toy.follow_ups", "toy.events")
            ]
            await outbox.record(connection, await outbox.pack_rows({lane: number}, left))
        await connection.execute("update lane set batch_number = 2")
    value = json.dumps({"amount": 1}).encode()
    await world.send([("toy.sums", b"key", value, world.headers("new"), 0)])
    async with world.worker():
        await world.entered(1)
    assert await world.answered() == ["a", "b", "c", "d", "new"]
    assert await world.answered("toy.follow_ups") == ["a", "b", "c", "d", "new"]
    assert await world.value("select count(*) from outbox") == 0


async def test_killed_workers_lose_nothing_and_repeat_no_effect(world: World) -> None:
    chance = random.Random(7)
    total = 2_000
    ids = [f"m{number}" for number in range(total)]
    environment = {"SLUICE_BATCH_SIZE": "25"}
    sending = asyncio.create_task(_send_slowly(world, ids))
    for _ in range(2):
        async with world.process(**environment) as one, world.process(**environment) as other:
            await asyncio.gather(one.ready(), other.ready())
            before = int(await world.value("select count(*) from entry"))
            # A fast machine may be through with everything before it is killed again.
            wanted = min(before + chance.randrange(60), total - 1)

            async def is_under_way(wanted: int = wanted) -> bool:
                return bool(await world.value("select count(*) > $1 from entry", wanted))

            await wait_until(is_under_way, what="work under way")
            one.signal(signal.SIGKILL)
            other.signal(signal.SIGKILL)
    await sending
    async with world.worker():
        await world.entered(total, within_s=40)
        await world.settled()
        # Those that were killed may have entered all: then it is for this worker to publish the last that they left.
        await world.published()
    assert Counter(await world.entries()) == Counter(ids)
    for topic in ("toy.events", "toy.follow_ups"):
        assert set(await world.answered(topic)) == set(ids)


async def _send_slowly(world: World, ids: list[str]) -> None:
    for start in range(0, len(ids), 50):
        await world.add(ids[start : start + 50])
        await asyncio.sleep(0.05)


async def test_a_killed_workers_partitions_move_to_another_within_ten_seconds(world: World) -> None:
    async with world.process() as one, world.process() as other:
        await asyncio.gather(one.ready(), other.ready())
        one.signal(signal.SIGKILL)
        ids = [f"m{number}" for number in range(40)]
        await world.add(ids)
        assert sorted(await world.entered(40, within_s=10)) == sorted(ids)
