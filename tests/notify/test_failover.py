"""Two SMS gateways, of which one turns slow, then dead, then well: the other takes over, and nothing leaves twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.notify.system import System, listed, notifying, reachable, restricted
from tests.notify.test_process import publish
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PEOPLE = 6_000
A_TURN = 5
RATE_PER_S = 100


@pytest.fixture
def system(kafka: str, topic_prefix: str, database: str, tmp_path: Path) -> Iterator[System]:
    with notifying(kafka, topic_prefix, database, tmp_path, gateways=["sms-a", "sms-b"], batch_size=20) as started:
        yield started


class Shares:
    """How many messages each gateway was given since it was last looked at."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._before: Counter[str] = Counter()

    async def since(self) -> Counter[str]:
        now = Counter(message["gateway"] for message in await listed(self._system.sms.http, limit="100000"))
        return Counter({name: now[name] - self._before[name] for name in ("sms-a", "sms-b")})

    async def look(self) -> None:
        self._before += await self.since()


async def keep_publishing(system: System, over: asyncio.Event) -> int:
    """Publish events about people in turns until told to stop; return how many."""
    for turn in count(1):
        await asyncio.to_thread(
            publish, system.environment, *map(restricted, range((turn - 1) * A_TURN, turn * A_TURN))
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(A_TURN / RATE_PER_S):
                await over.wait()
        if over.is_set() or turn * A_TURN >= PEOPLE:
            return turn * A_TURN
    raise AssertionError("counting does not end")


async def test_traffic_moves_and_comes_back(system: System, database: str) -> None:
    publish(system.environment, *map(reachable, range(PEOPLE)))
    connection = await asyncpg.connect(database, server_settings={"search_path": "notify"})
    shares, over = Shares(system), asyncio.Event()

    async def everybody_is_known() -> bool:
        return await connection.fetchval("select count(*) from customer where is_known") == PEOPLE

    async def both_are_used() -> bool:
        return min((await shares.since()).values()) >= 10

    async def only_the_other_is_used() -> bool:
        """Tell whether of the latest hundred messages the sick one was given a few at most."""
        found = await shares.since()
        if found.total() < 100:
            return False
        await shares.look()
        return found["sms-a"] <= 15

    async def all_have_arrived() -> bool:
        delivered = "select count(*) from notice where channel = 'sms' and status = 'delivered'"
        return await connection.fetchval(delivered) == published

    with system.notifier():
        await wait_until(everybody_is_known, deadline_s=60, what="everybody is known")
        publishing = asyncio.create_task(keep_publishing(system, over))
        await wait_until(both_are_used, what="both gateways are used")
        await system.sms.behave("sms-a", delay_s=1.5)
        await shares.look()
        await wait_until(only_the_other_is_used, deadline_s=60, what="traffic leaves the slow gateway")
        await system.sms.behave("sms-a", down=True)
        await shares.look()
        await wait_until(only_the_other_is_used, deadline_s=60, what="traffic leaves the dead gateway")
        await system.sms.behave("sms-a")
        await shares.look()
        await wait_until(both_are_used, deadline_s=60, what="traffic comes back")
        over.set()
        published = await publishing
        await wait_until(all_have_arrived, deadline_s=60, what="every text message has arrived")
    texts = Counter(message["to"] for message in await listed(system.sms.http, limit="100000"))
    assert len(texts) == published
    assert set(texts.values()) == {1}
    await connection.close()
