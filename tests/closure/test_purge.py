"""What closings leave goes when it has been kept long enough, and nothing that somebody still needs."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from schemas.fields import as_text
from services.closure.clearance_records import load_statement
from services.closure.purge import _QUERIES, purge_some
from services.runtime.database import create_pool
from tests.closure.world import World
from tests.end_to_end.closings import applicant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

POLICY: dict[str, Any] = {
    "erasing": {
        "services": ["transfer", "notify"],
        "retained": [
            {"what": "closing", "why": "contract_law", "days": 500},
            {"what": "loans", "why": "credit_law", "days": 900},
        ],
    },
    "keeping": {"cases_days": 400, "answers_days": 40},
}
DAY = timedelta(days=1)


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    pool = await create_pool(database, "closure", "test", size=2)
    yield World(pool, POLICY)
    await pool.close()


async def purge(world: World, *, days: int, limit: int = 1) -> None:
    """Purge slice by slice, so many days from now; the audit finds nothing at any moment."""
    world.now += days * DAY
    async with world.pool.acquire() as connection:
        while await purge_some(world.policy, connection, world.now, limit):
            assert await world.broken() == set()
    assert await world.broken() == set()


async def left(world: World, *tables: str) -> dict[str, int]:
    async with world.pool.acquire() as connection:
        return {table: await connection.fetchval(f"select count(*) from {table}") for table in tables}


async def rejected(world: World, number: int) -> str:
    """Have the closing of a person's wallet rejected."""
    await world.join(number)
    await world.owes(number, 5)
    case_id = await world.apply(number)
    await world.wait(timedelta(seconds=3))
    return case_id


async def closed(world: World, number: int) -> str:
    """Have a person's wallet closed, them forgotten, and nothing left."""
    await world.join(number)
    case_id = await world.close(number, 1_000)
    await world.finish(number, case_id)
    for service in ("transfer", "notify"):
        await world.erased(number, service)
    await world.wait(DAY)
    asked = next(body for type_, body in reversed(world.said) if type_ == "accounts.report")
    state = world.state(number, 0, version=90, status="closed") | {"report_id": asked["report_id"]}
    await world.hear("transfer.events", "account.reported", f"wallet:p{number}", state)
    await world.wait(2 * DAY)
    return case_id


async def come_back(world: World, number: int, as_number: int) -> list[str]:
    """Have a person apply to have a wallet opened again; return what stands against it."""
    request = {"request_id": str(uuid.uuid4()), "subject": f"wallet:p{number}", "applicant": applicant(as_number)}
    said = await world.hear("closure.commands", "closure.reopen", request["subject"], request)
    return [reason["code"] for type_, body in said if type_ == "closure.reopen_refused" for reason in body["reasons"]]


async def known_again(world: World, number: int) -> None:
    profile = {"customer_id": f"person-{number}", **applicant(number), "phone_verified": True}
    await world.hear("customer.profiles", "customer.profile", f"person-{number}", profile)


async def opened_again(world: World, number: int, case_id: str) -> None:
    """Have a closed wallet opened again for whose it was."""
    await known_again(world, number)
    assert await come_back(world, number, number) == []
    state = world.state(number, 0, version=99) | {"case_id": case_id}
    await world.hear("transfer.events", "account.reopened", f"wallet:p{number}", state)


async def test_a_case_that_closed_nothing_goes_with_its_steps(world: World) -> None:
    await rejected(world, 1)
    await purge(world, days=499)
    open_case = await world.apply(1)
    await rejected(world, 2)
    assert (await left(world, "closing_case"))["closing_case"] == 3
    await purge(world, days=2)
    # What was rejected later, and what has not ended, stay.
    assert await left(world, "closing_case", "answer") == {"closing_case": 2, "answer": 0}
    assert len((await world.shown(open_case))["steps"]) > 0


async def test_of_a_closing_stays_whose_it_was_and_that_alone(world: World) -> None:
    case_id = await closed(world, 1)
    await purge(world, days=501)
    assert await left(world, "closing_case", "case_step") == {"closing_case": 1, "case_step": 0}
    case = await world.shown(case_id)
    assert (case["status"], case["steps"], case["since"]) == ("closed", [], case["ended_at"])
    async with world.pool.acquire() as connection:
        everything = await connection.fetch("select to_jsonb(closing_case)::text from closing_case")
        bodies = await connection.fetch("select event_body from closing_case")
    assert "622202" not in f"{everything[0][0]} {bodies[0][0]!r}"
    # No id passes to another person, however long ago it was closed.
    await known_again(world, 1)
    assert await come_back(world, 1, as_number=2) == ["name_mismatch", "id_number_mismatch", "phone_mismatch"]
    await opened_again(world, 1, case_id)
    assert await world.broken() == set()


async def test_a_closing_that_was_undone_goes_with_the_application_that_undid_it(world: World) -> None:
    case_id = await closed(world, 1)
    await purge(world, days=100)
    await opened_again(world, 1, case_id)
    await purge(world, days=450)
    assert await left(world, "closing_case", "reopening") == {"closing_case": 1, "reopening": 1}
    await purge(world, days=51)
    assert await left(world, "closing_case", "case_step", "reopening") == {
        "closing_case": 0,
        "case_step": 0,
        "reopening": 0,
    }
    again = await world.apply(1)
    assert (await world.shown(again))["status"] == "in_flight"


