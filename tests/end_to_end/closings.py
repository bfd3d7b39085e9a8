"""People who close wallets in a test, and how far their cases are."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import orjson
from stdnum.cn import ric

from tests.end_to_end.system import Reader

if TYPE_CHECKING:
    from pathlib import Path

    from tests.end_to_end.system import System


def id_number(number: int) -> str:
    """Return a made-up ID number: right in form, date and checksum."""
    body = f"110101199001{1 + number // 1_000 % 28:02d}{number % 1_000:03d}"
    return body + ric.calc_check_digit(body + "0")


def applicant(number: int) -> dict[str, str]:
    """Return what person of a number truly is."""
    return {"name": f"Person {number}", "id_number": id_number(number), "phone": f"+86138{number:08d}"}


def payout(number: int) -> dict[str, str]:
    """Return the bank account of person of a number."""
    return {"payee": f"bank:ICBC:{number:010d}", "payee_name": f"Person {number}"}


class People:
    """Customers with one wallet each, `wallet:p<number>` of `person-<number>`."""

    def __init__(self, system: System) -> None:
        self.system = system

    def join(self, number: int, balance_minor: int = 0, **profile: Any) -> str:
        """Make somebody known, with a wallet that holds something; return the wallet."""
        wallet, customer_id = f"wallet:p{number}", f"person-{number}"
        known = {"customer_id": customer_id, **applicant(number), "phone_verified": True, **profile}
        self.system.send("customer.profile", customer_id, known, topic="customer.profiles")
        opening = {"account_id": wallet, "customer_id": customer_id, "currency": "CNY"}
        self.system.send("account.open", wallet, opening)
        if balance_minor:
            self.system.request("top_up", "bank:ICBC:0", wallet, balance_minor)
        return wallet

    def owes(self, number: int, obligation_id: str, principal_minor: int) -> None:
        """Say what somebody owes on a loan."""
        position = {
            "obligation_id": obligation_id,
            "customer_id": f"person-{number}",
            "account": f"wallet:p{number}",
            "kind": "loan",
            "principal_minor": principal_minor,
            "interest_minor": 0,
            "penalty_minor": 0,
            "currency": "CNY",
            "status": "open" if principal_minor else "settled",
        }
        self.system.send("obligation.position", obligation_id, position, topic="obligation.positions")

    def apply(self, number: int, subject: str | None = None, **more: Any) -> str:
        """Apply for the closing of somebody's wallet, or another subject; return the case."""
        case_id, subject = str(uuid.uuid4()), subject or f"wallet:p{number}"
        request = {"case_id": case_id, "subject": subject, "reason": "Not needed", "applicant": applicant(number)}
        self.say("closure.request", subject, {**request, **more})
        return case_id

    def say(self, type_: str, key: str, data: dict[str, Any]) -> str:
        """Publish a command about closings; return its `ce_id`."""
        return self.system.send(type_, key, data, topic="closure.commands")


class Cases:
    """Every event of closings, as an outside reader sees them."""

    def __init__(self, kafka: str) -> None:
        self.reader = Reader(kafka, "closure.events")
        self._seen = 0
        self.events: dict[str, dict[int, tuple[str, dict[str, Any]]]] = {}
        self.refused: list[dict[str, Any]] = []

    def read(self) -> None:
        """Take what has come."""
        self.reader.read()
        for headers, value in self.reader.records[self._seen :]:
            type_ = headers["ce_type"].removeprefix("sluice.").removesuffix(".v1")
            body = orjson.loads(value)
            if type_ == "closure.command_refused":
                self.refused.append(body)
            elif "case_id" in body and "request_id" not in body:
                self.events.setdefault(body["case_id"], {})[body["revision"]] = (type_, body)
        self._seen = len(self.reader.records)

    def types(self, case_id: str) -> list[str]:
        """Return what was said of a case, in order, without what all of it begins with."""
        said = self.events.get(case_id, {})
        return [said[revision][0].removeprefix("closure.") for revision in sorted(said)]

    def body(self, case_id: str, type_: str) -> dict[str, Any]:
        """Return the last event of a type of a case."""
        said = self.events[case_id]
        return next(said[revision][1] for revision in sorted(said, reverse=True) if said[revision][0] == type_)

    def wait(self, case_id: str, *types: str, deadline_s: float = 60) -> None:
        """Read on until the last that was said of a case is one of these."""
        try:
            self.reader.read_until(lambda: self._is_at(case_id, types), deadline_s)
        except AssertionError as error:
            message = f"{error}; of the case: {self.types(case_id)}; refused: {self.refused[-3:]}"
            raise AssertionError(message) from None

    def _is_at(self, case_id: str, types: tuple[str, ...]) -> bool:
        self.read()
        said = self.types(case_id)
        return bool(said) and said[-1] in types


def write_policy(home: Path, text: str) -> dict[str, str]:
    """Write a policy of closings; return the environment that names it."""
    home.mkdir(parents=True, exist_ok=True)
    path = home / "closure.toml"
    path.write_text(text)
    path.chmod(0o644)
    return {"SLUICE_CLOSURE_POLICY": str(path)}
