"""Whoever closed something comes back, and what a closing left is found, on the real engines, whatever is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson
import pytest

from tests.end_to_end.closings import Cases, People, applicant, payout, write_policy
from tests.end_to_end.system import Clock, Reader, System, running_system
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

_POLICY = """
[erasing]
services = ["transfer", "maintenance"]

[reopening]
cooling_s = 86_400
assess_within_s = 3_600

[residue]
check_after_s = 43_200
"""
_COOLING = timedelta(days=1, seconds=1)
_RESIDUE = timedelta(hours=12, seconds=1)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    home = tmp_path_factory.mktemp("coming-back") / "home"
    environment = write_policy(home, _POLICY)
    with running_system(home, maintainers=1, closers=1, movable_clock=True, environment=environment) as system:
        yield system


class Comers:
    """People, their cases and their applications to come back."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.people = People(system)
        self.cases = Cases(system.kafka)
        self.clock = Clock(system)

    def close(self, number: int, subject: str, **more: Any) -> str:
        """Close something of somebody; return the case."""
        case_id = self.people.apply(number, subject, **more)
        self.cases.wait(case_id, "approved")
        self.people.say("closure.confirm", subject, {"case_id": case_id})
        self.cases.wait(case_id, "closed")
        return case_id

    def know(self, number: int, who: int) -> None:
        """Have the identity system say that a customer is person of a number, and wait until that is known."""
        before = self.row(number)["name_hash"]
        known = {"customer_id": f"person-{number}", **applicant(who), "phone_verified": True}
        self.system.send("customer.profile", f"person-{number}", known, topic="customer.profiles")
        wait_for(lambda: self.row(number)["name_hash"] not in {before, None}, deadline_s=60)

    def row(self, number: int) -> Any:
        """Return what the closing service keeps of somebody, how many of their applications, and of open loans."""
        return asyncio.run(_row(self.system, f"person-{number}"))

    def reopen(self, number: int, subject: str, request: str | None = None) -> str:
        """Apply to come back; return the application."""
        request = request or str(uuid.uuid4())
        said = {"request_id": request, "subject": subject, "applicant": applicant(number)}
        self.people.say("closure.reopen", subject, said)
        return request

    def wait(self, request: str, count: int = 1) -> dict[str, Any]:
        """Wait until so much has been said of an application; return the last of it, with its type."""
        self.cases.reader.read_until(lambda: (self.cases.reader.read(), len(self._said(request)))[1] >= count)
        said = self._said(request)
        assert len(said) == count
        return said[max(said)]

    def codes(self, request: str) -> list[str]:
        """Wait until an application is refused; return why."""
        refused = self.wait(request)
        assert refused["type"] == "closure.reopen_refused"
        return [reason["code"] for reason in refused["reasons"]]

    def _said(self, request: str) -> dict[int, dict[str, Any]]:
        said: dict[int, dict[str, Any]] = {}
        for headers, value in self.cases.reader.records:
            body = orjson.loads(value)
            if body.get("request_id") == request and "revision" in body:
                type_ = headers["ce_type"].removeprefix("sluice.").removesuffix(".v1")
                assert said.setdefault(body["revision"], {**body, "type": type_}) == {**body, "type": type_}
        return said

    def kill(self, *names: str) -> None:
        """End every worker of some services at once, and wait until others have taken their places."""
        killed = {one["pid"] for one in self.system.endpoints()["services"] if one["name"] in names}
        assert len(killed) == len(names)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not killed & {one["pid"] for one in self.system.endpoints()["services"]}, deadline_s=60)


async def _row(system: System, customer_id: str) -> Any:
    database = await asyncpg.connect(system.database, server_settings={"search_path": "closure"})
    try:
        return await database.fetchrow(_ROW, customer_id)
    finally:
        await database.close()


_ROW = """
select customer.*, (
    select wrapped_key from customer_key where customer_key.customer_id = customer.customer_id
) as wrapped_key, (
    select count(*) from closing_case where closing_case.customer_id = customer.customer_id and sealed is not null
) as sealed, (
    select count(*) from position where position.customer_id = customer.customer_id and status <> 'settled'
) as loans_open
from customer
where customer_id = $1
"""


@pytest.fixture(scope="module")
def comers(system: System) -> Comers:
    return Comers(system)


