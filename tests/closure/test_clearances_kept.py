"""A clearance over a database: what holders have begun themselves, what stays, and that the audit misses nothing."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from schemas.fields import as_text
from services.closure import clearance_records, records
from services.runtime.database import create_pool
from tests.closure.world import World
from tests.end_to_end.closings import applicant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
EMPTY, RICH, OWING, REVIEWED, MISTAKEN, SILENT = range(1, 7)
HELD = {EMPTY: 0, RICH: 700, OWING: 40, REVIEWED: 6_000_000, MISTAKEN: 50, SILENT: 3}


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    pool = await create_pool(database, "closure", "test", size=2)
    # A correction may come until long after the deadline.
    policy = {"identity": {"answer_within_s": 90 * 86_400}, "erasing": {"services": ["transfer"]}}
    policy |= {"clearance": {"remind_before_s": [20 * 60]}}
    yield World(pool, policy)
    await pool.close()


async def start(world: World, numbers: tuple[int, ...], *, dry_run: bool = False) -> str:
    clearance_id = str(uuid.uuid4())
    command = {
        "clearance_id": clearance_id,
        "cause": "regulation",
        "subjects": [f"wallet:p{number}" for number in numbers],
        "announce_at": as_text(world.now),
        "starts_at": as_text(world.now + MINUTE),
        "deadline": as_text(world.now + DAY),
        "rate_per_s": 100,
        "dry_run": dry_run,
    }
    await world.hear("closure.commands", "clearance.start", clearance_id, command)
    await world.wait(MINUTE)
    return clearance_id


async def report(world: World, held: dict[int, int]) -> None:
    """Answer what the clearance asked of the transfer service."""
    asked = next(body for type_, body in reversed(world.said) if type_ == "accounts.report")
    for number, posted_minor in held.items():
        said = {**world.state(number, posted_minor, version=2), "report_id": asked["report_id"]}
        await world.hear("transfer.events", "account.reported", f"wallet:p{number}", said)
    said = {"report_id": asked["report_id"], "count": len(held), "total_minor": {"CNY": sum(held.values())}}
    said["occurred_at"] = as_text(world.now)
    await world.hear("transfer.events", "accounts.report_finished", asked["report_id"], said)
    await world.wait(MINUTE)


def case_of(world: World, number: int) -> str:
    """Return the case that was begun for somebody's wallet."""
    begun = [body for type_, body in world.said if type_ == "closure.received" and "clearance_id" in body]
    return str(next(body["case_id"] for body in begun if body["subject"] == f"wallet:p{number}"))


def last(world: World, type_: str) -> dict[str, Any]:
    return next(body for said, body in reversed(world.said) if said == type_)


async def clear(world: World) -> str:
    """Clear six wallets up to the deadline: closed, paid, owing, in two cases of their holders', and without a word."""
    for number in HELD:
        await world.join(number)
    await world.owes(OWING, 9)
    own = await world.apply(REVIEWED)
    await world.report(REVIEWED, HELD[REVIEWED])
    await world.apply(MISTAKEN, applicant={**applicant(MISTAKEN), "name": "Somebody Else"})
    assert (await world.shown(own))["status"] == "review"
    clearance_id = await start(world, tuple(HELD))
    await report(world, HELD)
    rich, empty = case_of(world, RICH), case_of(world, EMPTY)
    await world.command("closure.payout_account", rich, payee="bank:ICBC:1", payee_name="Person 2")
    await world.account("account.drained", RICH, rich, HELD[RICH])
    await world.settle(RICH, rich)
    for number, case_id in ((RICH, rich), (EMPTY, empty)):
        await world.account("account.drained", number, case_id, 0)
        await world.account("account.closed", number, case_id, 0)
    await world.wait(MINUTE)
    return clearance_id


async def statement(world: World, clearance_id: str) -> dict[str, Any]:
    async with world.pool.acquire() as connection:
        found = await clearance_records.load_statement(connection, uuid.UUID(clearance_id), 100, world.now)
    assert found is not None
    return found


