"""The rules of the transfer service, as tables: facts and message, the expected answer last."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from schemas.reasons import REASONS
from services.transfer.model import ClosedWindow
from tests.transfer.bench_of_facts import RULES, World, funded, message, new_id, request, with_policy

if TYPE_CHECKING:
    from collections.abc import Callable

NOT_OURS_YET = {"regulatory"}


# --- What refuses: every path has one reason ---


def _ask(world: World, **fields: Any) -> list[tuple[str, dict[str, Any]]]:
    return world.tell(message("transfer.request", request(**fields)))


def _closed(world: World) -> list[tuple[str, dict[str, Any]]]:
    hour = timedelta(hours=1)
    window = ClosedWindow(UUID(int=1), ("transfer",), (), (), world.now, world.now + hour, False, False, [])
    world.windows = [window]
    return _ask(world)


def _restricted(world: World) -> list[tuple[str, dict[str, Any]]]:
    world.tell(message("account.restrict", {"account_id": "wallet:a", "scope": "all", "reason": "lost"}))
    return _ask(world)


def _flagged(world: World) -> list[tuple[str, dict[str, Any]]]:
    world.facts.flags["a"] = world.now + timedelta(hours=1)
    return _ask(world)


def _mismatched(world: World) -> list[tuple[str, dict[str, Any]]]:
    world.facts.holders["b"] = world.rules.hash_name("欧阳 娜娜")
    assert _ask(world, payee_name="欧阳·娜娜")[0][0] == "transfer.settled"
    return _ask(world, payee_name="欧阳修")


def _limited(**limits: int) -> Callable[[World], list[tuple[str, dict[str, Any]]]]:
    def ask(world: World) -> list[tuple[str, dict[str, Any]]]:
        world.rules = with_policy(limits=limits)
        _ask(world, amount_minor=60)
        return _ask(world, amount_minor=60)

    return ask


def _fails_verification(world: World) -> list[tuple[str, dict[str, Any]]]:
    world.fund("a", 5_000_000)
    asked = request(amount_minor=2_000_000)
    world.tell(message("transfer.request", asked))
    said = []
    for _ in range(3):
        verify = {"transfer_id": asked["transfer_id"], "method": "face", "outcome": "failed"}
        said = world.tell(message("transfer.verify", verify))
    # And while it cools down, the next is refused at once.
    assert _ask(world, amount_minor=2_000_000)[0][1]["reason"]["code"] == "verification_failed"
    return said


def _late_verification(world: World) -> list[tuple[str, dict[str, Any]]]:
    world.fund("a", 5_000_000)
    _ask(world, amount_minor=2_000_000)
    return world.pass_time(timedelta(minutes=6))


def _bank_says(*answers: tuple[str, dict[str, Any]]) -> Callable[[World], list[tuple[str, dict[str, Any]]]]:
    def ask(world: World) -> list[tuple[str, dict[str, Any]]]:
        asked = request("withdrawal", payee="bank:X1:9")
        world.tell(message("transfer.request", asked))
        said = []
        for type_, data in answers:
            said = world.tell(message(type_, {"transfer_id": asked["transfer_id"], **data}))
        return said

    return ask


def _conflict(world: World) -> list[tuple[str, dict[str, Any]]]:
    asked = request()
    world.tell(message("transfer.request", asked))
    return world.tell(message("transfer.request", {**asked, "amount_minor": 101}))


def _refund_with_a_payouts_id(world: World) -> list[tuple[str, dict[str, Any]]]:
    payout = request("withdrawal", payee="bank:X1:9")
    paid = request()
    world.tell(message("transfer.request", payout), message("transfer.request", paid))
    refund = {"refund_id": payout["transfer_id"], "transfer_id": paid["transfer_id"], "reason": "x"}
    said = world.tell(message("transfer.refund", refund))
    # And the payout still hears its bank.
    answered = world.tell(message("payout.failed", {"transfer_id": payout["transfer_id"], "rail_code": "MS03"}))
    assert [type_ for type_, _ in answered] == ["transfer.refunded"]
    return said


def _erased_before_it_is_due(world: World) -> list[tuple[str, dict[str, Any]]]:
    world.facts.holders["b"] = world.rules.hash_name("Li Na")
    asked = request(execute_at="2026-09-28T03:00:00Z", payee_name="Li Na")
    world.tell(message("transfer.request", asked))
    world.facts.payee_names.clear()
    world.facts.forgotten_names.add(UUID(asked["transfer_id"]))
    return world.pass_time(timedelta(hours=3))


def _verified_while_cooling(world: World) -> list[tuple[str, dict[str, Any]]]:
    world.fund("a", 9_000_000)
    asked = [request(amount_minor=2_000_000) for _ in range(2)]
    world.tell(*(message("transfer.request", one) for one in asked))
    verify = {"method": "face", "outcome": "failed", "transfer_id": asked[0]["transfer_id"]}
    for _ in range(3):
        world.tell(message("transfer.verify", verify))
    return world.tell(message("transfer.verify", {**verify, **_name(asked[1]), "outcome": "passed"}))


def _name(asked: dict[str, Any]) -> dict[str, Any]:
    return {"transfer_id": asked["transfer_id"]}


def _late_cancel(world: World) -> list[tuple[str, dict[str, Any]]]:
    asked = request()
    world.tell(message("transfer.request", asked))
    return world.tell(message("transfer.cancel", {"transfer_id": asked["transfer_id"]}))


def _too_large_refund(world: World) -> list[tuple[str, dict[str, Any]]]:
    asked = request()
    world.tell(message("transfer.request", asked))
    refund = {"refund_id": new_id(), "transfer_id": asked["transfer_id"], "reason": "x", "amount_minor": 101}
    return world.tell(message("transfer.refund", refund))


def _rejected_batch(world: World) -> list[tuple[str, dict[str, Any]]]:
    items = [request(), request(payee="wallet:nobody")]
    return world.tell(message("transfer.batch", {"batch_id": new_id(), "atomic": True, "items": items}))


def _asked_of_one_that_closes(*, is_finished: bool) -> Callable[[World], list[tuple[str, dict[str, Any]]]]:
    def ask(world: World) -> list[tuple[str, dict[str, Any]]]:
        of_the_case = {"account_id": "wallet:b", "case_id": new_id()}
        world.tell(message("account.close", of_the_case))
        if is_finished:
            world.tell(message("account.finish", of_the_case))
        return _ask(world)

    return ask


def _command(type_: str, **data: Any) -> Callable[[World], list[tuple[str, dict[str, Any]]]]:
    return lambda world: world.tell(message(type_, data))


REFUSALS: list[tuple[str, Callable[[World], list[tuple[str, dict[str, Any]]]], str]] = [
    # reason, what is asked for, the type of the answer
    ("same_account", lambda w: _ask(w, payee="wallet:a"), "transfer.failed"),
    ("amount_invalid", lambda w: _ask(w, amount_minor=0), "transfer.failed"),
    ("amount_invalid", lambda w: _ask(w, amount_minor=-1), "transfer.failed"),
    ("amount_invalid", lambda w: _ask(w, amount_minor=2**62), "transfer.failed"),
    ("payer_unknown", lambda w: _ask(w, payer="wallet:nobody"), "transfer.failed"),
    ("payer_unknown", lambda w: _ask(w, payer="platform:fees"), "transfer.failed"),
    ("payee_unknown", lambda w: _ask(w, payee="wallet:nobody"), "transfer.failed"),
    ("payee_unknown", lambda w: _ask(w, payee="bank:X1:1"), "transfer.failed"),
    ("payee_unknown", lambda w: _ask(w, kind="top_up", payer="bank:X1:1", payee="wallet:nobody"), "transfer.failed"),
    ("currency_mismatch", lambda w: _ask(w, currency="USD"), "transfer.failed"),
    ("account_restricted", _restricted, "transfer.failed"),
    ("risk_restricted", _flagged, "transfer.failed"),
    ("maintenance", _closed, "transfer.failed"),
    ("account_closing", _asked_of_one_that_closes(is_finished=False), "transfer.failed"),
    ("account_closed", _asked_of_one_that_closes(is_finished=True), "transfer.failed"),
    ("payee_name_unverified", lambda w: _ask(w, payee_name="某人"), "transfer.failed"),
    ("payee_name_mismatch", _mismatched, "transfer.failed"),
    ("limit_single", _limited(single_minor=50), "transfer.failed"),
    ("limit_daily_amount", _limited(daily_minor=100), "transfer.failed"),
    ("limit_daily_count", _limited(daily_count=1), "transfer.failed"),
    ("limit_monthly_amount", _limited(monthly_minor=100), "transfer.failed"),
    ("insufficient_balance", lambda w: _ask(w, amount_minor=1_000_001), "transfer.failed"),
    (
        "insufficient_balance",
        lambda w: _ask(w, kind="withdrawal", payee="bank:X1:1", amount_minor=1_000_000),
        "transfer.failed",
    ),
    ("verification_failed", _fails_verification, "transfer.failed"),
    ("verification_expired", _late_verification, "transfer.failed"),
    ("expired", lambda w: _ask(w, expires_at="2026-09-28T00:00:00Z"), "transfer.expired"),
    ("amount_invalid", lambda w: _ask(w, amount_minor=0, expires_at="2026-09-28T00:00:00Z"), "transfer.failed"),
    ("rail_rejected", _bank_says(("payout.failed", {"rail_code": "MS03"})), "transfer.refunded"),
    ("payee_unknown", _bank_says(("payout.failed", {"rail_code": "AC01"})), "transfer.refunded"),
    ("rail_returned", _bank_says(("payout.returned", {})), "transfer.refunded"),
    ("rail_returned", _bank_says(("payout.settled", {}), ("payout.returned", {})), "transfer.refunded"),
    ("rail_timeout", _bank_says(("payout.unknown", {}), ("payout.unknown", {})), "transfer.refunded"),
    ("payee_name_unverified", _erased_before_it_is_due, "transfer.failed"),
    ("verification_failed", _verified_while_cooling, "transfer.failed"),
    ("duplicate_id_conflict", _conflict, "transfer.command_refused"),
    ("duplicate_id_conflict", _refund_with_a_payouts_id, "transfer.command_refused"),
    ("transfer_unknown", _command("transfer.cancel", transfer_id=new_id()), "transfer.command_refused"),
    ("transfer_unknown", _command("payout.settled", transfer_id=new_id()), "transfer.command_refused"),
    ("state_conflict", _late_cancel, "transfer.command_refused"),
    ("refund_exceeds", _too_large_refund, "transfer.command_refused"),
    ("batch_rejected", _rejected_batch, "transfer.failed"),
    (
        "amount_invalid",
        _command(
            "account.open", account_id="wallet:c", customer_id="c", currency="CNY", overdraft_limit_minor=2**63 - 1
        ),
        "transfer.command_refused",
    ),
    (
        "account_exists",
        _command("account.open", account_id="wallet:a", customer_id="other", currency="CNY"),
        "transfer.command_refused",
    ),
    (
        "account_unknown",
        _command("account.configure", account_id="wallet:x", tier="standard"),
        "transfer.command_refused",
    ),
    ("tier_unknown", _command("account.configure", account_id="wallet:a", tier="gold"), "transfer.command_refused"),
]


@pytest.mark.parametrize(("code", "ask", "answer"), REFUSALS)
def test_what_is_refused_moves_nothing_and_says_why(
    code: str, ask: Callable[[World], list[tuple[str, dict[str, Any]]]], answer: str
) -> None:
    world = funded()
    type_, body = next(said for said in ask(world) if "reason" in said[1])
    assert (type_, body["reason"]["code"]) == (answer, code)
    assert body["reason"].get("iso20022") == REASONS[code].iso20022
    held = sum(account.posted_minor for account in world.facts.accounts.values())
    brought_in = sum(1_000_000 if account == "wallet:a" else 0 for account in world.facts.accounts)
    assert held in {brought_in, brought_in + 5_000_000, brought_in + 9_000_000}
    assert world.facts.accounts["wallet:a"].reserved_minor == 0


def test_every_reason_of_the_table_that_this_service_can_give_has_a_row() -> None:
    assert {code for code, _, _ in REFUSALS} | NOT_OURS_YET == set(REASONS)


# --- What is done ---


def test_a_repeat_is_answered_with_the_same_bytes_and_moves_nothing() -> None:
    world = funded()
    asked = message("transfer.request", request())
    world.tell(asked)
    first = world.published[-1]
    world.tell(asked)
    assert world.published[-1] == first
    assert world.available("b") == 100


def test_a_refused_id_stays_refused() -> None:
    world = funded()
    asked = message("transfer.request", request(amount_minor=2_000_001))
    assert world.tell(asked)[0][0] == "transfer.failed"
    world.fund("a", 9_000_000)
    assert world.tell(asked)[0][0] == "transfer.failed"


def test_the_fee_is_part_of_the_check_and_of_the_refund() -> None:
    world = funded()
    asked = request("withdrawal", payee="bank:X1:9", amount_minor=500_000)
    ((type_, body),) = world.tell(message("transfer.request", asked))[:1]
    assert (type_, body["fee_minor"], body["payer_available_minor"]) == ("transfer.sent", 500, 499_500)
    world.tell(message("payout.failed", {"transfer_id": asked["transfer_id"], "rail_code": "MS03"}))
    assert world.available("a") == 1_000_000
    assert world.facts.accounts["wallet:a"].used_day_minor == 0


def test_a_contradiction_moves_nothing_and_is_said_once() -> None:
    world = funded()
    asked = request("withdrawal", payee="bank:X1:9")
    world.tell(message("transfer.request", asked))
    name = {"transfer_id": asked["transfer_id"]}
    world.tell(message("payout.failed", {**name, "rail_code": "MS03"}))
    said = world.tell(message("payout.settled", name), message("payout.settled", name))
    assert [type_ for type_, _ in said] == ["transfer.discrepancy"]
    assert (said[0][1]["expected"], said[0][1]["found"]) == ("refunded", "settled")
    assert world.available("a") == 1_000_000


def test_silence_is_a_delay_an_inquiry_and_a_date_over_the_holidays() -> None:
    world = funded()
    world.pass_time(timedelta(days=2))
    world.tell(message("transfer.request", request("withdrawal", payee="bank:X1:9")))
    said = dict(world.pass_time(timedelta(minutes=3)))
    # 30 September is the last business day; 1 to 7 October are holidays, Saturday the 10th is worked.
    assert said["transfer.delayed"]["refund_due_on"] == "2026-10-10"
    assert "payout.inquired" in said
    assert "transfer.refund_overdue" not in dict(world.pass_time(timedelta(days=10)))
    assert "transfer.refund_overdue" in dict(world.pass_time(timedelta(days=1)))


def test_a_bank_that_knows_nothing_yet_does_not_postpone_the_delay() -> None:
    world = funded()
    asked = request("withdrawal", payee="bank:X1:9")
    world.tell(message("transfer.request", asked))
    world.pass_time(timedelta(minutes=1))
    said = world.tell(message("payout.unknown", {"transfer_id": asked["transfer_id"]}))
    assert [type_ for type_, _ in said] == ["payout.inquired"]
    assert [type_ for type_, _ in world.pass_time(timedelta(minutes=2))] == ["transfer.delayed", "payout.inquired"]
    assert [type_ for type_, _ in world.pass_time(timedelta(hours=1, minutes=1))] == ["payout.inquired"]


def test_money_that_cannot_be_booked_goes_to_suspense_and_back() -> None:
    world = funded()
    asked = request("top_up", payer="bank:X1:7", payee="wallet:nobody")
    said = world.tell(message("transfer.request", asked))
    assert [type_ for type_, _ in said] == ["transfer.failed", "payout.instructed"]
    assert (said[1][1]["return_of"], said[1][1]["payee"]) == (asked["transfer_id"], "bank:X1:7")
    said = world.tell(message("payout.settled", {"transfer_id": said[1][1]["transfer_id"]}))
    assert [type_ for type_, _ in said] == ["transfer.refunded"]


def test_nobody_foresees_the_id_of_a_return_but_it_is_always_the_same() -> None:
    asked = request("top_up", payer="bank:X1:7", payee="wallet:nobody")
    ids = {funded().tell(message("transfer.request", asked))[1][1]["transfer_id"] for _ in range(2)}
    assert len(ids) == 1
    other_key = World(rules=replace(RULES, name_key=b"o" * 32))
    assert other_key.tell(message("transfer.request", asked))[1][1]["transfer_id"] not in ids


@pytest.mark.parametrize("is_one_batch", [True, False])
@pytest.mark.parametrize("kind", ["p2p", "top_up"])
def test_a_return_keeps_its_id_to_itself(kind: str, is_one_batch: bool) -> None:  # noqa: FBT001 - both ways
    world = funded()
    payer = "wallet:a" if kind == "p2p" else "bank:X1:7"
    paid = request(kind, payer=payer)
    world.tell(message("transfer.request", paid))
    top_up = request("top_up", payer="bank:X1:7", payee="wallet:nobody")
    return_id = str(RULES.return_id(UUID(top_up["transfer_id"])))
    told = [
        message("transfer.request", top_up),
        message("transfer.refund", {"refund_id": return_id, **_name(paid), "reason": "x"}),
        message("transfer.request", request("withdrawal", transfer_id=return_id, payee="bank:X1:9")),
    ]
    said = world.tell(*told) if is_one_batch else [event for one in told for event in world.tell(one)]
    assert [type_ for type_, _ in said] == ["transfer.failed", "payout.instructed"] + ["transfer.command_refused"] * 2
    assert {body["reason"]["code"] for _, body in said[2:]} == {"duplicate_id_conflict"}
    assert dict(world.tell(message("payout.settled", {"transfer_id": return_id}))).keys() == {"transfer.refunded"}


def test_a_refund_with_the_id_of_a_transfer_that_waits_does_not_keep_it_waiting() -> None:
    world = funded()
    top_up = request("top_up", payer="bank:X1:7", payee="wallet:a")
    scheduled = request(execute_at="2026-09-28T03:00:00Z")
    refund = {"refund_id": scheduled["transfer_id"], **_name(top_up), "reason": "x"}
    world.tell(*(message("transfer.request", asked) for asked in (top_up, scheduled)))
    world.tell(message("transfer.refund", refund))
    assert "transfer.settled" in dict(world.pass_time(timedelta(hours=3)))


def test_a_top_up_is_refunded_through_its_bank() -> None:
    world = funded()
    top_up = request("top_up", payer="bank:X1:7", payee="wallet:b", amount_minor=700)
    world.tell(message("transfer.request", top_up))
    refund = {"refund_id": new_id(), "transfer_id": top_up["transfer_id"], "reason": "x"}
    said = world.tell(message("transfer.refund", refund))
    assert [type_ for type_, _ in said] == ["transfer.refund_started", "payout.instructed"]
    assert (world.available("b"), said[0][1]["status"]) == (0, "refunding")
    said = world.tell(message("payout.settled", {"transfer_id": refund["refund_id"]}))
    assert [(type_, body["status"]) for type_, body in said] == [("transfer.refunded", "refunded")]


def test_refunds_in_parts_never_exceed_what_was_paid() -> None:
    world = funded()
    asked = request(amount_minor=100)
    world.tell(message("transfer.request", asked))
    said = []
    for amount in (30, 30, 50, 40, 1):
        refund = {"refund_id": new_id(), "transfer_id": asked["transfer_id"], "reason": "x", "amount_minor": amount}
        said += world.tell(message("transfer.refund", refund))
    assert [(type_, body.get("status")) for type_, body in said] == [
        ("transfer.refunded", "settled"),
        ("transfer.refunded", "settled"),
        ("transfer.command_refused", None),
        ("transfer.refunded", "refunded"),
        ("transfer.command_refused", None),
    ]
    assert (world.available("a"), world.available("b")) == (1_000_000, 0)
    account = world.facts.accounts["wallet:a"]
    assert (account.used_day_minor, account.used_day_count, account.used_month_minor) == (0, 0, 0)


def test_a_scheduled_transfer_is_checked_again_when_it_is_due() -> None:
    world = funded()
    asked = request(execute_at="2026-09-28T03:00:00Z", amount_minor=900_000)
    assert world.tell(message("transfer.request", asked))[0][0] == "transfer.scheduled"
    world.tell(message("transfer.request", request(amount_minor=500_000)))
    ((type_, body),) = world.pass_time(timedelta(hours=3))
    assert (type_, body["reason"]["code"]) == ("transfer.failed", "insufficient_balance")


def test_a_low_balance_is_said_once_a_crossing() -> None:
    world = World()
    world.open("a", "b", low_balance_threshold_minor=500)
    world.fund("a", 1_000)
    warnings = [[type_ for type_, _ in _ask(world, amount_minor=200)].count("account.low_balance") for _ in range(4)]
    world.fund("a", 1_000)
    warnings.append([type_ for type_, _ in _ask(world, amount_minor=800)].count("account.low_balance"))
    assert warnings == [0, 0, 1, 0, 1]


def test_an_atomic_batch_starts_all_or_none() -> None:
    world = funded()
    items = [request(amount_minor=600_000), request(amount_minor=600_000)]
    said = world.tell(message("transfer.batch", {"batch_id": new_id(), "atomic": True, "items": items}))
    codes = [body["reason"]["code"] for _, body in said]
    assert codes == ["batch_rejected", "insufficient_balance"]
    assert world.available("a") == 1_000_000
    items = [request(amount_minor=600_000), request(amount_minor=600_000)]
    said = world.tell(message("transfer.batch", {"batch_id": new_id(), "atomic": False, "items": items}))
    assert [type_ for type_, _ in said] == ["transfer.settled", "transfer.failed"]


def test_a_restriction_ends_by_itself() -> None:
    world = funded()
    until = {"scope": "debit", "reason": "x", "until": "2026-09-28T02:00:00Z", "account_id": "wallet:a"}
    world.tell(message("account.restrict", until))
    assert [type_ for type_, _ in world.pass_time(timedelta(hours=2))] == ["account.released"]
    assert _ask(world)[0][0] == "transfer.settled"


def test_limits_are_given_back_only_while_they_count() -> None:
    world = funded()
    asked = request()
    world.tell(message("transfer.request", asked))
    world.pass_time(timedelta(days=1))
    world.tell(message("transfer.request", request()))
    refund = {"refund_id": new_id(), "transfer_id": asked["transfer_id"], "reason": "x"}
    world.tell(message("transfer.refund", refund))
    account = world.facts.accounts["wallet:a"]
    assert (account.used_day_minor, account.used_day_count, account.used_month_minor) == (100, 1, 100)


def test_a_quote_says_what_would_happen_and_changes_nothing() -> None:
    world = funded()
    order = request("withdrawal", payee="bank:X1:9", amount_minor=500_000)
    quote = {**order, "quote_id": new_id()}
    ((type_, body),) = world.tell(message("transfer.quote", quote))
    assert (type_, body["would"], body["fee_minor"], body["spendable_minor"]) == (
        "transfer.quoted",
        "settle",
        500,
        1_000_000,
    )
    assert world.available("a") == 1_000_000


MIS_KEYED: list[tuple[str, dict[str, Any], str, int]] = [
    # what is sent, its key, whether it counts as mis-keyed
    ("transfer.request", request(), "wallet:a", 0),
    ("transfer.request", request(), "wallet:b", 1),
    ("transfer.request", request("top_up", payer="bank:X1:1", payee="wallet:b"), "wallet:b", 0),
    ("transfer.quote", {**request(), "quote_id": new_id()}, "wallet:b", 1),
    ("transfer.batch", {"batch_id": new_id(), "atomic": False, "items": [request()]}, "wallet:b", 1),
    ("account.configure", {"account_id": "wallet:a", "tier": "unlimited"}, "a", 1),
    ("transfer.cancel", {"transfer_id": new_id()}, "anything", 0),
    ("payout.settled", {"transfer_id": "00000000-0000-4000-8000-000000000001"}, "wallet:b", 1),
    ("payout.settled", {"transfer_id": "00000000-0000-4000-8000-000000000001"}, "wallet:a", 0),
]


@pytest.mark.parametrize(("type_", "data", "key", "counted"), MIS_KEYED)
def test_a_key_that_is_not_the_wallet_is_counted_and_no_obstacle(
    type_: str, data: dict[str, Any], key: str, counted: int
) -> None:
    world = funded()
    known = "00000000-0000-4000-8000-000000000001"
    world.tell(message("transfer.request", {**request("withdrawal", payee="bank:X1:9"), "transfer_id": known}))
    said = world.tell(message(type_, data, key=key))
    assert world.ledger is not None
    assert sum(world.ledger.mis_keyed.values()) == counted
    assert said


def test_a_refused_command_names_the_account_that_it_is_about() -> None:
    ((_, body),) = funded().tell(message("account.configure", {"account_id": "wallet:x", "tier": "standard"}))
    assert body["account_id"] == "wallet:x"


def test_the_same_word_of_a_bank_twice_is_one_word() -> None:
    world = funded()
    asked = request("withdrawal", payee="bank:X1:9")
    world.tell(message("transfer.request", asked))
    unknown, settled = (message(type_, _name(asked)) for type_ in ("payout.unknown", "payout.settled"))
    assert [type_ for type_, _ in world.tell(unknown, unknown)] == ["payout.inquired"]
    assert [type_ for type_, _ in world.tell(unknown)] == []
    assert [type_ for type_, _ in world.tell(settled)] == ["transfer.settled"]
    assert [type_ for type_, _ in world.tell(message("payout.returned", _name(asked)))] == ["transfer.refunded"]
    assert world.tell(settled) == []


def test_the_words_of_a_bank_about_two_payouts_are_two_whatever_their_ids() -> None:
    world = funded()
    asked = [request("withdrawal", payee="bank:X1:9") for _ in range(2)]
    world.tell(*(message("transfer.request", one) for one in asked))
    first, second = (message("payout.settled", _name(one), id_="same") for one in asked)
    assert [type_ for type_, _ in world.tell(first, second)] == ["transfer.settled"] * 2
    assert world.tell(first, second) == []


def test_a_command_under_the_id_of_another_is_refused() -> None:
    world = funded()
    world.fund("a", 5_000_000)
    asked = [request(amount_minor=2_000_000) for _ in range(2)]
    world.tell(*(message("transfer.request", one) for one in asked))
    proof = {"method": "face", "outcome": "failed"}
    first = message("transfer.verify", {**_name(asked[0]), **proof}, id_="same")
    said = world.tell(first)
    for other in (
        message("transfer.verify", {**_name(asked[0]), **proof, "outcome": "passed"}, id_="same"),
        message("transfer.verify", {**_name(asked[1]), **proof}, id_="same"),
        message("transfer.cancel", _name(asked[1]), id_="same"),
    ):
        ((type_, body),) = world.tell(other)
        assert (type_, body["reason"]["code"]) == ("transfer.command_refused", "duplicate_id_conflict")
        assert body["transfer_id"] == str(other.data.transfer_id)  # type: ignore[union-attr]
    assert world.tell(first) == said


def test_two_types_of_commands_that_say_the_same_are_not_the_same() -> None:
    world = funded()
    scope = {"account_id": "wallet:a", "scope": "all", "reason": "x"}
    assert [type_ for type_, _ in world.tell(message("account.restrict", scope, id_="same"))] == ["account.restricted"]
    ((type_, body),) = world.tell(message("account.release", scope, id_="same"))
    assert (type_, body["reason"]["code"]) == ("transfer.command_refused", "duplicate_id_conflict")


def test_each_refusal_of_a_batch_has_an_id_of_its_own_that_readers_accept() -> None:
    world = funded()
    items = [request(), request()]
    world.tell(*(message("transfer.request", item) for item in items))
    others = [{**item, "amount_minor": 7} for item in items]
    batch = {"batch_id": new_id(), "atomic": False, "items": others}
    world.tell(message("transfer.batch", batch, id_="i" * 256))
    ids = {dict(event.headers)["ce_id"] for event in world.published[-2:]}
    assert len(ids) == 2
    assert all(len(id_ or b"") <= 256 for id_ in ids)


def test_a_refusal_does_not_carry_a_key_that_no_broker_takes() -> None:
    world = funded()
    world.tell(message("transfer.cancel", {"transfer_id": new_id()}, key="k" * 1_000_000))
    assert world.published[-1].key is None


def test_a_day_that_another_lane_has_begun_is_not_ended_again() -> None:
    world = funded()
    early = world.now
    world.now = early + timedelta(days=1)
    withdrawal = request("withdrawal", payee="bank:X1:9")
    world.tell(message("transfer.request", withdrawal))
    world.now = early
    _ask(world)
    world.now = early + timedelta(days=1)
    world.tell(message("payout.failed", {**_name(withdrawal), "rail_code": "MS03"}))
    account = world.facts.accounts["wallet:a"]
    assert (account.used_day_minor, account.used_day_count, account.used_month_minor) == (100, 1, 100)


def test_a_scheduled_transfer_whose_payer_has_another_tier_by_then_asks_for_proof() -> None:
    world = World()
    world.open("a", "b", tier="unlimited")
    world.fund("a", 5_000_000)
    world.tell(message("transfer.request", request(execute_at="2026-09-28T03:00:00Z", amount_minor=3_000_000)))
    world.tell(message("account.configure", {"account_id": "wallet:a", "tier": "standard"}))
    assert [type_ for type_, _ in world.pass_time(timedelta(hours=2, seconds=1))] == ["transfer.verification_required"]


def test_asking_again_after_the_deadline_does_not_revive_a_transfer() -> None:
    world = funded()
    world.fund("a", 5_000_000)
    asked = request(amount_minor=2_000_000)
    world.tell(message("transfer.request", asked))
    # No worker ran when its time was over.
    world.now += timedelta(minutes=6)
    ((type_, body),) = world.tell(message("transfer.verification_resend", _name(asked)))
    assert (type_, body["reason"]["code"]) == ("transfer.failed", "verification_expired")


def test_money_that_its_bank_does_not_take_back_is_sent_on_by_a_person() -> None:
    world = funded()
    asked = request("top_up", payer="bank:X1:7", payee="wallet:nobody")
    said = world.tell(message("transfer.request", asked))
    returned = {"transfer_id": said[1][1]["transfer_id"]}
    assert [type_ for type_, _ in world.tell(message("payout.failed", {**returned, "rail_code": "AC04"}))] == [
        "transfer.discrepancy"
    ]
    resolve = {**returned, "outcome": "settled", "evidence": "paid out by hand", "by": "operator"}
    said = world.tell(message("transfer.resolve", resolve))
    assert [(type_, body["status"]) for type_, body in said] == [("transfer.refunded", "refunded")]


def test_a_refund_that_fails_is_answered_so_and_the_balance_is_watched_again() -> None:
    world = World()
    world.open("a", "b", low_balance_threshold_minor=50)
    top_up = request("top_up", payer="bank:X1:7", payee="wallet:a", amount_minor=100)
    world.tell(message("transfer.request", top_up))
    refund = message("transfer.refund", {**_name(top_up), "refund_id": new_id(), "reason": "x", "amount_minor": 80})
    assert "account.low_balance" in dict(world.tell(refund))
    world.tell(message("payout.failed", {"transfer_id": refund.data.refund_id.hex, "rail_code": "MS03"}))  # type: ignore[union-attr]
    assert [type_ for type_, _ in world.tell(refund)] == ["transfer.discrepancy"]
    assert "account.low_balance" in dict(_ask(world, amount_minor=80))


def test_a_quote_refuses_what_a_request_would_not_do() -> None:
    world = funded()
    quote = {**request(expires_at="2026-09-28T00:00:00Z"), "quote_id": new_id()}
    ((_, body),) = world.tell(message("transfer.quote", quote))
    assert (body["would"], body["reason"]["code"]) == ("refuse", "expired")
