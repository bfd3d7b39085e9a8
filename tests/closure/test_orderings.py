"""Whatever comes first: of every race one right outcome, all money is somewhere, and no case is left waiting."""

from __future__ import annotations

import uuid
from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings

from schemas.fields import as_text
from services.closure.model import Status
from tests.closure.desk import FEE, PAYOUT, WALLET
from tests.closure.town import OTHER, Town, open_town, publish_position, publish_profile, request, transfer

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

BALANCE: Final = 1_000
CASE: Final = uuid.UUID(int=1, version=4)
ANOTHER: Final = uuid.UUID(int=2, version=4)


def _call_off(town: Town) -> None:
    town.say({"case_id": str(CASE)}, "cancel", "cancels")


def _say_ten_times(town: Town) -> None:
    for _ in range(10):
        town.put("closure.commands", "closure.confirm", {"case_id": str(CASE)}, "again", "the-same-command")


def _name_account(town: Town) -> None:
    town.say({"case_id": str(CASE)}, "payout_account", payee="bank:CCB:2", payee_name="Person One")


def _name_anothers(town: Town) -> None:
    town.say({"case_id": str(CASE)}, "payout_account", "another", payee="bank:CCB:3", payee_name="Person Three")


def _schedule(town: Town) -> None:
    for amount in (1, 2, 3):
        at = as_text(town.books.now + timedelta(days=1))
        transfer(town, "p2p", WALLET, OTHER, amount, execute_at=at)


EXTRAS: Final[dict[str, Callable[[Town], None]]] = {
    "calls off": _call_off,
    "confirms ten times": _say_ten_times,
    "applies again": lambda town: request(town, ANOTHER),
    "asks the same again": lambda town: request(town, CASE),
    "pays somebody": lambda town: transfer(town, "p2p", WALLET, OTHER, 70),
    "pays everything": lambda town: transfer(town, "p2p", WALLET, OTHER, BALANCE),
    "is paid": lambda town: transfer(town, "p2p", OTHER, WALLET, 30),
    "brings money": lambda town: transfer(town, "top_up", "bank:X1:1", WALLET, 40),
    "takes money": lambda town: transfer(town, "withdrawal", WALLET, "bank:X1:1", 50),
    "schedules": _schedule,
    "owes": lambda town: publish_position(town, 500),
    "owes nothing": lambda town: publish_position(town, 0),
    "has another name": lambda town: publish_profile(town, name="Person Two"),
    "has the name": publish_profile,
    "names an account": _name_account,
    "names another's account": _name_anothers,
}
STEPS = st.lists(
    st.one_of(
        st.sampled_from(sorted(EXTRAS)),
        # Which queue is next, and how often what is next in it comes.
        st.tuples(st.integers(0, 30), st.sampled_from([1, 1, 1, 2])),
        st.sampled_from([timedelta(seconds=3), timedelta(minutes=6), timedelta(days=4)]),
    ),
    max_size=60,
)
OUTCOMES = st.lists(st.sampled_from(["settle", "fail", "return"]), max_size=5)


def live(town: Town, steps: list[Any]) -> None:
    """Take steps in their order."""
    for step in steps:
        if isinstance(step, str):
            EXTRAS[step](town)
        elif isinstance(step, timedelta):
            town.pass_time(step)
        elif town.waiting:
            place, times = step
            queue = town.waiting[place % len(town.waiting)]
            town.deliver(queue, times)


def begin(outcomes: list[str], *, posted_minor: int = BALANCE, changes_mind: bool = False) -> Town:
    """Return a town in which the customer has a wallet."""
    town = Town(deque(), changes_mind=changes_mind)
    open_town(town, posted_minor)
    town.outcomes.extend(outcomes)
    return town


def status_of(town: Town, case_id: UUID = CASE) -> str:
    return str(town.desk.status(case_id))


MANY = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@MANY
@given(steps=STEPS, outcomes=OUTCOMES, changes_mind=st.booleans(), has_account=st.booleans())
def test_whatever_comes_first_a_case_ends_and_all_money_is_somewhere(
    steps: list[Any], outcomes: list[str], *, changes_mind: bool, has_account: bool
) -> None:
    town = begin(outcomes, changes_mind=changes_mind)
    request(town, CASE, PAYOUT if has_account else None)
    live(town, steps)
    town.settle_down()
    town.check()


# --- Races, each alone ---

ORDER = st.lists(st.integers(0, 3), max_size=25)
"""Which of the queues in which something waits is next."""
RACE = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def at_approval(outcomes: list[str] | None = None, *, changes_mind: bool = False) -> Town:
    """Return a town in which the case was just approved: the confirmation is on its way."""
    town = begin(outcomes or [], changes_mind=changes_mind)
    request(town, CASE)
    while "closure.approved" not in told(town):
        town.deliver(town.waiting[0])
    return town


def told(town: Town) -> list[str]:
    return [type_ for type_, _ in town.events]


def interleave(town: Town, order: list[int]) -> None:
    """Deliver everything, the first of it in an order of queues, and check."""
    live(town, [(place, 1) for place in order])
    town.settle_down()
    town.check()


def left_in(town: Town, wallet: str = WALLET) -> int:
    return town.books.facts.accounts[wallet].posted_minor


