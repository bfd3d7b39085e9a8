"""What a clearance promises: every wallet ends or is named, and its statement accounts for every minor unit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from schemas.fields import as_text
from tests.end_to_end.closings import Cases, People, payout, write_policy
from tests.end_to_end.system import Clock, Reader, System, running_system

if TYPE_CHECKING:
    from collections.abc import Iterator

_POLICY = """
[erasing]
services = ["transfer", "maintenance"]

[clearance]
begun_at_once = 20
remind_before_s = [3600]
progress_every_s = 0.3
"""
RATE = 100
EMPTY, PAID, SILENT, OWING = range(100), range(100, 220), range(220, 240), range(240, 260)
CONFIRMING, CANCELLING, BELOW = range(260, 270), range(270, 280), range(280, 285)
CLOSED_BEFORE, UNTOUCHED = 290, 291
LATE = range(96, 100)
"""Empty when they are reported, and the last whose cases begin: what comes in meanwhile is paid out."""
MOVED = (
    ("top_up", "bank:ICBC:0", "wallet:p97", 60),
    ("p2p", "wallet:p97", "wallet:p98", 20),
    ("top_up", "bank:ICBC:0", "wallet:p99", 25),
    ("p2p", "wallet:p230", "wallet:p231", 30),
    ("p2p", "wallet:p232", f"wallet:p{UNTOUCHED}", 100),
    ("top_up", "bank:ICBC:0", "wallet:p233", 7),
)
"""What its holders do between the report and the draining."""


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    home = tmp_path / "home"
    environment = write_policy(home, _POLICY)
    with running_system(home, maintainers=1, closers=1, movable_clock=True, environment=environment) as system:
        yield system


class Clearing(Cases):
    """Every event of clearances, too."""

    def __init__(self, kafka: str) -> None:
        super().__init__(kafka)
        self._taken = 0
        self.statements: dict[str, dict[int, tuple[str, dict[str, Any]]]] = {}

    def read(self) -> None:
        super().read()
        for headers, value in self.reader.records[self._taken :]:
            type_ = headers["ce_type"].removeprefix("sluice.").removesuffix(".v1")
            if type_.startswith("clearance."):
                body = orjson.loads(value)
                self.statements.setdefault(body["clearance_id"], {})[body["revision"]] = (type_, body)
        self._taken = len(self.reader.records)

    def last(self, clearance_id: str, type_: str) -> dict[str, Any] | None:
        said = self.statements.get(clearance_id, {})
        return next((said[number][1] for number in sorted(said, reverse=True) if said[number][0] == type_), None)

    def wait_for(self, clearance_id: str, type_: str) -> dict[str, Any]:
        def is_said() -> bool:
            self.read()
            return self.last(clearance_id, type_) is not None

        self.reader.read_until(is_said, 120)
        found = self.last(clearance_id, type_)
        assert found is not None
        return found

    def of(self, clearance_id: str) -> dict[str, str]:
        """Return the cases that a clearance began, by wallet."""
        self.read()
        return {
            body["subject"]: case_id
            for case_id, said in self.events.items()
            for type_, body in said.values()
            if type_ == "closure.received" and body.get("clearance_id") == clearance_id
        }


def balance_of(number: int) -> int:
    """Return what somebody's wallet holds before the clearance."""
    if number in EMPTY or number == CLOSED_BEFORE:
        return 0
    return -300 if number in BELOW else 1_000 + number


def moved(number: int) -> int:
    """Return what somebody's wallet holds more than before when it is drained."""
    wallet = f"wallet:p{number}"
    return sum(amount * ((payee == wallet) - (payer == wallet)) for _, payer, payee, amount in MOVED)


def _move(system: System) -> None:
    """Have holders of wallets that are not drained yet pay in, and each other."""
    transfers = Reader(system.kafka)
    for kind, payer, payee, amount_minor in MOVED:
        id_ = system.request(kind, payer, payee, amount_minor)
        transfers.read_until(lambda id_=id_: transfers.status(id_) in {"settled", "failed"}, 60)  # type: ignore[misc]
        assert transfers.latest[id_]["status"] == "settled", transfers.latest[id_]
        assert transfers.latest[id_]["fee_minor"] == 0
    transfers.close()


def _kill(system: System, *names: str) -> None:
    for service in system.endpoints()["services"]:
        if service["name"] in names:
            os.kill(service["pid"], signal.SIGKILL)


def _join(system: System, people: People) -> None:
    for number in (*range(BELOW.stop), CLOSED_BEFORE, UNTOUCHED):
        held = balance_of(number)
        if held < 0:
            _overdraw(system, number, -held)
            continue
        people.join(number, held)
        if number in OWING:
            people.owes(number, f"loan-{number}", 70)


def _overdraw(system: System, number: int, owed_minor: int) -> None:
    wallet = f"wallet:p{number}"
    opening = {"account_id": wallet, "customer_id": f"person-{number}", "currency": "CNY"}
    system.send("account.open", wallet, {**opening, "overdraft_limit_minor": 1_000})
    system.request("fee", wallet, "platform:fees", owed_minor)


