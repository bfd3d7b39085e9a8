"""After an erasure no table knows the customer, what was counted is counted still, and nothing brings them back."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from schemas.fields import as_text
from services.maintenance import records
from services.maintenance.app import build
from services.maintenance.decide import compensation_id
from services.maintenance.policy import Policy
from services.runtime.database import create_pool
from services.runtime.message import Batch, Lane, Message
from tests.maintenance.test_debts import HOUR, NOW, WINDOW, World, event, held, message, schedule
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from services.runtime.database import Connection
    from tests.maintenance.test_debts import Said

CUSTOMER, OTHER = "customer-who-leaves", "customer-who-stays"
REMEMBERED = {"erased_customer.customer_id", "timer.subject"}
NUMBER = str(compensation_id(uuid.UUID(WINDOW), CUSTOMER))


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    pool = await create_pool(database, "maintenance", "test", size=3)
    yield World(pool)
    await pool.close()


def erase(customer: str = CUSTOMER) -> Message:
    return message("erasure.events", "customer.erase", {"customer_id": customer})


def waived(customer: str) -> Message:
    use = {
        "transfer_id": str(uuid.uuid4()),
        "customer_id": customer,
        "window_id": WINDOW,
        "compensation_id": str(compensation_id(uuid.UUID(WINDOW), customer)),
        "fee_minor": 10,
        "currency": "CNY",
        "occurred_at": as_text(NOW),
    }
    return message("transfer.events", "fee.waived", use)


def answer(customer: str, score: int) -> Message:
    said = {"window_id": WINDOW, "customer_id": customer, "score": score, "text": customer}
    return message("maintenance.commands", "survey.answer", said)


async def found(world: World) -> set[str]:
    """Return which columns know the customer, by their id or by the number of what they were given."""
    columns = (
        "select table_name, column_name from information_schema.columns join information_schema.tables"
        " using (table_schema, table_name) where table_schema = 'maintenance' and table_type = 'BASE TABLE'"
    )
    places: set[str] = set()
    async with world.pool.acquire() as connection:
        for table, column in await connection.fetch(columns):
            for (value,) in await connection.fetch(f'select "{column}" from maintenance."{table}"'):
                held_there = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
                if CUSTOMER in held_there or NUMBER in held_there:
                    places.add(f"{table}.{column}")
    return places


async def counted(world: World) -> dict[str, Any]:
    async with world.pool.acquire() as connection:
        (window,) = await records.list_windows(connection, uuid.UUID(WINDOW), 10)
    return {name: window[name] for name in ("compensated", "compensation_used", "survey_answers", "survey_score")}


def granted(said: Said) -> list[str]:
    return sorted(body["customer_id"] for type_, body in said if type_ == "compensation.granted")


async def test_what_was_given_used_and_answered_is_counted_without_the_customer(world: World) -> None:
    await world.hear(schedule())
    await world.hear(held(CUSTOMER), held(OTHER))
    assert granted(await world.wait(HOUR)) == [CUSTOMER, OTHER]
    await world.wait(HOUR)
    used = waived(CUSTOMER)
    await world.hear(used)
    await world.hear(answer(CUSTOMER, 2), answer(OTHER, 5))
    before = await counted(world)
    assert await found(world) == {
        "affected_customer.customer_id",
        "affected_customer.compensation_id",
        "compensation_use.compensation_id",
        "survey_answer.customer_id",
    }
    ((type_, body),) = await world.hear(erase())
    assert (type_, body["customer_id"], body["service"]) == ("customer.erased", CUSTOMER, "maintenance")
    assert [one["until"] for one in body["retained"]] == [(world.now + timedelta(days=40)).date().isoformat()]
    assert await found(world) == REMEMBERED
    assert await counted(world) == before
    assert (before["compensated"], before["compensation_used"], before["survey_answers"]) == (2, 1, 2)
    # What was used of it is still known by its transfers, and who is left by all that is theirs.
    data: Any = used.data
    async with world.pool.acquire() as connection:
        uses = await connection.fetch(
            "select transfer_id from compensation_use join affected_customer using (compensation_id)"
        )
        left = await connection.fetch("select customer_id from affected_customer where customer_id is not null")
    assert ([row[0] for row in uses], [row[0] for row in left]) == ([data.transfer_id], [OTHER])
    assert await world.hear(used) == []
    assert await world.is_clean()


def null_profile(key: bytes = CUSTOMER.encode()) -> Message:
    return Message(Lane("profile", 0), "customer.profiles", 0, key, "tombstone", str(uuid.uuid4()), "test", None)


@pytest.mark.parametrize("asked", [erase, null_profile])
async def test_who_was_erased_is_owed_nothing_any_more(world: World, asked: Callable[[], Message]) -> None:
    await world.hear(schedule())
    await world.hear(held(CUSTOMER), held(OTHER))
    assert [(type_, body["service"]) for type_, body in await world.hear(asked())] == [
        ("customer.erased", "maintenance")
    ]
    assert granted(await world.wait(HOUR)) == [OTHER]
    assert await found(world) == REMEMBERED
    assert await world.is_clean()


async def test_late_news_brings_nobody_back_and_who_comes_back_is_somebody_new(world: World) -> None:
    await world.hear(schedule(starts_at=as_text(NOW), ends_at=as_text(NOW + 4 * HOUR)))
    world.now += HOUR
    await world.hear(erase())
    assert await world.hear(held(CUSTOMER), waived(CUSTOMER)) == []
    assert await found(world) == REMEMBERED
    world.now += HOUR
    # Their last transfer counts, in whatever order the news come.
    await world.hear(event("transfer.held", CUSTOMER, at=world.now, window_id=WINDOW), held(CUSTOMER))
    assert granted(await world.wait(2 * HOUR)) == [CUSTOMER]


async def test_an_answer_of_who_was_just_erased_is_not_counted(world: World) -> None:
    await world.hear(schedule())
    await world.wait(HOUR)
    await world.wait(HOUR)
    await world.hear(erase())
    await world.hear(answer(CUSTOMER, 1), answer(OTHER, 5))
    assert await found(world) == REMEMBERED
    assert (await counted(world))["survey_answers"] == 1


async def test_that_somebody_was_erased_is_forgotten_40_days_after_the_last_time(world: World) -> None:
    await world.hear(erase())
    world.now += timedelta(days=20)
    # Twice at once is asked for and answered twice.
    assert [type_ for type_, _ in await world.hear(erase(), erase())] == ["customer.erased"] * 2
    await world.wait(timedelta(days=39))
    assert await found(world) == REMEMBERED
    await world.wait(timedelta(days=1))
    assert await found(world) == set()


async def _note(world: World, connection: Connection) -> object:
    return await world.hear_in(connection, held(CUSTOMER))


async def _answer(world: World, connection: Connection) -> object:
    return await world.hear_in(connection, answer(CUSTOMER, 1))


async def _use(world: World, connection: Connection) -> object:
    return await world.hear_in(connection, waived(CUSTOMER))


@pytest.mark.parametrize("do", [_note, _answer, _use])
async def test_what_is_written_down_at_the_same_moment_is_erased_too(
    world: World, do: Callable[[World, Connection], Awaitable[object]]
) -> None:
    await world.hear(schedule())
    await world.hear(held(CUSTOMER))
    await world.wait(HOUR)
    await world.wait(HOUR)
    await _erase_beside(world, do)
    assert await found(world) == REMEMBERED


async def test_who_is_given_something_at_the_same_moment_is_erased_too(world: World) -> None:
    await world.hear(schedule())
    await world.hear(held(CUSTOMER))
    world.now += HOUR
    async with world.pool.acquire() as connection, connection.transaction():
        await world.take_in(connection, await world.due())
    due = await world.due()

    async def grant(world: World, connection: Connection) -> object:
        said = await world.take_in(connection, due)
        assert granted(said) == [CUSTOMER]
        return said

    await _erase_beside(world, grant)
    assert await found(world) == REMEMBERED
    assert (await counted(world))["compensated"] == 1


async def _erase_beside(world: World, do: Callable[[World, Connection], Awaitable[object]]) -> None:
    """Erase the customer while a transaction that has written them down goes on."""
    async with world.pool.acquire() as watching:

        async def waits() -> bool:
            blocked = "datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0"
            return bool(await watching.fetchval(f"select exists (select from pg_stat_activity where {blocked})"))

        async with world.pool.acquire() as connection, connection.transaction():
            await do(world, connection)
            erasing = asyncio.create_task(world.hear(erase()))
            await wait_until(waits, what="the erasure waits for who has written the customer down")
        await erasing


async def test_a_null_profile_whose_key_is_nobodys_erases_nobody(world: World) -> None:
    async with world.pool.acquire() as connection, connection.transaction():
        effects = await world.handlers.on_erasures(connection, Batch([null_profile(b"\xff"), null_profile()]), NOW)
    assert [one.detail for one in effects.unfit] == ["the key of a null value is not UTF-8"]
    assert [one.key for one in effects.outgoing] == [CUSTOMER.encode()]


def test_profiles_and_what_others_say_that_they_have_erased_are_passed_over() -> None:
    topics = {name: types for one in build(Policy()).subscriptions for name, types in one.topics.items()}
    assert [type_ for type_, model in topics["erasure.events"].items() if model is None] == ["customer.erased"]
    assert set(topics["customer.profiles"].values()) == {None}
