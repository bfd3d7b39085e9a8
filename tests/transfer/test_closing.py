"""How a wallet is closed, as tables: what is refused, cancelled, awaited and said, and what comes back too late."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from services.transfer.model import Waiver
from tests.transfer.bench_of_facts import MORNING, World, funded, message, new_id, request, with_policy
from tests.transfer.test_gate import window

if TYPE_CHECKING:
    from collections.abc import Callable

Said = list[tuple[str, dict[str, Any]]]

CASE = "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f50a"
OTHER = "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f50b"
HOUR = timedelta(hours=1)


def tell(world: World, word: str, *, name: str = "a", case: str = CASE, id_: str | None = None) -> Said:
    """Tell a wallet one of the four commands of a closing."""
    return world.tell(message(f"account.{word}", {"account_id": f"wallet:{name}", "case_id": case}, id_=id_))


def ask(world: World, kind: str = "p2p", **fields: Any) -> Said:
    """Ask for a transfer."""
    return world.tell(message("transfer.request", request(kind, **fields)))


def pay_out(world: World, *, case: str = CASE, **fields: Any) -> str:
    """Ask for a payout of a closing, and return its id."""
    asked = request("withdrawal", **{"payee": "bank:X1:9", "amount_minor": 1_000_000, "case_id": case, **fields})
    world.tell(message("transfer.request", asked))
    return str(asked["transfer_id"])


def bank(world: World, word: str, transfer_id: str) -> Said:
    """Have the bank answer a payout."""
    extra = {"rail_code": "MS03"} if word == "failed" else {}
    return world.tell(message(f"payout.{word}", {"transfer_id": transfer_id, **extra}))


def types(said: Said) -> list[str]:
    return [type_ for type_, _ in said]


def refused(said: Said) -> tuple[str, str]:
    ((type_, body),) = said
    return type_, body["reason"]["code"]


def emptied() -> World:
    """Return two wallets, one of which is closing and empty."""
    world = World()
    world.open("a", "b")
    tell(world, "close")
    return world


def closed() -> World:
    """Return two wallets, one of which is closed."""
    world = emptied()
    tell(world, "finish")
    return world


# --- The four commands ---


def _opened(*words: str) -> Callable[[], World]:
    def make() -> World:
        world = World()
        world.open("a", "b")
        for word in words:
            tell(world, word)
        return world

    return make


def _with_money() -> World:
    world = funded()
    tell(world, "close")
    return world


def _with_a_payout_on_its_way() -> World:
    world = _with_money()
    pay_out(world)
    return world


def _with_a_held_payout() -> World:
    world = World()
    world.open("a", "b", overdraft_limit_minor=100)
    tell(world, "close")
    world.windows = [window(functions=("closure_payout",))]
    pay_out(world, amount_minor=100)
    return world


REFUSED = "transfer.command_refused"
COMMANDS: list[tuple[Callable[[], World], str, str, list[str], str | None]] = [
    # how the wallet stands, the command, its case, the types of the answer, the reason
    (_opened(), "close", CASE, ["account.closing", "account.drained"], None),
    (_opened("close"), "close", CASE, ["account.drained"], None),
    (_with_money, "close", CASE, ["account.drained"], None),
    (_with_a_payout_on_its_way, "close", CASE, ["account.drained"], None),
    (_opened("close"), "close", OTHER, [REFUSED], "account_closing"),
    (_opened("close", "finish"), "close", CASE, [REFUSED], "account_closed"),
    (World, "close", CASE, [REFUSED], "account_unknown"),
    (_opened("close"), "finish", CASE, ["account.closed"], None),
    (_opened("close", "finish"), "finish", CASE, ["account.closed"], None),
    (_opened("close", "finish"), "finish", OTHER, [REFUSED], "state_conflict"),
    (_opened(), "finish", CASE, [REFUSED], "state_conflict"),
    (_opened("close"), "finish", OTHER, [REFUSED], "state_conflict"),
    (_with_money, "finish", CASE, [REFUSED], "state_conflict"),
    (_with_a_payout_on_its_way, "finish", CASE, [REFUSED], "state_conflict"),
    (_with_a_held_payout, "finish", CASE, [REFUSED], "state_conflict"),
    (World, "finish", CASE, [REFUSED], "account_unknown"),
    (_opened("close"), "reinstate", CASE, ["account.reinstated"], None),
    (_with_a_payout_on_its_way, "reinstate", CASE, ["account.reinstated"], None),
    (_opened("close", "reinstate"), "reinstate", CASE, ["account.reinstated"], None),
    (_opened("close", "reinstate"), "reinstate", OTHER, [REFUSED], "state_conflict"),
    (_opened("close"), "reinstate", OTHER, [REFUSED], "state_conflict"),
    (_opened(), "reinstate", CASE, [REFUSED], "state_conflict"),
    (_opened("close", "finish"), "reinstate", CASE, [REFUSED], "account_closed"),
    (World, "reinstate", CASE, [REFUSED], "account_unknown"),
    (_opened("close", "finish"), "reopen", CASE, ["account.reopened"], None),
    (_opened("close", "finish"), "reopen", OTHER, [REFUSED], "state_conflict"),
    (_opened("close", "finish", "reopen"), "reopen", CASE, ["account.reopened"], None),
    (_opened("close", "finish", "reopen"), "reopen", OTHER, [REFUSED], "state_conflict"),
    (_opened("close"), "reopen", CASE, [REFUSED], "state_conflict"),
    (_opened(), "reopen", CASE, [REFUSED], "state_conflict"),
    (World, "reopen", CASE, [REFUSED], "account_unknown"),
]


@pytest.mark.parametrize(("stands", "word", "case", "answer", "code"), COMMANDS)
def test_what_each_command_is_answered_with(
    stands: Callable[[], World], word: str, case: str, answer: list[str], code: str | None
) -> None:
    world = stands()
    said = tell(world, word, case=case, id_="first")
    assert types(said) == answer
    assert said[0][1]["case_id"] == case
    assert said[0][1]["account_id"] == "wallet:a"
    assert said[0][1].get("reason", {}).get("code") == code
    # Under the same id it is answered again with the same, and nothing more happens.
    assert tell(world, word, case=case, id_="first") == said[:1]


def test_who_keeps_a_copy_of_the_states_hears_of_each_change_of_status() -> None:
    world = closed()
    tell(world, "reopen")
    said = [dict(one.headers)["ce_type"] for one in world.published if one.topic == "account.states"]
    assert said[-3:] == [b"sluice.account.closing.v1", b"sluice.account.closed.v1", b"sluice.account.reopened.v1"]


# --- What is refused while a wallet is closing, and once it is closed ---

ASKED: list[tuple[str, dict[str, Any], str | None]] = [
    # what it is, what is asked for, the reason: none where it is done
    ("a payment", {}, "account_closing"),
    ("a payment to it", {"payer": "wallet:b", "payee": "wallet:a"}, "account_closing"),
    ("a top-up", {"kind": "top_up", "payer": "bank:X1:1", "payee": "wallet:a"}, "account_closing"),
    ("interest", {"kind": "interest", "payer": "platform:interest", "payee": "wallet:a"}, "account_closing"),
    ("a withdrawal", {"kind": "withdrawal", "payee": "bank:X1:9"}, "account_closing"),
    ("that of another case", {"kind": "withdrawal", "payee": "bank:X1:9", "case_id": OTHER}, "account_closing"),
    ("the case's own payout", {"kind": "withdrawal", "payee": "bank:X1:9", "case_id": CASE}, None),
    ("the case's own fee", {"kind": "fee", "payee": "platform:fees", "case_id": CASE}, None),
    ("the case's own payment", {"case_id": CASE}, None),
    ("what the case brings in", {"payer": "wallet:b", "payee": "wallet:a", "case_id": CASE}, None),
    (
        "more than there is",
        {"kind": "withdrawal", "payee": "bank:X1:9", "case_id": CASE, "amount_minor": 1_000_001},
        "insufficient_balance",
    ),
    ("to another name", {"case_id": CASE, "payee_name": "某人"}, "payee_name_unverified"),
]


@pytest.mark.parametrize(("asked", "code"), [row[1:] for row in ASKED], ids=[row[0] for row in ASKED])
@pytest.mark.parametrize("does_quote", [False, True], ids=["asked", "quoted"])
def test_while_it_closes_only_its_own_is_done(*, asked: dict[str, Any], code: str | None, does_quote: bool) -> None:
    world = funded()
    world.fund("b", 1_000)
    tell(world, "close")
    order = request(**asked)
    if does_quote:
        ((_, body),) = world.tell(message("transfer.quote", {"quote_id": new_id(), **order}))
        assert body["would"] == ("settle" if code is None else "refuse")
    else:
        body = world.tell(message("transfer.request", order))[0][1]
        assert body.get("case_id") == asked.get("case_id")
        assert (body["status"] == "failed") is (code is not None)
    assert body.get("reason", {}).get("code") == code


@pytest.mark.parametrize("asked", [{}, {"payer": "wallet:b", "payee": "wallet:a"}, {"case_id": CASE}])
def test_a_closed_wallet_takes_nothing(asked: dict[str, Any]) -> None:
    assert refused(ask(closed(), **asked)) == ("transfer.failed", "account_closed")


def test_a_restricted_wallet_stays_so() -> None:
    world = _with_money()
    world.tell(message("account.restrict", {"account_id": "wallet:a", "scope": "debit", "reason": "lost"}))
    assert refused(ask(world, case_id=CASE)) == ("transfer.failed", "account_restricted")


def test_a_restriction_that_ends_in_a_closed_wallet_is_no_news_and_holds_no_more() -> None:
    world = emptied()
    until = {"account_id": "wallet:a", "scope": "credit", "reason": "x", "until": "2026-09-28T02:00:00Z"}
    world.tell(message("account.restrict", until))
    tell(world, "finish")
    assert world.pass_time(2 * HOUR) == []
    assert types(tell(world, "finish")) == ["account.closed"]
    tell(world, "reopen")
    assert types(ask(world, "top_up", payer="bank:X1:1", payee="wallet:a")) == ["transfer.settled"]


STRICT = {
    "limits": {"single_minor": 10, "daily_minor": 10, "daily_count": 0, "monthly_minor": 10},
    "fees": [{"kind": "withdrawal", "fixed_minor": 5}, {"kind": "p2p", "fixed_minor": 5}],
    "verification": {"from_minor": 1, "methods": ["face"]},
}


def test_its_own_is_exempt_from_limits_fees_proof_and_cooling_and_uses_up_none() -> None:
    world = _with_money()
    world.rules = with_policy(**STRICT)
    account = world.facts.accounts["wallet:a"]
    account.verification_blocked_until = MORNING + HOUR
    waiver = Waiver(UUID(CASE), "a", UUID(OTHER), 1, MORNING + HOUR)
    world.facts.waivers["a"] = [waiver]
    used = (account.used_day_minor, account.used_day_count, account.used_month_minor)
    said = ask(world, "withdrawal", payee="bank:X1:9", amount_minor=1_000_000, case_id=CASE)
    assert [(type_, body.get("fee_minor")) for type_, body in said[:1]] == [("transfer.sent", 0)]
    assert (account.used_day_minor, account.used_day_count, account.used_month_minor) == used
    assert (waiver.remaining, account.reserved_minor) == (1, 1_000_000)
    order = request("withdrawal", payee="bank:X1:9", amount_minor=0, case_id=CASE)
    ((_, body),) = world.tell(message("transfer.quote", {"quote_id": new_id(), **order}))
    assert body["limits_left"] == {}


def test_its_own_payout_is_closed_by_its_own_function_alone() -> None:
    world = _with_money()
    world.windows = [window(functions=("withdrawal",))]
    assert ask(world, "withdrawal", payee="bank:X1:9", case_id=CASE)[0][0] == "transfer.sent"
    world.windows = [window(functions=("closure_payout",))]
    assert ask(world, "withdrawal", payee="bank:X1:9", case_id=CASE)[0][0] == "transfer.held"


def test_a_refund_to_it_is_done_and_one_from_it_is_not() -> None:
    world = funded()
    world.fund("b", 1_000)
    paid, got = request(), request(payer="wallet:b", payee="wallet:a")
    world.tell(message("transfer.request", paid), message("transfer.request", got))
    tell(world, "close")
    back = {"refund_id": new_id(), "transfer_id": paid["transfer_id"], "reason": "x"}
    assert types(world.tell(message("transfer.refund", back))) == ["transfer.refunded", "account.drained"]
    back = {"refund_id": new_id(), "transfer_id": got["transfer_id"], "reason": "x"}
    assert refused(world.tell(message("transfer.refund", back))) == (REFUSED, "account_closing")


def test_what_others_have_waiting_is_refused_when_it_goes_on() -> None:
    world = funded()
    world.windows = [window()]
    later = (MORNING + HOUR / 2).isoformat()
    ask(world, payee="wallet:b")
    ask(world, payee="wallet:b", execute_at=(MORNING + 2 * HOUR).isoformat())
    ask(world, "interest", payer="platform:interest", payee="wallet:b", execute_at=later)
    assert types(tell(world, "close", name="b")) == ["account.closing", "account.drained"]
    said = world.pass_time(3 * HOUR)
    assert [(type_, body["reason"]["code"]) for type_, body in said] == [("transfer.failed", "account_closing")] * 3


# --- Draining ---


def test_what_waits_is_cancelled_slice_by_slice_and_then_it_is_drained_once() -> None:
    world = funded()
    world.fund("a", 5_000_000)
    world.windows = [window(functions=("transfer", "top_up"))]
    ask(world, amount_minor=100)
    ask(world, "top_up", payer="bank:X1:7", payee="wallet:a", amount_minor=300)
    ask(world, amount_minor=2_000_000)
    for hours in (2, 3, 4):
        ask(world, "withdrawal", payee="bank:X1:9", execute_at=(MORNING + hours * HOUR).isoformat())
    ask(world, payer="wallet:b", payee="wallet:a")
    assert types(tell(world, "close")) == ["account.closing"]
    said = world.pass_time(timedelta(0))
    cancelled = [body for type_, body in said if type_ == "transfer.cancelled"]
    assert {(body["reason"]["code"], body["status"]) for body in cancelled} == {("account_closing", "cancelled")}
    assert sorted(body["kind"] for body in cancelled) == [
        "p2p",
        "p2p",
        "top_up",
        "withdrawal",
        "withdrawal",
        "withdrawal",
    ]
    assert (types(said).count("account.drained"), said[-1][0]) == (1, "account.drained")
    assert said[-1][1]["available_minor"] == 6_000_000
    # The money of the top-up goes back, and that is no business of the wallet's any more.
    (back,) = [body for type_, body in said if type_ == "payout.instructed"]
    assert types(bank(world, "settled", back["transfer_id"])) == ["transfer.refunded"]
    assert world.pass_time(24 * HOUR) == []


def test_what_waits_for_the_case_itself_is_not_cancelled_with_the_rest() -> None:
    world = funded()
    world.fund("a", 5_000_000)
    own = request("withdrawal", payee="bank:X1:9", amount_minor=2_000_000, case_id=CASE)
    other = request(execute_at=(MORNING + HOUR).isoformat())
    world.tell(message("transfer.request", own), message("transfer.request", other))
    assert types(tell(world, "close")) == ["account.closing"]
    ((type_, body),) = world.pass_time(timedelta(0))
    assert (type_, body["transfer_id"]) == ("transfer.cancelled", other["transfer_id"])
    # It goes on once it is proved, as the closing's own, though others have used up the holder's tries.
    world.facts.accounts["wallet:a"].verification_blocked_until = MORNING + HOUR
    verify = {"transfer_id": own["transfer_id"], "method": "face", "outcome": "passed"}
    ((type_, body), *_) = world.tell(message("transfer.verify", verify))
    assert (type_, body["fee_minor"]) == ("transfer.sent", 0)


LATER = {"execute_at": (MORNING + HOUR / 2).isoformat()}
CALLED_OFF: list[tuple[dict[str, Any], list[str], list[str]]] = [
    # what waits, what is said when the closing is called off, and what becomes of it by the end of the window
    ({"payee": "bank:X1:9", "case_id": CASE}, ["transfer.cancelled", "account.reinstated"], []),
    ({"payee": "bank:X1:9", "case_id": CASE, **LATER}, ["transfer.cancelled", "account.reinstated"], []),
    ({"payee": "bank:X1:9", "case_id": OTHER, **LATER}, ["account.reinstated"], ["transfer.sent", "payout.instructed"]),
    ({"payee": "bank:X1:9", **LATER}, ["account.reinstated"], ["transfer.sent", "payout.instructed"]),
]


@pytest.mark.parametrize(("waits", "said", "later"), CALLED_OFF)
def test_what_waits_of_a_case_is_cancelled_when_its_closing_is_called_off(
    waits: dict[str, Any], said: list[str], later: list[str]
) -> None:
    world = funded()
    if waits.get("case_id") != CASE:
        ask(world, "withdrawal", **waits)
    tell(world, "close")
    world.windows = [window(functions=("closure_payout",))]
    if waits.get("case_id") == CASE:
        ask(world, "withdrawal", **waits)
    answer = tell(world, "reinstate")
    assert types(answer) == said
    assert answer[-1][1]["available_minor"] == 1_000_000
    assert types(tell(world, "reinstate")) == ["account.reinstated"]
    # The wallet is open again: what is left waits for nothing but its time.
    assert types(world.pass_time(HOUR)) == later


def test_a_cancelled_top_up_whose_money_its_bank_does_not_take_stays_cancelled() -> None:
    world = funded()
    world.windows = [window(functions=("top_up",))]
    ask(world, "top_up", payer="bank:X1:7", payee="wallet:a", amount_minor=300)
    tell(world, "close")
    (back,) = [body for type_, body in world.pass_time(timedelta(0)) if type_ == "payout.instructed"]
    ((type_, body),) = bank(world, "failed", back["transfer_id"])
    assert (type_, body["status"]) == ("transfer.discrepancy", "cancelled")


def test_what_is_sent_is_awaited() -> None:
    world = funded()
    top_up = request("top_up", payer="bank:X1:7", payee="wallet:a", amount_minor=700)
    payout = request("withdrawal", payee="bank:X1:9")
    refund = {"refund_id": new_id(), "transfer_id": top_up["transfer_id"], "reason": "x"}
    world.tell(message("transfer.request", top_up), message("transfer.request", payout))
    world.tell(message("transfer.refund", refund))
    assert types(tell(world, "close")) == ["account.closing"]
    assert types(bank(world, "settled", refund["refund_id"])) == ["transfer.refunded"]
    said = world.pass_time(HOUR)
    assert "account.drained" not in types(said)
    assert types(bank(world, "failed", payout["transfer_id"])) == ["transfer.refunded", "account.drained"]


PAYOUTS: list[tuple[list[str], int]] = [
    # what the bank says of the closing's payout, what is posted when it is drained again
    (["settled"], 0),
    (["failed"], 1_000_000),
    (["returned"], 1_000_000),
    (["settled", "returned"], 1_000_000),
    (["unknown", "unknown"], 1_000_000),
]


@pytest.mark.parametrize(("words", "posted"), PAYOUTS)
def test_it_is_drained_again_when_its_payout_has_ended(words: list[str], posted: int) -> None:
    world = _with_money()
    payout = pay_out(world)
    for word in words:
        said = bank(world, word, payout)
    assert types(said)[-1] == "account.drained"
    assert (said[-1][1]["posted_minor"], said[-1][1]["case_id"]) == (posted, CASE)
    assert types(said).count("account.drained") == 1
    finished = tell(world, "finish")
    assert types(finished) == (["account.closed"] if posted == 0 else [REFUSED])


@pytest.mark.parametrize("ends", ["cancelled", "expired", "failed", "sent"])
def test_a_held_payout_of_its_own_is_not_cancelled_and_keeps_it_from_being_drained(ends: str) -> None:
    world = _with_money()
    closed_for = window(functions=("closure_payout",))
    world.windows = [closed_for]
    payout = pay_out(world, expires_at=(MORNING + HOUR / 2).isoformat() if ends == "expired" else None)
    if ends == "cancelled":
        said = world.tell(message("transfer.cancel", {"transfer_id": payout}))
    else:
        if ends == "failed":
            world.tell(message("account.restrict", {"account_id": "wallet:a", "scope": "debit", "reason": "x"}))
        said = world.pass_time(HOUR)
    if ends == "sent":
        assert types(said) == ["transfer.sent", "payout.instructed"]
    else:
        assert types(said) == [f"transfer.{ends}", "account.drained"]


def test_an_atomic_batch_that_fails_drains_nothing() -> None:
    world = _with_money()
    items = [request(case_id=CASE), request(case_id=CASE, payee="wallet:nobody")]
    said = world.tell(message("transfer.batch", {"batch_id": new_id(), "atomic": True, "items": items}))
    assert types(said) == ["transfer.failed"] * 2


def test_what_an_atomic_batch_took_back_does_not_wait() -> None:
    world = funded()
    items = [request(execute_at=(MORNING + HOUR).isoformat()), request(payee="wallet:nobody")]
    said = world.tell(
        message("transfer.batch", {"batch_id": new_id(), "atomic": True, "items": items}),
        message("account.close", {"account_id": "wallet:a", "case_id": CASE}),
    )
    assert types(said) == ["transfer.failed"] * 2 + ["account.closing", "account.drained"]


def test_one_batch_may_hold_a_whole_closing() -> None:
    world = World()
    account = {"account_id": "wallet:c", "customer_id": "c", "currency": "CNY"}
    named = {"account_id": "wallet:c", "case_id": CASE}
    said = world.tell(
        message("account.open", account),
        message("account.close", named),
        message("account.finish", named),
        message("account.reopen", named),
    )
    assert types(said) == ["account.opened", "account.closing", "account.closed", "account.reopened"]
    assert [body["version"] for _, body in said] == [1, 2, 3, 4]


def test_a_low_balance_of_a_closing_wallet_is_no_news() -> None:
    world = World()
    world.open("a", "b", low_balance_threshold_minor=500)
    world.fund("a", 1_000)
    tell(world, "close")
    said = ask(world, "withdrawal", payee="bank:X1:9", amount_minor=1_000, case_id=CASE)
    assert types(said) == ["transfer.sent", "payout.instructed"]


# --- What comes back after all ---


def _settled_payout(world: World) -> Said:
    payout = pay_out(world)
    bank(world, "settled", payout)
    tell(world, "finish")
    return bank(world, "returned", payout)


def _refund_by_another(world: World) -> Said:
    paid = request(amount_minor=1_000_000, case_id=CASE)
    world.tell(message("transfer.request", paid))
    tell(world, "finish")
    parts = [
        {"refund_id": new_id(), "transfer_id": paid["transfer_id"], "reason": "x", "amount_minor": amount}
        for amount in (400_000, 600_000)
    ]
    return [event for part in parts for event in world.tell(message("transfer.refund", part))]


@pytest.mark.parametrize(("come_back", "times"), [(_settled_payout, 1), (_refund_by_another, 2)])
def test_what_comes_back_to_a_closed_wallet_is_unclaimed(come_back: Callable[[World], Said], times: int) -> None:
    world = _with_money()
    said = come_back(world)
    assert types(said) == ["transfer.refunded", "transfer.discrepancy"] * times
    assert {(body["expected"], body["found"]) for _, body in said[1::2]} == {("refunded", "unclaimed")}
    account = world.facts.accounts["wallet:a"]
    assert (account.status, account.posted_minor, account.reserved_minor) == ("closed", 0, 0)
    ledger = world.ledger
    assert ledger is not None
    assert {movement.credit_account for movement in ledger.movements} == {"platform:unclaimed"}


def test_a_fee_that_a_bank_returns_is_unclaimed_too() -> None:
    world = funded()
    world.rules = with_policy(fees=[{"kind": "withdrawal", "fixed_minor": 5}])
    asked = request("withdrawal", payee="bank:X1:9", amount_minor=999_995)
    world.tell(message("transfer.request", asked))
    bank(world, "settled", asked["transfer_id"])
    tell(world, "close")
    tell(world, "finish")
    bank(world, "returned", asked["transfer_id"])
    assert world.ledger is not None
    moved = [(one.debit_account, one.credit_account, one.amount_minor) for one in world.ledger.movements]
    assert moved == [("bank:X1", "platform:unclaimed", 999_995), ("platform:fees", "platform:unclaimed", 5)]


@pytest.mark.parametrize("word", ["settled", "failed", "unknown"])
def test_what_a_bank_says_too_late_of_a_closed_wallet_moves_nothing(word: str) -> None:
    world = _with_money()
    failed = pay_out(world)
    bank(world, "failed", failed)
    paid = pay_out(world)
    bank(world, "settled", paid)
    tell(world, "finish")
    for payout in (failed, paid):
        bank(world, word, payout)
        assert world.ledger is not None
        assert world.ledger.movements == []


def test_what_is_unclaimed_already_is_not_refunded() -> None:
    world = _with_money()
    left = request("fee", payee="platform:unclaimed", amount_minor=1_000_000, case_id=CASE)
    world.tell(message("transfer.request", left))
    tell(world, "finish")
    refund = {"refund_id": new_id(), "transfer_id": left["transfer_id"], "reason": "x"}
    assert refused(world.tell(message("transfer.refund", refund))) == (REFUSED, "account_closed")


def test_a_reopened_wallet_takes_what_comes_back() -> None:
    world = _with_money()
    payout = pay_out(world)
    bank(world, "settled", payout)
    tell(world, "finish")
    tell(world, "reopen")
    assert types(bank(world, "returned", payout)) == ["transfer.refunded"]
    assert world.available("a") == 1_000_000


# --- Reports ---


def report(world: World, subjects: Any, report_id: str = OTHER, id_: str | None = None) -> Said:
    return world.tell(message("accounts.report", {"report_id": report_id, "subjects": subjects}, id_=id_, key="r"))


def test_a_report_of_some_tells_of_each_once_and_refuses_who_is_unknown() -> None:
    world = funded()
    said = report(world, ["wallet:a", "wallet:x", "wallet:b", "wallet:a", "wallet:y"])
    assert types(said) == ["account.reported", REFUSED, "account.reported", REFUSED, "accounts.report_finished"]
    assert [body.get("account_id") for _, body in said[:-1]] == ["wallet:a", "wallet:x", "wallet:b", "wallet:y"]
    assert {body["reason"]["code"] for type_, body in said if type_ == REFUSED} == {"account_unknown"}
    assert (said[-1][1]["count"], said[-1][1]["total_minor"]) == (2, {"CNY": 1_000_000})
    ids = [dict(one.headers)["ce_id"] for one in world.published[-5:]]
    assert len(set(ids)) == len(ids)
    assert world.published[-5].key == b"wallet:a"
    # Again it is answered with its end, byte for byte; under its id nothing else is reported.
    finished = world.published[-1].value
    assert types(report(world, ["wallet:a", "wallet:x", "wallet:b", "wallet:a", "wallet:y"])) == [
        "accounts.report_finished"
    ]
    assert world.published[-1].value == finished
    assert refused(report(world, ["wallet:a"])) == (REFUSED, "duplicate_id_conflict")


def test_a_report_of_all_goes_on_slice_by_slice_and_others_have_their_turn() -> None:
    world = funded()
    world.open("c", "d", "e", currency="USD")
    assert report(world, "all") == []
    # Asked again before it is finished, it is not begun again.
    assert report(world, "all") == []
    said = world.pass_time(timedelta(0))
    reported = [body["account_id"] for type_, body in said if type_ == "account.reported"]
    assert reported == [f"wallet:{name}" for name in "abcde"]
    assert (types(said)[-1], said[-1][1]["count"]) == ("accounts.report_finished", 5)
    assert said[-1][1]["total_minor"] == {"CNY": 1_000_000, "USD": 0}
    assert types(report(world, "all")) == ["accounts.report_finished"]
    assert refused(report(world, ["wallet:a"])) == (REFUSED, "duplicate_id_conflict")
    assert world.facts.reports == {}
