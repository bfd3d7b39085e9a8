"""Every way that a case can go, each closing code and refusal made by exactly the path that it belongs to."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any, get_args

import pytest

from schemas.reasons import REMEDIES, ClosingCode, ClosureRefusalCode
from services.closure.model import BEFORE_DRAINING, TRANSITIONS, Status, payout_id
from services.runtime.message import identity_of
from tests.closure.desk import (
    APPLICANT,
    CUSTOMER,
    FEE,
    LOAN,
    PAYOUT,
    WALLET,
    Desk,
    id_number,
    message,
    read,
    reason,
    types,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from tests.closure.desk import Said

WEEK = timedelta(days=7)
LARGE, VERY_LARGE = 5_000_000, 50_000_000
BAD = {"code": "rail_rejected", "iso20022": "MS03", "retryable": True, "refund": "automatic"}
RETURNED = BAD | {"code": "rail_returned"}
OTHERS = {"payee": "bank:CCB:3", "payee_name": "Person Two"}
KEPT = {"what": "closing", "why": "contract_law", "days": 365}


# --- How a case comes to where it stands ---


def at_approved(desk: Desk, posted_minor: int = 1_000, payout: dict[str, str] | None = PAYOUT) -> UUID:
    """Bring a case to its approval: the wallet holds something, and the fee is accepted."""
    desk.join(posted_minor=posted_minor)
    case_id, _ = desk.apply(accepts_fee=True, payout=payout)
    desk.report(case_id, posted_minor)
    assert desk.status(case_id) == Status.APPROVED
    return case_id


def at_draining(desk: Desk, posted_minor: int = 1_000, payout: dict[str, str] | None = PAYOUT) -> UUID:
    case_id = at_approved(desk, posted_minor, payout)
    assert types(desk.say("confirm", case_id)) == ["closure.confirmed", "closure.draining", "account.close"]
    return case_id


def at_paying_out(desk: Desk, posted_minor: int = 1_000) -> UUID:
    case_id = at_draining(desk, posted_minor)
    desk.account("drained", case_id, posted_minor)
    assert desk.status(case_id) == Status.PAYING_OUT
    return case_id


def at_payout_stopped(desk: Desk) -> UUID:
    case_id = at_paying_out(desk)
    desk.transfer("refunded", case_id, desk.case(case_id).payout_id, 900, reason=BAD)
    desk.account("drained", case_id, 1_000)
    return case_id


def at_payout_review(desk: Desk) -> UUID:
    case_id = at_payout_stopped(desk)
    assert types(desk.say("payout_account", case_id, **OTHERS)) == ["closure.in_review"]
    return case_id


def at_finishing(desk: Desk) -> UUID:
    case_id = at_paying_out(desk)
    desk.transfer("settled", case_id, desk.case(case_id).payout_id, 900)
    desk.account("drained", case_id, FEE)
    desk.transfer("settled", case_id, desk.case(case_id).fee_id, FEE, kind="fee")
    assert types(desk.account("drained", case_id, 0)) == ["account.finish"]
    return case_id


def at_erasing(desk: Desk) -> UUID:
    case_id = at_finishing(desk)
    desk.account("closed", case_id)
    return case_id


def at_closed(desk: Desk) -> UUID:
    case_id = at_erasing(desk)
    desk.erased(case_id, "transfer")
    desk.erased(case_id, "maintenance")
    return case_id


def at_documents_required(desk: Desk) -> UUID:
    desk.join(name="Person Two")
    return desk.apply()[0]


def at_obligations(desk: Desk) -> UUID:
    desk.join()
    desk.owe(5)
    return desk.apply()[0]


def at_in_flight(desk: Desk) -> UUID:
    desk.join()
    return desk.apply()[0]


def at_review(desk: Desk, posted_minor: int = LARGE) -> UUID:
    desk.join(posted_minor=posted_minor)
    case_id, _ = desk.apply(accepts_fee=True, payout=PAYOUT)
    desk.report(case_id, posted_minor)
    return case_id


def at_reinstating(desk: Desk) -> UUID:
    case_id = at_draining(desk)
    desk.say("cancel", case_id)
    return case_id


def at_received(desk: Desk) -> UUID:
    return desk.apply()[0]


def at_rejected(desk: Desk) -> UUID:
    case_id = at_obligations(desk)
    desk.pass_time(timedelta(seconds=2))
    return case_id


def at_cancelled(desk: Desk) -> UUID:
    case_id = at_in_flight(desk)
    desk.say("cancel", case_id)
    return case_id


def at_expired(desk: Desk) -> UUID:
    case_id = at_approved(desk)
    desk.pass_time(WEEK)
    return case_id


AT: dict[Status, Callable[[Desk], UUID]] = {
    Status.RECEIVED: at_received,
    Status.DOCUMENTS_REQUIRED: at_documents_required,
    Status.OBLIGATIONS: at_obligations,
    Status.IN_FLIGHT: at_in_flight,
    Status.REVIEW: at_review,
    Status.APPROVED: at_approved,
    Status.DRAINING: at_draining,
    Status.PAYING_OUT: at_paying_out,
    Status.PAYOUT_STOPPED: at_payout_stopped,
    Status.PAYOUT_REVIEW: at_payout_review,
    Status.FINISHING: at_finishing,
    Status.ERASING: at_erasing,
    Status.REINSTATING: at_reinstating,
    Status.CLOSED: at_closed,
    Status.REJECTED: at_rejected,
    Status.CANCELLED: at_cancelled,
    Status.EXPIRED: at_expired,
}
PASSING = {Status.IDENTITY, Status.POLICY, Status.CONFIRMED}
"""No case is left standing in these: what follows is decided at once."""
OF_CLEARANCES = {Status.ACCOUNT_WANTED}


def test_each_status_is_come_to() -> None:
    assert set(Status) - PASSING - OF_CLEARANCES == set(AT)
    for status, bring in AT.items():
        desk = Desk()
        assert desk.status(bring(desk)) == status


# --- Closing codes ---


def mismatch(applicant: dict[str, str] | None = None, **profile: Any) -> list[Said]:
    desk = Desk()
    desk.join(**profile)
    return desk.apply(applicant=APPLICANT | (applicant or {}))[1]


def profile_missing() -> list[Said]:
    desk = Desk()
    desk.hear_of_wallet(0)
    return desk.apply()[1]


def balance_mismatch() -> list[Said]:
    desk = Desk()
    desk.join()
    case_id, _ = desk.apply(claimed_balance_minor=1)
    return desk.report(case_id, 2)


def obligation_open() -> list[Said]:
    desk = Desk()
    at_obligations(desk)
    return desk.pass_time(timedelta(seconds=2))


def fee_not_accepted() -> list[Said]:
    desk = Desk()
    case_id = at_in_flight(desk)
    return desk.report(case_id, 1_000)


def subject_unknown() -> list[Said]:
    desk = Desk()
    case_id, said = desk.apply()
    assert types(said) == ["accounts.report"]
    return desk.refuse("accounts.report", f"{case_id}.report.1", "account_unknown")


def case_open() -> list[Said]:
    desk = Desk()
    at_approved(desk)
    return desk.apply()[1]


def review_rejected() -> list[Said]:
    desk = Desk()
    case_id = at_review(desk)
    return desk.say("review", case_id, decision="reject", reviewer="Reviewer", note="No")


def documents_expired() -> list[Said]:
    desk = Desk()
    at_documents_required(desk)
    return desk.pass_time(WEEK)


CODES: dict[str, Callable[[], list[Said]]] = {
    "name_mismatch": lambda: mismatch(name="Person Two"),
    "id_number_invalid": lambda: mismatch({"id_number": id_number()[:-1]}),
    "id_number_mismatch": lambda: mismatch(id_number=id_number(1980)),
    "phone_mismatch": lambda: mismatch(phone="+8613800000002"),
    "phone_unverified": lambda: mismatch(phone_verified=False),
    "profile_missing": profile_missing,
    "balance_mismatch": balance_mismatch,
    "obligation_open": obligation_open,
    "fee_not_accepted": fee_not_accepted,
    "subject_unknown": subject_unknown,
    "case_open": case_open,
    "review_rejected": review_rejected,
    "documents_expired": documents_expired,
}
OF_COMING_BACK = {"cooling_period", "assessment_refused", "assessment_missing"}


def test_each_closing_code_has_its_path() -> None:
    assert set(get_args(ClosingCode)) - OF_COMING_BACK == set(CODES)


@pytest.mark.parametrize("code", CODES)
def test_a_path_says_its_code_alone_with_the_first_remedy(code: str) -> None:
    type_, body = CODES[code]()[-1]
    named = body["items"] if type_ == "closure.documents_required" else body["reasons"]
    assert [(one["code"], one["remedy"]) for one in named] == [(code, REMEDIES[code][0])]  # type: ignore[index]


# --- Refusals of commands ---


def case_unknown() -> list[Said]:
    return Desk().say("confirm", uuid.uuid4())


def payout_account_missing() -> list[Said]:
    desk = Desk()
    case_id = at_approved(desk, payout=None)
    return desk.say("confirm", case_id)


def payout_account_invalid() -> list[Said]:
    desk = Desk()
    case_id = at_approved(desk)
    return desk.say("payout_account", case_id, payee="wallet:2", payee_name="Person One")


def reviewer_must_differ() -> list[Said]:
    desk = Desk()
    case_id = at_review(desk, VERY_LARGE)
    assert approve(desk, case_id, "Reviewer One") == []
    return approve(desk, case_id, "Reviewer One")


def approve(desk: Desk, case_id: UUID, reviewer: str) -> list[Said]:
    return desk.say("review", case_id, decision="approve", reviewer=reviewer, note="Right")


def turn_down(desk: Desk, case_id: UUID, reviewer: str = "Reviewer") -> list[Said]:
    return desk.say("review", case_id, decision="reject", reviewer=reviewer, note="No")


def duplicate_id_conflict() -> list[Said]:
    desk = Desk()
    case_id = at_approved(desk)
    desk.say("confirm", case_id, "command-1")
    return desk.say("cancel", case_id, "command-1")


def state_conflict() -> list[Said]:
    desk = Desk()
    case_id = at_in_flight(desk)
    return desk.say("confirm", case_id)


REFUSALS: dict[str, Callable[[], list[Said]]] = {
    "case_unknown": case_unknown,
    "payout_account_missing": payout_account_missing,
    "payout_account_invalid": payout_account_invalid,
    "reviewer_must_differ": reviewer_must_differ,
    "duplicate_id_conflict": duplicate_id_conflict,
    "state_conflict": state_conflict,
}
OF_OTHERS = {"request_unknown", "clearance_unknown", "times_invalid"}
"""Refusals of what is about applications to come back, and of clearances."""


def test_each_refusal_has_its_path() -> None:
    assert set(get_args(ClosureRefusalCode)) - OF_OTHERS == set(REFUSALS)


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refused_command_says_why_and_nothing_else(code: str) -> None:
    said = REFUSALS[code]()
    assert types(said) == ["closure.command_refused"]
    assert reason(said)[1]["code"] == code


def test_a_repeat_is_answered_with_the_headers_of_the_first_answer() -> None:
    desk = Desk()
    case_id = at_in_flight(desk)
    first = message("closure.commands", "closure.confirm", {"case_id": str(case_id)}, id_="one")
    traced = first._replace(correlation_id="c-1", traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01")
    for command in (traced, first):
        desk.hear(command)
    answers = desk.published[-2:]
    assert answers[0].headers == answers[1].headers
    assert ("ce_correlationid", b"c-1") in answers[0].headers


def test_what_an_ended_case_is_asked_can_never_become_right() -> None:
    for bring, retryable in ((at_in_flight, True), (at_cancelled, False)):
        desk = Desk()
        case_id = bring(desk)
        assert reason(desk.say("confirm", case_id))[1]["retryable"] is retryable


@pytest.mark.parametrize(
    ("bring", "is_told"), [(at_approved, True), (at_expired, True), (at_draining, False), (at_closed, False)]
)
def test_who_confirms_in_vain_is_told_and_who_confirms_twice_is_not(
    bring: Callable[[Desk], UUID], *, is_told: bool
) -> None:
    desk = Desk()
    case_id = bring(desk)
    desk.now += WEEK
    ((_, refused),) = desk.say("confirm", case_id)
    assert ("customer_id" in refused) is is_told


def test_an_account_that_is_no_banks_is_refused_with_the_application_too() -> None:
    desk = Desk()
    desk.join()
    case_id, said = desk.apply(payout={"payee": "wallet:2", "payee_name": "Person Two"})
    assert reason(said) == ("closure.command_refused", reason(said)[1] | {"code": "payout_account_invalid"})
    assert case_id not in desk.memory.facts.cases


def test_another_content_under_a_cases_id_is_refused() -> None:
    desk = Desk()
    case_id = at_approved(desk)
    _, said = desk.apply(case_id=case_id)
    assert reason(said)[1]["code"] == "duplicate_id_conflict"
    assert desk.status(case_id) == Status.APPROVED


def test_the_same_again_is_answered_with_the_latest_event() -> None:
    desk = Desk()
    desk.join()
    case_id, first = desk.apply()
    assert types(first) == ["closure.received", "accounts.report"]
    assert desk.apply(case_id=case_id)[1] == first[:1]
    desk.report(case_id, 0)
    confirmed = desk.say("confirm", case_id, "command-1")
    again = desk.say("confirm", case_id, "command-1")
    assert again == confirmed[:1]


def test_a_closing_whose_wallet_is_another_cases_ends_also_where_it_was_called_off_meanwhile() -> None:
    desk = Desk()
    case_id = at_draining(desk)
    assert types(desk.say("cancel", case_id)) == ["account.reinstate"]
    assert desk.refuse("account.close", f"{case_id}.close", "account_closing") == []
    assert types(desk.refuse("account.reinstate", f"{case_id}.reinstate", "state_conflict")) == ["closure.cancelled"]


def test_a_refusal_of_somebody_elses_command_ends_no_closing() -> None:
    desk = Desk()
    case_id = at_draining(desk)
    assert desk.refuse("account.close", str(case_id), "account_closing") == []
    assert desk.status(case_id) == Status.DRAINING


def test_what_has_paid_something_out_is_not_called_off() -> None:
    desk = Desk()
    case_id = at_paying_out(desk)
    desk.transfer("settled", case_id, desk.case(case_id).payout_id, 900)
    # A refund came in after the payout; paying that out fails.
    desk.account("drained", case_id, FEE + 500)
    desk.transfer("refunded", case_id, desk.case(case_id).payout_id, 500, reason=BAD)
    assert desk.status(case_id) == Status.PAYOUT_STOPPED
    assert reason(desk.say("cancel", case_id))[1]["code"] == "state_conflict"


@pytest.mark.parametrize("spelling", ["reviewer ONE", "Ｒｅｖｉｅｗｅｒ One", "Reviewer-One "])
def test_another_spelling_of_a_reviewer_is_no_other_reviewer(spelling: str) -> None:
    desk = Desk()
    case_id = at_review(desk, VERY_LARGE)
    assert approve(desk, case_id, "Reviewer One") == []
    assert reason(approve(desk, case_id, spelling))[1]["code"] == "reviewer_must_differ"


def test_whoever_has_approved_a_case_may_still_reject_it() -> None:
    desk = Desk()
    case_id = at_review(desk, VERY_LARGE)
    approve(desk, case_id, "Reviewer One")
    assert reason(turn_down(desk, case_id, "Reviewer One"))[1]["code"] == "review_rejected"


@pytest.mark.parametrize("owner", [None, "customer-2"])
def test_a_loan_that_is_gone_or_somebody_elses_by_now_is_not_closed(owner: str | None) -> None:
    desk = Desk()
    desk.join(posted_minor=None)
    desk.owe(0)
    case_id, said = desk.apply(LOAN)
    assert types(said) == ["closure.received", "closure.approved"]
    if owner is None:
        desk.hear(message("obligation.positions", "obligation.position", None, "l-1"))
    else:
        desk.owe(500, customer_id=owner)
    assert reason(desk.say("confirm", case_id))[1]["code"] == "subject_unknown"


# --- Identity ---


def test_all_that_is_wrong_is_named_at_once_and_each_try_has_its_remedy() -> None:
    desk = Desk()
    desk.join(name="Person Two", id_number=id_number(1980), phone="+8613800000002")
    case_id, said = desk.apply()
    assert [(item["code"], item["field"], item["remedy"]) for item in said[-1][1]["items"]] == [
        ("name_mismatch", "name", "correct_name"),
        ("id_number_mismatch", "id_number", "correct_id_number"),
        ("phone_mismatch", "phone", "correct_phone"),
    ]
    said = desk.say("correct", case_id, applicant=APPLICANT)
    remedies = [item["remedy"] for item in said[-1][1]["items"]]
    assert remedies == ["send_id_card", "send_id_card", "send_phone_certificate"]
    assert types(desk.say("correct", case_id, applicant=APPLICANT)) == ["closure.in_review"]


def test_what_is_used_up_or_sent_a_person_looks_at_and_then_it_goes_on() -> None:
    for send in (_use_up, _send_documents):
        desk = Desk()
        case_id = at_documents_required(desk)
        assert types(send(desk, case_id)) == ["closure.in_review"]
        # A person who knows the applicant says nothing about debts: those are looked at now.
        assert types(approve(desk, case_id, "Reviewer")) == ["accounts.report"]
        assert types(desk.report(case_id, 0)) == ["closure.approved"]


def _use_up(desk: Desk, case_id: UUID) -> list[Said]:
    desk.say("correct", case_id, applicant=APPLICANT)
    return desk.say("correct", case_id, applicant=APPLICANT)


def _send_documents(desk: Desk, case_id: UUID) -> list[Said]:
    document = {"kind": "name_change_certificate", "sha256": "a" * 64, "uri": "vault:1"}
    return desk.say("documents", case_id, documents=[document])


def test_a_correction_or_a_better_profile_has_the_case_go_on() -> None:
    desk = Desk()
    case_id = at_documents_required(desk)
    assert types(desk.say("correct", case_id, applicant=APPLICANT | {"name": "Person Two"})) == ["accounts.report"]
    desk = Desk()
    case_id = at_documents_required(desk)
    # A profile that is no better is not said anything of, and no try is counted.
    assert desk.join(posted_minor=None, name="Person Three") == []
    assert desk.case(case_id).attempts == 1
    assert types(desk.join(posted_minor=None)) == ["accounts.report"]


def test_a_wrong_claim_is_mended_by_another_or_none() -> None:
    for claim, goes_on in ((2, True), (None, True), (1, False)):
        desk = Desk()
        desk.join()
        case_id, _ = desk.apply(claimed_balance_minor=1, accepts_fee=True)
        desk.report(case_id, 2)
        assert desk.status(case_id) == Status.DOCUMENTS_REQUIRED
        # The profile has nothing to do with it.
        assert desk.join(posted_minor=None) == []
        desk.say("correct", case_id, applicant=APPLICANT, claimed_balance_minor=claim)
        desk.report(case_id, 2)
        assert (desk.status(case_id) == Status.APPROVED) == goes_on


def test_a_claim_does_not_count_once_a_person_has_looked() -> None:
    desk = Desk()
    desk.join()
    case_id, _ = desk.apply(claimed_balance_minor=1, accepts_fee=True)
    desk.report(case_id, 2)
    _send_documents(desk, case_id)
    approve(desk, case_id, "Reviewer")
    assert types(desk.report(case_id, 2)) == ["closure.approved"]


# --- Obligations ---


@pytest.mark.parametrize(
    "owed",
    [
        {"principal_minor": 5},
        {"interest_minor": 5},
        {"penalty_minor": 5, "status": "settled"},
        {"principal_minor": 5, "kind": "credit_card", "status": "overdue"},
    ],
)
def test_any_amount_stops_it_and_what_is_paid_meanwhile_does_not(owed: dict[str, Any]) -> None:
    for is_paid in (False, True):
        desk = Desk()
        desk.join()
        desk.owe(**owed)
        case_id, said = desk.apply()
        assert types(said) == ["closure.received"]
        if is_paid:
            assert types(desk.owe(0)) == ["accounts.report"]
            continue
        _, rejected = desk.pass_time(timedelta(seconds=2))[-1]
        assert desk.status(case_id) == Status.REJECTED
        assert [(one["obligation_id"], one["owed_minor"]) for one in rejected["obligations"]] == [("l-1", 5)]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_debt_beyond_what_an_event_carries_stops_it_too(sign: int) -> None:
    most_minor = 2**63 - 1
    desk = Desk()
    case_id = at_approved(desk)
    amount_minor = sign * most_minor
    said = desk.owe(amount_minor, interest_minor=amount_minor, penalty_minor=amount_minor)
    assert desk.status(case_id) == Status.REJECTED
    assert said[-1][1]["obligations"][0]["owed_minor"] == amount_minor


@pytest.mark.parametrize("status", [Status.IN_FLIGHT, Status.REVIEW, Status.APPROVED])
def test_a_debt_that_comes_up_ends_a_case_until_it_is_confirmed(status: Status) -> None:
    desk = Desk()
    case_id = AT[status](desk)
    assert types(desk.owe(7)) == ["closure.rejected"]
    assert desk.status(case_id) == Status.REJECTED


@pytest.mark.parametrize("status", [Status.DRAINING, Status.PAYING_OUT, Status.FINISHING, Status.ERASING])
def test_a_debt_that_comes_up_later_changes_nothing(status: Status) -> None:
    desk = Desk()
    case_id = AT[status](desk)
    assert desk.owe(7) == []
    assert desk.status(case_id) == status


def test_of_a_person_who_may_not_be_who_they_say_no_debts_are_told() -> None:
    for bring in (at_documents_required, _reviewed):
        desk = Desk()
        bring(desk)
        assert desk.owe(7) == []


def _reviewed(desk: Desk) -> UUID:
    case_id = at_documents_required(desk)
    _send_documents(desk, case_id)
    return case_id


def test_a_wallet_below_zero_is_a_debt() -> None:
    desk = Desk()
    case_id = at_in_flight(desk)
    _, rejected = desk.report(case_id, -30)[-1]
    assert [(one["kind"], one["owed_minor"]) for one in rejected["obligations"]] == [("negative_balance", 30)]


def test_a_wallet_that_fell_below_zero_before_it_drained_is_given_back() -> None:
    desk = Desk()
    case_id = at_draining(desk)
    assert types(desk.account("drained", case_id, -30)) == ["account.reinstate"]
    assert desk.status(case_id) == Status.REINSTATING
    _, rejected = desk.account("reinstated", case_id, -30)[-1]
    assert (rejected["reasons"][0]["code"], rejected["obligations"][0]["owed_minor"]) == ("obligation_open", 30)


OTHER_WALLET = "wallet:2"


def test_another_wallet_of_the_customers_below_zero_is_a_debt() -> None:
    desk = Desk()
    desk.join()
    desk.hear_of_wallet(0, account_id=OTHER_WALLET)
    case_id, said = desk.apply(accepts_fee=True, payout=PAYOUT)
    assert said[-1][1]["subjects"] == [WALLET, OTHER_WALLET]
    assert desk.report(case_id, 1_000) == []
    _, rejected = desk.report_other(case_id, OTHER_WALLET, -600)[-1]
    (owed,) = rejected["obligations"]
    assert (owed["kind"], owed["account_id"], owed["owed_minor"]) == ("negative_balance", OTHER_WALLET, 600)


def test_money_that_another_wallet_was_emptied_below_zero_for_is_not_paid_out() -> None:
    desk = Desk()
    case_id = at_draining(desk)
    desk.hear_of_wallet(0, account_id=OTHER_WALLET)
    said = desk.account("drained", case_id, 1_600)
    assert [body["subjects"] for type_, body in said if type_ == "accounts.report"] == [[OTHER_WALLET]]
    assert types(desk.report_other(case_id, OTHER_WALLET, -600)) == ["account.reinstate"]
    _, rejected = desk.account("reinstated", case_id, 1_600)[-1]
    assert [(one["account_id"], one["owed_minor"]) for one in rejected["obligations"]] == [(OTHER_WALLET, 600)]


def test_other_wallets_that_owe_nothing_let_the_payout_pass() -> None:
    desk = Desk()
    case_id = at_draining(desk)
    for account_id in (OTHER_WALLET, "wallet:3"):
        desk.hear_of_wallet(0, account_id=account_id)
    assert types(desk.account("drained", case_id, 1_000)) == ["accounts.report"]
    # What comes in meanwhile is paid, too.
    assert desk.account("drained", case_id, 1_200) == []
    assert desk.report_other(case_id, OTHER_WALLET, 0) == []
    refused = desk.refuse("accounts.report", f"{case_id}.report.2", "account_unknown", account_id="wallet:3")
    assert types(refused) == ["transfer.request", "closure.paying_out"]
    assert desk.case(case_id).payout_minor == 1_100


def test_money_on_its_way_is_awaited() -> None:
    desk = Desk()
    case_id = at_in_flight(desk)
    assert desk.report(case_id, 1_000, reserved_minor=10, available_minor=990) == []
    assert types(desk.pass_time(timedelta(seconds=15))) == ["accounts.report"]
    desk.report(case_id, 0)
    assert desk.status(case_id) == Status.APPROVED


def test_an_older_report_is_not_taken_for_the_latest() -> None:
    desk = Desk()
    case_id = at_in_flight(desk)
    older = desk.case(case_id).report_id
    desk.report(case_id, 10, reserved_minor=10)
    desk.pass_time(timedelta(seconds=15))
    assert desk.report(case_id, 0, report_id=str(older)) == []


# --- Policy and review ---


@pytest.mark.parametrize(
    ("posted_minor", "birth", "more", "why"),
    [
        (LARGE - 1, 1990, {}, None),
        (LARGE, 1990, {}, "amount"),
        (1_000, 2010, {}, "age"),
        (1_000, 1950, {}, "age"),
        (1_000, 1990, {"flagged": True}, "risk"),
        (1_000, 1990, {"payee_name": "Person Two"}, "other_holder"),
        (LARGE, 1950, {"flagged": True, "payee_name": "Person Two"}, "amount, age, risk, other_holder"),
    ],
)
def test_a_person_looks_at_what_the_policy_names(
    posted_minor: int, birth: int, more: dict[str, Any], why: str | None
) -> None:
    desk = Desk()
    desk.join(posted_minor=posted_minor, id_number=id_number(birth))
    if more.get("flagged"):
        desk.flag()
    payout = PAYOUT | {name: text for name, text in more.items() if name == "payee_name"}
    applicant = APPLICANT | {"id_number": id_number(birth)}
    case_id, _ = desk.apply(accepts_fee=True, applicant=applicant, payout=payout)
    said = desk.report(case_id, posted_minor)
    assert types(said) == ["closure.approved" if why is None else "closure.in_review"]
    assert desk.case(case_id).review_of == why


def test_a_flag_is_over_when_every_rule_has_cleared_it() -> None:
    desk = Desk()
    desk.join()
    for rule in ("many_failures", "velocity"):
        desk.flag(rule)
    desk.flag(is_cleared=True)
    case_id, _ = desk.apply(accepts_fee=True, payout=PAYOUT)
    assert types(desk.report(case_id, 1_000)) == ["closure.in_review"]
    assert desk.case(case_id).review_of == "risk"
    desk.flag("many_failures", is_cleared=True)
    assert desk.memory.facts.customers[CUSTOMER].flagged_until is None


def test_a_flag_that_has_run_out_or_is_taken_back_counts_no_more() -> None:
    for is_cleared in (False, True):
        desk = Desk()
        desk.join()
        desk.flag()
        if is_cleared:
            desk.flag(is_cleared=True)
        else:
            desk.pass_time(timedelta(days=2))
        case_id, _ = desk.apply()
        assert types(desk.report(case_id, 0)) == ["closure.approved"]


def test_a_flag_after_the_approval_is_looked_at_before_anything_is_closed() -> None:
    desk = Desk()
    case_id = at_approved(desk)
    assert types(desk.flag()) == ["closure.in_review"]
    assert (desk.status(case_id), desk.case(case_id).review_of) == (Status.REVIEW, "risk")
    assert reason(desk.say("confirm", case_id))[1]["code"] == "state_conflict"
    assert types(approve(desk, case_id, "Reviewer")) == ["closure.approved"]
    assert types(desk.say("confirm", case_id))[0] == "closure.confirmed"


def test_a_flag_during_a_review_counts_the_eyes_anew() -> None:
    desk = Desk()
    case_id = at_review(desk, VERY_LARGE)
    approve(desk, case_id, "Reviewer One")
    assert desk.flag() == []
    assert desk.case(case_id).review_of == "amount, risk"
    assert approve(desk, case_id, "Reviewer Two") == []
    assert types(approve(desk, case_id, "Reviewer One")) == ["closure.approved"]


def test_whoever_has_forgotten_somebody_keeps_no_flag_of_them() -> None:
    desk = Desk()
    at_closed(desk)
    desk.flag()
    assert desk.memory.facts.customers[CUSTOMER].flagged_until is None


@pytest.mark.parametrize("status", [Status.OBLIGATIONS, Status.IN_FLIGHT, Status.REVIEW, Status.APPROVED])
@pytest.mark.parametrize("other", [{"name": "Person Two"}, {"id_number": id_number(1980)}], ids=["name", "number"])
def test_who_becomes_another_person_is_looked_at_again(status: Status, other: dict[str, str]) -> None:
    desk = Desk()
    case_id = AT[status](desk)
    desk.join(posted_minor=None, phone_verified=True)
    assert desk.status(case_id) == status
    desk.join(posted_minor=None, **other)
    assert (desk.status(case_id), desk.case(case_id).review_of) == (Status.REVIEW, "identity")
    # Nobody is asked again for what does not change who they are.
    assert desk.join(posted_minor=None, **other, phone_verified=False) == []


def test_who_comes_back_is_compared_with_the_number_that_a_person_let_pass() -> None:
    desk = Desk()
    desk.join(id_number=id_number(1980))
    case_id, _ = desk.apply(accepts_fee=True, payout=PAYOUT)
    desk.say("documents", case_id, documents=[{"kind": "id_card", "sha256": "0" * 64, "uri": "https://x.test/1"}])
    approve(desk, case_id, "Reviewer")
    desk.report(case_id, 1_000)
    assert desk.status(case_id) == Status.APPROVED
    profile = desk.memory.facts.customers[CUSTOMER].profile
    assert profile is not None
    assert desk.case(case_id).id_number_hash == profile.id_number_hash


def test_two_persons_look_at_what_is_very_large() -> None:
    desk = Desk()
    case_id = at_review(desk, VERY_LARGE)
    assert approve(desk, case_id, "Reviewer One") == []
    for name in ("Reviewer One", " reviewer  one"):
        assert reason(approve(desk, case_id, name))[1]["code"] == "reviewer_must_differ"
    assert types(approve(desk, case_id, "Reviewer Two")) == ["closure.approved"]
    desk = Desk()
    case_id = at_review(desk, VERY_LARGE)
    approve(desk, case_id, "Reviewer One")
    said = desk.say("review", case_id, decision="reject", reviewer="Reviewer Two", note="No")
    assert types(said) == ["closure.rejected"]


def test_one_person_is_enough_below() -> None:
    desk = Desk()
    assert types(approve(desk, at_review(desk, VERY_LARGE - 1), "Reviewer")) == ["closure.approved"]


@pytest.mark.parametrize(("posted_minor", "fee_minor", "payout_minor"), [(1_000, 100, 900), (60, 60, 0), (0, 0, 0)])
def test_the_fee_is_never_more_than_there_is(posted_minor: int, fee_minor: int, payout_minor: int) -> None:
    desk = Desk()
    desk.join()
    case_id, _ = desk.apply(accepts_fee=True)
    _, approved = desk.report(case_id, posted_minor)[-1]
    assert (approved["fee_minor"], approved["payout_minor"]) == (fee_minor, payout_minor)


# --- Confirmation and cancellation ---


def test_a_confirmation_that_comes_late_finds_the_case_expired() -> None:
    desk = Desk()
    case_id = at_approved(desk)
    # The moment has come, and its timer has not yet.
    desk.now += timedelta(days=3)
    assert reason(desk.say("confirm", case_id))[1]["code"] == "state_conflict"
    assert types(desk.pass_time(timedelta())) == ["closure.expired"]
    assert reason(desk.say("confirm", case_id))[1]["code"] == "state_conflict"
    assert types(desk.apply()[1]) == ["closure.received", "accounts.report"]


CANCELLED_AT_ONCE = BEFORE_DRAINING & set(AT)
GIVEN_BACK = {Status.DRAINING, Status.PAYOUT_STOPPED, Status.PAYOUT_REVIEW}


@pytest.mark.parametrize("status", AT)
def test_a_case_is_called_off_until_it_is_paid_out(status: Status) -> None:
    desk = Desk()
    case_id = AT[status](desk)
    said = desk.say("cancel", case_id)
    if status in CANCELLED_AT_ONCE:
        assert types(said) == ["closure.cancelled"]
        assert desk.status(case_id) == Status.CANCELLED
    elif status in GIVEN_BACK:
        assert types(said) == ["account.reinstate"]
        # Nothing was taken from it.
        assert desk.case(case_id).fee_paid_minor == 0
        assert types(desk.account("reinstated", case_id, 1_000)) == ["closure.cancelled"]
    else:
        assert reason(said)[1]["code"] == "state_conflict"
        assert desk.status(case_id) == status
    # What was on its way finds nothing to do.
    if status in CANCELLED_AT_ONCE:
        assert desk.pass_time(WEEK) == []
        assert desk.owe(5) == []


@pytest.mark.parametrize("status", AT)
def test_an_account_is_named_while_it_may_be_used(status: Status) -> None:
    desk = Desk()
    case_id = AT[status](desk)
    said = desk.say("payout_account", case_id, payee="bank:CCB:2", payee_name="Person One")
    takes = {
        Status.DOCUMENTS_REQUIRED, Status.OBLIGATIONS, Status.IN_FLIGHT, Status.REVIEW, Status.APPROVED,
        Status.DRAINING, Status.PAYOUT_STOPPED, Status.PAYOUT_REVIEW,
    }  # fmt: skip
    if status not in takes:
        assert reason(said)[1]["code"] == "state_conflict"
        return
    assert desk.memory.facts.applications[case_id].payee == "bank:CCB:2"
    is_drained = status in {Status.PAYOUT_STOPPED, Status.PAYOUT_REVIEW}
    assert types(said) == (["transfer.request", "closure.paying_out"] if is_drained else [])
    if said:
        assert (said[0][1]["payee"], said[0][1]["amount_minor"]) == ("bank:CCB:2", 900)


def correct(desk: Desk, case_id: UUID) -> None:
    desk.join(posted_minor=1_000)
    desk.report(case_id, 1_000)


def pay_off(desk: Desk, case_id: UUID) -> None:
    desk.owe(0)
    desk.report(case_id, 1_000)


# What has to happen until an account that was named is judged, by where the case stood; and what then goes on.
UNTIL_JUDGED: dict[Status, Callable[[Desk, UUID], Any]] = {
    Status.DOCUMENTS_REQUIRED: correct,
    Status.OBLIGATIONS: pay_off,
    Status.IN_FLIGHT: lambda desk, case_id: desk.report(case_id, 1_000),
    Status.APPROVED: lambda _desk, _case_id: None,
    Status.DRAINING: lambda desk, case_id: desk.account("drained", case_id, 1_000),
    Status.PAYOUT_STOPPED: lambda _desk, _case_id: None,
}


@pytest.mark.parametrize("is_asked", [True, False])
@pytest.mark.parametrize("status", UNTIL_JUDGED)
def test_an_account_of_another_holder_is_looked_at_whenever_it_is_named(status: Status, *, is_asked: bool) -> None:
    desk = Desk({"fee": {"minor": {}}, "review": {"other_holder": is_asked}})
    case_id = AT[status](desk)
    desk.say("payout_account", case_id, **OTHERS)
    UNTIL_JUDGED[status](desk, case_id)
    if is_asked:
        assert desk.status(case_id) in {Status.REVIEW, Status.PAYOUT_REVIEW}
        assert "bank:CCB:3" not in paid_to(desk)
        # Whoever looks decides about what they have seen.
        named = desk.say("payout_account", case_id, payee="bank:CCB:4", payee_name="Person Three")
        assert reason(named)[1]["code"] == "state_conflict"
        approve(desk, case_id, "Reviewer")
    if desk.status(case_id) == Status.APPROVED:
        assert paid_to(desk) == []
        desk.say("confirm", case_id)
        desk.account("drained", case_id, 1_000)
    assert desk.status(case_id) == Status.PAYING_OUT
    assert paid_to(desk)[-1] == "bank:CCB:3"


def paid_to(desk: Desk) -> list[str]:
    said = [read(one) for one in desk.published]
    return [body["payee"] for type_, body in said if type_ == "transfer.request" and body["kind"] == "withdrawal"]


def test_an_account_that_a_person_turns_down_is_asked_for_again() -> None:
    desk = Desk()
    case_id = at_payout_review(desk)
    # More that comes in waits with the rest.
    assert desk.account("drained", case_id, 1_025) == []
    said = desk.say("review", case_id, decision="reject", reviewer="Reviewer", note="No")
    assert [(type_, body["payout_minor"]) for type_, body in said] == [("closure.payout_account_required", 925)]
    assert types(desk.say("payout_account", case_id, **OTHERS)) == ["closure.in_review"]
    assert types(desk.say("payout_account", case_id, **PAYOUT)) == ["transfer.request", "closure.paying_out"]
    assert paid_to(desk) == [PAYOUT["payee"]] * 2


def test_of_whom_there_is_no_profile_no_account_is_known_to_be_theirs() -> None:
    desk = Desk()
    case_id = at_payout_stopped(desk)
    desk.forget()
    said = desk.say("payout_account", case_id, payee="bank:CCB:2", payee_name="Person One")
    assert types(said) == ["closure.in_review"]


def test_two_persons_look_at_another_holders_account_for_what_is_very_large() -> None:
    desk = Desk()
    case_id = at_review(desk, VERY_LARGE)
    for reviewer in ("Reviewer One", "Reviewer Two"):
        approve(desk, case_id, reviewer)
    assert desk.status(case_id) == Status.APPROVED
    assert types(desk.say("payout_account", case_id, **OTHERS)) == ["closure.in_review"]
    # It takes both again: what they have approved was another account.
    assert approve(desk, case_id, "Reviewer One") == []
    ((type_, approved),) = approve(desk, case_id, "Reviewer Two")
    assert (type_, approved["payee"]) == ("closure.approved", OTHERS["payee"])


def test_a_loans_case_takes_no_account() -> None:
    desk = Desk()
    case_id = _loan(desk)
    said = desk.say("payout_account", case_id, **PAYOUT)
    assert reason(said)[1]["code"] == "state_conflict"


# --- Payout ---


def test_a_wallet_is_paid_out_with_its_fee_and_finished() -> None:
    desk = Desk()
    case_id = at_draining(desk)
    said = desk.account("drained", case_id, 1_000)
    assert [(type_, body.get("kind"), body.get("amount_minor")) for type_, body in said] == [
        ("transfer.request", "withdrawal", 900),
        ("closure.paying_out", None, None),
    ]
    paid = desk.case(case_id).payout_id
    assert desk.account("drained", case_id, 1_000) == []
    for _ in range(2):
        desk.transfer("settled", case_id, paid, 900)
    ((type_, order),) = desk.account("drained", case_id, FEE)
    assert (type_, order["kind"], order["amount_minor"]) == ("transfer.request", "fee", FEE)
    assert desk.account("drained", case_id, FEE) == []
    for _ in range(2):
        desk.transfer("settled", case_id, desk.case(case_id).fee_id, FEE, kind="fee")
    desk.account("drained", case_id, 0)
    (_, erasing), (erase, _), (erased, _) = desk.account("closed", case_id)
    receipt = erasing["receipt"]
    assert receipt["transfer_id"] == str(paid)
    assert (receipt["balance_minor"], receipt["fee_minor"], receipt["payout_minor"]) == (1_000, FEE, 900)
    assert (erase, erased) == ("customer.erase", "customer.erased")


def test_an_empty_wallet_is_paid_nothing() -> None:
    desk = Desk()
    case_id = at_draining(desk, 0, payout=None)
    assert types(desk.account("drained", case_id, 0)) == ["account.finish"]


def test_a_wallet_that_the_fee_empties_is_finished_once_it_is_taken() -> None:
    desk = Desk()
    case_id = at_draining(desk, 60, payout=None)
    assert types(desk.account("drained", case_id, 60)) == ["transfer.request"]
    assert desk.account("drained", case_id, 60) == []
    desk.transfer("settled", case_id, desk.case(case_id).fee_id, 60, kind="fee")
    assert types(desk.account("drained", case_id, 0)) == ["account.finish"]


def test_a_fee_that_cannot_be_taken_is_let_go() -> None:
    restricted = {"code": "account_restricted", "retryable": True, "refund": "none"}
    for balance_minor, fee_minor in ((1_000, FEE), (60, 60)):
        desk = Desk()
        case_id = at_paying_out(desk, balance_minor)
        if balance_minor > fee_minor:
            desk.transfer("settled", case_id, desk.case(case_id).payout_id, balance_minor - fee_minor)
            desk.account("drained", case_id, fee_minor)
        # Nothing moves in the wallet by that, so that nothing else says that it goes on.
        said = desk.transfer("failed", case_id, desk.case(case_id).fee_id, fee_minor, kind="fee", reason=restricted)
        assert [(type_, body.get("kind"), body.get("amount_minor")) for type_, body in said] == [
            ("transfer.request", "withdrawal", fee_minor),
            ("closure.paying_out", None, None),
        ]


def test_a_payout_that_failed_waits_for_another_account() -> None:
    desk = Desk()
    case_id = at_paying_out(desk)
    said = desk.transfer("refunded", case_id, desk.case(case_id).payout_id, 900, reason=BAD)
    assert reason(said)[0] == "closure.payout_failed"
    assert reason(said)[1]["code"] == "rail_rejected"
    # Its money is back, and nothing happens by itself.
    assert desk.account("drained", case_id, 1_000) == []
    assert desk.pass_time(WEEK) == []
    said = desk.say("payout_account", case_id, payee="bank:CCB:2", payee_name="Person One")
    assert [body.get("amount_minor") for _, body in said] == [900, None]


@pytest.mark.parametrize("code", ["maintenance", "account_restricted", "risk_restricted"])
def test_a_payout_that_is_refused_for_a_while_is_tried_again(code: str) -> None:
    for after in ({}, {"available_at": "2026-09-28T02:00:00Z"}):
        desk = Desk()
        case_id = at_paying_out(desk)
        first = desk.case(case_id).payout_id
        why = {"code": code, "retryable": True, "refund": "none", **after}
        assert desk.transfer("failed", case_id, first, 900, reason=why) == []
        assert desk.status(case_id) == Status.PAYOUT_STOPPED
        assert desk.pass_time(timedelta(seconds=299)) == []
        said = desk.pass_time(timedelta(hours=1) if after else timedelta(seconds=1))
        assert "closure.paying_out" in types(said)
        assert desk.case(case_id).payout_id != first


@pytest.mark.parametrize(("approved_minor", "drained_minor"), [(1_000, LARGE), (LARGE, VERY_LARGE), (0, VERY_LARGE)])
def test_what_a_person_would_have_looked_at_is_not_paid_out_unseen(approved_minor: int, drained_minor: int) -> None:
    desk = Desk()
    case_id = at_review(desk, approved_minor)
    if approved_minor >= LARGE:
        approve(desk, case_id, "Reviewer")
    desk.say("confirm", case_id)
    assert types(desk.account("drained", case_id, drained_minor)) == ["closure.in_review"]
    for number in range(1 + (drained_minor >= VERY_LARGE)):
        assert desk.status(case_id) == Status.PAYOUT_REVIEW
        approve(desk, case_id, f"Reviewer {number}")
    assert desk.case(case_id).payout_minor == drained_minor - desk.case(case_id).fee_minor > 0


def test_what_has_grown_by_a_refund_after_a_payout_is_looked_at_too() -> None:
    desk = Desk()
    case_id = at_paying_out(desk)
    desk.transfer("settled", case_id, desk.case(case_id).payout_id, 900)
    assert types(desk.account("drained", case_id, LARGE)) == ["closure.in_review"]
    assert "transfer.request" in types(approve(desk, case_id, "Reviewer"))


def test_a_wallet_that_a_person_will_not_pay_out_is_given_back() -> None:
    desk = Desk()
    case_id = at_draining(desk)
    desk.account("drained", case_id, LARGE)
    assert types(turn_down(desk, case_id)) == ["account.reinstate"]
    assert reason(desk.account("reinstated", case_id, LARGE))[1]["code"] == "review_rejected"


def test_another_account_does_not_pay_what_a_person_has_not_looked_at() -> None:
    desk = Desk()
    case_id = at_draining(desk)
    desk.account("drained", case_id, LARGE)
    own = {"payee": "bank:CCB:7", "payee_name": "Person One"}
    assert desk.say("payout_account", case_id, **own) == []
    assert desk.status(case_id) == Status.PAYOUT_REVIEW


RESTRICTED = {"code": "account_restricted", "retryable": True, "refund": "none"}


def test_a_payout_that_is_refused_again_and_again_is_tried_ever_later() -> None:
    desk = Desk(policy={"payout": {"retry_after_s": 300, "retry_at_latest_s": 1_000}})
    case_id = at_paying_out(desk)
    for after_s in (300, 600, 1_000, 1_000):
        assert desk.transfer("failed", case_id, desk.case(case_id).payout_id, 900, reason=RESTRICTED) == []
        assert desk.pass_time(timedelta(seconds=after_s - 1)) == []
        assert "closure.paying_out" in types(desk.pass_time(timedelta(seconds=1)))


def test_a_payout_is_tried_again_as_soon_as_the_restriction_is_released() -> None:
    desk = Desk()
    case_id = at_paying_out(desk)
    released = {**desk.state(1_000, status="closing"), "scope": "debit"}
    assert desk.hear(message("transfer.events", "account.released", released)) == []
    desk.transfer("failed", case_id, desk.case(case_id).payout_id, 900, reason=RESTRICTED)
    said = desk.hear(message("transfer.events", "account.released", released))
    assert types(said) == ["transfer.request", "closure.paying_out"]
    assert desk.pass_time(timedelta(hours=1)) == []


def test_a_payout_that_comes_back_after_it_had_arrived_asks_for_another_account() -> None:
    desk = Desk()
    case_id = at_finishing(desk)
    said = desk.transfer("refunded", case_id, payout_id(case_id, 1), 900, reason=RETURNED)
    assert types(said) == ["closure.payout_failed"]
    assert said[0][1]["payout_minor"] == 900
    assert desk.case(case_id).paid_minor == 0
    # Another account is named before the money is booked: it is paid when it is.
    assert desk.say("payout_account", case_id, **PAYOUT) == []
    assert "closure.paying_out" in types(desk.account("drained", case_id, 900))
    desk.transfer("settled", case_id, desk.case(case_id).payout_id, 900)
    desk.account("drained", case_id, 0)
    _, erasing = desk.account("closed", case_id)[0]
    assert (erasing["receipt"]["payout_minor"], erasing["receipt"]["fee_minor"]) == (900, FEE)
    assert erasing["receipt"]["transfer_id"] == str(desk.case(case_id).payout_id)


@pytest.mark.parametrize("status", [Status.ERASING, Status.CLOSED])
def test_a_payout_that_comes_back_after_the_end_is_told(status: Status) -> None:
    desk = Desk()
    case_id = AT[status](desk)
    said = desk.transfer("refunded", case_id, payout_id(case_id, 1), 900, reason=RETURNED)
    assert types(said) == ["closure.discrepancy"]
    assert desk.status(case_id) == status


def test_that_an_earlier_payout_arrived_is_not_counted_when_it_is_said_once_more() -> None:
    desk = Desk()
    case_id = at_finishing(desk)
    desk.transfer("refunded", case_id, payout_id(case_id, 1), 900, reason=RETURNED)
    desk.account("drained", case_id, 900)
    desk.say("payout_account", case_id, **PAYOUT)
    assert desk.status(case_id) == Status.PAYING_OUT
    assert desk.transfer("settled", case_id, payout_id(case_id, 1), 900) == []
    assert desk.case(case_id).paid_minor == 0


def test_a_payout_that_comes_back_while_something_else_is_under_way_is_not_counted() -> None:
    for comes_in_minor in (0, 50):
        desk = Desk()
        case_id = at_paying_out(desk)
        first = desk.case(case_id).payout_id
        desk.transfer("settled", case_id, first, 900)
        desk.account("drained", case_id, FEE + comes_in_minor)
        assert desk.transfer("refunded", case_id, first, 900, reason=RETURNED) == []
        assert desk.case(case_id).paid_minor == 0
        if comes_in_minor:
            desk.transfer("settled", case_id, desk.case(case_id).payout_id, comes_in_minor)
            said = desk.account("drained", case_id, FEE + 900)
        else:
            desk.transfer("settled", case_id, desk.case(case_id).fee_id, FEE, kind="fee")
            said = desk.account("drained", case_id, 900)
        assert [body.get("amount_minor") for _, body in said] == [900, None]
        desk.transfer("settled", case_id, desk.case(case_id).payout_id, 900)
        if comes_in_minor:
            desk.account("drained", case_id, FEE)
            desk.transfer("settled", case_id, desk.case(case_id).fee_id, FEE, kind="fee")
        desk.account("drained", case_id, 0)
        _, erasing = desk.account("closed", case_id)[0]
        receipt = erasing["receipt"]
        assert (receipt["payout_minor"], receipt["fee_minor"]) == (900 + comes_in_minor, FEE)


def test_more_money_is_paid_after_what_is_under_way() -> None:
    desk = Desk()
    case_id = at_paying_out(desk)
    desk.transfer("settled", case_id, desk.case(case_id).payout_id, 900)
    said = desk.account("drained", case_id, FEE + 25)
    assert [body.get("amount_minor") for _, body in said] == [25, None]
    # Also where the wallet was just going to be ended; the transfer service refuses that.
    desk = Desk()
    case_id = at_finishing(desk)
    desk.refuse("account.finish", f"{case_id}.finish.9", "state_conflict")
    assert "closure.paying_out" in types(desk.account("drained", case_id, 25))


def test_a_payout_whose_id_somebody_else_has_used_goes_out_under_the_next() -> None:
    desk = Desk()
    case_id = at_paying_out(desk)
    type_, command_id = identity_of(desk.published[-2])
    assert type_ == "transfer.request"
    # What became of the other's transfer is none of the case's.
    for type_ in ("settled", "refunded"):
        assert desk.transfer(type_, case_id, desk.case(case_id).payout_id, 900, payer="wallet:2") == []
    assert desk.case(case_id).paid_minor == 0
    for _ in range(2):
        said = desk.refuse("transfer.request", command_id, "duplicate_id_conflict")
        assert types(said) in (["transfer.request", "closure.paying_out"], [])
    assert desk.case(case_id).payouts == 2
    desk.transfer("settled", case_id, desk.case(case_id).payout_id, 900)
    assert desk.case(case_id).paid_minor == 900


def test_money_that_comes_in_where_no_account_was_named_waits_for_one() -> None:
    desk = Desk()
    case_id = at_draining(desk, 0, payout=None)
    said = desk.account("drained", case_id, 40)
    assert types(said) == ["closure.payout_account_required"]
    said = desk.say("payout_account", case_id, **PAYOUT)
    assert [body.get("amount_minor") for _, body in said] == [40, None]


@pytest.mark.parametrize("status", [status for status in AT if status != Status.FINISHING])
def test_that_a_wallet_is_closed_ends_a_case_that_has_asked_for_it_once(status: Status) -> None:
    desk = Desk()
    case_id = AT[status](desk)
    assert desk.account("closed", case_id) == []
    assert desk.status(case_id) == status


# --- Loans and erasing ---


def _loan(desk: Desk) -> UUID:
    desk.join(posted_minor=None)
    desk.owe(0)
    case_id, said = desk.apply(LOAN)
    assert types(said) == ["closure.received", "closure.approved"]
    return case_id


def test_a_loan_is_closed_and_its_holder_forgotten() -> None:
    desk = Desk()
    case_id = _loan(desk)
    assert types(desk.say("confirm", case_id)) == [
        "closure.confirmed", "loan.disabled", "credit.status_changed", "closure.erasing", "customer.erase",
        "customer.erased",
    ]  # fmt: skip


@pytest.mark.parametrize("is_loan", [True, False])
def test_what_stays_of_a_closing_is_named_with_the_account_that_was_paid(*, is_loan: bool) -> None:
    desk = Desk({"erasing": {"services": ["transfer"], "retained": [KEPT]}})
    said = desk.say("confirm", _loan(desk)) if is_loan else desk.account("closed", at_finishing(desk))
    named = [(one["what"], one["until"]) for one in said[-1][1]["retained"]]
    account = ("the number of the account that a balance was paid to, in what was said of its closing", "2027-09-28")
    assert named == [("closing", "2027-09-28")] + ([] if is_loan else [account])


def test_a_loan_that_nobody_knows_is_looked_for_once_more() -> None:
    desk = Desk()
    desk.join(posted_minor=None)
    case_id, said = desk.apply(LOAN)
    assert said == []
    assert reason(desk.pass_time(timedelta(seconds=2)))[1]["code"] == "subject_unknown"
    desk = Desk()
    desk.join(posted_minor=None)
    case_id, _ = desk.apply(LOAN)
    desk.owe(0)
    assert types(desk.pass_time(timedelta(seconds=2))) == ["closure.received", "closure.approved"]
    assert desk.status(case_id) == Status.APPROVED


def test_a_wallet_that_is_closed_is_nobodys_subject() -> None:
    desk = Desk()
    at_closed(desk)
    assert reason(desk.apply()[1]) == (
        "closure.rejected",
        {"code": "subject_unknown", "remedy": "check_subject", "detail": "the wallet is closed"},
    )


def _has_wallet(desk: Desk) -> None:
    desk.hear_of_wallet(0, account_id="wallet:2")


def _has_loan(desk: Desk) -> None:
    desk.owe(0, obligation_id="l-2", status="open")


def _has_case(desk: Desk) -> None:
    desk.owe(0)
    desk.apply(LOAN)


@pytest.mark.parametrize(
    ("has", "why"), [(_has_wallet, "wallet_open"), (_has_loan, "loan_open"), (_has_case, "case_open")]
)
def test_erasing_waits_for_what_is_still_open(has: Callable[[Desk], None], why: str) -> None:
    desk = Desk()
    case_id = at_finishing(desk)
    has(desk)
    ((type_, closed),) = desk.account("closed", case_id)
    assert (type_, closed["erasure"], closed["why"]) == ("closure.closed", "deferred", why)
    assert closed["receipt"]["payout_minor"] == 900
    assert desk.memory.facts.customers[CUSTOMER].profile is not None


def test_a_case_is_closed_when_everybody_has_forgotten_in_any_order_and_twice() -> None:
    for services in (("transfer", "maintenance"), ("maintenance", "transfer")):
        desk = Desk()
        case_id = at_erasing(desk)
        for _ in range(2):
            assert desk.erased(case_id, "closure") == []
            assert desk.erased(case_id, services[0]) == []
            assert desk.erased(case_id, services[1], "customer-2") == []
        ((type_, closed),) = desk.erased(case_id, services[1])
        assert (type_, closed["erasure"]) == ("closure.closed", "done")
        assert desk.erased(case_id, services[1]) == []
        assert case_id not in desk.memory.facts.applications
        assert desk.memory.facts.customers[CUSTOMER].profile is None


def test_what_answers_an_earlier_erasure_does_not_answer_this_one() -> None:
    desk = Desk()
    case_id = at_erasing(desk)
    for service in ("transfer", "maintenance"):
        assert desk.erased(None, service) == []
        assert desk.erased(uuid.uuid4(), service) == []
    assert (desk.status(case_id), desk.case(case_id).erased_by) == (Status.ERASING, [])


def test_that_somebody_was_flagged_is_forgotten_with_the_rest() -> None:
    desk = Desk()
    case_id = at_finishing(desk)
    desk.flag()
    desk.account("closed", case_id)
    assert desk.memory.facts.customers[CUSTOMER].flagged_until is None


def test_a_null_profile_waits_for_the_end_of_the_cases() -> None:
    desk = Desk()
    case_id = at_approved(desk)
    assert desk.forget() == []
    assert case_id in desk.memory.facts.applications
    assert types(desk.say("cancel", case_id)) == ["closure.cancelled", "customer.erased"]
    assert case_id not in desk.memory.facts.applications


# --- The workflow as a whole ---


def test_a_case_cannot_leave_its_end() -> None:
    ended = {Status.CLOSED, Status.REJECTED, Status.CANCELLED, Status.EXPIRED}
    assert not ended & set(TRANSITIONS)
    assert set().union(*TRANSITIONS.values()) | {Status.RECEIVED} == set(Status)


def test_a_close_that_is_refused_ends_the_case() -> None:
    desk = Desk()
    case_id = at_draining(desk)
    said = desk.refuse("account.close", f"{case_id}.close", "account_unknown")
    assert reason(said)[1]["code"] == "subject_unknown"


def test_a_wallet_that_another_case_closes_is_that_cases() -> None:
    desk = Desk()
    case_id = at_draining(desk)
    said = desk.refuse("account.close", f"{case_id}.close", "account_closing")
    assert reason(said)[1]["code"] == "case_open"


def test_what_is_about_another_wallet_or_case_changes_nothing() -> None:
    desk = Desk()
    case_id = at_draining(desk)
    assert desk.account("drained", case_id, 5, account_id="wallet:2") == []
    assert desk.account("drained", uuid.uuid4(), 5) == []
    assert desk.transfer("settled", case_id, uuid.uuid4(), 5) == []
    assert desk.status(case_id) == Status.DRAINING


def test_a_wallet_of_which_nothing_was_heard_yet_is_asked_for() -> None:
    desk = Desk()
    desk.join(posted_minor=None)
    case_id, said = desk.apply()
    assert types(said) == ["accounts.report"]
    assert types(desk.report(case_id, 0)) == ["closure.received", "accounts.report"]
    assert types(desk.report(case_id, 0)) == ["closure.approved"]
    assert WALLET in desk.memory.facts.wallets