async def test_who_came_back_in_vain_is_forgotten_too(world: World) -> None:
    await closed(world, 1)
    assert "cooling_period" in await come_back(world, 1, as_number=2)
    await purge(world, days=501)
    assert await left(world, "reopening", "closing_case") == {"reopening": 0, "closing_case": 1}


KEPT: list[tuple[str, str]] = [
    ("its customer is not forgotten yet", "update closing_case set erasure = 'deferred'"),
    ("what it left is looked for", "update closing_case set refusal = 'looking'"),
    ("its customer was forgotten later", "update customer set erased_at = erased_at + interval '2 days'"),
    ("the law keeps loans longer", "update closing_case set subject = 'loan:1'"),
    (
        "a clearance of its wallet has not finished",
        """
        with begun as (
            insert into clearance (
                clearance_id, content_hash, cause, dry_run, announce_at, starts_at, deadline, rate_per_s, status,
                paused, wallets, revision, event_type, event_body, last_account, begun, rate_begun, wave_after
            )
            values (
                gen_random_uuid(), '', 'regulation', false, now(), now(), 'infinity', 1, 'running', false,
                1, 1, 'clearance.announced', '{}', '', 1, 0, ''
            )
            returning clearance_id
        )
        insert into clearance_wallet (clearance_id, account_id, customer_id, currency, status, posted_minor)
        select clearance_id, 'wallet:p1', 'person-1', 'CNY', 'open', 0 from begun
        """,
    ),
]


@pytest.mark.parametrize("why", [why for why, _ in KEPT])
async def test_what_is_needed_stays(world: World, why: str) -> None:
    await closed(world, 1)
    steps = (await left(world, "case_step"))["case_step"]
    await world.execute(dict(KEPT)[why])
    # A step ends with the case, two days before that was looked at.
    await purge(world, days=499)
    assert (await left(world, "case_step"))["case_step"] == steps
    await world.execute("delete from clearance_wallet")
    await world.execute("delete from clearance")
    await world.execute("update closing_case set erasure = 'done', refusal = 'looked'")
    await purge(world, days=402)
    assert (await left(world, "case_step"))["case_step"] == 0


async def test_a_clearance_goes_when_nothing_else_of_it_is_left(world: World) -> None:
    for number in (1, 2):
        await world.join(number)
    await world.owes(2, 5)
    start = {
        "clearance_id": str(uuid.uuid4()),
        "cause": "regulation",
        "subjects": ["wallet:p1", "wallet:p2"],
        "announce_at": as_text(world.now),
        "starts_at": as_text(world.now),
        "deadline": as_text(world.now + DAY),
        "rate_per_s": 100,
    }
    await world.hear("closure.commands", "clearance.start", start["clearance_id"], start)
    await world.wait(timedelta(0))
    (report_id,) = {body["report_id"] for type_, body in world.said if type_ == "accounts.report"}
    report = {"report_id": report_id}
    for number in (1, 2):
        state = world.state(number, 0, version=2) | report
        await world.hear("transfer.events", "account.reported", f"wallet:p{number}", state)
    finished = {**report, "count": 2, "total_minor": {"CNY": 0}}
    await world.hear("transfer.events", "accounts.report_finished", start["clearance_id"], finished)
    for _ in range(2):
        await world.wait(timedelta(seconds=3))
    (case_id,) = {body["case_id"] for type_, body in world.said if type_ == "account.close"}
    # One of its cases was rejected long ago, but its statement is still to come.
    await purge(world, days=501)
    assert await left(world, "clearance_wallet", "closing_case") == {"clearance_wallet": 2, "closing_case": 2}
    await world.account("account.drained", 1, case_id, 0)
    await world.account("account.closed", 1, case_id, 0)
    await world.wait(timedelta(seconds=30))
    async with world.pool.acquire() as connection:
        finished_as = await load_statement(connection, uuid.UUID(start["clearance_id"]), 5, world.now)
    await purge(world, days=501)
    tables = ("clearance_wallet", "clearance_report", "clearance", "closing_case")
    # As long as a case of it is there, so is its statement.
    assert await left(world, *tables) == dict(zip(tables, (0, 0, 1, 1), strict=True))
    async with world.pool.acquire() as connection:
        said = await load_statement(connection, uuid.UUID(start["clearance_id"]), 5, world.now)
    assert finished_as is not None
    assert said == finished_as
    await world.execute("delete from case_step")
    await world.execute("delete from closing_case")
    await purge(world, days=1)
    assert await left(world, "clearance") == {"clearance": 0}


@pytest.mark.parametrize("name", ["choose_cases", "choose_refused", "purge_answers"])
async def test_a_slice_does_not_read_what_is_young(world: World, name: str) -> None:
    await world.execute(
        "insert into answer (source, id, content_hash, occurred_at)"
        " select 's', n::text, '', $1::timestamptz + n * interval '1 minute' from generate_series(1, 5000) n",
        world.now,
    )
    arguments: list[Any] = [world.now, 10] if name != "choose_cases" else [world.now, world.now, 10]
    async with world.pool.acquire() as connection:
        await connection.execute("analyze")
        await connection.execute("set enable_seqscan = off")
        plan = await connection.fetchval(f"explain (format json) {getattr(_QUERIES, name)}", *arguments)
    oldest = {"choose_cases": "ended_case_oldest", "choose_refused": "refused_reopening_oldest"}
    assert oldest.get(name, "answer_oldest") in str(orjson.loads(plan))
