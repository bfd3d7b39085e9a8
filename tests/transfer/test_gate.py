"""The gate: what a window closes, what becomes of it, and how it goes on."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from services.transfer.decide.gate import Gate, function_of
from services.transfer.model import ClosedWindow, Kind, Transfer, Waiver
from tests.transfer.bench_of_facts import MORNING, World, funded, message, request, with_policy

HOUR = timedelta(hours=1)
FUNCTIONS = ("transfer", "withdrawal", "top_up", "closure_payout")
BANKS = ("X1", "X2")
CURRENCIES = ("CNY", "USD")


def window(**fields: Any) -> ClosedWindow:
    """Return a window that holds transfers for the next hour."""
    given_fields = {
        "window_id": uuid.uuid4(),
        "functions": ("transfer",),
        "banks": (),
        "currencies": (),
        "starts_at": MORNING,
        "ends_at": MORNING + HOUR,
        "is_confirmed": False,
        "holds": True,
        "alternatives": [{"kind": "card", "text": "Pay by card"}],
    }
    return ClosedWindow(**(given_fields | fields))


def _transfer(kind: str, bank: str, currency: str) -> Transfer:
    wallet, at_bank, platform = "wallet:a", f"bank:{bank}:1", "platform:fees"
    payer, payee = {
        "p2p": (wallet, "wallet:b"),
        "withdrawal": (wallet, at_bank),
        "top_up": (at_bank, wallet),
        "fee": (wallet, platform),
        "interest": (platform, wallet),
    }[kind]
    return Transfer(
        uuid.uuid4(), b"", kind, payer, payee, None, None, 1, 0, currency, None,
        None, None, None, MORNING, None, None, MORNING, "failed",
    )  # fmt: skip


# --- What is closed ---

TABLE: list[tuple[str, dict[str, Any], dict[str, Any], bool]] = [
    ("a p2p is a transfer", {}, {}, True),
    ("a withdrawal is none", {}, {"kind": "withdrawal", "payee": "bank:X1:2"}, False),
    ("it is what it is", {"functions": ("withdrawal",)}, {"kind": "withdrawal", "payee": "bank:X1:2"}, True),
    (
        "also with a case that closes nothing",
        {"functions": ("withdrawal",)},
        {"kind": "withdrawal", "payee": "bank:X1:2", "case_id": str(uuid.uuid4())},
        True,
    ),
    (
        "which is no closing's payout",
        {"functions": ("closure_payout",)},
        {"kind": "withdrawal", "payee": "bank:X1:2", "case_id": str(uuid.uuid4())},
        False,
    ),
    ("a top-up", {"functions": ("top_up",)}, {"kind": "top_up", "payer": "bank:X1:2", "payee": "wallet:a"}, True),
    ("a fee never is", {"functions": FUNCTIONS}, {"kind": "fee", "payee": "platform:fees"}, False),
    ("its bank", {"functions": FUNCTIONS, "banks": ("X1",)}, {"kind": "withdrawal", "payee": "bank:X1:2"}, True),
    ("another bank", {"functions": FUNCTIONS, "banks": ("X2",)}, {"kind": "withdrawal", "payee": "bank:X1:2"}, False),
    ("no bank at all", {"banks": ("X1",)}, {}, False),
    ("its currency", {"currencies": ("CNY",)}, {}, True),
    ("another currency", {"currencies": ("USD",)}, {}, False),
    ("from its start sharp", {"starts_at": MORNING}, {}, True),
    ("not before it", {"starts_at": MORNING + timedelta(microseconds=1)}, {}, False),
    ("not from its end on", {"starts_at": MORNING - HOUR, "ends_at": MORNING}, {}, False),
    (
        "longer where somebody has to confirm it",
        {"starts_at": MORNING - HOUR, "ends_at": MORNING, "is_confirmed": True},
        {},
        True,
    ),
]


@pytest.mark.parametrize(("closes", "asked", "is_held"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_what_a_window_closes(closes: dict[str, Any], asked: dict[str, Any], *, is_held: bool) -> None:
    world = funded()
    world.windows = [window(**closes)]
    said = world.tell(message("transfer.request", request(**asked)))
    assert ("transfer.held" in [type_ for type_, _ in said]) is is_held


WINDOWS = st.builds(
    window,
    functions=st.lists(st.sampled_from(FUNCTIONS), min_size=1, max_size=3, unique=True).map(tuple),
    banks=st.lists(st.sampled_from(BANKS), max_size=2, unique=True).map(tuple),
    currencies=st.lists(st.sampled_from(CURRENCIES), max_size=2, unique=True).map(tuple),
    starts_at=st.integers(-3, 3).map(lambda hours: MORNING + hours * HOUR),
    ends_at=st.integers(-2, 5).map(lambda hours: MORNING + hours * HOUR),
    is_confirmed=st.booleans(),
    holds=st.booleans(),
)
TRANSFERS = st.builds(_transfer, st.sampled_from(list(Kind)), st.sampled_from(BANKS), st.sampled_from(CURRENCIES))


@given(st.lists(WINDOWS, max_size=12), TRANSFERS, st.booleans())
def test_the_gate_finds_what_a_look_at_every_window_finds(
    windows: list[ClosedWindow],
    transfer: Transfer,
    is_closings_own: bool,  # noqa: FBT001 - both ways
) -> None:
    bank = next((party.split(":")[1] for party in (transfer.payer, transfer.payee) if party.startswith("bank:")), None)
    covering = [
        one
        for one in windows
        if one.closes_at(MORNING)
        and function_of(transfer, is_closings_own=is_closings_own) in one.functions
        and (not one.banks or bank in one.banks)
        and (not one.currencies or transfer.currency in one.currencies)
    ]
    found = Gate(windows, MORNING).closing(transfer, is_closings_own=is_closings_own)
    strictest = max(covering, key=lambda one: (not one.holds, one.ends_at, one.window_id), default=None)
    assert found == strictest


# --- What becomes of it ---


def test_what_is_held_reserves_nothing_and_says_why_and_until_when() -> None:
    world = funded()
    closed = window()
    world.windows = [closed]
    ((type_, body),) = world.tell(message("transfer.request", request(amount_minor=500)))
    assert (type_, body["status"], body["window_id"]) == ("transfer.held", "held", str(closed.window_id))
    assert (body["resume_at"], body["alternatives"]) == ("2026-09-28T02:00:00.000000Z", closed.alternatives)
    account = world.facts.accounts["wallet:a"]
    assert (world.available("a"), account.reserved_minor, account.used_day_minor) == (1_000_000, 0, 0)


@pytest.mark.parametrize(("window_holds", "request_holds"), [(True, False), (False, True), (False, False)])
def test_what_one_side_would_not_hold_is_refused(*, window_holds: bool, request_holds: bool) -> None:
    world = funded()
    closed = window(holds=window_holds)
    world.windows = [closed]
    asked = request(on_maintenance="hold" if request_holds else "reject")
    ((type_, body),) = world.tell(message("transfer.request", asked))
    assert (type_, body["reason"]["code"]) == ("transfer.failed", "maintenance")
    assert (body["window_id"], body["resume_at"]) == (str(closed.window_id), body["reason"]["available_at"])


def test_every_other_check_comes_first() -> None:
    world = funded()
    world.windows = [window()]
    ((type_, body),) = world.tell(message("transfer.request", request(amount_minor=2_000_001)))
    assert (type_, body["reason"]["code"]) == ("transfer.failed", "insufficient_balance")


def test_of_two_windows_the_stricter_decides() -> None:
    world = funded()
    world.windows = [window(), window(holds=False)]
    ((type_, _),) = world.tell(message("transfer.request", request()))
    assert type_ == "transfer.failed"


def test_a_quote_says_that_it_would_wait() -> None:
    world = funded()
    world.windows = [window()]
    order = {"kind": "p2p", "payer": "wallet:a", "payee": "wallet:b", "amount_minor": 1, "currency": "CNY"}
    ((_, body),) = world.tell(message("transfer.quote", {"quote_id": str(uuid.uuid4()), **order}))
    assert body["would"] == "hold"
    world.windows = [window(holds=False)]
    ((_, body),) = world.tell(message("transfer.quote", {"quote_id": str(uuid.uuid4()), **order}))
    assert (body["would"], body["reason"]["code"]) == ("refuse", "maintenance")


def test_the_money_of_a_refused_top_up_goes_back() -> None:
    world = funded()
    world.windows = [window(functions=("top_up",), holds=False)]
    said = world.tell(message("transfer.request", request("top_up", payer="bank:X1:2", payee="wallet:b")))
    assert [type_ for type_, _ in said] == ["transfer.failed", "payout.instructed"]


def test_a_held_top_up_can_neither_be_cancelled_nor_expire() -> None:
    world = funded()
    world.windows = [window(functions=("top_up",))]
    asked = request("top_up", payer="bank:X1:2", payee="wallet:b", expires_at="2026-09-28T01:30:00Z")
    assert [type_ for type_, _ in world.tell(message("transfer.request", asked))] == ["transfer.held"]
    cancel = message("transfer.cancel", {"transfer_id": asked["transfer_id"]})
    ((type_, body),) = world.tell(cancel)
    assert (type_, body["reason"]["code"]) == ("transfer.command_refused", "state_conflict")
    assert [type_ for type_, _ in world.pass_time(HOUR)] == ["transfer.settled"]


def test_an_atomic_batch_is_taken_when_its_items_wait() -> None:
    world = funded()
    world.windows = [window()]
    batch = {"batch_id": str(uuid.uuid4()), "atomic": True, "items": [request(), request()]}
    assert [type_ for type_, _ in world.tell(message("transfer.batch", batch))] == ["transfer.held"] * 2
    unlucky = {"batch_id": str(uuid.uuid4()), "atomic": True, "items": [request(), request(on_maintenance="reject")]}
    said = world.tell(message("transfer.batch", unlucky))
    assert [body["reason"]["code"] for _, body in said] == ["batch_rejected", "maintenance"]
    assert len(world.held) == 2


# --- How it goes on ---


def _asked(world: World, *amounts: int, **more: Any) -> list[str]:
    asked = [request(amount_minor=amount, **more) for amount in amounts]
    for one in asked:
        world.tell(message("transfer.request", one))
    return [one["transfer_id"] for one in asked]


def test_it_goes_on_in_order_and_is_checked_again() -> None:
    world = funded()
    world.windows = [window()]
    ids = _asked(world, 600_000, 300_000, 200_000)
    said = world.pass_time(HOUR)
    assert [(type_, body["transfer_id"]) for type_, body in said] == [
        ("transfer.settled", ids[0]),
        ("transfer.settled", ids[1]),
        ("transfer.failed", ids[2]),
    ]
    assert said[2][1]["reason"]["code"] == "insufficient_balance"
    assert not world.held


def test_what_another_window_closes_too_waits_for_that() -> None:
    world = funded()
    first, second = window(), window(starts_at=MORNING + HOUR / 2, ends_at=MORNING + 2 * HOUR)
    world.windows = [first, second]
    _asked(world, 100)
    ((type_, body),) = world.pass_time(HOUR)
    assert (type_, body["window_id"], body["seq"]) == ("transfer.held", str(second.window_id), 2)
    assert [type_ for type_, _ in world.pass_time(HOUR)] == ["transfer.settled"]


def test_a_window_that_lasts_longer_keeps_it() -> None:
    world = funded()
    closed = window(is_confirmed=True)
    world.windows = [closed]
    _asked(world, 100)
    assert world.pass_time(HOUR + timedelta(seconds=45)) == []
    world.windows = []
    assert [type_ for type_, _ in world.pass_time(timedelta(seconds=31))] == ["transfer.settled"]


def test_it_can_be_cancelled_and_expires() -> None:
    world = funded()
    world.windows = [window()]
    (cancelled,) = _asked(world, 100)
    (expired,) = _asked(world, 100, expires_at="2026-09-28T01:30:00Z")
    said = world.tell(message("transfer.cancel", {"transfer_id": cancelled}))
    assert [type_ for type_, _ in said] == ["transfer.cancelled"]
    said = world.pass_time(HOUR)
    assert [(type_, body["transfer_id"]) for type_, body in said] == [("transfer.expired", expired)]
    assert not world.held


def test_a_scheduled_transfer_is_held_when_it_is_due_inside_a_window() -> None:
    world = funded()
    world.windows = [window()]
    _asked(world, 100, execute_at="2026-09-28T01:30:00Z")
    assert [type_ for type_, _ in world.pass_time(HOUR / 2)] == ["transfer.held"]
    assert [type_ for type_, _ in world.pass_time(HOUR)] == ["transfer.settled"]


def test_a_transfer_is_verified_before_it_waits() -> None:
    world = funded()
    world.fund("a", 9_000_000)
    world.windows = [window()]
    asked = request(amount_minor=2_000_000)
    assert world.tell(message("transfer.request", asked))[0][0] == "transfer.verification_required"
    verify = {"transfer_id": asked["transfer_id"], "method": "face", "outcome": "passed"}
    assert [type_ for type_, _ in world.tell(message("transfer.verify", verify))] == ["transfer.held"]
    assert [type_ for type_, _ in world.pass_time(HOUR)] == ["transfer.settled"]


# --- Fees that a window waives ---


def _waiver(remaining: int = 1) -> Waiver:
    return Waiver(uuid.uuid4(), "a", uuid.uuid4(), remaining, MORNING + 10 * HOUR)


def test_a_waiver_is_used_up_by_the_next_transfers_that_cost_a_fee() -> None:
    world = funded()
    world.facts.waivers["a"] = [_waiver(2)]
    fees = []
    for _ in range(3):
        asked = request("withdrawal", payee="bank:X1:2", amount_minor=10_000)
        said = dict(world.tell(message("transfer.request", asked)))
        fees.append((said["transfer.sent"]["fee_minor"], "fee.waived" in said))
    assert fees == [(0, True), (0, True), (10, False)]
    # What costs nothing uses none up.
    assert "fee.waived" not in dict(world.tell(message("transfer.request", request())))


def test_a_waiver_that_expired_waives_nothing() -> None:
    world = funded()
    world.facts.waivers["a"] = [_waiver()]
    world.now += 11 * HOUR
    said = dict(world.tell(message("transfer.request", request("withdrawal", payee="bank:X1:2", amount_minor=10_000))))
    assert said["transfer.sent"]["fee_minor"] == 10


def test_a_batch_that_fails_gives_back_what_it_used() -> None:
    world = World(rules=with_policy(fees=[{"kind": "p2p", "fixed_minor": 5}]))
    world.open("a", "b")
    world.fund("a", 1_000)
    world.facts.waivers["a"] = [_waiver()]
    batch = {"batch_id": str(uuid.uuid4()), "atomic": True, "items": [request(), request(amount_minor=5_000)]}
    world.tell(message("transfer.batch", batch))
    ((_, settled), (waived, _)) = world.tell(message("transfer.request", request()))
    assert (settled["fee_minor"], waived) == (0, "fee.waived")
