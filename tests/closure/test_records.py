"""What people see of cases names who is waited for and nobody's details, and the audit names what is broken."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from ops.terminal import _plain
from services.closure import clearance_store, records
from services.closure.model import TRANSITIONS, Status
from services.closure.records import _RULES, mask_account, public_part
from services.runtime.database import create_pool
from tests.closure.test_clearances_kept import BROKEN_CLEARANCES
from tests.closure.world import World
from tests.end_to_end.closings import applicant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WEEK = timedelta(days=7)


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    pool = await create_pool(database, "closure", "test", size=2)
    yield World(pool)
    await pool.close()


async def stands(world: World, case_id: str) -> tuple[str, list[str]]:
    case = await world.shown(case_id)
    return case["status"], case["waits_for"]


async def test_it_says_who_is_waited_for_at_every_step(world: World) -> None:
    await world.join(1)
    case_id = await world.apply(1, applicant={**applicant(1), "name": "Somebody Else"})
    assert await stands(world, case_id) == ("documents_required", ["customer"])
    case = await world.shown(case_id)
    assert (case["why"], case["since"], case["next_at"]) == ("name_mismatch", world.now, world.now + WEEK)
    await world.command("closure.correct", case_id, applicant=applicant(1))
    assert await stands(world, case_id) == ("in_flight", ["transfer"])
    await world.report(1, 6_000_000)
    assert await stands(world, case_id) == ("review", ["reviewer"])
    assert (await world.shown(case_id))["why"] == "amount"
    await world.command("closure.review", case_id, decision="approve", reviewer="Wang", note="It is her.")
    assert await stands(world, case_id) == ("approved", ["customer"])
    await world.command("closure.confirm", case_id)
    assert await stands(world, case_id) == ("draining", ["transfer"])
    await world.account("account.drained", 1, case_id, 6_000_000)
    assert await stands(world, case_id) == ("paying_out", ["bank"])
    await world.settle(1, case_id)
    await world.account("account.drained", 1, case_id, 0)
    assert await stands(world, case_id) == ("finishing", ["transfer"])
    await world.account("account.closed", 1, case_id, 0)
    assert await stands(world, case_id) == ("erasing", ["notify", "transfer"])
    await world.erased(1, "transfer")
    assert await stands(world, case_id) == ("erasing", ["notify"])
    await world.erased(1, "notify")
    assert await stands(world, case_id) == ("closed", [])
    assert await world.broken() == set()


async def test_an_account_of_another_holder_waits_for_a_person_also_after_the_confirmation(world: World) -> None:
    await world.join(5)
    case_id = await world.apply(5)
    others = {"payee": "bank:CCB:6227000000000006", "payee_name": "Person 6"}
    await world.report(5, 900)
    await world.command("closure.payout_account", case_id, **others)
    assert await stands(world, case_id) == ("review", ["reviewer"])
    await world.command("closure.review", case_id, decision="approve", reviewer="Wang", note="Her mother's.")
    assert await stands(world, case_id) == ("approved", ["customer"])
    await world.command("closure.confirm", case_id)
    await world.command("closure.payout_account", case_id, **others | {"payee": "bank:CCB:6227000000000007"})
    await world.account("account.drained", 5, case_id, 900)
    assert await stands(world, case_id) == ("payout_review", ["reviewer"])
    assert (await world.shown(case_id))["why"] == "other_holder"
    said = await world.command("closure.review", case_id, decision="approve", reviewer="Wang", note="The same.")
    assert [body["payee"] for _, body in said] == ["bank:CCB:6227000000000007"] * 2
    assert await world.broken() == set()


async def test_a_debt_and_a_wallet_that_is_busy_are_looked_at_again(world: World) -> None:
    await world.join(2)
    await world.owes(2, 500)
    case_id = await world.apply(2)
    assert await stands(world, case_id) == ("obligations", ["timer"])
    await world.wait(timedelta(seconds=3))
    case = await world.shown(case_id)
    assert (case["status"], case["why"], case["waits_for"]) == ("rejected", "obligation_open", [])
    assert case["steps"][-1]["said"]["obligations"][0]["owed_minor"] == 500
    await world.owes(2, 0)
    again = await world.apply(2)
    await world.report(2, 900, reserved_minor=100)
    assert await stands(world, again) == ("in_flight", ["transfer"])
    assert (await world.shown(again))["next_at"] is not None


async def test_nothing_that_people_see_is_about_a_person(world: World) -> None:
    await world.join(3)
    case_id = await world.close(3, 5_000)
    await world.finish(3, case_id)
    shown = orjson.dumps(await world.shown(case_id), default=_plain).decode()
    said = applicant(3)
    for detail in (*said.values(), said["phone"].removeprefix("+86"), "6222020000000003", "Person", "Not needed"):
        assert detail not in shown
    assert "bank:ICBC:…0003" in shown


@pytest.mark.parametrize(
    ("payee", "shown"),
    [
        ("bank:ICBC:6222020000000001", "bank:ICBC:…0001"),
        ("bank:ICBC:1234", "bank:ICBC:…"),
        ("bank:ICBC:1:23456", "bank:ICBC:…3456"),
        ("platform:fees", "platform:fees"),
    ],
)
def test_of_a_bank_account_four_digits_are_shown(payee: str, shown: str) -> None:
    assert mask_account(payee) == shown
    assert public_part({"payee": payee, "receipt": {"payee": payee}}) == {"payee": shown, "receipt": {"payee": shown}}


async def test_a_command_is_answered_where_it_was_decided(world: World) -> None:
    async with world.pool.acquire() as connection:
        assert await records.find_answer(connection, "test", "nothing") is None
    await world.join(4)
    case_id = await world.apply(4)
    await world.report(4, 60_000_000)
    await world.command("closure.review", case_id, decision="approve", reviewer="Wang", note="")
    async with world.pool.acquire() as connection:
        (id_,) = await connection.fetchrow("select id from answer")
        said = await records.find_answer(connection, "test", id_)
    # The first of two persons makes no event.
    assert said == records.Seen(None, {})
    assert (await world.shown(case_id))["approved_by"] == ["Wang"]


async def test_the_database_knows_the_same_steps_as_the_model(world: World) -> None:
    async with world.pool.acquire() as connection:
        rows = await connection.fetch("select previous, status from case_transition")
    known = {(previous, status) for previous, allowed in TRANSITIONS.items() for status in allowed}
    assert {tuple(row) for row in rows} == known | {(status, status) for status in Status}


BROKEN: dict[str, tuple[str, ...]] = {
    "a case has every one of its steps": (
        "update closing_case set step_count = step_count + 1 where case_id = $1",
    ),
    "a case has every one of its events": (
        "update case_step set revision = null, event_type = null where case_id = $1 and revision = 2",
    ),
    "a case stands where its last step took it": (
        "update closing_case set status = 'expired' where case_id = $1",
    ),
    "a case has paid no more than it sent": (
        "update closing_case set paid_minor = paid_minor + 1 where case_id = $1",
    ),
    "a closed case has paid what its wallet held": (
        "update closing_case set balance_minor = 1 where case_id = $1",
    ),
    "nothing of who is erased can be read": (
        "update closing_case set sealed = 'x' where case_id = $1",
    ),
    "nothing is kept of who was never known once their case has ended": (
        "update closing_case set customer_id = null, sealed = 'x' where case_id = $1",
    ),
    "a case whose customer is known has no key of its own": (
        "insert into case_key (case_id, wrapped_key) values ($1, 'x')",
    ),
    "a wallet or loan has one case that has not ended": (
        "drop index one_open_case_a_subject",
        "update closing_case set status = 'draining', ended_at = null where case_id = $1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("rule", BROKEN)
async def test_the_audit_names_what_is_broken(world: World, rule: str) -> None:
    await world.join(5)
    case_id = await world.close(5, 700)
    await world.wait(timedelta(minutes=1))
    await world.finish(5, case_id)
    for service in ("transfer", "notify"):
        await world.erased(5, service)
    if rule.startswith("a wallet or loan"):
        # A second one, of somebody who has come back.
        await world.execute("update wallet set status = 'open'")
        await world.execute("insert into timer values ('look', 'x', 'case', 0, now())")
        await world.apply(5)
    assert await world.broken() == set()
    for statement in BROKEN[rule]:
        await world.execute(statement, *([case_id] if "$1" in statement else []))
    assert rule in await world.broken()


async def test_the_audit_misses_a_timer(world: World) -> None:
    await world.join(6)
    await world.apply(6, applicant={**applicant(6), "name": "Somebody Else"})
    assert await world.broken() == set()
    await world.execute("update timer set parked_at = now(), failure = 'a bug'")
    assert await world.broken() == {"no timer of the closing service is parked"}
    await world.execute("delete from timer")
    assert await world.broken() == {"a case that waits for a moment has its timer"}


async def test_a_rehearsal_names_a_debt_beyond_what_an_event_carries(world: World) -> None:
    most_minor, clearance_id = 2**63 - 1, uuid.uuid4()
    position = {"obligation_id": "l-1", "customer_id": "person-8", "kind": "loan", "currency": "CNY", "status": "open"}
    amounts = dict.fromkeys(("principal_minor", "interest_minor", "penalty_minor"), most_minor)
    await world.hear("obligation.positions", "obligation.position", "l-1", position | amounts)
    await world.execute(
        "insert into clearance_wallet (clearance_id, account_id, customer_id, currency, status, posted_minor)"
        " values ($1, 'wallet:p8', 'person-8', 'CNY', 'open', 5)",
        clearance_id,
    )
    async with world.pool.acquire() as connection:
        _, blockers = await clearance_store.tally_dry(connection, clearance_id)
    assert [one["owed_minor"] for one in blockers] == [most_minor]


def test_every_rule_of_the_audit_is_broken_here() -> None:
    by_timer = {"no timer of the closing service is parked", "a case that waits for a moment has its timer"}
    assert _RULES.keys() == BROKEN.keys() | by_timer | BROKEN_CLEARANCES.keys()


async def test_what_was_asked_of_a_case_in_vain_is_shown(world: World) -> None:
    await world.join(9)
    case_id = await world.apply(9, payout=None)
    await world.report(9, 700)
    said = await world.command("closure.confirm", case_id)
    assert [(type_, body["customer_id"], body["reason"]["code"]) for type_, body in said] == [
        ("closure.command_refused", "person-9", "payout_account_missing")
    ]
    assert (await world.shown(case_id))["steps"][-1]["why"] == "closure.confirm refused: payout_account_missing"
    assert await world.broken() == set()


async def test_applications_to_come_back_that_wait_are_listed(world: World) -> None:
    await world.join(10)
    case_id = await world.close(10, 700)
    await world.execute(
        "insert into reopening values (gen_random_uuid(), 'x', 'loan:l-10', now(), 'person-10', $1, null, null,"
        " 'assessing', 1, 'assessment.requested', '{}', now(), now())",
        uuid.UUID(case_id),
    )
    async with world.pool.acquire() as connection:
        for asked in (None, uuid.UUID(case_id)):
            (one,) = await records.list_reopenings(connection, asked, 10)
            assert (one["subject"], one["status"], one["waits_for"]) == ("loan:l-10", "assessing", ["credit system"])
        assert await records.list_reopenings(connection, uuid.uuid4(), 10) == []


async def test_who_is_never_known_leaves_nothing(world: World) -> None:
    case_id = await world.apply(7)
    refused: dict[str, Any] = {
        "command_type": "accounts.report",
        "command_id": f"{case_id}.report.1",
        "reason": {"code": "account_unknown", "retryable": False, "refund": "none"},
        "occurred_at": "2026-11-23T02:00:00Z",
    }
    await world.hear("transfer.events", "transfer.command_refused", "wallet:p7", refused)
    assert (await world.shown(case_id))["why"] == "subject_unknown"
    assert await world.broken() == set()