async def test_what_its_holders_leave_undone_stays_and_does_not_keep_it_open(world: World) -> None:
    clearance_id = await clear(world)
    before = await statement(world, clearance_id)
    counts = ("cleared", "paid", "waiting", "blocked", "pending")
    assert [before[name] for name in counts] == [1, 1, 1, 1, 2]
    assert [one["subject"] for one in before["blockers"]] == [f"wallet:p{OWING}"]
    assert await world.broken() == set()

    await world.wait(DAY)
    silent = case_of(world, SILENT)
    await world.account("account.drained", SILENT, silent, HELD[SILENT])
    await world.wait(MINUTE)
    said = last(world, "clearance.finished")
    assert [said[name] for name in counts[:4]] == [1, 1, 1, 3]
    (money,) = said["money"]
    assert money["total_minor"] == sum(HELD.values())
    assert money["blocked_minor"] == HELD[OWING] + HELD[REVIEWED] + HELD[MISTAKEN]
    assert [(one["subject"], one["code"], one.get("owed_minor")) for one in said["blockers"]] == [
        (f"wallet:p{OWING}", "obligation_open", 9),
        (f"wallet:p{REVIEWED}", "case_open", None),
        (f"wallet:p{MISTAKEN}", "name_mismatch", None),
    ]
    after = await statement(world, clearance_id)
    assert (after["status"], after["blockers"], after["money"]) == ("finished", said["blockers"], said["money"])
    assert await world.broken() == set()


async def refuse(world: World, number: int, case_id: str, code: str = "account_restricted") -> None:
    """Refuse the latest payout of a case, because its wallet is restricted or for another reason."""
    asked = [body for type_, body in world.said if type_ == "transfer.request" and body["case_id"] == case_id][-1]
    names = ("transfer_id", "kind", "payer", "payee", "amount_minor", "currency", "case_id")
    moment = as_text(world.now)
    refused = {
        **{name: asked[name] for name in names},
        "seq": 1,
        "status": "failed",
        "fee_minor": 0,
        "reason": {"code": code, "iso20022": "AC06", "retryable": True, "refund": "none"},
        "requested_at": moment,
        "occurred_at": moment,
    }
    await world.hear("transfer.events", "transfer.failed", f"wallet:p{number}", refused)


async def test_a_restriction_that_lasts_does_not_keep_it_open(world: World) -> None:
    await world.join(RICH)
    clearance_id = await start(world, (RICH,))
    await report(world, {RICH: HELD[RICH]})
    case_id = case_of(world, RICH)
    await world.command("closure.payout_account", case_id, payee="bank:ICBC:1", payee_name="Person 2")
    await world.account("account.drained", RICH, case_id, HELD[RICH])
    await refuse(world, RICH, case_id)
    assert (await statement(world, clearance_id))["pending"] == 1
    await world.wait(DAY)
    await refuse(world, RICH, case_id)
    await world.wait(MINUTE)
    said = last(world, "clearance.finished")
    assert (said["waiting"], said["money"][0]["waiting_minor"]) == (1, HELD[RICH])
    assert await world.broken() == set()


async def test_a_wallet_in_two_clearances_has_one_case(world: World) -> None:
    await world.join(RICH)
    first = await start(world, (RICH,))
    await report(world, {RICH: HELD[RICH]})
    second = await start(world, (RICH,))
    await report(world, {RICH: HELD[RICH]})
    begun = [body["clearance_id"] for type_, body in world.said if type_ == "closure.received"]
    assert begun == [first]
    found = await statement(world, second)
    assert (found["blocked"], found["money"][0]["blocked_minor"]) == (1, HELD[RICH])
    case_id = case_of(world, RICH)
    assert found["blockers"] == [{"subject": f"wallet:p{RICH}", "case_id": case_id, "code": "case_open"}]
    assert await world.broken() == set()
    third = await start(world, (RICH,), dry_run=True)
    await report(world, {RICH: HELD[RICH]})
    rehearsed = last(world, "clearance.finished")
    assert (rehearsed["clearance_id"], rehearsed["blocked"], rehearsed["blockers"]) == (third, 1, found["blockers"])
    await pay_out(world, case_id)
    assert [money_of(await statement(world, one)) for one in (first, second)] == [(HELD[RICH], 0), (0, 0)]
    assert await world.broken() == set()


