"""Where a partition goes on, and when it must not go on by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaError, KafkaException

from services.runtime.offsets import Gap, NoGap, Stored, accept_gap, find_gap, resume_offset
from services.runtime.topics import Log
from tests.waiting import wait_until

if TYPE_CHECKING:
    from services.runtime.consumer import Consumer
    from tests.runtime.world import World


@pytest.mark.parametrize(
    ("stored", "log", "gap"),
    [
        (Stored("a", 5), Log("a", 0, 9), None),
        (Stored("a", 5), Log("a", 5, 5), None),
        (Stored("a", 5), Log("a", 7, 9), Gap("retention", 2)),
        (Stored("a", 5), Log("a", 0, 3), Gap("beyond_end", 2)),
        (Stored("a", 5), Log("b", 0, 9), Gap("recreated", None)),
        (Stored("a", 5, "beyond_end", 3), Log("a", 0, 9), Gap("beyond_end", None)),
    ],
)
def test_a_gap_is_found_by_comparing_the_stored_offset_with_the_log(stored: Stored, log: Log, gap: Gap | None) -> None:
    assert find_gap(stored, log) == gap


@pytest.mark.parametrize(
    ("stored", "log", "offset"),
    [
        (Stored("a", 5, "retention", 9), Log("a", 7, 9), 7),
        (Stored("a", 5, "recreated", 9), Log("b", 1, 9), 1),
        (Stored("a", 5, "beyond_end", 3), Log("a", 0, 9), 3),
        (Stored("a", 5, "beyond_end", 3), Log("a", 4, 9), 4),
        (Stored("a", 5, "beyond_end", 3), Log("b", 0, 9), 0),
    ],
)
def test_an_accepted_gap_ends_where_nothing_more_is_lost(stored: Stored, log: Log, offset: int) -> None:
    assert resume_offset(stored, log) == offset


async def stopped(consumer: Consumer, kind: str) -> None:
    """Wait until a worker says that a partition is stopped."""

    async def says_so() -> bool:
        return any(kind in reason for reason in consumer.reasons_not_ready())

    await wait_until(says_so, what=f"stopped by {kind}")


async def accept(world: World, partition: int) -> None:
    """Accept the gap of a partition of toy.sums."""
    async with world.pool.acquire() as connection:
        await accept_gap(connection, "toy.sums", partition)


async def recreate(world: World, topic: str) -> None:
    """Create a topic again that was just deleted."""

    async def is_created() -> bool:
        try:
            world.create_topics([topic])
        except KafkaException as error:
            # The old one may still be on its way out.
            assert error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS  # noqa: PT017 - asked again
            return False
        return True

    await wait_until(is_created, what=f"{topic} created again")


async def gap_size(world: World) -> int | None:
    """Return the size recorded of the one gap."""
    size: int | None = await world.value("select gap_size from consumed_offset where gap_kind is not null")
    return size


async def test_what_retention_deleted_stops_only_its_partition_until_accepted(world: World) -> None:
    await world.add(["a"], partition=0)
    async with world.worker():
        await world.entered(1)
    await world.add(["lost1", "lost2", "kept"], partition=0)
    await world.delete_records("toy.sums", 0, 3)
    async with world.worker() as consumer:
        await stopped(consumer, "retention")
        await world.add(["other"], partition=1)
        assert await world.entered(2) == ["a", "other"]
        assert await gap_size(world) == 2
        await accept(world, 0)
        assert await world.entered(3) == ["a", "other", "kept"]
        await world.ready(consumer)


async def test_retention_that_overtakes_a_running_worker_is_noticed(world: World) -> None:
    await world.add([f"slow{n}" for n in range(4)], partition=0, slow_s=0.5)
    async with world.worker(batch_size=1) as consumer:
        await world.entered(1)
        await world.add(["lost", "kept"], partition=0)
        await world.delete_records("toy.sums", 0, 5)
        await stopped(consumer, "retention")
        await accept(world, 0)
        await world.ready(consumer)
        assert (await world.entries())[-1] == "kept" or (await world.entered(5))[-1] == "kept"


async def test_an_offset_beyond_the_end_stops_until_accepted(world: World) -> None:
    await world.add(["a"], partition=0)
    async with world.worker():
        await world.entered(1)
    await world.fetch("update consumed_offset set next_offset = 7 where topic = 'toy.sums' and partition = 0")
    async with world.worker() as consumer:
        await stopped(consumer, "beyond_end")
        assert await gap_size(world) == 6
        await world.add(["b"], partition=0)
        await accept(world, 0)
        assert await world.entered(2) == ["a", "b"]
        await world.ready(consumer)


async def test_a_topic_recreated_under_a_running_worker_stops_until_accepted(world: World) -> None:
    await world.add(["a"], partition=0)
    async with world.worker() as consumer:
        await world.entered(1)
        world.delete_topics("toy.sums")

        await recreate(world, "toy.sums")

        async def all_stopped() -> bool:
            return bool(await world.value("select count(*) = 4 from consumed_offset where gap_kind = 'recreated'"))

        await wait_until(all_stopped, what="every partition stopped")
        await world.add(["b"], partition=0)
        for partition in range(4):
            await accept(world, partition)
        assert await world.entered(2) == ["a", "b"]
        await world.ready(consumer)


async def test_a_topic_recreated_while_no_worker_runs_stops_even_if_it_is_longer(world: World) -> None:
    await world.add(["a"], partition=0)
    async with world.worker():
        await world.entered(1)
    world.delete_topics("toy.sums")
    await recreate(world, "toy.sums")
    await world.add(["b", "c"], partition=0)
    async with world.worker() as consumer:
        await stopped(consumer, "recreated")
        assert await world.entries() == ["a"]
        for partition in range(4):
            await accept(world, partition)
        assert await world.entered(3) == ["a", "b", "c"]


async def test_there_must_be_a_gap_to_accept(world: World) -> None:
    with pytest.raises(NoGap):
        await accept(world, 0)


async def test_a_missing_topic_is_named_and_waited_for(world: World) -> None:
    world.delete_topics("toy.notes")
    async with world.worker() as consumer:

        async def names_it() -> bool:
            return any("toy.notes" in reason for reason in consumer.reasons_not_ready())

        await wait_until(names_it, what="the missing topic's name")

        await recreate(world, "toy.notes")
        await world.ready(consumer)
