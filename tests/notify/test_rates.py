"""What gateways and numbers are given at most, whoever gives it at the same moment, and what that costs others."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from services.notify.decide import Rules
from services.notify.delivery import store
from services.notify.delivery.dispatch import CONNECTIONS_A_GATEWAY, OWN_CONNECTIONS, Dispatcher
from services.notify.delivery.store import Turn
from services.notify.gateways.gateway import Answer, Outcome, Sms
from services.notify.gateways.route import Route, make_sms
from services.notify.model import Channel, Priority
from services.notify.policy import Ladder
from services.runtime.database import create_pool
from tests.notify.system import reachable, restricted
from tests.notify.test_digest import hear
from tests.notify.test_notices import KEYS, MASTER_KEY, NOW, POLICY, WORDING
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from services.runtime.database import Connection, Pool

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
LIMIT = 100


async def queue(pool: Pool, person: int, count: int, begin: int = 0) -> None:
    """Have a person told by so many text messages."""
    await hear(pool, reachable(person))
    texts = range(begin, begin + count)
    await hear(pool, *(restricted(person)._replace(id=f"{person}.{number}") for number in texts))


async def take(
    pool: Pool | Connection, at: datetime, ladder: Ladder, limit: int = LIMIT, gateway: str = "sms-a"
) -> Turn:
    return await store.take(
        pool,  # type: ignore[arg-type]
        gateway,
        Channel.SMS,
        at,
        answered_by=at + HOUR,
        limit=limit,
        ladder=ladder,
        left_to_others=timedelta(0),
        last_priority=Priority.BROADCAST,
    )


async def take_all(pool: Pool, at: datetime, ladder: Ladder) -> tuple[list[str], int]:
    """Take until nothing more may be taken; return to whom messages went, and how many statements that took."""
    taken: list[str] = []
    for asked in range(1, 200):
        turn = await take(pool, at, ladder)
        if turn == ([], 0):
            return taken, asked
        taken += [one.customer_id for one in turn.taken]
    raise AssertionError("it does not come to an end")


async def test_a_number_gets_what_each_step_of_its_ladder_allows(pool: Pool) -> None:
    await queue(pool, 1, 20)
    ladder = Ladder(a_minute=2, an_hour=5, a_day=7)
    minutes = {minute: len((await take_all(pool, NOW + minute * MINUTE, ladder))[0]) for minute in (0, 1, 2, 3, 59)}
    assert minutes == {0: 2, 1: 2, 2: 1, 3: 0, 59: 0}
    assert len((await take_all(pool, NOW + HOUR, ladder))[0]) == 2
    assert len((await take_all(pool, NOW + 2 * HOUR, ladder))[0]) == 0
    assert len((await take_all(pool, NOW + 24 * HOUR - MINUTE / 2, ladder))[0]) == 0


async def test_who_takes_at_the_same_moment_is_waited_for_and_counted(pool: Pool) -> None:
    await queue(pool, 1, 2)
    ladder = Ladder(a_minute=1)
    async with pool.acquire() as first, pool.acquire() as second:
        async with first.transaction():
            assert len((await take(first, NOW, ladder, limit=1)).taken) == 1
            taking = asyncio.create_task(take(second, NOW, ladder, limit=1, gateway="sms-b"))
            await wait_until(lambda: pool.fetchval("select count(*) from pg_locks where not granted"))
        assert (await taking).taken == []


async def test_what_a_number_may_not_get_is_in_nobodys_way(pool: Pool) -> None:
    await queue(pool, 1, 600)
    await queue(pool, 2, 1)
    ladder = POLICY.sms.ladder
    taken, asked = await take_all(pool, NOW, ladder)
    assert (taken.count("c1"), taken.count("c2")) == (ladder.a_minute, 1)
    assert asked <= 20
    await queue(pool, 3, 1)
    async with pool.acquire() as connection:
        before = await rows_read(connection)
        assert [one.customer_id for one in (await take(connection, NOW, ladder)).taken] == ["c3"]
        assert await rows_read(connection) - before <= 10
    taken, asked = await take_all(pool, NOW + MINUTE, ladder)
    assert taken.count("c1") == ladder.a_minute
    assert asked <= 20


async def rows_read(connection: Connection) -> int:
    """Return how many messages were read so far by any statement."""
    await connection.execute("select pg_stat_force_next_flush()")
    read = "select seq_tup_read + coalesce(idx_tup_fetch, 0) from pg_stat_user_tables where relname = 'delivery'"
    return int(await connection.fetchval(read))


@dataclass
class Given:
    """A gateway that takes everything."""

    name: str
    batch_size: int = 7
    can_inquire: bool = True
    longest_s: float = 1.0
    to: list[str] = field(default_factory=list)

    async def start(self) -> None:
        """Nothing: it never speaks by itself."""

    async def send(self, messages: Sequence[Sms], until: float) -> list[Answer]:
        assert until > asyncio.get_running_loop().time()
        self.to += [message.to for message in messages]
        return [Answer(message.reference, Outcome.ACCEPTED, message.reference) for message in messages]

    async def inquire(self, references: Sequence[str]) -> list[Answer]:
        return [Answer(reference, Outcome.UNKNOWN) for reference in references]

    async def close(self) -> None:
        """Nothing: it has no connections."""


class Moved:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at


@pytest_asyncio.fixture
async def wide_pool(notifier_dsn: str) -> AsyncIterator[Pool]:
    """Connections for two workers that serve two gateways each."""
    made = await create_pool(notifier_dsn, "notify", "test", size=2 * (OWN_CONNECTIONS + 2 * CONNECTIONS_A_GATEWAY) + 1)
    yield made
    await made.close()


@asynccontextmanager
async def dispatching(pool: Pool, clock: Moved, ladder: Ladder, rate_per_s: float | None) -> AsyncIterator[list[Given]]:
    """Run two workers' dispatchers before the same two gateways."""
    policy = POLICY.model_copy(update={"sms": POLICY.sms.model_copy(update={"ladder": ladder})})
    gateways, stopping = [Given("sms-a"), Given("sms-b")], asyncio.Event()
    around: Any = SimpleNamespace(pool=pool, clock=clock, stopping=stopping)
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            routes = [Route(gateway, Channel.SMS, rate_per_s, make_sms) for gateway in gateways]
            group.create_task(Dispatcher(routes, Rules(policy, WORDING, MASTER_KEY), KEYS, "http://here").run(around))
        yield gateways
        stopping.set()


