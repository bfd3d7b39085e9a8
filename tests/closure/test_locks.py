"""On PostgreSQL: of two workers who decide about one customer, the later one sees what the earlier did."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from schemas.fields import as_text
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


async def test_two_applications_with_one_id_for_two_wallets_have_one_order(pool: Pool) -> None:
    world = World(pool)
    await world.join(1)
    await world.join(2)
    async with world.uncommitted() as other:
        case_id = await other.apply(1)
        said = len(world.said)
        applying = asyncio.create_task(world.apply(2, case_id=case_id))
        await wait_until(lambda: _is_waited(pool))
    await applying
    assert [(type_, body["reason"]["code"]) for type_, body in world.said[said:]] == [
        ("closure.command_refused", "duplicate_id_conflict")
    ]


async def test_a_position_that_is_published_no_more_waits_for_its_customers_turn(pool: Pool) -> None:
    world = World(pool)
    await world.join(1)
    await world.owes(1, 500)
    case_id = await world.apply(1)
    async with world.uncommitted() as other:
        await other.hear("risk.events", "risk.cleared", "person-1", {"customer_id": "person-1", "rule": "r"})
        forgetting = asyncio.create_task(world.no_more(1))
        await wait_until(lambda: _is_waited(pool))
    await forgetting
    # Nothing is owed any more: the case goes on at once.
    assert (await world.shown(case_id))["status"] == "in_flight"


async def test_what_each_rule_says_of_somebody_is_kept_by_itself(pool: Pool) -> None:
    world = World(pool)
    await world.join(1)
    body = {"customer_id": "person-1", "rule": "a", "until": as_text(world.now + timedelta(hours=1))}
    await world.hear("risk.events", "risk.flagged", "person-1", body)
    later = as_text(world.now + timedelta(hours=2))
    await world.hear("risk.events", "risk.flagged", "person-1", body | {"rule": "b", "until": later})
    asked = "select flagged_until from customer where customer_id = 'person-1'"
    assert await pool.fetchval(asked) == world.now + timedelta(hours=2)
    await world.hear("risk.events", "risk.cleared", "person-1", {"customer_id": "person-1", "rule": "b"})
    assert await pool.fetchval(asked) == world.now + timedelta(hours=1)
    await world.hear("risk.events", "risk.cleared", "person-1", {"customer_id": "person-1"})
    assert await pool.fetchval(asked) is None
