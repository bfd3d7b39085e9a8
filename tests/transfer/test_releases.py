"""Windows that change while they hold and release transfers, in a real database, by several workers at once."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from schemas.fields import as_text
from schemas.registry import TOPICS
from services.runtime import timers
from services.runtime.database import create_pool
from services.runtime.message import Batch, Lane, Message
from services.transfer import records
from services.transfer.handlers import Handlers
from tests.transfer.bench_of_facts import LANE, MORNING, RULES, handle, message, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime

    from services.runtime.database import Pool
    from services.runtime.message import Effects, Timer

HOUR = timedelta(hours=1)
HELD = 300


class World:
    """The service's handlers over a database, driven as the runtime would."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.handlers = Handlers(RULES, b"m" * 32, released_at_once=40)

    async def hear(self, messages: Sequence[Message], now: datetime) -> list[str]:
        async with self.pool.acquire() as connection, connection.transaction():
            effects = await handle(self.handlers, connection, Batch(messages), now)
            await timers.record(connection, effects)
        return _types(effects)

    async def change(self, messages: Sequence[Message], now: datetime) -> None:
        async with self.pool.acquire() as connection, connection.transaction():
            effects = await self.handlers.on_windows(connection, Batch(messages), now)
            await timers.record(connection, effects)

    async def due(self, now: datetime) -> list[Timer]:
        async with self.pool.acquire() as connection:
            return [one for one in await timers.load_next(connection, [LANE], 100, now) if one.due_at <= now]

    async def release(self, now: datetime) -> list[str]:
        """Take what is due, again and again, until nothing is."""
        released: list[str] = []
        while due := await self.due(now):
            async with self.pool.acquire() as connection, connection.transaction():
                taken = await timers.take(connection, due)
                effects = await handle(self.handlers, connection, Batch((), taken), now)
                await timers.record(connection, effects)
            released += [
                orjson.loads(one.value or b"")["transfer_id"]
                for one in effects.outgoing
                if one.topic == "transfer.events"
            ]
        return released

    async def findings(self) -> list[Any]:
        async with self.pool.acquire() as connection:
            return await records.find_all(connection)

    async def deadlocks(self) -> int:
        async with self.pool.acquire() as connection:
            await connection.execute("select pg_stat_force_next_flush()")
            count: int = await connection.fetchval(
                "select deadlocks from pg_stat_database where datname = current_database()"
            )
            return count


def _types(effects: Effects) -> list[str]:
    return [(dict(one.headers)["ce_type"] or b"").decode() for one in effects.outgoing]


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    pool = await create_pool(database, "transfer", "test", size=4)
    made = World(pool)
    opening = {"currency": "CNY", "tier": "unlimited", "overdraft_limit_minor": 10**9}
    accounts = [{"account_id": f"wallet:{name}", "customer_id": name, **opening} for name in ("a", "b")]
    await made.hear([message("account.open", account) for account in accounts], MORNING)
    yield made
    await pool.close()


def event(window_id: str, type_: str, revision: int, ends_at: datetime = MORNING + HOUR, **more: Any) -> Message:
    body = {
        "window_id": window_id,
        "title": "Upgrade",
        "reason": "Upgrade",
        "starts_at": as_text(MORNING - HOUR),
        "ends_at": as_text(ends_at),
        "functions": ["transfer"],
        "treatment": "hold",
        "revision": revision,
        "occurred_at": as_text(MORNING),
        **more,
    }
    data = TOPICS["maintenance.events"][type_].model_validate_json(orjson.dumps(body))
    return Message(Lane("maintenance", 0), "maintenance.events", 0, b"k", type_, str(uuid.uuid4()), "test", data)


async def _hold(world: World, count: int) -> list[str]:
    asked = [request(amount_minor=1) for _ in range(count)]
    for start in range(0, count, 100):
        await world.hear([message("transfer.request", one) for one in asked[start : start + 100]], MORNING)
    return [one["transfer_id"] for one in asked]


async def test_what_is_held_goes_on_in_order_slice_by_slice(world: World) -> None:
    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    await world.change([event(first, "window.started", 1)], MORNING)
    early = await _hold(world, HELD)
    # Another window takes over what the first leaves, before what it holds itself.
    await world.change(
        [event(second, "window.started", 1, MORNING + 2 * HOUR), event(first, "window.ended", 2)], MORNING
    )
    late = await _hold(world, 50)
    assert await world.release(MORNING) == early
    assert await world.findings() == []
    assert await world.release(MORNING + 2 * HOUR) == early + late
    assert await world.findings() == []
    async with world.pool.acquire() as connection:
        tallies = await records.tally_windows(connection, [uuid.UUID(first), uuid.UUID(second)])
    assert {tally.waiting for tally in tallies.values()} == {0}
    assert {tally.held - tally.released for tally in tallies.values()} == {0}


async def test_an_older_event_changes_nothing(world: World) -> None:
    window_id = str(uuid.uuid4())
    await world.change([event(window_id, "window.ended", 3)], MORNING)
    await world.change([event(window_id, "window.extended", 2, MORNING + 5 * HOUR)], MORNING)
    assert await world.hear([message("transfer.request", request())], MORNING) == ["sluice.transfer.settled.v1"]


async def test_a_window_that_moves_away_lets_go_at_once(world: World) -> None:
    window_id = str(uuid.uuid4())
    await world.change([event(window_id, "window.started", 1)], MORNING)
    held = await _hold(world, 3)
    moved = {"starts_at": as_text(MORNING + HOUR), "ends_at": MORNING + 2 * HOUR}
    await world.change([event(window_id, "window.rescheduled", 2, **moved)], MORNING)
    assert await world.release(MORNING) == held


async def test_changes_and_releases_at_the_same_time_never_wait_in_a_circle(world: World) -> None:
    before = await world.deadlocks()
    for number in range(12):
        window_id = str(uuid.uuid4())
        await world.change([event(window_id, "window.started", 1)], MORNING)
        held = await _hold(world, HELD // 3)
        later = MORNING + HOUR
        # The window ends by its own time in one worker, and is extended, then ended in another.
        extended, ended = event(window_id, "window.extended", 2, later + HOUR), event(window_id, "window.ended", 3)
        released, *_ = await asyncio.gather(
            world.release(later), world.change([extended], later), world.change([ended], later)
        )
        released += await world.release(later)
        assert released == held, number
    assert await world.deadlocks() == before
    assert await world.findings() == []


async def test_a_change_waits_for_what_is_decided_by_the_old_windows(world: World) -> None:
    window_id = str(uuid.uuid4())
    await world.change([event(window_id, "window.started", 1)], MORNING)
    async with world.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        effects = await handle(
            world.handlers, connection, Batch([message("transfer.request", request(amount_minor=1))]), MORNING
        )
        await timers.record(connection, effects)
        changing = asyncio.create_task(world.change([event(window_id, "window.ended", 2)], MORNING))
        done, _ = await asyncio.wait([changing], timeout=0.3)
        assert not done
        await transaction.commit()
    await changing
    # What was held meanwhile is known to whoever ended the window.
    assert len(await world.release(MORNING)) == 1