@pytest.mark.parametrize(("ladder", "rate_per_s"), [(Ladder(), None), (Ladder(a_minute=60), 5)])
async def test_two_dispatchers_give_no_more_than_is_allowed(
    wide_pool: Pool, ladder: Ladder, rate_per_s: float | None
) -> None:
    """By the ladder of one number, or by the rate of each gateway; there is always more than may be given."""
    await queue(wide_pool, 1, 100)
    clock, step = Moved(), MINUTE if rate_per_s is None else timedelta(seconds=1)
    allowed = ladder.a_minute if rate_per_s is None else 2 * rate_per_s
    async with dispatching(wide_pool, clock, ladder, rate_per_s) as gateways:
        for turn in (1, 2, 3):

            async def all_is_given(so_far: float = allowed * turn) -> bool:
                return sum(len(one.to) for one in gateways) >= so_far

            await wait_until(all_is_given)
            await wide_pool.execute("notify delivery")
            clock.at += step
        await wait_until(lambda: given(wide_pool, gateways, 4 * allowed))
    async with wide_pool.acquire() as connection:
        attempts = await connection.fetch("select gateway, started_at, count(*) from attempt group by 1, 2")
    assert sum(len(one.to) for one in gateways) == 4 * allowed
    by_step: dict[datetime, int] = {}
    for _, started_at, count in attempts:
        by_step[started_at] = by_step.get(started_at, 0) + count
    assert by_step == {NOW + number * step: allowed for number in range(4)}


async def given(pool: Pool, gateways: Sequence[Given], count: float) -> bool:
    """Tell whether so many were given, and every answer is recorded."""
    open_ = await pool.fetchval("select count(*) from attempt where outcome is null")
    return open_ == 0 and sum(len(one.to) for one in gateways) >= count
