"""What people on call are told of a running system, and that a gap in a log stops its partition and nothing else."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from local.topics import create_topics
from tests.end_to_end.system import Reader, System, running_system

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running_system(tmp_path_factory.mktemp("on_call") / "home") as started:
        yield started


@pytest.fixture(scope="module")
def reader(system: System) -> Iterator[Reader]:
    reader = Reader(system.kafka)
    yield reader
    reader.close()


def sluice(system: System, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ops.cli", *words],
        env=os.environ | {"SLUICE_HOME": str(system.home), "COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def told(system: System, *words: str) -> Any:
    done = sluice(system, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def wait_until(condition: Callable[[], bool], deadline_s: float = 30) -> None:
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {deadline_s} s"
        time.sleep(0.05)


def trouble(system: System) -> str:
    """What `/readyz` complains of; nothing when it is green."""
    (worker,) = (service for service in system.endpoints()["services"] if service["name"] == "transfer")
    try:
        urllib.request.urlopen(f"{worker['health']}/readyz", timeout=5).close()
    except urllib.error.HTTPError as error:
        return error.read().decode()
    except OSError as error:
        # Nobody answers, or whoever does is killed meanwhile.
        return str(error)
    return ""


# --- Replay ---


def write_history(directory: Path, transfers: list[dict[str, Any]]) -> None:
    tables: dict[str, list[dict[str, Any]]] = {
        "customers.csv": [{"customer_id": "h1", "name": "王小明"}, {"customer_id": "h2", "name": "Li Na"}],
        "accounts.csv": [
            {"account_id": f"wallet:h{n}", "customer_id": f"h{n}", "currency": "CNY"}
            | {"overdraft_limit_minor": 0, "tier": "unlimited"}
            for n in (1, 2)
        ],
        "transfers.csv": transfers,
    }
    directory.mkdir(exist_ok=True)
    for name, rows in tables.items():
        with (directory / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


def row(kind: str, payer: str, payee: str, amount: int | str, expected: int) -> dict[str, Any]:
    moved = {"transfer_id": str(uuid.uuid4()), "occurred_on": "1993-01-01", "kind": kind, "payer": payer}
    return moved | {"payee": payee, "amount_minor": amount, "currency": "CNY", "expected_balance_minor": expected}


def history() -> list[dict[str, Any]]:
    return [
        row("top_up", "bank:AB:1", "wallet:h1", 1000, 1000),
        row("p2p", "wallet:h1", "wallet:h2", 300, 700),
        row("p2p", "wallet:h1", "wallet:h2", 800, 700),
        row("withdrawal", "wallet:h1", "bank:AB:2", 200, 500),
    ]


def test_a_replay_reports_outcomes_and_a_second_one_changes_nothing(system: System, tmp_path: Path) -> None:
    write_history(tmp_path / "history", history())
    for is_repeated in (False, True):
        report_file = tmp_path / "report.json"
        done = sluice(system, "replay", str(tmp_path / "history"), "--json", str(report_file))
        assert done.returncode == 0, done.stdout + done.stderr
        report = json.loads(report_file.read_text())
        assert report["outcomes"] == {"settled": 3, "failed": 1}
        assert report["reasons"]["insufficient_balance"] == 1
        assert (report["balances_off"], report["not_ended"], report["dead_letters"]) == (0, 0, 0)
        assert report["audit"] == "clean"
        assert report["done_before"] == (4 if is_repeated else 0)
        assert (report["per_second"] is None) == is_repeated
        assert ("Everything had been done already" in done.stdout) == is_repeated
    assert told(system, "statement", "wallet:h1")["posted_minor"] == 500


def test_a_replay_keeps_the_order_of_rows_that_meet_in_a_wallet(system: System, tmp_path: Path) -> None:
    # Each row needs what the row before it brought, under another key.
    rows, everything = [row("top_up", "bank:AB:1", "wallet:h2", 100, 400)], 900
    for number in range(30):
        payer, payee = (2, 1) if number % 2 == 0 else (1, 2)
        amount = 400 if number == 0 else everything
        rows.append(row("p2p", f"wallet:h{payer}", f"wallet:h{payee}", amount, 0))
    last = row("p2p", "wallet:h2", "wallet:h1", 500, 400)
    write_history(tmp_path / "history", [*rows, last])
    report_file = tmp_path / "report.json"
    done = sluice(system, "replay", str(tmp_path / "history"), "--json", str(report_file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(report_file.read_text())["outcomes"] == {"settled": 32}


def test_a_replay_finds_what_is_off_and_ends(system: System, tmp_path: Path) -> None:
    rows = [
        row("top_up", "bank:AB:1", "wallet:h2", 100, 501),
        row("lottery", "bank:AB:1", "wallet:h2", 100, 400),
    ]
    write_history(tmp_path / "history", rows)
    report_file = tmp_path / "report.json"
    done = sluice(system, "replay", str(tmp_path / "history"), "--json", str(report_file))
    report = json.loads(report_file.read_text())
    assert done.returncode == 1
    assert (report["balances_off"], report["not_ended"], report["dead_letters"]) == (2, 1, 1)
    assert report["seconds"] >= 0
    assert "expected 5.01 CNY, found 5.00 CNY" in done.stdout
    assert "expected 4.00 CNY, found none" in done.stdout


def test_a_replay_names_what_is_refused_and_does_not_wait_for_its_outcome(system: System, tmp_path: Path) -> None:
    rows = [row("top_up", "bank:AB:1", "wallet:h2", 100, 600)]
    write_history(tmp_path / "history", rows)
    assert sluice(system, "replay", str(tmp_path / "history")).returncode == 0
    changed = [rows[0] | {"amount_minor": 101}, row("top_up", "bank:AB:1", "wallet:h2", 1, 601)]
    write_history(tmp_path / "history", changed)
    report_file = tmp_path / "report.json"
    done = sluice(system, "replay", str(tmp_path / "history"), "--json", str(report_file))
    report = json.loads(report_file.read_text())
    assert done.returncode == 1
    assert report["first_refused"] == {rows[0]["transfer_id"]: "duplicate_id_conflict"}
    assert (report["refused"], report["not_ended"], report["balances_off"]) == (1, 0, 0)
    assert report["seconds"] < 10
    assert f"{rows[0]['transfer_id']} is refused because of duplicate_id_conflict" in done.stdout


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("amount_minor", "12.50", "transfers.csv, line 2: amount_minor is '12.50', not a whole number."),
        ("transfer_id", "T1", "transfers.csv, line 2: transfer_id is 'T1', not a UUID."),
    ],
)
def test_a_replay_names_the_cell_that_is_wrong(
    system: System, tmp_path: Path, column: str, value: str, says: str
) -> None:
    write_history(tmp_path / "history", [row("p2p", "wallet:h1", "wallet:h2", 1, 1) | {column: value}])
    done = sluice(system, "replay", str(tmp_path / "history"))
    assert done.returncode == 2
    assert says in done.stderr.replace("\n", " ")


def test_a_replay_without_rows_names_the_file(system: System, tmp_path: Path) -> None:
    write_history(tmp_path / "history", [row("p2p", "wallet:h1", "wallet:h2", 1, 1)])
    transfers = tmp_path / "history" / "transfers.csv"
    transfers.write_text(transfers.read_text().partition("\n")[0] + "\n")
    done = sluice(system, "replay", str(tmp_path / "history"))
    assert done.returncode == 2
    assert f"{transfers} has no rows" in done.stderr


def test_a_replay_names_lines_that_cannot_be_meant(system: System, tmp_path: Path) -> None:
    one = row("p2p", "wallet:h1", "wallet:h2", 1, 1)
    for rows, says in (
        (
            [one, row("p2p", "wallet:h1", "wallet:h2", 1, 1), one],
            f"line 4: the transfer_id {one['transfer_id']} stands",
        ),
        ([one, row("p2p", "wallet:h1", "wallet:h3", 1, 1)], "line 3: wallet:h3 is not in accounts.csv"),
    ):
        write_history(tmp_path / "history", rows)
        done = sluice(system, "replay", str(tmp_path / "history"))
        assert done.returncode == 2
        assert says in done.stderr


# --- Looking ---


def test_statement_transfer_and_audit_tell_the_same_story(system: System, reader: Reader) -> None:
    opening = {"account_id": "wallet:told", "customer_id": "told", "currency": "CNY"}
    system.send("account.open", "wallet:told", opening)
    top_up = system.request("top_up", "bank:AB:1", "wallet:told", 10_000)
    payout = system.request("withdrawal", "wallet:told", "bank:AB:2", 5_000)
    too_much = system.request("withdrawal", "wallet:told", "bank:AB:2", 5_000)
    system.flush()
    reader.read_until(lambda: reader.status(payout) == "settled" and reader.status(too_much) == "failed")

    statement = told(system, "statement", "wallet:told")
    assert [entry["amount_minor"] for entry in statement["entries"]] == [10_000, -5_000, -10]
    assert statement["available_minor"] == 4_990
    assert [entry["after_minor"] for entry in statement["entries"]] == [10_000, 5_000, 4_990]
    first = statement["entries"][0]
    assert first["transfer_id"] == top_up
    then = told(system, "statement", "wallet:told", "--at", first["moved_at"])
    assert then["posted_minor_then"] == 10_000
    assert then.keys() == {"account_id", "currency", "at", "posted_minor_then"}
    shown = sluice(system, "statement", "wallet:told", "--at", first["moved_at"]).stdout
    assert "posted 100.00 CNY" in shown
    assert "available" not in shown

    assert not statement["has_more"]
    assert "--limit" not in sluice(system, "statement", "wallet:told").stdout
    latest = told(system, "statement", "wallet:told", "--limit", "2")
    assert latest["entries"] == statement["entries"][1:]
    assert (latest["has_more"], latest["entry_count"]) == (True, 3)
    assert "The latest 2 of 3; --limit for more." in sluice(system, "statement", "wallet:told", "--limit", "2").stdout

    steps = told(system, "transfer", payout)["steps"]
    assert [step["type"] for step in steps] == ["transfer.sent", "transfer.settled"]
    story = told(system, "trace", payout)
    assert {"payout.instructed", "payout.settled"} <= {line["name"] for line in story["lines"]}
    assert len(story["correlations"]) == 1, "the bank carries it on"
    shown = sluice(system, "transfer", too_much).stdout
    assert "because of insufficient_balance (field amount_minor, shortfall_minor 20)" in " ".join(shown.split())

    audit = told(system, "audit")
    assert audit["clean"]
    assert audit["findings"] == []
    assert audit["transfers"] >= 3


# --- Gaps ---


def test_retention_that_overtook_the_consumer_stops_one_partition_until_it_is_accepted(
    system: System, reader: Reader
) -> None:
    wallets = set(system.open_wallets(40, overdraft_minor=10_000))
    system.flush()
    reader.read_until(lambda: wallets <= {headers["ce_subject"] for headers, _ in reader.records})
    known = system.request("p2p", "wallet:0", "wallet:1", 1)
    system.flush()
    reader.read_until(lambda: reader.status(known) == "settled")
    partition = reader.partitions[known]

    (worker,) = (service for service in system.endpoints()["services"] if service["name"] == "transfer")
    # It takes its successor longer to start than it takes to lose five records.
    os.kill(worker["pid"], signal.SIGKILL)
    lost = [system.request("p2p", "wallet:0", "wallet:1", 1) for _ in range(5)]
    system.flush()
    admin = AdminClient({"bootstrap.servers": system.kafka})
    place = TopicPartition("transfer.commands", partition, -1)
    admin.delete_records([place])[place].result(30)

    wait_until(lambda: f"partition {partition} of transfer.commands stopped by a gap: retention" in trouble(system))
    after = system.request("p2p", "wallet:0", "wallet:1", 1)
    others = [system.request("p2p", f"wallet:{number}", "wallet:1", 1) for number in range(2, 40)]
    system.flush()
    # Some of the wallets share the partition; most do not.
    reader.read_until(lambda: sum(reader.status(id_) == "settled" for id_ in others) > len(others) // 2)

    gaps = [found for found in told(system, "offsets", "show") if found["gap"]]
    assert [(gap["topic"], gap["partition"], gap["gap"]["kind"]) for gap in gaps] == [
        ("transfer.commands", partition, "retention")
    ]
    assert gaps[0]["gap"]["size"] == 5
    assert gaps[0]["lag"] == gaps[0]["log_end"] - gaps[0]["next_offset"] > 5
    found_at = datetime.fromisoformat(gaps[0]["gap"]["found_at"]).astimezone(ZoneInfo("Asia/Shanghai"))
    assert (
        f"retention, 5 records missing, since {found_at:%Y-%m-%d %H:%M:%S}" in sluice(system, "offsets", "show").stdout
    )
    assert reader.status(after) is None

    accepted = sluice(system, "offsets", "accept", "transfer", "transfer.commands", str(partition))
    assert accepted.returncode == 0, accepted.stderr
    reader.read_until(lambda: reader.status(after) == "settled" and all(reader.status(id_) for id_ in others))
    assert not any(reader.status(id_) for id_ in lost)
    wait_until(lambda: not trouble(system))
    again = sluice(system, "offsets", "accept", "transfer", "transfer.commands", str(partition))
    assert again.returncode == 1
    assert "has no gap" in again.stderr
    never = sluice(system, "offsets", "accept", "transfer", "transfer.nothing")
    assert never.returncode == 1
    assert "has consumed no topic 'transfer.nothing'" in never.stderr


def test_a_recreated_topic_stops_its_partitions_and_money_goes_on(system: System, reader: Reader) -> None:
    admin = AdminClient({"bootstrap.servers": system.kafka})
    topic = "customer.profiles"
    count = len(admin.list_topics(topic, 10).topics[topic].partitions)
    admin.delete_topics([topic])[topic].result(30)
    wait_until(lambda: topic not in admin.list_topics(timeout=10).topics)
    create_topics({"bootstrap.servers": system.kafka}, "", count)

    wait_until(lambda: trouble(system).count(f"of {topic} stopped by a gap: recreated") == count, 60)
    paid = system.request("top_up", "bank:AB:1", "wallet:0", 1)
    system.flush()
    reader.read_until(lambda: reader.status(paid) == "settled")
    system.send("customer.profile", "new", {"customer_id": "new", "name": "N"}, topic=topic)
    system.flush()
    gaps = [found for found in told(system, "offsets", "show") if found["service"] == "transfer" and found["gap"]]
    assert sum(gap["lag"] for gap in gaps) == 1

    # Without a partition it is every one that stands still, and they are named.
    accepted = sluice(system, "offsets", "accept", "transfer", topic)
    assert accepted.returncode == 0, accepted.stderr
    assert [f"partition {partition} of {topic}: recreated" in accepted.stdout for partition in range(count)].count(
        True
    ) == count
    wait_until(lambda: not trouble(system))


# --- Dead letters ---


def test_a_thousand_poisoned_records_are_mended_and_replayed_once(system: System, tmp_path: Path) -> None:
    wallets = [f"wallet:poisoned-{number}" for number in range(10)]
    events, letters = Reader(system.kafka), Reader(system.kafka, "transfer.commands.dlq")
    for wallet in wallets:
        opening = {"account_id": wallet, "customer_id": f"of-{wallet}", "currency": "CNY", "tier": "unlimited"}
        system.send("account.open", wallet, opening)
    poisoned = [system.request("top_up", "bank:AB:1", wallets[n % 10], f"{n + 1} yuan") for n in range(1_000)]  # type: ignore[arg-type]
    system.flush()

    def poison() -> int:
        return sum(b" yuan" in value for _, value in letters.records)

    letters.read_until(lambda: poison() == 1_000)
    file = tmp_path / "poisoned"
    assert sluice(system, "dlq", "export", str(file), "--topic", "transfer.commands").returncode == 0
    # Other tests of this system leave dead letters too.
    lines = [json.loads(line) for line in file.read_text().splitlines() if " yuan" in line]
    for line in lines:
        line["value"]["amount_minor"] = int(line["value"]["amount_minor"].removesuffix(" yuan"))
    file.write_text("\n".join(json.dumps(line) for line in lines))
    words = ("dlq", "replay", "--repaired", str(file), "--rate", "5000", "--yes", "--why", "words for figures")
    done = sluice(system, *words)
    assert "Replayed 1,000 dead letters." in done.stdout, done.stderr
    events.read_until(lambda: all(events.status(id_) == "settled" for id_ in poisoned))
    assert "There is nothing to replay." in sluice(system, *words).stdout
    for number, wallet in enumerate(wallets):
        shown = told(system, "statement", wallet, "--limit", "200")
        assert len(shown["entries"]) == 100
        assert shown["posted_minor"] == sum(range(number + 1, 1_001, 10))
    letters.read()
    assert poison() == 1_000
    assert sluice(system, "audit").returncode == 0
    events.close()
    letters.close()
