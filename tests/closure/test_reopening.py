"""Coming back: who may, from when on, and that every order of what happens has one right outcome."""

from __future__ import annotations

import uuid
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.fields import as_text
from services.closure.decide.draining import decide_closed
from services.closure.model import Status
from tests.closure.coming_back import DAY, LANE, LOAN, NOW, SERVICES, WALLET, World, codes, number_hash, request_id
from tests.end_to_end.closings import applicant

if TYPE_CHECKING:
    from collections.abc import Callable

COOLING = timedelta(days=30)


@pytest.fixture
def world() -> World:
    world = World()
    world.wait(COOLING)
    world.orders.clear()
    return world


def _types(said: list[tuple[str, dict[str, Any]]]) -> list[str]:
    return [type_ for type_, _ in said]


REFUSALS: dict[str, tuple[Callable[[World], object], str, dict[str, str], list[str]]] = {
    "never closed": (lambda _: None, "wallet:other", {}, ["subject_unknown"]),
    "open again": (lambda world: world.wallet("open"), WALLET, {}, ["subject_unknown"]),
    "another name": (lambda _: None, LOAN, {"name": "Somebody"}, ["name_mismatch"]),
    "no ID number": (lambda _: None, LOAN, {"id_number": "12"}, ["id_number_invalid"]),
    "all wrong": (
        lambda _: None,
        WALLET,
        {"name": "Somebody", "id_number": applicant(2)["id_number"], "phone": "+8613900000000"},
        ["name_mismatch", "id_number_mismatch", "phone_mismatch"],
    ),
    "forgotten, and not known again": (lambda world: world.profile(None), WALLET, {}, ["profile_missing"]),
    "another person under the id": (lambda world: world.profile(2), WALLET, applicant(2), ["id_number_mismatch"]),
    "nobody knows who it was": (
        lambda world: setattr(world.closings[WALLET], "id_number_hash", None),
        WALLET,
        {},
        ["id_number_mismatch"],
    ),
    "in debt": (lambda world: world.owes(5), WALLET, {}, ["obligation_open"]),
    "a debt is nobody else's business": (lambda world: world.owes(5), WALLET, {"name": "Somebody"}, ["name_mismatch"]),
    "its own amount": (lambda world: world.owes(5), LOAN, {}, ["obligation_open"]),
}


@pytest.mark.parametrize(("prepare", "subject", "more", "expected"), REFUSALS.values(), ids=REFUSALS)
def test_what_stands_against_it_is_named_at_once(
    world: World, prepare: Callable[[World], object], subject: str, more: dict[str, str], expected: list[str]
) -> None:
    prepare(world)
    assert codes(world.reopen(1, subject, **more)) == expected
    assert world.orders == []


def test_another_loan_does_not_stand_against_a_loan(world: World) -> None:
    world.owes(5, obligation_id="l2")
    assert _types(world.reopen(1)) == ["assessment.requested"]


def test_it_waits_for_the_cooling_period_to_the_moment() -> None:
    world = World()
    world.wait(COOLING - timedelta(microseconds=1))
    [(_, body)] = said = world.reopen(1)
    assert codes(said) == ["cooling_period"]
    assert body["reasons"][0]["available_at"] == as_text(NOW + COOLING)
    world.wait(timedelta(microseconds=1))
    assert _types(world.reopen(2)) == ["assessment.requested"]


def test_a_wallet_is_opened_by_the_transfer_service(world: World) -> None:
    assert world.reopen(1, WALLET) == []
    closing = world.closings[WALLET]
    [(type_, order)] = world.orders
    assert (type_, order["account_id"], order["case_id"]) == ("account.reopen", WALLET, str(closing.case_id))
    assert world.reopen(1, WALLET) == []
    assert codes(world.reopen(2, WALLET)) == ["case_open"]
    [(type_, body)] = world.account("account.reopened", closing.case_id)
    assert (type_, body["request_id"], body["revision"]) == ("closure.reopened", request_id(1), 1)
    assert world.account("account.reopened", closing.case_id) == []
    assert _types(world.reopen(1, WALLET)) == ["closure.reopened"]
    assert world.ids[-1] == f"reopening.{request_id(1)}.1"
    assert codes(world.reopen(3, WALLET)) == ["subject_unknown"]