async def pay_out(world: World, case_id: str) -> None:
    """Have the balance of the rich be paid out, and the wallet end."""
    await world.command("closure.payout_account", case_id, payee="bank:ICBC:1", payee_name="Person 2")
    await world.account("account.drained", RICH, case_id, HELD[RICH])
    await world.finish(RICH, case_id)


def money_of(found: dict[str, Any]) -> tuple[int, int]:
    """Return what a statement counts as paid out and as waiting."""
    return found["money"][0]["paid_out_minor"], found["money"][0]["waiting_minor"]


async def test_what_its_holder_closes_is_counted_by_one_of_two_clearances(world: World) -> None:
    await world.join(RICH)
    await world.apply(RICH)
    await world.report(RICH, HELD[RICH])
    both = []
    for _ in range(2):
        both.append(await start(world, (RICH,)))
        await report(world, {RICH: HELD[RICH]})
    case_id = str(await world.pool.fetchval("select case_id from closing_case"))
    await world.command("closure.confirm", case_id)
    await world.account("account.drained", RICH, case_id, HELD[RICH])
    await world.finish(RICH, case_id)
    await world.wait(MINUTE)
    ended = [await statement(world, one) for one in both]
    assert [(one["status"], one["paid"], one["cleared"]) for one in ended] == [("finished", 1, 0), ("finished", 0, 1)]
    assert [money_of(one) for one in ended] == [(HELD[RICH], 0), (0, 0)]
    assert await world.broken() == set()


@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_wallet_that_nobody_knows_is_named(world: World, *, dry_run: bool) -> None:
    await world.join(EMPTY)
    await start(world, (EMPTY, 77), dry_run=dry_run)
    await report(world, {EMPTY: 0})
    if not dry_run:
        assert last(world, "clearance.announced")["wallets"] == 2
        await world.account("account.drained", EMPTY, case_of(world, EMPTY), 0)
        await world.account("account.closed", EMPTY, case_of(world, EMPTY), 0)
        await world.wait(MINUTE)
    said = last(world, "clearance.finished")
    assert [said[name] for name in ("wallets", "cleared", "blocked")] == [2, 1, 1]
    assert said["blockers"] == [{"subject": "wallet:p77", "code": "subject_unknown"}]
    assert [one["total_minor"] for one in said["money"]] == [0]
    assert await world.broken() == set()


async def test_a_dry_run_counts_as_paid_only_whose_account_may_be_known(world: World) -> None:
    for number in (EMPTY, RICH, REVIEWED):
        await world.join(number)
    await world.apply(REVIEWED)
    await start(world, (EMPTY, RICH, REVIEWED), dry_run=True)
    await report(world, {number: HELD[number] for number in (EMPTY, RICH, REVIEWED)})
    said = last(world, "clearance.finished")
    assert [said[name] for name in ("cleared", "paid", "waiting", "blocked")] == [1, 1, 1, 0]
    assert money_of(said) == (HELD[REVIEWED], HELD[RICH])


