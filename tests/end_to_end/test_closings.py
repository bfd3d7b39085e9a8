"""What closings promise: a wallet is emptied, paid out and ended once, its holder is forgotten, and told why not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest

from tests.end_to_end.closings import Cases, People, applicant, payout, write_policy
from tests.end_to_end.system import Reader, System, running_system

if TYPE_CHECKING:
    from collections.abc import Iterator

_POLICY = """
[erasing]
services = ["transfer", "maintenance"]

[fee]
minor = { CNY = 100 }
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    home = tmp_path_factory.mktemp("closings") / "home"
    bank = {"rules": [{"payee": "bank:BAD:*", "outcome": "fail", "rail_code": "AC04"}]}
    environment = write_policy(home, _POLICY)
    with running_system(home, maintainers=1, closers=1, bank=bank, environment=environment) as system:
        yield system


@pytest.fixture(scope="module")
def people(system: System) -> People:
    return People(system)


@pytest.fixture(scope="module")
def cases(system: System) -> Cases:
    return Cases(system.kafka)


def test_a_wallet_is_paid_out_and_ended_and_its_holder_forgotten(system: System, people: People, cases: Cases) -> None:
    wallet = people.join(1, 10_000)
    transfers = Reader(system.kafka)
    case_id = people.apply(1, payout=payout(1), accepts_fee=True, claimed_balance_minor=10_000)
    cases.wait(case_id, "approved")
    approved = cases.body(case_id, "closure.approved")
    assert (approved["balance_minor"], approved["fee_minor"], approved["payout_minor"]) == (10_000, 100, 9_900)
    people.say("closure.confirm", wallet, {"case_id": case_id})
    cases.wait(case_id, "closed")
    assert cases.types(case_id) == [
        "received", "approved", "confirmed", "draining", "paying_out", "erasing", "closed",
    ]  # fmt: skip
    closed, receipt = cases.body(case_id, "closure.closed"), cases.body(case_id, "closure.erasing")["receipt"]
    assert closed["erasure"] == "done"
    assert (receipt["payout_minor"], receipt["fee_minor"]) == (9_900, 100)
    paid = receipt["transfer_id"]
    transfers.read_until(lambda: transfers.status(paid) == "settled")
    assert transfers.latest[paid]["case_id"] == case_id
    # From the application to the last word about the wallet, in both services.
    records = [*transfers.records, *cases.reader.records]
    told = [
        (headers["ce_type"], headers["ce_correlationid"]) for headers, value in records if case_id.encode() in value
    ]
    assert {"sluice.account.drained.v1", "sluice.account.closed.v1"} < {type_ for type_, _ in told}
    assert len({correlation for _, correlation in told}) == 1
    late = system.request("top_up", "bank:ICBC:0", wallet, 5)
    transfers.read_until(lambda: transfers.status(late) == "refunded")
    bodies = [orjson.loads(value) for _, value in transfers.records]
    refused = next(body for body in bodies if body.get("transfer_id") == late and body["status"] == "failed")
    assert refused["reason"]["code"] == "account_closed"


def test_what_is_wrong_is_named_and_mended_on_the_same_case(people: People, cases: Cases) -> None:
    wallet = people.join(2, 0, phone_verified=False)
    wrong = applicant(2) | {"name": "Somebody Else"}
    case_id = people.apply(2, applicant=wrong)
    cases.wait(case_id, "documents_required")
    items = cases.body(case_id, "closure.documents_required")["items"]
    assert [item["code"] for item in items] == ["name_mismatch", "phone_unverified"]
    people.say("closure.correct", wallet, {"case_id": case_id, "applicant": applicant(2)})
    cases.reader.read_until(lambda: (cases.read(), len(cases.types(case_id)))[1] == 3)
    items = cases.body(case_id, "closure.documents_required")["items"]
    assert [item["code"] for item in items] == ["phone_unverified"]
    # The phone is verified where the identity system is told so, and the case goes on by itself.
    people.join(2)
    cases.wait(case_id, "approved")
    people.say("closure.confirm", wallet, {"case_id": case_id})
    cases.wait(case_id, "closed")


def test_a_debt_ends_an_application_and_once_it_is_paid_a_new_one_passes(people: People, cases: Cases) -> None:
    people.join(3)
    people.owes(3, "loan-3", 5_000)
    case_id = people.apply(3)
    cases.wait(case_id, "rejected")
    rejected = cases.body(case_id, "closure.rejected")
    assert rejected["reasons"][0]["code"] == "obligation_open"
    assert [(one["obligation_id"], one["owed_minor"]) for one in rejected["obligations"]] == [("loan-3", 5_000)]
    people.owes(3, "loan-3", 0)
    again = people.apply(3)
    cases.wait(again, "approved")
    assert cases.types(again) == ["received", "approved"]
    # One that comes up before the customer confirms is noticed.
    people.owes(3, "loan-3", 70)
    cases.wait(again, "rejected")


def test_a_loan_is_closed_for_the_registry_and_lending(people: People, cases: Cases) -> None:
    people.join(4)
    people.owes(4, "loan-4", 0)
    case_id = people.apply(4, "loan:loan-4")
    cases.wait(case_id, "approved")
    people.say("closure.confirm", "loan:loan-4", {"case_id": case_id})
    cases.wait(case_id, "closed")
    assert cases.body(case_id, "credit.status_changed")["status"] == "closed"
    closed = cases.body(case_id, "closure.closed")
    assert (closed["erasure"], closed["why"]) == ("deferred", "wallet_open")
    unknown = people.apply(4, "loan:nobody-knows")
    cases.wait(unknown, "rejected")
    assert cases.body(unknown, "closure.rejected")["reasons"][0]["code"] == "subject_unknown"


def test_a_payout_that_fails_asks_for_another_account(people: People, cases: Cases) -> None:
    wallet = people.join(5, 3_000)
    case_id = people.apply(5, payout={"payee": "bank:BAD:1", "payee_name": "Person 5"}, accepts_fee=True)
    cases.wait(case_id, "approved")
    people.say("closure.confirm", wallet, {"case_id": case_id})
    cases.wait(case_id, "payout_failed")
    assert cases.body(case_id, "closure.payout_failed")["reason"]["code"] == "rail_rejected"
    people.say("closure.payout_account", wallet, {"case_id": case_id, **payout(5)})
    cases.wait(case_id, "closed")
    assert cases.body(case_id, "closure.erasing")["receipt"]["payout_minor"] == 2_900


def test_a_closing_that_is_called_off_gives_the_wallet_back(system: System, people: People, cases: Cases) -> None:
    wallet = people.join(6, 500)
    case_id = people.apply(6, payout={"payee": "bank:BAD:2", "payee_name": "Person 6"}, accepts_fee=True)
    cases.wait(case_id, "approved")
    people.say("closure.confirm", wallet, {"case_id": case_id})
    cases.wait(case_id, "payout_failed")
    people.say("closure.cancel", wallet, {"case_id": case_id})
    cases.wait(case_id, "cancelled")
    transfers = Reader(system.kafka)
    taken = system.request("top_up", "bank:ICBC:0", wallet, 5)
    transfers.read_until(lambda: transfers.status(taken) == "settled")