def test_a_wallet_is_opened_again_for_who_closed_it_and_nobody_else(system: System, comers: Comers) -> None:
    wallet = comers.people.join(1, 700)
    closing = comers.close(1, wallet, payout=payout(1))
    assert comers.codes(comers.reopen(1, wallet)) == ["cooling_period", "profile_missing"]
    comers.clock.advance(_COOLING)
    comers.know(1, 2)
    assert comers.codes(comers.reopen(2, wallet)) == ["id_number_mismatch"]
    comers.know(1, 1)
    comers.kill("closure")
    request = comers.reopen(1, wallet)
    comers.kill("closure", "transfer")
    reopened = comers.wait(request)
    assert (reopened["type"], reopened["case_id"]) == ("closure.reopened", closing)
    assert comers.codes(comers.reopen(1, wallet)) == ["subject_unknown"]
    # The same again is answered the same, and the wallet takes money.
    comers.reopen(1, wallet, request)
    transfers = Reader(system.kafka)
    taken = system.request("top_up", "bank:ICBC:0", wallet, 5)
    transfers.read_until(lambda: transfers.status(taken) == "settled")
    comers.wait(request)
    # It can be closed again: what was before does not stand against it.
    comers.close(1, wallet, payout=payout(1))


def test_a_loan_is_opened_with_the_limit_of_a_new_assessment(comers: Comers) -> None:
    comers.people.join(3)
    comers.people.owes(3, "loan-3", 0)
    comers.close(3, "loan:loan-3")
    comers.clock.advance(_COOLING)
    request = comers.reopen(3, "loan:loan-3")
    assert comers.wait(request)["type"] == "assessment.requested"
    assert comers.codes(comers.reopen(3, "loan:loan-3")) == ["case_open"]
    comers.kill("closure")
    answer = {"request_id": request, "approved": True, "limit_minor": 900}
    comers.people.say("assessment.answered", "loan:loan-3", answer)
    reopened = comers.wait(request, 2)
    assert (reopened["type"], reopened["limit_minor"], reopened["currency"]) == ("closure.reopened", 900, "CNY")
    comers.people.say("assessment.answered", "loan:loan-3", {**answer, "limit_minor": 9_000})
    comers.cases.reader.read_until(lambda: (comers.cases.read(), bool(comers.cases.refused))[1])
    assert comers.cases.refused[-1]["reason"]["code"] == "state_conflict"
    # Closed anew, it is not assessed in time.
    comers.close(3, "loan:loan-3")
    comers.clock.advance(_COOLING)
    late = comers.reopen(3, "loan:loan-3")
    assert comers.wait(late)["type"] == "assessment.requested"
    comers.kill("closure")
    comers.clock.advance(timedelta(hours=2))
    assert comers.wait(late, 2)["reasons"][0]["code"] == "assessment_missing"


def test_what_is_left_is_found_and_who_was_left_is_forgotten(system: System, comers: Comers) -> None:
    wallet = comers.people.join(4)
    comers.people.owes(4, "loan-4", 0)
    case_id = comers.close(4, "loan:loan-4")
    assert comers.cases.body(case_id, "closure.closed")["erasure"] == "deferred"
    comers.people.owes(4, "loan-4", 70)
    wait_for(lambda: comers.row(4)["loans_open"] == 1, deadline_s=60)
    comers.clock.advance(_RESIDUE)
    comers.cases.wait(case_id, "discrepancy")
    found = comers.cases.types(case_id).count("discrepancy")
    assert found == 2
    # Nothing is in the way any more: the other loan is settled, and the wallet ended.
    closing = comers.people.apply(4, wallet)
    comers.cases.wait(closing, "rejected")
    comers.people.owes(4, "loan-4", 0)
    comers.system.send("obligation.position", "loan-4b", _OVERDUE, topic="obligation.positions")
    wait_for(lambda: comers.row(4)["loans_open"] == 1, deadline_s=60)
    closing = comers.close(4, wallet)
    assert comers.cases.body(closing, "closure.closed")["why"] == "loan_open"
    comers.people.owes(4, "loan-4b", 0)
    wait_for(lambda: comers.row(4)["loans_open"] == 0, deadline_s=60)
    comers.kill("closure")
    comers.clock.advance(2 * _RESIDUE)
    for case in (case_id, closing):
        comers.cases.reader.read_until(
            lambda case=case: (comers.cases.read(), comers.cases.body(case, "closure.closed")["erasure"] == "done")[1]
        )
        assert comers.cases.types(case).count("closed") == 2
    kept = comers.row(4)
    assert (kept["name_hash"], kept["wrapped_key"], kept["sealed"]) == (None, None, 0)
    assert kept["erased_at"] is not None


_OVERDUE = {
    "obligation_id": "loan-4b",
    "customer_id": "person-4",
    "kind": "loan",
    "principal_minor": 0,
    "interest_minor": 0,
    "penalty_minor": 0,
    "currency": "CNY",
    "status": "overdue",
}
