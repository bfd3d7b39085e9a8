"""What is looked for after a closing, and who is forgotten later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from services.closure.decide.draining import close, decide_closed
from services.closure.model import Case, Status
from tests.closure.coming_back import CUSTOMER, DAY, LANE, LOAN, SERVICES, WALLET, World, request_id

if TYPE_CHECKING:
    from collections.abc import Callable

Said = list[tuple[str, dict[str, Any]]]
OTHER = "wallet:p2"


def _ended(world: World, subject: str, **more: Any) -> Case:
    """Have a case of a subject end now, by the rules."""
    case = world.close(subject, status=Status.CONFIRMED if subject == LOAN else Status.FINISHING, **more)
    case.ended_at = None
    world.run(lambda book: close(book, LANE, case))
    return case


def _found(said: Said) -> list[str]:
    assert {type_ for type_, _ in said} <= {"closure.discrepancy"}
    return [body["found"] for _, body in said]


@pytest.fixture
def world() -> World:
    world = World()
    world.facts.cases.clear()
    return world


@pytest.mark.parametrize(
    ("report", "found"),
    [
        ({}, []),
        ({"status": "open"}, ["status open"]),
        ({"posted_minor": 3}, ["posted_minor 3"]),
        ({"posted_minor": -1, "reserved_minor": 2}, ["posted_minor -1", "reserved_minor 2"]),
    ],
    ids=["nothing", "open", "money", "money below zero and reserved"],
)
def test_what_a_wallet_still_holds_is_found_once(world: World, report: dict[str, Any], found: list[str]) -> None:
    case = _ended(world, WALLET)
    assert world.wait(DAY) == []
    [(type_, order)] = world.orders
    assert (type_, order["subjects"]) == ("accounts.report", [WALLET])
    steps = case.step_count
    assert _found(world.report(case, **report)) == found
    # Without a finding there is a step that says so.
    assert case.step_count == steps + max(len(found), 1)
    assert world.report(case, **report) == []
    assert world.wait(9 * DAY) == []
    assert world.timers == {}


def test_a_report_that_does_not_come_is_asked_for_again(world: World) -> None:
    case = _ended(world, WALLET)
    world.wait(2 * DAY)
    assert [order["report_id"] for _, order in world.orders] == [str(order_id) for order_id in _reports(case)]
    assert _found(world.report(case, posted_minor=1)) == ["posted_minor 1"]


def _reports(case: Case) -> list[Any]:
    asked, ids = case.reports, []
    for case.reports in range(1, asked + 1):
        ids.append(case.report_id)
    return ids


@pytest.mark.parametrize(
    ("amount", "status", "found"),
    [
        (0, "settled", []),
        (4, "open", ["principal_minor 4", "status open"]),
        (0, "overdue", ["status overdue"]),
        (4, "settled", ["principal_minor 4"]),
    ],
)
def test_what_is_still_said_of_a_loan_is_found(world: World, amount: int, status: str, found: list[str]) -> None:
    _ended(world, LOAN)
    world.owes(amount, status)
    assert _found(world.wait(DAY)) == found
    assert world.wait(9 * DAY) == []


def test_what_is_kept_of_somebody_who_was_forgotten_is_found(world: World) -> None:
    case = _ended(world, LOAN)
    world.profile(None)
    world.customer.wrapped_key = b"left"
    assert _found(world.wait(DAY, frozenset({CUSTOMER}))) == ["a key", "an application"]
    assert case.erasure == "done"


def test_what_somebody_brings_who_has_come_back_is_theirs(world: World) -> None:
    _ended(world, LOAN)
    world.profile(None)
    world.profile(1)
    world.customer.wrapped_key = b"new"
    assert world.wait(DAY, frozenset({CUSTOMER})) == []


def test_what_was_opened_again_is_not_looked_for(world: World) -> None:
    world.policy = world.policy.model_copy(
        update={"reopening": world.policy.reopening.model_copy(update={"cooling_s": 0})}
    )
    world.rules = type(world.rules)(world.policy, world.rules.hashes)
    _ended(world, LOAN)
    world.reopen(1)
    world.answer(1)
    world.owes(100)
    assert world.wait(DAY) == []


def test_services_that_do_not_answer_are_named(world: World) -> None:
    case = world.close(WALLET, status=Status.FINISHING, ended_at=None, erasure=None)
    said = world.run(lambda book: decide_closed(book, LANE, case))
    assert [type_ for type_, _ in said] == ["closure.erasing"]
    world.erased_by("transfer")
    assert _found(world.wait(DAY)) == ["no answer of maintenance, notify"]
    assert world.wait(9 * DAY) == []
    world.erased_by("maintenance")
    [(type_, body)] = world.erased_by("notify")
    assert (type_, body["erasure"]) == ("closure.closed", "done")
    assert ("residue", str(case.case_id)) in world.timers


# --- Forgotten later ---


@pytest.mark.parametrize(
    ("prepare", "end"),
    [
        (lambda world: world.wallet("open", OTHER), lambda world: world.wallet("closed", OTHER)),
        (lambda world: world.owes(5, obligation_id="l2"), lambda world: world.owes(0, obligation_id="l2")),
        (lambda world: world.owes(0, "overdue", "l2"), lambda world: world.owes(0, "settled", "l2")),
    ],
    ids=["another wallet", "a loan", "a loan that nothing is owed on, but is open"],
)
def test_a_customer_is_forgotten_when_nothing_of_theirs_is_open_any_more(
    world: World, prepare: Callable[[World], object], end: Callable[[World], object]
) -> None:
    prepare(world)
    case = _ended(world, WALLET, erasure="deferred")
    world.wait(DAY)
    world.report(case)
    assert world.wait(3 * DAY) == []
    assert world.erasures == []
    end(world)
    assert world.wait(DAY) == []
    assert [type_ for type_, _ in world.erasures] == ["customer.erase", "customer.erased"]
    assert world.customer.profile is None
    revision = case.revision
    said = [one for service in ("closure", *SERVICES) for one in world.erased_by(service)]
    [(type_, body)] = said
    assert (type_, body["erasure"], body["revision"]) == ("closure.closed", "done", revision + 1)
    assert body["receipt_sha256"] == case.receipt_sha256
    # What is kept here is looked for then, and that is all.
    assert world.wait(DAY, frozenset({CUSTOMER}))[0][1]["found"] == "an application"
    assert world.wait(9 * DAY) == []
    assert len(world.erasures) == 2


def test_whoever_is_forgotten_with_a_later_case_is_so_for_all(world: World) -> None:
    world.wallet("open")
    loan = _ended(world, LOAN, erasure="deferred")
    world.wait(DAY)
    world.wallet("closed")
    wallet = world.close(WALLET, status=Status.FINISHING, ended_at=None, erasure=None)
    world.run(lambda book: decide_closed(book, LANE, wallet))
    said = [one for service in SERVICES for one in world.erased_by(service)]
    assert sorted(body["case_id"] for _, body in said) == sorted(str(one.case_id) for one in (loan, wallet))
    assert {(body["erasure"], type_) for type_, body in said} == {("done", "closure.closed")}
    assert [type_ for type_, _ in world.erasures] == ["customer.erase", "customer.erased"]


def test_two_cases_that_wait_for_it_forget_a_customer_once(world: World) -> None:
    world.wallet("open", OTHER)
    cases = [_ended(world, subject, erasure="deferred") for subject in (LOAN, WALLET)]
    world.wait(DAY)
    world.report(cases[1])
    world.wallet("closed", OTHER)
    world.wait(2 * DAY)
    assert [type_ for type_, _ in world.erasures] == ["customer.erase", "customer.erased"]
    said = [one for service in SERVICES for one in world.erased_by(service)]
    assert [(type_, body["erasure"]) for type_, body in said] == [("closure.closed", "done")] * 2


def test_nobody_comes_back_while_they_are_forgotten(world: World) -> None:
    case = _ended(world, LOAN, erasure="deferred")
    world.wait(40 * DAY)
    assert case.is_forgetting
    [(_, body)] = world.reopen(1)
    assert [reason["code"] for reason in body["reasons"]] == ["case_open"]
    for service in SERVICES:
        world.erased_by(service)
    world.profile(1)
    [(type_, body)] = world.reopen(2)
    assert (type_, body["request_id"]) == ("assessment.requested", request_id(2))


def test_nobody_is_forgotten_who_has_come_back_to_a_loan_or_waits_to(world: World) -> None:
    world.policy = world.policy.model_copy(
        update={"reopening": world.policy.reopening.model_copy(update={"cooling_s": 0})}
    )
    world.rules = type(world.rules)(world.policy, world.rules.hashes)
    world.wallet("open")
    _ended(world, LOAN, erasure="deferred")
    world.reopen(1)
    world.wallet("closed")
    world.wait(2 * DAY)
    assert world.erasures == []
    world.answer(1)
    assert world.wait(9 * DAY) == []
    assert world.erasures == []


# --- A null profile ---


def test_a_null_profile_waits_for_the_end_of_a_case(world: World) -> None:
    case = world.close(WALLET, status=Status.REVIEW, ended_at=None, erasure=None)
    world.profile(None)
    assert (world.customer.profile, world.erasures) == (None, [])
    world.tell("closure.cancel", case_id=str(case.case_id))
    assert [type_ for type_, _ in world.erasures] == ["customer.erased"]
    assert world.customer.erased_at == world.now


def test_a_null_profile_while_nothing_is_open_is_done_at_once_whatever_follows(world: World) -> None:
    world.customer.wrapped_key = b"key"
    world.profile(None)
    world.profile(1)
    assert [type_ for type_, _ in world.erasures] == ["customer.erased"]
    assert world.customer.wrapped_key is None
    assert world.customer.profile is not None


def test_who_was_forgotten_and_applies_again_is_forgotten_again(world: World) -> None:
    world.profile(None)
    world.wallet("open")
    data = {"subject": WALLET, "reason": "r", "applicant": {"name": "N", "id_number": "1", "phone": "2"}}
    case_id = "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f509"
    said = world.tell("closure.request", case_id=case_id, **data)
    assert said[-1][0] == "closure.documents_required"
    world.customer.wrapped_key = b"sealed with"
    world.tell("closure.cancel", case_id=case_id)
    assert world.customer.wrapped_key is None
