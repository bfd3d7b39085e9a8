"""Thousands of closings while their workers are killed: each ends once, and every minor unit is accounted for."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import orjson
import pytest

from schemas.envelope import short_type
from services.transfer import records
from tests.end_to_end.closings import Cases, People, payout, write_policy
from tests.end_to_end.system import Reader, System, dice, running_system

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

FEE: Final = 10
WORKERS: Final = 2
BANK: Final = {"rules": [{"payee": "bank:BAD:*", "outcome": "fail", "rail_code": "AC04"}], "duplicate_rate": 0.1}
WAYS: Final = {1: "renews", 3: "calls off", 5: "calls off later", 7: "holds little", 9: "holds nothing"}
"""How the holder of a number does it, by its last digit; the others plainly."""

ENDS: Final = {"closed", "cancelled"}
_POLICY: Final = f"""
[erasing]
services = ["transfer"]

[fee]
minor = {{ CNY = {FEE} }}
"""


class Holder:
    """Somebody who closes their wallet, each in their way."""

    def __init__(self, number: int, chance: Random) -> None:
        self.number = number
        self.wallet = f"wallet:p{number}"
        self.way = WAYS.get(number % 10, "plain")
        held = {"holds little": FEE // 2, "holds nothing": 0}
        self.balance_minor = held.get(self.way, chance.randrange(FEE + 1, 50_000))
        self.case_id = ""
        self.answered: set[str] = set()

    @property
    def first_account(self) -> dict[str, str]:
        """The account that they name at first: two kinds of people name one that takes nothing."""
        is_bad = self.way in {"renews", "calls off later"}
        return payout(self.number) | ({"payee": f"bank:BAD:{self.number}"} if is_bad else {})

    @property
    def end(self) -> str:
        return "cancelled" if self.way.startswith("calls off") else "closed"


class Crowd:
    """Everybody who closes a wallet, answering what they are asked, while workers are killed."""

    def __init__(self, system: System, count: int) -> None:
        chance = dice(count)
        self.system = system
        self.people = People(system)
        self.cases = Cases(system.kafka)
        self.holders = [Holder(number, chance) for number in range(count)]

    def join(self) -> None:
        """Have everybody known, with their money in their wallets."""
        money = Reader(self.system.kafka)
        for one in self.holders:
            self.people.join(one.number, one.balance_minor)
        self.system.flush()
        expected = sum(one.balance_minor > 0 for one in self.holders)
        money.read_until(lambda: len(money.latest) == expected and _are_settled(money), 120)
        money.close()

    def apply(self) -> None:
        for one in self.holders:
            account = one.first_account if one.balance_minor > FEE else None
            more: dict[str, Any] = {} if account is None else {"payout": account}
            one.case_id = self.people.apply(
                one.number, accepts_fee=True, claimed_balance_minor=one.balance_minor, **more
            )
        self.system.flush()

    def go_on(self) -> None:
        """Take what has come, and have everybody answer what they are asked."""
        self.cases.read()
        for one in self.holders:
            said = self.cases.types(one.case_id)
            asked = said[-1] if said else ""
            if asked in one.answered:
                continue
            if asked == "approved":
                self._say(one, "cancel" if one.way == "calls off" else "confirm")
            elif asked == "payout_failed" and one.way == "renews":
                self._say(one, "payout_account", **payout(one.number))
            elif asked == "payout_failed":
                self._say(one, "cancel")
            one.answered.add(asked)

    def _say(self, one: Holder, what: str, **more: Any) -> None:
        self.people.say(f"closure.{what}", one.wallet, {"case_id": one.case_id, **more})

    @property
    def ended(self) -> int:
        return sum(self.cases.types(one.case_id)[-1:] in (["closed"], ["cancelled"]) for one in self.holders)

    def read_until(self, is_enough: Callable[[], bool], deadline_s: float) -> None:
        deadline = time.monotonic() + deadline_s
        while not is_enough():
            assert time.monotonic() < deadline, f"not within {deadline_s} s: {self._stand()}"
            self.go_on()

    def _stand(self) -> Counter[str]:
        return Counter("/".join(self.cases.types(one.case_id)[-1:]) for one in self.holders)


def _are_settled(reader: Reader) -> bool:
    return all(event["status"] == "settled" for event in reader.latest.values())


@pytest.mark.parametrize(
    ("count", "kills"),
    [
        (80, 3),
        pytest.param(5_000, 0, marks=pytest.mark.soak),
        pytest.param(5_000, 25, marks=pytest.mark.soak),
    ],
)
async def test_each_case_ends_once_and_all_money_is_accounted_for(tmp_path: Path, count: int, kills: int) -> None:
    home = tmp_path / "home"
    environment = write_policy(home, _POLICY)
    with running_system(home, workers=WORKERS, closers=WORKERS, bank=BANK, environment=environment) as system:
        crowd = Crowd(system, count)
        crowd.join()
        started_at = time.monotonic()
        crowd.apply()
        _kill_while_it_works(crowd, kills)
        crowd.read_until(lambda: crowd.ended == count, 300)
        took_s = time.monotonic() - started_at
        print(f"{count} cases under {kills} kills: {count / took_s:.0f} a second")  # noqa: T201 - a soak's result
        results = Reader(system.kafka, "rail.results")
        while results.read():
            pass
        _check_events(crowd)
        paid = _paid_by_bank(results)
        receipts = _check_receipts(crowd, paid)
        await _check_books(system, crowd, receipts)


def _kill_while_it_works(crowd: Crowd, kills: int) -> None:
    """Kill workers of both services; each kill comes a little further on, so that they fall into every part."""
    chance, count = dice(kills), len(crowd.holders)
    for number in range(kills):
        target = number * count * 3 // (4 * kills)
        crowd.read_until(lambda: crowd.ended >= target and _is_alive(crowd.system), 240)  # noqa: B023 - used at once
        os.kill(chance.choice(crowd.system.endpoints()["services"])["pid"], signal.SIGKILL)


def _is_alive(system: System) -> bool:
    services = system.endpoints()["services"]
    return len(services) == 2 * WORKERS and all(Path(f"/proc/{service['pid']}").exists() for service in services)


def _check_events(crowd: Crowd) -> None:
    """Each case has its events without a gap, each one once and always with the same bytes, and one end."""
    bodies: defaultdict[str, dict[int, bytes]] = defaultdict(dict)
    ended: Counter[str] = Counter()
    for headers, value in crowd.cases.reader.records:
        event = orjson.loads(value)
        revision = event.get("revision")
        assert revision is not None, event
        if revision not in bodies[event["case_id"]]:
            ended[event["case_id"]] += short_type(headers["ce_type"]).removeprefix("closure.") in ENDS
        assert bodies[event["case_id"]].setdefault(revision, value) == value
    for one in crowd.holders:
        assert sorted(bodies[one.case_id]) == list(range(1, len(bodies[one.case_id]) + 1))
        assert ended[one.case_id] == 1
        assert crowd.cases.types(one.case_id)[-1] == one.end, (one.way, crowd.cases.types(one.case_id))
    assert not crowd.cases.refused


def _paid_by_bank(results: Reader) -> set[str]:
    """Return the payouts that the bank has made; it may say so twice."""
    said = {(orjson.loads(value)["transfer_id"], short_type(headers["ce_type"])) for headers, value in results.records}
    paid = {id_ for id_, type_ in said if type_ == "payout.settled"}
    assert not paid & {id_ for id_, type_ in said if type_ != "payout.settled"}
    return paid


def _check_receipts(crowd: Crowd, paid: set[str]) -> list[dict[str, Any]]:
    """Each wallet that was closed has a receipt over what it held; the bank paid what they name, and nothing else."""
    receipts = []
    for one in crowd.holders:
        if one.end != "closed":
            continue
        receipt = crowd.cases.body(one.case_id, "closure.erasing")["receipt"]
        receipts.append(receipt)
        fee_minor = min(FEE, one.balance_minor)
        said = (receipt["balance_minor"], receipt["fee_minor"], receipt["payout_minor"])
        assert said == (one.balance_minor, fee_minor, one.balance_minor - fee_minor), one.way
    transfers = [receipt["transfer_id"] for receipt in receipts if "transfer_id" in receipt]
    assert len(transfers) == len(set(transfers))
    assert set(transfers) == paid
    return receipts


async def _check_books(system: System, crowd: Crowd, receipts: list[dict[str, Any]]) -> None:
    connection = await asyncpg.connect(system.database, server_settings={"search_path": "transfer"})
    try:
        assert await records.find_all(connection) == []
        wallets = {
            row["account_id"]: (row["status"], row["posted_minor"], row["reserved_minor"])
            for row in await connection.fetch("select account_id, status, posted_minor, reserved_minor from account")
        }
        settled = await connection.fetch(
            "select payer, amount_minor from transfer where kind = 'withdrawal' and status = 'settled'"
        )
        fees_minor = await connection.fetchval(
            "select coalesce(sum(posted_minor), 0)::bigint from platform_stripe where account_id = 'platform:fees'"
        )
    finally:
        await connection.close()
    assert len({row["payer"] for row in settled}) == len(settled), "a wallet was paid out twice"
    assert fees_minor == sum(receipt["fee_minor"] for receipt in receipts)
    left_minor = 0
    for one in crowd.holders:
        status, posted_minor, reserved_minor = wallets[one.wallet]
        assert (status, reserved_minor) == ("closed" if one.end == "closed" else "open", 0)
        assert posted_minor == (0 if one.end == "closed" else one.balance_minor), one.way
        left_minor += posted_minor
    paid_minor = sum(receipt["payout_minor"] for receipt in receipts)
    assert sum(row["amount_minor"] for row in settled) == paid_minor
    assert paid_minor + fees_minor + left_minor == sum(one.balance_minor for one in crowd.holders)
