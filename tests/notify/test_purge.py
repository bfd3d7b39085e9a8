"""What is kept no longer goes slice by slice, and what remains adds up at every moment."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from services.notify import records
from services.notify.delivery import store as deliveries
from services.notify.policy import Erasing, Ladder
from services.notify.purge import purge_some
from services.runtime.database import load_queries
from tests.notify import test_digest
from tests.notify.test_broadcast import handle, reachable, request, run, run_to_its_end
from tests.notify.test_notices import NOW, POLICY, erasure, hear, profile, settled

if TYPE_CHECKING:
    from datetime import datetime

    from services.runtime.database import Connection, Pool

POLICY_DAYS = POLICY.erasing.accounting_kept_days
LATER = NOW + timedelta(days=POLICY_DAYS, seconds=1)
QUERIES = load_queries(Path("services/notify/purge.sql"))


async def purge(pool: Pool, now: datetime = LATER, limit: int = 2) -> int:
    """Purge slice by slice, each of which leaves everything adding up; return how many it took."""
    for count in range(1, 200):
        async with pool.acquire() as connection:
            is_more = await purge_some(POLICY.erasing, connection, now, limit)
            audit = await records.audit(connection)
        assert audit.findings == []
        if not is_more:
            return count
    raise AssertionError("it does not come to an end")


async def left(pool: Pool, *tables: str) -> dict[str, int]:
    async with pool.acquire() as connection:
        return {table: await connection.fetchval(f"select count(*) from {table}") for table in tables}


async def send_mails(pool: Pool, now: datetime) -> None:
    """Hand everything that is due to a gateway, which takes it."""
    async with pool.acquire() as connection, connection.transaction():
        taken, _ = await deliveries.take(
            connection,
            "mail",
            "email",
            now,
            answered_by=now,
            limit=100,
            ladder=Ladder(),
            left_to_others=timedelta(0),
            last_priority=2,
        )
        ids = [one.delivery_id for one in taken]
        await deliveries.record(
            connection,
            now,
            endings=[deliveries.Ending(one.delivery_id, one.number, "accepted") for one in taken],
            finished=ids,
            advances=[deliveries.Advance(id_, "sent") for id_ in ids],
        )


async def test_what_is_old_goes_in_slices_and_what_is_young_stays(pool: Pool) -> None:
    await hear(pool, profile("a"), profile("b"))
    await hear(pool, *(settled() for _ in range(5)))
    await hear(pool, settled(payee=None), now=NOW + timedelta(days=1))
    assert await purge(pool, NOW + timedelta(days=POLICY_DAYS)) == 1
    assert await left(pool, "announcement", "notice", "inbox_message") == {
        "announcement": 6,
        "notice": 11,
        "inbox_message": 11,
    }
    assert await purge(pool) >= 5
    assert await left(pool, "announcement", "notice", "inbox_message", "customer") == {
        "announcement": 1,
        "notice": 1,
        "inbox_message": 1,
        "customer": 2,
    }
    async with pool.acquire() as connection:
        accounting = await records.account(connection, None, None, 10)
    assert (accounting.accepted, accounting.delivered) == (1, 1)


async def test_attempts_go_with_the_last_notice_that_they_were_for(pool: Pool) -> None:
    await test_digest.hear(pool, reachable("a"))
    gathered = await test_digest.hear(pool, *(settled(payee=None) for _ in range(4)))
    (timer,) = test_digest.digests(gathered)
    await test_digest.hear(pool, timers=(timer,), now=timer.due_at)
    await send_mails(pool, timer.due_at)
    assert (await left(pool, "attempt", "delivery")) == {"attempt": 2, "delivery": 0}
    await purge(pool, limit=1)
    assert await left(pool, "attempt", "notice", "announcement") == {"attempt": 0, "notice": 0, "announcement": 0}


async def test_what_has_not_ended_stays_whatever_its_age(pool: Pool) -> None:
    await hear(pool, reachable("a"))
    await hear(pool, settled(payer="nobody", payee=None))
    await run(pool, await handle(pool, request(audience={"all": True})))
    await purge(pool)
    # Who is told in the app and by SMS, which is on its way; the broadcast goes on, and somebody waits for a profile.
    assert await left(pool, "announcement", "notice", "delivery", "waiting", "broadcast") == {
        "announcement": 2,
        "notice": 2,
        "delivery": 1,
        "waiting": 1,
        "broadcast": 1,
    }


async def test_a_broadcast_goes_with_its_last_notice(pool: Pool) -> None:
    await hear(pool, *(profile(f"c{number}") for number in range(5)))
    await run_to_its_end(pool, request(audience={"all": True}, channels=["in_app"]))
    await purge(pool)
    tables = ("announcement", "notice", "inbox_message", "broadcast", "broadcast_count")
    assert await left(pool, *tables) == dict.fromkeys(tables, 0)


async def test_who_is_not_known_goes_with_their_last_notice(pool: Pool) -> None:
    await hear(pool, profile("a"), profile("b"))
    await hear(pool, settled(payee_party="bank:ICBC:6222020000000001"))
    await hear(pool, erasure("a"))
    assert await left(pool, "customer") == {"customer": 2}
    await purge(pool)
    async with pool.acquire() as connection:
        assert [row[0] for row in await connection.fetch("select customer_id from customer")] == ["b"]


async def test_that_somebody_was_erased_is_remembered_as_long_as_the_accounting(pool: Pool) -> None:
    await hear(pool, profile("a"), profile("b"))
    await hear(pool, erasure("a"), erasure("b"))
    # One comes back.
    await hear(pool, profile("b"))
    remembered = "customer where erased_at is not null"
    await purge(pool, LATER - timedelta(seconds=2))
    assert await left(pool, remembered) == {remembered: 2}
    await purge(pool)
    assert await left(pool, remembered, "customer") == {remembered: 0, "customer": 1}


async def test_which_numbers_got_texts_is_kept_for_a_day(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await connection.execute(
            "insert into texted_number (number_hash, recent, oldest)"
            " select sha256(n::text::bytea), array[at, at + interval '2 hours'], at from generate_series(0, 9) n,"
            " lateral (select $1::timestamptz + n * interval '1 hour') as first (at)",
            NOW,
        )
    later = NOW + timedelta(days=1, hours=5)
    await purge(pool, later)
    async with pool.acquire() as connection:
        kept = await connection.fetch(
            "select cardinality(recent), min(oldest) from texted_number group by 1 order by 1"
        )
    # Of two numbers the earlier message is forgotten, of four the later one too, and of the others none.
    assert await left(pool, "texted_number") == {"texted_number": 6}
    assert [(count, oldest > later - timedelta(days=1)) for count, oldest in kept] == [(1, True), (2, True)]


async def test_a_number_that_is_being_given_a_text_is_waited_for_by_nobody(pool: Pool) -> None:
    async with pool.acquire() as connection, pool.acquire() as other:
        await connection.execute(
            "insert into texted_number (number_hash, recent, oldest)"
            " select sha256(n::text::bytea), array[$1::timestamptz], $1 from generate_series(0, 1) n",
            NOW,
        )
        async with other.transaction():
            await other.fetch("select from texted_number where number_hash = sha256('0') for update")
            await purge(pool)
            assert await left(pool, "texted_number") == {"texted_number": 1}
    await purge(pool)
    assert await left(pool, "texted_number") == {"texted_number": 0}


async def test_one_worker_at_a_time(pool: Pool) -> None:
    await hear(pool, profile("a"))
    await hear(pool, settled(payee=None))
    async with pool.acquire() as other, other.transaction():
        await other.fetchval(QUERIES.claim)
        await purge(pool)
        assert await left(pool, "notice") == {"notice": 1}
    await purge(pool)
    assert await left(pool, "notice") == {"notice": 0}


def test_what_the_contract_wants_remembered_cannot_be_purged() -> None:
    with pytest.raises(ValueError, match="accounting_kept_days"):
        Erasing(accounting_kept_days=399)


async def _plan(connection: Connection, query: str, *arguments: Any) -> str:
    rows = await connection.fetch(f"explain (format json) {query}", *arguments)
    return orjson.dumps(orjson.loads(rows[0][0])).decode()


@pytest.mark.parametrize("name", ["choose_notices", "choose_announcements", "purge_texted_numbers"])
async def test_a_slice_does_not_read_what_is_young(pool: Pool, name: str) -> None:
    async with pool.acquire() as connection:
        await connection.execute(
            "insert into announcement (event_id, type, accepted, accepted_at)"
            " select 'e' || n, 't', 1, $1::timestamptz + n * interval '1 minute' from generate_series(1, 20000) n",
            NOW,
        )
        await connection.execute(
            "insert into notice (notice_id, event_id, customer_id, channel, role, category, urgency, template,"
            " lane_group, partition, status, created_at, ended_at)"
            " select gen_random_uuid(), 'e' || n, 'c' || n % 100, 'in_app', 'payer', 'service', 'normal', 't',"
            " 'transfer', 0, 'delivered', $1, $1 from generate_series(1, 20000) n",
            NOW,
        )
        await connection.execute(
            "insert into texted_number (number_hash, recent, oldest)"
            " select sha256(n::text::bytea), array[at], at from generate_series(1, 20000) n,"
            " lateral (select $1::timestamptz + n * interval '1 minute') as first (at)",
            NOW,
        )
        await connection.execute("analyze announcement, notice, texted_number")
        plan = await _plan(connection, QUERIES[name], NOW + timedelta(hours=1), 500)
    assert "_oldest" in plan
    read = re.findall(r'"Seq Scan"[^{}]*?"Relation Name":"(\w+)"', plan)
    assert not {"announcement", "notice", "texted_number"} & set(read)