def paid_by(town: Town) -> int:
    return int(town.desk.case(CASE).paid_minor)


@RACE
@given(order=ORDER)
def test_confirmed_against_called_off(order: list[int]) -> None:
    town = at_approval(changes_mind=True)
    interleave(town, order)
    refused = told(town).count("closure.command_refused")
    if status_of(town) == Status.CANCELLED:
        assert (left_in(town), paid_by(town)) == (BALANCE, 0)
        assert refused == ("closure.confirmed" not in told(town))
    else:
        assert status_of(town) == Status.CLOSED
        assert (left_in(town), paid_by(town), refused) == (0, BALANCE - FEE, 1)


@RACE
@given(order=ORDER, amount=st.sampled_from([70, BALANCE]))
def test_a_transfer_against_draining(order: list[int], amount: int) -> None:
    town = at_approval()
    transfer(town, "p2p", WALLET, OTHER, amount)
    interleave(town, order)
    assert status_of(town) == Status.CLOSED
    moved = left_in(town, OTHER) - BALANCE
    sent = [(type_, body) for type_, body in town.events if body.get("kind") == "p2p"]
    if moved:
        assert (moved, [type_ for type_, _ in sent]) == (amount, ["transfer.settled"])
    else:
        assert [body["reason"]["code"] for _, body in sent] in (["account_closing"], ["account_closed"])
    assert paid_by(town) == max(0, BALANCE - moved - FEE)


@RACE
@given(order=ORDER)
def test_a_new_debt_against_the_confirmation(order: list[int]) -> None:
    town = at_approval()
    publish_position(town, 500)
    interleave(town, order)
    delivered = [type_ for type_ in town.delivered if type_ in {"closure.confirm", "obligation.position"}]
    if delivered[0] == "obligation.position":
        assert (status_of(town), left_in(town)) == (Status.REJECTED, BALANCE)
    else:
        assert status_of(town) == Status.CLOSED
        assert paid_by(town) == BALANCE - FEE


@RACE
@given(order=ORDER)
def test_two_cases_for_one_wallet(order: list[int]) -> None:
    town = begin([])
    request(town, CASE)
    request(town, ANOTHER)
    interleave(town, order)
    assert {status_of(town), status_of(town, ANOTHER)} == {Status.CLOSED, Status.REJECTED}
    codes = [body["reasons"][0]["code"] for type_, body in town.events if type_ == "closure.rejected"]
    assert codes in (["case_open"], ["subject_unknown"])


@RACE
@given(order=ORDER, times=st.lists(st.sampled_from([1, 10]), max_size=25))
def test_everything_ten_times_is_done_once(order: list[int], times: list[int]) -> None:
    town = begin([])
    request(town, CASE)
    live(town, list(zip(order, [*times, *[10] * 25], strict=False)))
    town.settle_down()
    town.check()
    assert status_of(town) == Status.CLOSED
    confirmed = {body["revision"] for type_, body in town.events if type_ == "closure.confirmed"}
    closing = {body["version"] for type_, body in town.events if type_ == "account.closing"}
    assert (len(confirmed), len(closing), paid_by(town)) == (1, 1, BALANCE - FEE)
    assert "closure.command_refused" not in told(town)


@RACE
@given(order=ORDER)
def test_another_profile_against_a_correction(order: list[int]) -> None:
    town = begin([])
    request(town, CASE, name="Person Two")
    # The correction follows what is asked; the profile becomes what was said at first.
    publish_profile(town, name="Person Two")
    interleave(town, order)
    asked = told(town).count("closure.documents_required")
    # Whoever becomes another person by the profile is looked at by one; their confirmation comes too early then.
    refusals = [body["command_type"] for type_, body in town.events if type_ == "closure.command_refused"]
    refused = refusals.count("closure.correct")
    at = town.delivered.index("customer.profile", town.delivered.index("closure.request")) if asked else 0
    is_corrected_first = asked and "closure.correct" in town.delivered[:at]
    assert asked <= 1
    assert refused == (1 if asked and not is_corrected_first else 0)
    assert status_of(town) == Status.CLOSED


@RACE
@given(order=ORDER, outcomes=OUTCOMES)
def test_another_holders_account_against_everything_until_the_payout(order: list[int], outcomes: list[str]) -> None:
    town = begin(outcomes)
    town.decision = "reject"
    request(town, CASE)
    for _ in range(5):
        _name_anothers(town)
    interleave(town, order)
    payees = {body["payee"] for type_, body in town.events if type_ == "transfer.sent"}
    assert payees <= {PAYOUT["payee"]}
    assert status_of(town) in {Status.CLOSED, Status.REJECTED}


@RACE
@given(order=ORDER, outcomes=OUTCOMES)
def test_a_payout_that_fails_or_comes_back_however_late(order: list[int], outcomes: list[str]) -> None:
    town = at_approval(outcomes)
    interleave(town, order)
    assert status_of(town) == Status.CLOSED
    unclaimed = town.books.moved["platform:unclaimed"]
    assert paid_by(town) + unclaimed + FEE == BALANCE
    assert told(town).count("closure.discrepancy") == (unclaimed > 0)
