"""Nobody's slowness is another's: streams hold little, connections are lent briefly, and plans stay small."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest
from aiohttp import ClientSession, ClientTimeout

from services.notify.inbox import store
from services.notify.inbox.live import Live
from services.runtime.database import load_queries
from tests.notify.inbox.readers import as_reader
from tests.notify.test_notices import hear, profile, settled
from tests.waiting import wait_until

if TYPE_CHECKING:
    from typing import Any

    from services.runtime.database import Connection, Pool

QUERIES = load_queries(Path(store.__file__).with_name("queries.sql"))


async def test_who_takes_no_news_is_left_some_and_keeps_nobody_waiting(pool: Pool) -> None:
    await hear(pool, profile("a"), profile("b"))
    live, stopping = Live(pool), asyncio.Event()
    running = asyncio.create_task(live.run(stopping))
    with live.follow("a", 0, lambda: False) as slow, live.follow("b", 0, lambda: False) as quick:
        await hear(pool, *(settled() for _ in range(100)))
        taken: list[int] = []

        async def has_all() -> bool:
            if (news := live.take(quick)) is not None:
                taken.extend(message.number for message in news.messages)
            return len(taken) == 100

        await wait_until(has_all)
        assert taken == list(range(1, 101))
        assert slow.news is not None
        assert len(slow.news.messages) <= 20
    stopping.set()
    await running


async def test_a_customer_who_asks_for_much_at_once_waits_alone(pool: Pool, client: ClientSession) -> None:
    await hear(pool, profile("a"), profile("b"))

    async def status(customer_id: str) -> int:
        async with client.get("/inbox", headers=as_reader(customer_id)) as response:
            return response.status

    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("lock table inbox_message in access exclusive mode")
        asked = [asyncio.create_task(status("a")) for _ in range(7)]
        another = asyncio.create_task(status("b"))

        async def refused() -> bool:
            return sum(task.done() for task in asked) == 3

        await wait_until(refused)
    assert sorted(await asyncio.gather(*asked)) == [200] * 4 + [429] * 3
    assert await another == 200


async def test_a_database_that_does_not_answer_is_told_in_time(pool: Pool, workers: tuple[str, str]) -> None:
    await hear(pool, profile("a"))
    async with ClientSession(workers[0], timeout=ClientTimeout(total=15)) as client:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("lock table inbox_message in access exclusive mode")
            async with client.get("/inbox", headers=as_reader("a")) as response:
                assert response.status == 503
                assert response.headers["Retry-After"] == "2"
        async with client.get("/inbox", headers=as_reader("a")) as response:
            assert response.status == 200


async def _plan(connection: Connection, query: str, *arguments: Any) -> str:
    rows = await connection.fetch(f"explain (format json) {query}", *arguments)
    return orjson.dumps(orjson.loads(rows[0][0])).decode()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("load_page", ("c7", None, 51)),
        ("load_page", ("c7", 90, 51)),
        ("load_news", ([f"c{n}" for n in range(200)], [199] * 200, [False] * 200, 20)),
        ("mark_read", ("c7", [], 150, None)),
        ("count_unread", ("c7",)),
    ],
)
async def test_no_statement_reads_a_table_from_end_to_end(pool: Pool, name: str, arguments: tuple[Any, ...]) -> None:
    async with pool.acquire() as connection, connection.transaction():
        # What is told here was never an event.
        await connection.execute("set local session_replication_role = replica")
        await connection.execute(
            "insert into customer (customer_id, is_known, inbox_count)"
            " select 'c' || n, true, 200 from generate_series(1, 2000) n"
        )
        await connection.execute("insert into customer_key select customer_id, '' from customer")
        await connection.execute(
            "insert into inbox_message (customer_id, number, notice_id, locale, sealed, arrived_at, read_at)"
            " select 'c' || n, m, gen_random_uuid(), 'en', '', now(),"
            " case when m < 195 then now() end from generate_series(1, 200) n, generate_series(1, 200) m"
        )
        await connection.execute("analyze customer, customer_key, inbox_message")
        plan = await _plan(connection, QUERIES[name], *arguments)
    assert "Index" in plan
    assert '"Seq Scan"' not in plan
