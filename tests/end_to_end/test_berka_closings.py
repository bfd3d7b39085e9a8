"""The borrowers of a real bank apply for the end of their wallets: exactly those who owe nothing pass."""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.end_to_end.closings import Cases, People, applicant
from tests.end_to_end.system import System, running_system

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA: Final = Path(os.environ.get("SLUICE_DATA") or Path(__file__).parents[3] / "shared" / "data") / "berka"
_LAST_MONTH: Final = 1998 * 12 + 12
"""The data end with December 1998."""

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not there; SLUICE_DATA names another folder")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running_system(tmp_path_factory.mktemp("berka") / "home", closers=1) as system:
        yield system


class Borrower:
    """Who has a loan, with a wallet of their own; `number` makes up who they are."""

    def __init__(self, number: int, loan: dict[str, str], prefix: str) -> None:
        self.number = number
        self.status = loan["status"]
        self.loan_id = prefix + loan["loan_id"]
        self.wallet = f"wallet:{prefix}{loan['account_id'].removeprefix('wallet:')}"
        self.customer_id = f"{prefix}of-{loan['account_id']}"
        self._instalment_minor = int(loan["payment_minor"])
        year, month = (int(part) for part in loan["granted_on"].split("-")[:2])
        self._months_left = max(1, int(loan["duration_months"]) - (_LAST_MONTH - year * 12 - month))

    def position(self, *, is_settled: bool = False) -> dict[str, Any]:
        """Return what is owed: nothing, an instalment that never came, those to come, or those with a late one."""
        instalments, late = {"A": (0, 0), "B": (0, 1), "C": (self._months_left, 0), "D": (self._months_left, 1)}[
            "A" if is_settled else self.status
        ]
        is_open = instalments + late
        return {
            "obligation_id": self.loan_id,
            "customer_id": self.customer_id,
            "account": self.wallet,
            "kind": "loan",
            "principal_minor": instalments * self._instalment_minor,
            "interest_minor": 0,
            "penalty_minor": late * self._instalment_minor,
            "currency": "CZK",
            "status": ("overdue" if late else "open") if is_open else "settled",
        }


class Bank:
    """Publishes what borrowers are, owe and want."""

    def __init__(self, system: System, prefix: str) -> None:
        self.people = People(system)
        self._system = system
        with (DATA / "loans.csv").open(newline="") as file:
            self.borrowers = [Borrower(number, loan, prefix) for number, loan in enumerate(csv.DictReader(file))]

    def join(self) -> None:
        for one in self.borrowers:
            profile = {"customer_id": one.customer_id, **applicant(one.number), "phone_verified": True}
            self._system.send("customer.profile", one.customer_id, profile, topic="customer.profiles")
            opening = {"account_id": one.wallet, "customer_id": one.customer_id, "currency": "CZK"}
            self._system.send("account.open", one.wallet, opening)
        self._system.flush()

    def publish_position(self, one: Borrower, *, is_settled: bool = False) -> None:
        position = one.position(is_settled=is_settled)
        self._system.send("obligation.position", one.loan_id, position, topic="obligation.positions")

    def apply(self, one: Borrower) -> str:
        return self.people.apply(one.number, one.wallet)


@pytest.mark.parametrize("when", ["before", "together"])
def test_exactly_those_who_owe_nothing_pass(system: System, when: str) -> None:
    bank, cases = Bank(system, f"{when}-"), Cases(system.kafka)
    assert Counter(one.status for one in bank.borrowers) == {"A": 203, "B": 31, "C": 403, "D": 45}
    bank.join()
    if when == "before":
        for one in bank.borrowers:
            bank.publish_position(one)
        system.flush()
    asked = {}
    for one in bank.borrowers:
        if when == "together":
            bank.publish_position(one)
        asked[bank.apply(one)] = one
    _wait(cases, {case_id: "approved" if one.status == "A" else "rejected" for case_id, one in asked.items()})
    for case_id, one in asked.items():
        if one.status == "A":
            continue
        rejected = cases.body(case_id, "closure.rejected")
        assert [reason["code"] for reason in rejected["reasons"]] == ["obligation_open"]
        position = one.position()
        owed = position["principal_minor"] + position["penalty_minor"]
        named = [(debt["obligation_id"], debt["owed_minor"]) for debt in rejected["obligations"]]
        assert named == [(one.loan_id, owed)]
        assert owed > 0
        assert when == "together" or "approved" not in cases.types(case_id)
    _settle(bank, cases, [one for one in asked.values() if one.status == "B"])
    # Whoever still owes does not pass a second time either, and whoever passed has not been stopped since.
    again = bank.apply(next(one for one in bank.borrowers if one.status == "C"))
    _wait(cases, {again: "rejected"})
    assert Counter(cases.types(case_id)[-1] for case_id in asked) == {"approved": 203, "rejected": 479}


def _settle(bank: Bank, cases: Cases, debtors: list[Borrower]) -> None:
    """Have debtors pay and apply again at once."""
    asked = []
    for one in debtors:
        bank.publish_position(one, is_settled=True)
        asked.append(bank.apply(one))
    assert len(asked) == 31
    _wait(cases, dict.fromkeys(asked, "approved"))
    assert all(cases.types(case_id) == ["received", "approved"] for case_id in asked)


def _wait(cases: Cases, ends: dict[str, str]) -> None:
    """Read on until each case is where it has to come to."""

    def are_there() -> bool:
        cases.read()
        return all(cases.types(case_id)[-1:] == [end] for case_id, end in ends.items())

    try:
        cases.reader.read_until(are_there, 120)
    except AssertionError as error:
        others = {id_: cases.types(id_) for id_, end in ends.items() if cases.types(id_)[-1:] != [end]}
        raise AssertionError(f"{error}; {len(others)} are elsewhere, such as {list(others.items())[:3]}") from None