def _start(clock: Clock, wallets: list[str], **more: Any) -> dict[str, Any]:
    start = clock.now() + timedelta(hours=1)
    return {
        "clearance_id": str(uuid.uuid4()),
        "cause": "platform_transition",
        "subjects": wallets,
        "announce_at": as_text(clock.now()),
        "starts_at": as_text(start),
        "deadline": as_text(start + timedelta(days=1)),
        "rate_per_s": RATE,
        **more,
    }


def _apply(people: People, cases: Clearing) -> dict[int, str]:
    mine = {number: people.apply(number, payout=payout(number)) for number in (*CONFIRMING, *CANCELLING, CLOSED_BEFORE)}
    for case_id in mine.values():
        cases.wait(case_id, "approved")
    people.say("closure.confirm", f"wallet:p{CLOSED_BEFORE}", {"case_id": mine[CLOSED_BEFORE]})
    cases.wait(mine[CLOSED_BEFORE], "closed")
    return mine


def _settle_in(system: System) -> None:
    """Wait until everybody's wallet holds what it is to hold."""
    transfers = Reader(system.kafka)
    wanted = sum(1 for number in (*range(BELOW.stop), UNTOUCHED) if balance_of(number))
    transfers.read_until(lambda: len(transfers.latest) >= wanted and _are_settled(transfers), 120)
    transfers.close()


def _are_settled(transfers: Reader) -> bool:
    failed = [one for one in transfers.latest.values() if one["status"] == "failed"]
    assert not failed, failed[0]
    return all(one["status"] == "settled" for one in transfers.latest.values())


def _dry_run(system: System, cases: Clearing, clock: Clock, wallets: list[str]) -> None:
    named = [word for wallet in wallets for word in ("--wallet", wallet)]
    times = ("--from", as_text(clock.now() + timedelta(hours=1)), "--to", as_text(clock.now() + timedelta(days=1)))
    words = ("start", "--cause", "regulation", *times, "--rate", "10", *named, "--dry-run")
    shown = _clearance(system, *words)
    said = cases.wait_for(shown["clearance_id"], "clearance.finished")
    assert said["dry_run"]
    assert (shown["money"], shown["pending"]) == (said["money"], 0)
    assert said["wallets"] == BELOW.stop
    applied = len(CONFIRMING) + len(CANCELLING)
    assert (said["cleared"], said["paid"]) == (len(EMPTY), applied)
    assert said["blocked"] == len(OWING) + len(BELOW) == len(said["blockers"])
    assert {(one["code"], one["owed_minor"]) for one in said["blockers"]} == {
        ("obligation_open", 70),
        ("obligation_open", 300),
    }
    (money,) = said["money"]
    assert money["total_minor"] == sum(balance_of(number) for number in range(BELOW.stop))
    assert money["blocked_minor"] == sum(balance_of(number) for number in (*OWING, *BELOW))
    assert said["waiting"] == BELOW.stop - said["cleared"] - said["paid"] - said["blocked"]
    assert money["total_minor"] == sum(money[f"{name}_minor"] for name in ("paid_out", "waiting", "blocked"))
    assert cases.of(shown["clearance_id"]) == {}


def _name_accounts(people: People, cases: Clearing, clearance_id: str, named: set[str]) -> None:
    for wallet, case_id in cases.of(clearance_id).items():
        number = int(wallet.removeprefix("wallet:p"))
        if number in {*PAID, *CANCELLING, *LATE} and case_id not in named:
            people.say("closure.payout_account", wallet, {"case_id": case_id, **payout(number)})
            named.add(case_id)


def _until(
    people: People, cases: Clearing, clearance_id: str, named: set[str], is_enough: Any, deadline_s: float = 120
) -> None:
    def go_on() -> bool:
        _name_accounts(people, cases, clearance_id, named)
        return bool(is_enough())

    cases.reader.read_until(go_on, deadline_s)


