"""Tables that held destroyed keys are rewritten: their files do not have the keys any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from services.runtime import scrubbing
from services.runtime.database import create_pool
from services.runtime.scrubbing import ScrubRefused, scrub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.runtime.database import Connection, Pool

KEYS = {f"c{number}": bytes([number]) * 60 for number in range(1, 4)}
_FILES = """
select pg_read_binary_file(pg_relation_filepath(oid))
from pg_class
where relkind in ('r', 't', 'i') and (relnamespace = 'transfer'::regnamespace or relname = 'pg_statistic')
"""
_SAMPLED = """
select table_schema || '.' || table_name || '.' || column_name
from information_schema.columns
where (column_name = 'wrapped_key' or (table_name, column_name) = ('outbox', 'payload'))
    and (
        select coalesce(attstattarget, -1)
        from pg_attribute
        where attrelid = format('%I.%I', table_schema, table_name)::regclass and attname = column_name
    ) <> 0
"""


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    made = await create_pool(database, "transfer", "test", size=3)
    yield made
    made.terminate()


@pytest_asyncio.fixture
async def ours(pool: Pool) -> AsyncIterator[Connection]:
    """A connection, once three have keys and what was on its way has left."""
    async with pool.acquire() as connection:
        await connection.executemany("insert into customer_key values ($1, $2)", [*KEYS.items()])
        await connection.execute("insert into outbox values ('transfer', 0, 1, 'Featherstonehaugh')")
        await connection.execute("delete from outbox")
        await connection.execute("analyze")
        yield connection


async def _left(connection: Connection) -> set[str]:
    """Return whose keys are in the files of the tables, and what was on its way."""
    await connection.execute("checkpoint")
    files = [row[0] for row in await connection.fetch(_FILES)]
    wanted = {**KEYS, "sent": b"Featherstonehaugh"}
    return {name for name, needle in wanted.items() if any(needle in file for file in files)}


async def _noted(connection: Connection) -> int:
    return int(await connection.fetchval("select count(*) from destroyed_key"))


async def test_a_destroyed_key_is_gone_from_the_files_and_the_others_are_not(ours: Connection) -> None:
    assert await scrub(ours) == 0
    await ours.execute("delete from customer_key where customer_id = 'c3'")
    # What is free in a page is not cleared.
    await ours.execute("vacuum")
    assert await _left(ours) >= {"c1", "c2", "c3"}
    assert await _noted(ours) == 1
    assert await scrub(ours) > 0
    assert await _left(ours) == {"c1", "c2"}
    assert await ours.fetchval("select array_agg(customer_id order by customer_id) from customer_key") == ["c1", "c2"]
    assert await _noted(ours) == 0
    assert await scrub(ours) == 0


async def test_what_somebody_may_still_see_is_rewritten_later(
    ours: Connection, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrubbing, "_PATIENCE_S", 0.1)
    async with pool.acquire() as other:
        async with other.transaction(isolation="repeatable_read"):
            await other.fetch("select from lane")
            await ours.execute("delete from customer_key")
            with pytest.raises(TimeoutError):
                await scrub(ours)
            assert await _noted(ours) == 1
        assert await scrub(ours) > 0
    assert await _left(ours) == set()


async def test_one_rewrites_at_a_time(ours: Connection, pool: Pool) -> None:
    await ours.execute("delete from customer_key")
    async with pool.acquire() as other:
        assert await scrub(ours) > 0
        await other.execute("insert into customer_key values ('c4', 'k')")
        await other.execute("delete from customer_key")
        # The first has the claim until its connection is given back.
        assert await scrub(other) == 0
        await ours.reset()
        assert await scrub(other) > 0


async def test_who_may_not_rewrite_says_so_and_tries_again(ours: Connection) -> None:
    await ours.execute("delete from customer_key")
    await ours.execute("create role stranger_to_keys")
    try:
        await ours.execute("grant usage on schema transfer to stranger_to_keys")
        await ours.execute("grant select on all tables in schema transfer to stranger_to_keys")
        await ours.execute("set role stranger_to_keys")
        with pytest.raises(ScrubRefused, match="customer_key"):
            await scrub(ours)
        await ours.execute("reset role")
        assert await _noted(ours) == 1
    finally:
        await ours.execute("reset role; drop owned by stranger_to_keys; drop role stranger_to_keys")


@pytest.mark.parametrize("schema", ["transfer", "notify", "closure"])
async def test_keys_are_kept_in_tables_that_note_their_destruction(ours: Connection, schema: str) -> None:
    noting = await ours.fetch(
        "select tgrelid::regclass::text from pg_trigger where tgfoid = $1::text::regproc",
        f"{schema}.note_destroyed_key",
    )
    holding = await ours.fetch(
        "select format('%I.%I', table_schema, table_name)::regclass::text from information_schema.columns"
        " where column_name = 'wrapped_key' and table_schema = $1",
        schema,
    )
    assert {row[0] for row in holding} == {row[0] for row in noting} != set()


async def test_the_planner_keeps_no_samples_of_keys_and_of_what_is_on_its_way(ours: Connection) -> None:
    assert [row[0] for row in await ours.fetch(_SAMPLED)] == []
    assert await ours.fetchval("select count(*) from pg_stats where attname in ('wrapped_key', 'payload')") == 0