async def test_whose_bank_refuses_the_payout_is_reminded_and_told_the_deadline(world: World) -> None:
    for number in (EMPTY, RICH):
        await world.join(number)
    await start(world, (EMPTY, RICH))
    await report(world, {EMPTY: 0, RICH: HELD[RICH]})
    deadline = last(world, "closure.received")["deadline"]
    rich, late = case_of(world, RICH), case_of(world, EMPTY)
    await world.command("closure.payout_account", rich, payee="bank:ICBC:1", payee_name="Person 2")
    await world.account("account.drained", RICH, rich, HELD[RICH])
    await refuse(world, RICH, rich, "rail_rejected")
    assert last(world, "closure.payout_failed")["expires_at"] == deadline
    # Something came in before it took nothing new.
    await world.account("account.drained", EMPTY, late, 5)
    assert last(world, "closure.payout_account_required")["deadline"] == deadline

    reminded = await world.wait(DAY - 10 * MINUTE)
    assert [body["deadline"] for type_, body in reminded if type_ == "closure.payout_account_required"] == 2 * [
        deadline
    ]
    told = await world.wait(10 * MINUTE)
    asked = [body for type_, body in told if type_ == "closure.payout_account_required"]
    assert [(body["subject"], "deadline" in body) for body in asked] == [
        (f"wallet:p{number}", False) for number in (EMPTY, RICH)
    ]
    await world.wait(MINUTE)
    said = last(world, "clearance.finished")
    assert (said["waiting"], money_of(said)) == (2, (0, HELD[RICH] + 5))
    assert await world.broken() == set()


async def test_a_silent_bank_does_not_keep_it_open(world: World) -> None:
    await world.join(RICH)
    clearance_id = await start(world, (RICH,))
    await report(world, {RICH: HELD[RICH]})
    case_id = case_of(world, RICH)
    await world.command("closure.payout_account", case_id, payee="bank:ICBC:1", payee_name="Person 2")
    await world.account("account.drained", RICH, case_id, HELD[RICH])
    assert (await statement(world, clearance_id))["pending"] == 1
    await world.wait(DAY)
    await world.wait(MINUTE)
    said = last(world, "clearance.finished")
    assert (said["waiting"], money_of(said)) == (1, (0, HELD[RICH]))
    await world.finish(RICH, case_id)
    await world.wait(DAY)
    assert [type_ for type_, _ in world.said].count("clearance.finished") == 1
    assert "erasing" in (await world.shown(case_id))["status"]
    assert await world.broken() == set()


async def test_what_is_pending_after_the_deadline_is_said(world: World) -> None:
    await world.join(RICH)
    clearance_id = await start(world, (RICH,))
    await report(world, {RICH: HELD[RICH]})
    await world.wait(DAY)
    found = await statement(world, clearance_id)
    assert (found["status"], found["is_over"], found["pending_by"]) == ("running", True, {"draining": 1})


BROKEN_CLEARANCES = {
    "what a clearance says of its wallets adds up": """
        update clearance
        set event_body = convert_to(jsonb_set(convert_from(event_body, 'UTF8')::jsonb, '{waiting}', '2')::text, 'UTF8')
    """,
    "a clearance accounts for what was there": """
        update clearance_wallet set posted_minor = posted_minor + 1 where posted_minor = 0
    """,
    "a clearance's cases are those of its wallets": """
        update closing_case set subject = 'wallet:another' where start_minor = 700
    """,
    "a clearance that is finished has left nothing out": """
        update closing_case set status = 'draining', ended_at = null where start_minor = 700
    """,
    "a wallet is closed by one clearance at a time": """
        insert into clearance_wallet
        select
            '00000000-0000-4000-8000-000000000000', account_id, customer_id, currency, status, posted_minor, case_id,
            is_own
        from clearance_wallet
        where posted_minor = 3
    """,
}


@pytest.mark.parametrize("rule", BROKEN_CLEARANCES)
async def test_the_audit_names_what_is_broken_of_a_clearance(world: World, rule: str) -> None:
    await clear(world)
    await world.wait(DAY)
    await world.account("account.drained", SILENT, case_of(world, SILENT), HELD[SILENT])
    await world.wait(MINUTE)
    async with world.pool.acquire() as connection:
        assert (await records.audit(connection)).findings == []
    await world.execute(BROKEN_CLEARANCES[rule])
    assert rule in await world.broken()
