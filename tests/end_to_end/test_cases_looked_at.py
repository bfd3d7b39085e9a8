"""What people on call see of closings and decide: two persons approve a large one, and nobody's details are shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from tests.end_to_end.closings import Cases, People, applicant, payout, write_policy
from tests.end_to_end.system import System, running_system

if TYPE_CHECKING:
    from collections.abc import Iterator

_POLICY = """
[erasing]
services = ["transfer"]

[[erasing.retained]]
what = "closing"
why = "contract_law"
days = 1_096

[review]
person_from_minor = { CNY = 1_000 }
four_eyes_from_minor = { CNY = 5_000 }
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    home = tmp_path_factory.mktemp("looked_at") / "home"
    with running_system(home, closers=1, environment=write_policy(home, _POLICY)) as system:
        yield system


def sluice(system: System, *words: str, says: str = "") -> subprocess.CompletedProcess[str]:
    named = {"SLUICE_HOME": str(system.home), "SLUICE_CLOSURE_POLICY": str(system.home / "closure.toml")}
    removed = ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL")
    environment = {name: value for name, value in os.environ.items() if name not in removed} | named
    command = [sys.executable, "-m", "ops.cli", *words]
    return subprocess.run(command, env=environment, input=says, capture_output=True, text=True, timeout=60, check=False)


def shown(system: System, *words: str) -> Any:
    done = sluice(system, "cases", *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_two_persons_approve_a_large_case_and_its_payout_is_shown(system: System) -> None:
    people, cases = People(system), Cases(system.kafka)
    wallet = people.join(1, 8_000)
    case_id = people.apply(1, payout=payout(1))
    cases.wait(case_id, "in_review")
    (waiting,) = shown(system, "--review")
    assert (waiting["case_id"], waiting["why"], waiting["waits_for"]) == (case_id, "amount", ["reviewer"])
    assert shown(system, "--clearance", str(uuid.uuid4())) == []

    def approve(reviewer: str) -> subprocess.CompletedProcess[str]:
        return sluice(system, "cases", "approve", case_id, "--reviewer", reviewer, "--note", "The account is hers.")

    first = approve("Wang")
    assert (first.returncode, first.stderr) == (0, "")
    assert "another reviewer has to approve it, too" in first.stdout
    again = approve("Wang")
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.startswith("Refused (reviewer_must_differ)")
    second = approve("Zhao")
    assert second.returncode == 0
    assert "is approved; it waits for customer" in second.stdout
    people.say("closure.confirm", wallet, {"case_id": case_id})
    cases.wait(case_id, "closed")
    case = shown(system, case_id)[0]
    assert (case["status"], case["erasure"], case["paid_minor"]) == ("closed", "done", 8_000)
    (paid,) = case["payouts"]
    assert (paid["transfer_id"], paid["status"], paid["payee"]) == (
        case["receipt"]["transfer_id"], "settled", "bank:ICBC:…0001",
    )  # fmt: skip
    text = sluice(system, "cases", case_id).stdout
    for said in ("closes wallet:p1 of person-1", paid["transfer_id"], "receipt R-", "closing until 20"):
        assert said in text
    for detail in (*applicant(1).values(), payout(1)["payee"], "hers"):
        assert detail not in text + json.dumps(case, ensure_ascii=False)
    audited = sluice(system, "audit")
    assert audited.returncode == 0, audited.stdout
    assert "1 closing." in audited.stdout


def test_a_case_that_is_rejected_says_so_and_one_that_is_not_there(system: System) -> None:
    people, cases = People(system), Cases(system.kafka)
    people.join(2, 2_000)
    case_id = people.apply(2, payout=payout(2))
    cases.wait(case_id, "in_review")
    rejected = sluice(system, "cases", "reject", case_id, "--reviewer", "Wang", "--note", "Not hers.", "--json")
    assert json.loads(rejected.stdout)["status"] == "rejected"
    late = sluice(system, "cases", "approve", case_id, "--reviewer", "Wang", "--note", "")
    assert late.stderr == "Refused (state_conflict): the case is rejected.\n"
    assert sluice(system, "cases", "--status", "rejected").stdout.count(case_id) == 1
    assert sluice(system, "cases", "--review").stdout == "No case stands there.\n"
    for words in ((str(uuid.uuid4()),), ("approve", str(uuid.uuid4()), "--reviewer", "W", "--note", "")):
        missing = sluice(system, "cases", *words)
        assert (missing.returncode, missing.stdout) == (1, "")
        assert missing.stderr.startswith("There is no case ")


def said_of(cases: Cases, wallet: str) -> list[str]:
    """Return everything that was said of the cases of a wallet."""
    about = [id_ for id_, said in cases.events.items() if any(body["subject"] == wallet for _, body in said.values())]
    return [type_ for id_ in about for type_ in cases.types(id_)]


def test_a_clearance_begins_only_when_a_person_says_so_after_its_dry_run(system: System) -> None:
    people, cases = People(system), Cases(system.kafka)
    wallet = people.join(3)
    when = ("--from", "now", "--to", "2090-01-01", "--rate", "5")
    words = ("start", "--cause", "termination", *when, "--wallet", wallet)
    declined = sluice(system, "clearance", *words, says="n\n")
    assert (declined.returncode, declined.stderr.strip()) == (0, "Begin it? [y/N]:")
    assert declined.stdout.startswith("A dry run (termination), finished")
    (rehearsed,) = json.loads(sluice(system, "clearance", "--json").stdout)
    assert rehearsed["dry_run"]
    begun = sluice(system, "clearance", *words, "--json", "--yes")
    assert (begun.returncode, begun.stderr) == (0, "")
    found = json.loads(begun.stdout)
    assert (found["dry_run"], found["cause"], found["rate_per_s"]) == (False, "termination", 5)
    again = sluice(system, "clearance", *words, "--clearance", found["clearance_id"], "--yes")
    assert (again.returncode, again.stderr.split(":")[0]) == (
        1,
        f"There is a clearance {found['clearance_id']} already",
    )

    cases.reader.read_until(lambda: (cases.read(), "closed" in said_of(cases, wallet))[1], 60)
    missing = sluice(system, "clearance", "pause", str(uuid.uuid4()))
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr.startswith("There is no clearance ")