def test_a_wallet_that_cannot_be_opened_is_said_to_be_unknown(world: World) -> None:
    world.reopen(1, WALLET)
    assert world.refuse_order(f"{world.closings[WALLET].case_id}.reopen.{request_id(2)}") == []
    assert codes(world.refuse_order(world.orders[0][1]["ce_id"])) == ["subject_unknown"]
    assert world.refuse_order(world.orders[0][1]["ce_id"]) == []


def test_an_id_is_of_one_application(world: World) -> None:
    world.reopen(1)
    [(type_, body)] = world.reopen(1, phone="+8613900000000")
    assert (type_, body["reason"]["code"]) == ("closure.command_refused", "duplicate_id_conflict")


def test_a_loan_gets_the_limit_of_the_answer(world: World) -> None:
    world.reopen(1)
    [(type_, body)] = world.answer(1, command_id="first", limit_minor=700)
    assert (type_, body["limit_minor"], body["currency"], body["revision"]) == ("closure.reopened", 700, "CNY", 2)
    assert _types(world.answer(1, command_id="first", limit_minor=700)) == ["closure.reopened"]
    [(type_, body)] = world.answer(1, approved=False)
    assert (type_, body["reason"]["code"]) == ("closure.command_refused", "state_conflict")
    assert world.wait(COOLING) == []


@pytest.mark.parametrize(
    ("prepare", "approved", "expected"),
    [
        (lambda _: None, False, "assessment_refused"),
        (lambda world: world.owes(3), True, "obligation_open"),
        (lambda world: world.profile(None), True, "profile_missing"),
    ],
    ids=["not approved", "a debt has come up", "the profile is gone"],
)
def test_what_has_come_up_counts_when_the_answer_comes(
    world: World, prepare: Callable[[World], object], *, approved: bool, expected: str
) -> None:
    world.reopen(1)
    prepare(world)
    assert world.erasures == []
    assert codes(world.answer(1, approved=approved)) == [expected]
    # A null profile waited for the end of the application.
    assert _types(world.erasures) == (["customer.erased"] if expected == "profile_missing" else [])


def test_an_answer_that_does_not_come_in_time_ends_it(world: World) -> None:
    world.reopen(1)
    assert codes(world.wait(7 * DAY)) == ["assessment_missing"]
    [(type_, body)] = world.answer(1)
    assert (type_, body["reason"]["code"]) == ("closure.command_refused", "state_conflict")
    [(_, body)] = world.answer(9)
    assert body["reason"]["code"] == "request_unknown"


def test_an_answer_at_its_last_moment_is_late_whichever_is_handled_first(world: World) -> None:
    world.reopen(1)
    world.now += 7 * DAY
    assert _types(world.answer(1)) == ["closure.command_refused"]
    assert codes(world.wait(timedelta(0))) == ["assessment_missing"]


def _request(world: World, subject: str) -> list[tuple[str, dict[str, Any]]]:
    data = {"case_id": str(uuid.uuid4()), "subject": subject, "reason": "r", "applicant": applicant(1)}
    return world.tell("closure.request", **data)


def test_a_closed_loan_is_not_closed_again_but_one_that_was_opened_is(world: World) -> None:
    assert _types(_request(world, LOAN)) == ["closure.rejected"]
    world.reopen(1)
    assert _types(_request(world, LOAN)) == ["closure.rejected"]
    world.answer(1)
    said = _request(world, LOAN)
    assert _types(said) == ["closure.received", "closure.approved"]
    assert codes(world.reopen(2)) == ["case_open"]
    world.tell("closure.confirm", case_id=said[0][1]["case_id"])
    for service in SERVICES:
        world.erased_by(service)
    # The latest closing counts, with a cooling period of its own; whoever was forgotten has to be known again.
    assert codes(world.reopen(3)) == ["cooling_period", "profile_missing"]
    world.profile(1)
    world.wait(COOLING)
    [(type_, body)] = world.reopen(4)
    assert (type_, body["case_id"]) == ("assessment.requested", said[0][1]["case_id"])


