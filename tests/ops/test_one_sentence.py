"""What keeps a command from doing what it is for is said in one sentence, with exit code 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import asyncpg
import pytest
from confluent_kafka import KafkaError, KafkaException

from ops.brokers import NoAnswer, asking
from ops.running import Running
from tests.conftest import with_database
from tests.ops.in_process import Done, run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NOBODY = "127.0.0.1:1"
ASKS_BROKERS = {"offsets", "replay"}


def sluice(words: Sequence[str | bytes], *, kafka: str = NOBODY, database: str, prefix: str = "") -> Done:
    named = {"KAFKA_BOOTSTRAP_SERVERS": kafka, "DATABASE_URL": database, "SLUICE_TOPIC_PREFIX": prefix}
    if words[0] not in ASKS_BROKERS:
        return run(named, [word if isinstance(word, str) else os.fsdecode(word) for word in words])
    # What the client's library prints passes Python by.
    command = [sys.executable, "-m", "ops.cli", *words]
    done = subprocess.run(command, env=os.environ | named, capture_output=True, text=True, timeout=60, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


def refusal(words: Sequence[str | bytes], *, kafka: str, database: str, prefix: str = "") -> str:
    """Run a command that cannot do what it is for; return what it said."""
    done = sluice(words, kafka=kafka, database=database, prefix=prefix)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.count("\n") == 1
    return done.stderr


async def execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.mark.parametrize("command", ["audit", "migrate"])
@pytest.mark.parametrize("address", ["nonsense", "mysql://u:geheim@db/x", "postgresql://u:geheim@db:port/x"])
def test_an_address_that_is_none(command: str, address: str) -> None:
    said = refusal([command], kafka=NOBODY, database=address)
    assert "DATABASE_URL" in said
    assert "postgresql://" in said
    assert "geheim" not in said


def test_a_setting_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_HOME", str(tmp_path))
    said = refusal(["console"], kafka=NOBODY, database="postgresql://u:p@127.0.0.1:1/x")
    assert said == "The setting SLUICE_CONSOLE_KEY is missing.\n"


def test_a_database_that_answers_and_refuses(postgres_dsn: str) -> None:
    said = refusal(["audit"], kafka=NOBODY, database=with_database(postgres_dsn, "nowhere"))
    assert "refuses" in said
    assert "does not answer" not in said
    assert "does not answer" in refusal(["audit"], kafka=NOBODY, database="postgresql://u:p@127.0.0.1:1/x")


@pytest.mark.parametrize("words", [["audit"], ["statement", "wallet:a"], ["offsets", "show"]])
async def test_a_database_without_tables(postgres_dsn: str, words: list[str]) -> None:
    await execute(postgres_dsn, "create database bare")
    try:
        assert "sluice migrate" in refusal(words, kafka=NOBODY, database=with_database(postgres_dsn, "bare"))
    finally:
        await execute(postgres_dsn, "drop database bare with (force)")


START = "insert into transfer.consumed_offset (topic, partition, topic_id, next_offset) values ('{topic}', 0, 'x', 0)"


async def test_brokers_that_do_not_answer(database: str) -> None:
    await execute(database, START.format(topic="transfer.commands"))
    said = refusal(["offsets", "show"], kafka=NOBODY, database=database)
    assert f"Kafka at {NOBODY} does not answer" in said


def test_brokers_that_have_just_come_back() -> None:
    running = Running(NOBODY, "postgresql://nobody/x", "", "real")
    with pytest.raises(NoAnswer, match="UNKNOWN_LEADER_EPOCH"), asking(running):
        raise KafkaException(KafkaError(KafkaError.UNKNOWN_LEADER_EPOCH))
    with pytest.raises(NoAnswer, match="in time"), asking(running):
        raise TimeoutError


async def test_a_topic_that_is_missing(kafka: str, database: str, topic_prefix: str) -> None:
    await execute(database, START.format(topic="transfer.nothing"))
    said = refusal(["offsets", "show"], kafka=kafka, database=database, prefix=topic_prefix)
    assert "transfer.nothing" in said
    assert "sluice topics create" in said


def test_a_replay_without_brokers(database: str, tmp_path: Path) -> None:
    write_history(tmp_path)
    assert f"Kafka at {NOBODY} does not answer" in refusal(["replay", str(tmp_path)], kafka=NOBODY, database=database)


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    write_history(tmp_path)
    words = ["replay", str(tmp_path), "--json", str(tmp_path / "nowhere" / "x.json")]
    assert "nowhere" in refusal(words, kafka=NOBODY, database="postgresql://nobody/x")


def write_history(directory: Path) -> None:
    (directory / "customers.csv").write_text("customer_id,name\na,A\n")
    accounts = "account_id,customer_id,currency,overdraft_limit_minor,tier\nwallet:a,a,CNY,0,unlimited\n"
    (directory / "accounts.csv").write_text(accounts)
    (directory / "transfers.csv").write_text(
        "transfer_id,occurred_on,kind,payer,payee,amount_minor,currency,expected_balance_minor\n"
        "6f1c0f4e-6f0b-4b0e-8f0a-000000000001,1993-01-01,top_up,bank:AB:1,wallet:a,100,CNY,100\n"
    )


@pytest.mark.parametrize(
    "moment", ["0001-01-01", "9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59Z", "1969-12-31T00:00:00Z", "yesterday"]
)
def test_a_moment_out_of_reach(database: str, moment: str) -> None:
    assert moment in refusal(["statement", "wallet:a", "--at", moment], kafka=NOBODY, database=database)


def test_figures_and_names_that_no_database_takes(database: str) -> None:
    for words, code in (
        (["statement", "wallet:a", "--limit", "9" * 20], 2),
        (["offsets", "accept", "transfer", "transfer.commands", "9" * 20], 1),
        (["statement", b"wallet:\xff"], 1),
    ):
        done = sluice(words, database=database)
        assert done.returncode == code
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--at", "2026-01-02", "--since", "2026-01-01"], "--at asks for one moment"),
        (["--since", "2026-01-02", "--until", "2026-01-01"], "--since 2026-01-02 is later than --until 2026-01-01"),
    ],
)
def test_spans_that_cannot_be_meant(options: list[str], says: str) -> None:
    assert says in refusal(["statement", "wallet:a", *options], kafka=NOBODY, database="postgresql://nobody/x")


@pytest.mark.parametrize(
    ("account", "says"),
    [
        ("platform:fees", "Nothing has moved through platform:fees yet.\n"),
        ("bank:ICBC:1", "A bank is kept as a whole, not by account: ask for bank:ICBC.\n"),
        ("wallet:alice", "There is no account 'wallet:alice'.\n"),
        ("alice", "There is no account 'alice': an account is named like wallet:alice, platform:fees or bank:ICBC.\n"),
    ],
)
def test_an_account_that_is_not_there(database: str, account: str, says: str) -> None:
    done = sluice(["statement", account], database=database)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", says)


async def test_an_audit_for_programs_has_every_amount_as_a_number(database: str) -> None:
    stripe = "insert into transfer.platform_stripe (account_id, currency, stripe, posted_minor) values ({})"
    await execute(database, stripe.format("'platform:fees', 'CNY', 0, 1"))
    done = sluice(["audit", "--json"], database=database)
    assert done.returncode == 1, done.stderr
    findings = {finding["rule"]: finding["rows"] for finding in json.loads(done.stdout)["findings"]}
    assert findings["all entries sum to zero"] == [{"currency": "CNY", "sum_minor": 1}]
    (row,) = findings["a platform account's stripes add up to its entries"]
    assert (row["posted_minor"], row["entries_minor"]) == (1, 0)