def test_every_wallet_ends_or_is_named_and_the_statement_adds_up(system: System) -> None:
    people, cases, clock, named = People(system), Clearing(system.kafka), Clock(system), set[str]()
    _join(system, people)
    _settle_in(system)
    mine = _apply(people, cases)
    wallets = [f"wallet:p{number}" for number in (*range(BELOW.stop), CLOSED_BEFORE)]
    _dry_run(system, cases, clock, wallets)

    command = _start(clock, wallets)
    id_ = command["clearance_id"]
    for _ in range(2):
        people.say("clearance.start", id_, command)
    assert cases.wait_for(id_, "clearance.announced")["wallets"] == BELOW.stop
    people.say("clearance.start", id_, {**command, "rate_per_s": 1})
    cases.reader.read_until(lambda: (cases.read(), bool(cases.refused))[1])
    assert cases.refused[-1]["reason"]["code"] == "duplicate_id_conflict"

    clock.reach(datetime.fromisoformat(command["starts_at"]))
    _until(people, cases, id_, named, lambda: len(cases.of(id_)) >= 50)
    people.say("clearance.pause", id_, {"clearance_id": id_})
    cases.reader.read_until(lambda: (cases.read(), (cases.last(id_, "clearance.progress") or {}).get("paused"))[1])
    began = len(cases.of(id_))
    assert began < BELOW.stop - 50
    _kill(system, "closure", "transfer")
    _until(people, cases, id_, named, lambda: cases.last(id_, "clearance.progress"))
    # What was begun goes on; nothing more begins.
    assert len(cases.of(id_)) == began
    _move(system)
    assert _clearance(system, "pause", id_)["paused"]
    assert not _clearance(system, "resume", id_)["paused"]
    _until(people, cases, id_, named, lambda: len(cases.of(id_)) >= 150)
    _kill(system, "closure", "transfer")
    for number in CONFIRMING:
        people.say("closure.confirm", f"wallet:p{number}", {"case_id": mine[number]})
    for number in CANCELLING:
        people.say("closure.cancel", f"wallet:p{number}", {"case_id": mine[number]})
    shown = _clearance(system, id_)
    assert shown["status"] == "running"
    assert sum(shown[name] for name in ("cleared", "paid", "waiting", "blocked", "pending")) == BELOW.stop
    own = BELOW.stop - len(CONFIRMING)
    _until(people, cases, id_, named, lambda: len(cases.of(id_)) == own)
    _until(people, cases, id_, named, lambda: (cases.last(id_, "clearance.progress") or {}).get("pending") == 0)
    said = cases.last(id_, "clearance.progress")
    assert said is not None
    assert said["waiting"] == len(SILENT)

    deadline = datetime.fromisoformat(command["deadline"])
    clock.reach(deadline - timedelta(minutes=59))
    silent = [cases.of(id_)[f"wallet:p{number}"] for number in SILENT]
    for case_id in silent:
        cases.wait(case_id, "payout_account_required")
        assert cases.body(case_id, "closure.payout_account_required")["deadline"] == command["deadline"]
    assert cases.last(id_, "clearance.finished") is None
    clock.reach(deadline)
    _check_statement(cases, id_, cases.wait_for(id_, "clearance.finished"))
    assert _clearance(system, id_)["money"] == cases.wait_for(id_, "clearance.finished")["money"]
    for case_id in silent:
        assert cases.types(case_id)[-3:] == ["payout_account_required", "draining", "payout_account_required"]
    _go_on_afterwards(people, cases, silent[0])
    _look_back(system, id_)


def _clearance(system: System, *words: str) -> dict[str, Any]:
    """Return what `sluice clearance` says."""
    done = _sluice(system, "clearance", *words, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = orjson.loads(done.stdout)
    return found


def _sluice(system: System, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"SLUICE_HOME": str(system.home)}
    command = [sys.executable, "-m", "ops.cli", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def _go_on_afterwards(people: People, cases: Clearing, case_id: str) -> None:
    """Have somebody name an account after the end: they are paid out all the same."""
    people.say("closure.payout_account", f"wallet:p{SILENT[0]}", {"case_id": case_id, **payout(SILENT[0])})
    cases.wait(case_id, "closed")


def _look_back(system: System, clearance_id: str) -> None:
    """See that a clearance that is finished is not paused any more, and that everything adds up."""
    late = _sluice(system, "clearance", "pause", clearance_id)
    assert (late.returncode, late.stderr) == (1, "Refused (state_conflict): the clearance is finished.\n")
    listed = _sluice(system, "clearance").stdout
    assert listed.count("finished") == 2
    assert "finished (dry run)" in listed
    audited = _sluice(system, "audit")
    assert audited.returncode == 0, audited.stdout


def _check_statement(cases: Clearing, clearance_id: str, said: dict[str, Any]) -> None:
    assert said["wallets"] == BELOW.stop
    late = sum(1 for number in LATE if moved(number))
    assert said["cleared"] == len(EMPTY) - late
    assert said["paid"] == len(PAID) + len(CONFIRMING) + len(CANCELLING) + late
    assert said["waiting"] == len(SILENT)
    assert said["blocked"] == len(OWING) + len(BELOW) == len(said["blockers"])
    (money,) = said["money"]
    assert money == {
        "currency": "CNY",
        "total_minor": sum(balance_of(number) for number in range(BELOW.stop)),
        "paid_out_minor": sum(
            balance_of(number) + moved(number) for number in (*PAID, *CONFIRMING, *CANCELLING, *LATE)
        ),
        "fee_minor": 0,
        "waiting_minor": sum(balance_of(number) + moved(number) for number in SILENT),
        "blocked_minor": sum(balance_of(number) for number in (*OWING, *BELOW)),
        "moved_minor": -sum(moved(number) for number in (*LATE, *SILENT)),
    }
    began = cases.of(clearance_id)
    assert len(began) == BELOW.stop - len(CONFIRMING)
    # Nobody is paid twice, whatever was killed.
    for wallet, case_id in began.items():
        paid = [type_ for type_ in cases.types(case_id) if type_ == "paying_out"]
        number = int(wallet.removeprefix("wallet:p"))
        assert len(paid) == (number in {*PAID, *CANCELLING} or (number in LATE and moved(number) > 0))