def test_a_case_of_whom_nobody_applied_for_keeps_the_number_of_the_profile() -> None:
    world = World()
    case = world.close("wallet:p2", status=Status.FINISHING, ended_at=None, erasure=None, id_number_hash=None)
    world.wallet("closed", "wallet:p2")
    world.run(lambda book: decide_closed(book, LANE, case))
    assert case.id_number_hash == number_hash(1)


# --- Whatever the order ---


def _do_order(world: World) -> None:
    for type_, order in world.orders:
        if type_ == "account.reopen":
            world.account("account.reopened", uuid.UUID(order["case_id"]))


_STEPS: dict[str, Callable[[World], object]] = {
    "apply for the loan": lambda world: world.reopen(1),
    "apply for the loan anew": lambda world: world.reopen(2),
    "apply for the wallet": lambda world: world.reopen(3, WALLET),
    "apply for the wallet anew": lambda world: world.reopen(4, WALLET),
    "another person applies": lambda world: world.reopen(5, WALLET, 2),
    "approve": lambda world: world.answer(1, limit_minor=5),
    "approve again": lambda world: world.answer(1, limit_minor=6),
    "approve the other": lambda world: world.answer(2, limit_minor=7),
    "disapprove": lambda world: world.answer(1, approved=False),
    "open the wallet": _do_order,
    "refuse to open the wallet": lambda world: [
        world.refuse_order(order["ce_id"]) for type_, order in world.orders[-1:] if type_ == "account.reopen"
    ],
    "close the loan": lambda world: _close(world, LOAN),
    "a debt": lambda world: world.owes(9),
    "paid": lambda world: world.owes(0),
    "forget": lambda world: world.profile(None),
    "known": lambda world: world.profile(1),
    "another person is known": lambda world: world.profile(2),
    "a day": lambda world: world.wait(DAY),
    "a month": lambda world: world.wait(COOLING),
    "erased": lambda world: [world.erased_by(service) for service in SERVICES],
}


def _close(world: World, subject: str) -> None:
    for type_, body in _request(world, subject):
        if type_ == "closure.approved":
            world.tell("closure.confirm", case_id=body["case_id"])


@given(st.lists(st.sampled_from(sorted(_STEPS)), max_size=25))
@settings(deadline=None, max_examples=150)
def test_every_order_of_what_happens_has_one_right_outcome(steps: list[str]) -> None:
    world = World()
    world.wait(COOLING)
    ended: set[str] = set()
    for step in steps:
        before = len(world.said)
        _STEPS[step](world)
        _check(world, world.said[before:], ended)


def _check(world: World, said: list[tuple[str, dict[str, Any]]], ended: set[str]) -> None:
    known = world.facts.reopenings.values()
    pending = Counter(one.subject for one in known if one.is_pending)
    assert all(count == 1 for count in pending.values())
    undone = Counter(one.case_id for one in known if one.status == "reopened")
    assert all(count == 1 for count in undone.values())
    for type_, body in said:
        if type_ in {"closure.reopened", "closure.reopen_refused"}:
            ended.add(f"{body['request_id']} {type_}")
    outcomes = Counter(one.partition(" ")[0] for one in ended)
    assert all(count == 1 for count in outcomes.values()), "an application has one outcome"
    # Each closing but the last was undone before the next.
    for subject in (WALLET, LOAN):
        closed = [one for one in world.facts.cases.values() if one.subject == subject and one.status == Status.CLOSED]
        assert len(closed) - sum(one.case_id in undone for one in closed) <= 1
    # Nobody else ever gets what was closed, and who is to be forgotten is, once nothing is pending.
    assert not any(one.request_id == uuid.UUID(request_id(5)) and one.status != "refused" for one in known)
    is_busy = any(pending.values()) or any(one.ended_at is None for one in world.facts.cases.values())
    assert world.customer.erase_wanted is None or is_busy
    timers = {subject for kind, subject in world.timers if kind == "assess"}
    assert timers == {str(one.request_id) for one in known if one.status == "assessing"}
