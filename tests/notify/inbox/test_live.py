"""Whoever follows an inbox gets each message once, in order, on whichever worker, until there is nothing to follow."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientSession

from tests.notify.inbox.readers import Follower, as_reader, follow, token_of, worker
from tests.notify.test_notices import erasure, hear, profile, settled
from tests.waiting import wait_until

if TYPE_CHECKING:
    from services.runtime.database import Pool


async def _known(pool: Pool, messages: int = 0) -> None:
    await hear(pool, profile("a"), profile("b"))
    await hear(pool, *(settled() for _ in range(messages)))


async def test_a_new_message_and_the_count_are_told_at_once(pool: Pool, client: ClientSession) -> None:
    await _known(pool, 2)
    async with follow(client, "a") as stream:
        assert await stream.next() == ("unread", 2, {"unread": 2})
        await hear(pool, settled())
        event = await stream.next()
        assert (event.name, event.id, event.data["title"]) == ("message", 3, "CN¥12.50 sent")
        assert await stream.next() == ("unread", 3, {"unread": 3})


async def test_who_comes_again_misses_nothing_and_gets_nothing_twice(pool: Pool, client: ClientSession) -> None:
    await _known(pool, 3)
    async with follow(client, "a") as stream:
        seen = (await stream.next()).id
    await hear(pool, *(settled() for _ in range(50)))
    async with follow(client, "a", Last_Event_ID=str(seen)) as stream:
        assert await stream.messages(30) == list(range(4, 34))
    async with follow(client, "a", Last_Event_ID="33") as stream:
        await hear(pool, settled())
        assert await stream.messages(21) == list(range(34, 55))


async def test_a_page_follows_from_what_it_shows(pool: Pool, client: ClientSession) -> None:
    await _known(pool, 5)
    async with client.get(f"/inbox/live?after=3&token={token_of('a')}") as response:
        assert await Follower(response).messages(2) == [4, 5]


async def test_an_id_beyond_the_end_is_the_end(pool: Pool, client: ClientSession) -> None:
    await _known(pool, 5)
    async with follow(client, "a", Last_Event_ID="999999") as stream:
        assert await stream.next() == ("unread", 5, {"unread": 5})
        await hear(pool, settled())
        assert await stream.messages(1) == [6]


async def test_messages_and_reading_are_told_on_every_worker(
    pool: Pool, client: ClientSession, workers: tuple[str, str]
) -> None:
    await _known(pool)
    async with ClientSession() as other, follow(client, "a") as here, follow(other, "a", workers[1]) as there:
        assert await here.counts(0)
        assert await there.counts(0)
        await hear(pool, *(settled() for _ in range(30)))
        assert await here.messages(30) == list(range(1, 31))
        assert await there.messages(30) == list(range(1, 31))
        assert await here.counts(30)
        assert await there.counts(30)
        async with other.post(f"{workers[1]}/inbox/read", json={"up_to": 29}, headers=as_reader("a")) as response:
            assert await response.json() == {"unread": 1}
        assert await here.counts(1)
        assert await there.counts(1)


async def test_messages_of_many_batches_come_in_order_while_they_are_written(pool: Pool, client: ClientSession) -> None:
    await _known(pool)
    async with follow(client, "a") as stream:
        reading = asyncio.create_task(stream.messages(200))
        for _ in range(40):
            await hear(pool, *(settled() for _ in range(5)))
        assert await reading == list(range(1, 201))


async def test_others_hear_nothing(pool: Pool, client: ClientSession) -> None:
    await _known(pool)
    await hear(pool, profile("c"))
    async with follow(client, "c") as stream:
        assert await stream.counts(0)
        await hear(pool, *(settled() for _ in range(3)))
        await hear(pool, settled(payer="c"))
        event = await stream.next()
        assert (event.name, event.id) == ("message", 1)


async def test_a_stream_ends_when_its_inbox_is_erased(pool: Pool, client: ClientSession) -> None:
    await _known(pool, 1)
    async with follow(client, "a") as stream:
        assert await stream.counts(1)
        await hear(pool, erasure("a"))
        assert (await stream.next()).name == "gone"
        with pytest.raises(EOFError):
            await stream.next()


async def test_a_stream_ends_with_its_token(pool: Pool, client: ClientSession) -> None:
    await _known(pool, 1)
    async with client.get("/inbox/live", params={"token": token_of("a", timedelta(seconds=2))}) as response:
        stream = Follower(response)
        assert await stream.counts(1)
        with pytest.raises(EOFError):
            await stream.next()


async def test_a_stream_goes_on_when_the_database_cut_the_connections(pool: Pool, client: ClientSession) -> None:
    await _known(pool)
    async with follow(client, "a") as stream:
        assert await stream.counts(0)
        async with pool.acquire() as connection:
            await connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = 'inbox' and datname = current_database()"
            )
        await hear(pool, settled())
        assert await stream.messages(1) == [1]


async def test_nobody_follows_too_often_and_who_left_does_not_count(pool: Pool, client: ClientSession) -> None:
    await _known(pool)
    for _ in range(10):
        async with follow(client, "a") as stream:
            assert await stream.counts(0)
            stream.response.close()

    async def follows_again() -> bool:
        async with client.get("/inbox/live", headers=as_reader("a")) as response:
            return response.status == 200

    await wait_until(follows_again, what="streams that were left are forgotten")
    async with AsyncExitStack() as stack:
        for _ in range(4):
            await wait_until(lambda: _enter(stack, client), what="four streams")
        async with client.get("/inbox/live", headers=as_reader("a")) as response:
            assert response.status == 429
            assert response.headers["Retry-After"] == "2"


async def _enter(stack: AsyncExitStack, client: ClientSession) -> bool:
    response = await stack.enter_async_context(client.get("/inbox/live", headers=as_reader("a")))
    return response.status == 200


async def test_a_worker_that_stops_lets_its_streams_go(pool: Pool, notifier_dsn: str) -> None:
    await _known(pool)
    async with ClientSession() as session, AsyncExitStack() as stack:
        async with worker(notifier_dsn) as address:
            stream = await stack.enter_async_context(follow(session, "a", address))
            assert await stream.counts(0)
        with pytest.raises(EOFError):
            await stream.next()


@pytest.mark.parametrize("said", ["x", "-1", "1" * 30, "１"])
async def test_an_id_that_is_none_of_ours_is_refused(client: ClientSession, said: str) -> None:
    async with client.get("/inbox/live", headers=as_reader("a") | {"Last-Event-ID": said}) as response:
        assert response.status == 400
