"""On PostgreSQL: of two workers who decide about one customer, the later one sees what the earlier did."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from services.runtime.database import create_pool
from tests.closure.world import World
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.runtime.database import Pool


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    pool = await create_pool(database, "closure", "test", size=3)
    yield pool
    await pool.close()


async def _is_waited(pool: Pool) -> bool:
    async with pool.acquire() as connection:
        count = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        return bool(await connection.fetchval(count))


async def test_an_application_waits_for_the_debt_that_is_being_noted(pool: Pool) -> None:
    world = World(pool)
    await world.join(1)
    async with world.uncommitted() as other:
        await other.owes(1, 500)
        applying = asyncio.create_task(world.apply(1))
        await wait_until(lambda: _is_waited(pool))
    assert (await world.shown(await applying))["status"] == "obligations"


async def test_two_applications_for_a_wallet_that_nobody_knows_have_one_order(pool: Pool) -> None:
    world = World(pool)
    async with world.uncommitted() as other:
        first = await other.apply(2)
        applying = asyncio.create_task(world.apply(2))
        await wait_until(lambda: _is_waited(pool))
    second = await applying
    assert (await world.shown(first))["status"] == "received"
    assert (await world.shown(second))["why"] == "case_open"
