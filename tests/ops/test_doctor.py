"""`sluice doctor` against engines that are broken on purpose: each fault is found, and said with what to do."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from aiohttp import web
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    ResourceType,
)

from local.settings import runtime_settings
from ops.doctor import brokers, command
from ops.doctor.brokers import check_brokers
from ops.doctor.databases import check_database
from ops.doctor.here import check_services
from ops.doctor.model import Check, State
from ops.running import Running
from services.insight.policy import Policy
from services.insight.topics import NOTES, make_topics
from services.runtime.personal_data import new_key, wrap_key
from tests.conftest import PARTITIONS
from tests.ops.in_process import run
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

KEY = base64.b64encode(b"k" * 32).decode()
OTHER_KEY = b"o" * 32
TABLES = ("deliveries-changelog", "outcomes-changelog", "suspicions-changelog")
NOWHERE = "postgresql://127.0.0.1:1/none"


@pytest.fixture
def named(kafka: str, database: str, topic_prefix: str) -> Mapping[str, str]:
    """An environment with everything but workers."""
    engines = {"KAFKA_BOOTSTRAP_SERVERS": kafka, "DATABASE_URL": database, "SLUICE_TOPIC_PREFIX": topic_prefix}
    return engines | {"SLUICE_MASTER_KEY": KEY, "SLUICE_NAME_KEY": KEY}


def found(checks: Sequence[Check], area: str, state: State = State.WRONG) -> list[str]:
    return [check.found for check in checks if (check.area, check.state) == (area, state)]


def test_with_good_engines_only_the_workers_are_missing(named: Mapping[str, str]) -> None:
    done = run(named, ["doctor", "--json"])
    checks: list[dict[str, Any]] = json.loads(done.stdout)
    assert done.returncode == 1
    assert all(list(check) == ["area", "state", "found", "todo"] for check in checks)
    assert {check["area"] for check in checks if check["state"] == "wrong"} == {"services"}
    assert {check["area"] for check in checks if check["state"] == "ok"} == {
        "engines", "clock", "settings", "topics", "migrations", "permissions"
    }  # fmt: skip
    assert all(check["todo"] for check in checks if check["state"] != "ok")


def test_topics_that_are_missing_or_otherwise_are_named(kafka: str, database: str, topic_prefix: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})
    gone, short = f"{topic_prefix}risk.events", f"{topic_prefix}transfer.events"
    admin.delete_topics([gone])[gone].result(30)
    larger = f"{topic_prefix}account.states"
    admin.create_partitions([NewPartitions(larger, PARTITIONS + 1)])[larger].result(30)
    kept = ConfigEntry("retention.ms", "60000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, short, incremental_configs=[kept])
    admin.incremental_alter_configs([resource])[resource].result(30)

    def is_broken() -> bool:
        asked = ConfigResource(ResourceType.TOPIC, short)
        value = admin.describe_configs([asked])[asked].result(30)["retention.ms"].value
        topics = admin.list_topics(timeout=10).topics
        return value == "60000" and gone not in topics and len(topics[larger].partitions) > PARTITIONS

    wait_for(is_broken, what="the brokers to know")
    checks = check_brokers(Running(kafka, database, topic_prefix, "real"))
    assert found(checks, "topics") == [
        f"missing: {gone}",
        f"partition counts differ: {larger} {PARTITIONS + 1}, all others {PARTITIONS}",
        f"{short}: retention.ms is 60000, not 2592000000",
    ]
    [altering] = [check.todo for check in checks if "retention.ms" in check.found]
    assert altering == "`sluice topics settle` sets it"
    assert found(checks, "topics", State.ADVICE) == [
        "insight's own are missing: "
        + ", ".join(f"{topic_prefix}sluice.insight-{name}" for name in sorted([*TABLES, "notes"]))
    ]
    left = [name for name in admin.list_topics(timeout=10).topics if "sluice.doctor" in name]
    assert not [name for name in left if name.startswith(topic_prefix)]


def test_insights_topics_are_held_to_its_policy_and_to_what_it_reads(
    kafka: str, database: str, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, admin = Running(kafka, database, topic_prefix, "real"), AdminClient({"bootstrap.servers": kafka})
    make_topics(runtime_settings(kafka, database).model_copy(update={"topic_prefix": topic_prefix}), Policy())
    checks = check_brokers(running)
    assert "4 of insight's own, cut as what it reads" in found(checks, "topics", State.OK)
    notes, outcomes = f"{topic_prefix}{NOTES}", f"{topic_prefix}sluice.insight-outcomes-changelog"
    admin.create_partitions([NewPartitions(notes, 5)])[notes].result(30)
    policy = tmp_path / "policy.toml"
    policy.write_text("[counts]\nminutes_kept = 30\n")
    monkeypatch.setenv("SLUICE_INSIGHT_POLICY", str(policy))
    wait_for(lambda: len(admin.list_topics(timeout=10).topics[notes].partitions) == 5, what="the brokers to know")
    checks = check_brokers(running)
    assert f"{notes} has 5 partitions and insight needs {PARTITIONS}" in found(checks, "topics")
    assert f"{outcomes}: retention.ms is 7200000, not 3600000" in found(checks, "topics")
    policy.write_text("[counts]\nminutes_kept = 0\n")
    assert not [check for check in check_brokers(running) if "insight" in check.found and check.area == "topics"]


async def test_what_is_wrong_in_the_database_is_named(kafka: str, database: str) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute("delete from closure.migration where name = 'runtime/0004_pause.sql'")
    await connection.execute("update maintenance.migration set checksum = 'x' where name = 'runtime/0001_runtime.sql'")
    wrapped = wrap_key(OTHER_KEY, new_key(), "alice")
    await connection.execute("insert into transfer.customer_key values ('alice', $1)", wrapped)
    await connection.execute("insert into transfer.pause (who, why) values ('somebody', 'the bank asked')")
    await connection.close()
    checks = await check_database(Running(kafka, database, "", "real"), {"SLUICE_MASTER_KEY": KEY})
    assert found(checks, "migrations") == [
        "maintenance: migration runtime/0001_runtime.sql was changed after it was applied to this schema",
        "closure: 1 migration not applied, the first is runtime/0004_pause.sql",
    ]
    assert found(checks, "settings") == ["transfer: SLUICE_MASTER_KEY is not the one that its data were written with"]
    assert found(checks, "services", State.ADVICE) == ["transfer is paused by somebody: the bank asked"]
    assert len(found(checks, "migrations", State.OK)) == 4


async def test_a_role_that_may_too_little_is_named(kafka: str, database: str) -> None:
    connection = await asyncpg.connect(database)
    role = database.rpartition("/")[2] + "_role"
    await connection.execute(f"create role {role} login password 'x'")
    try:
        for schema in ("transfer", "maintenance", "closure", "notify", "insight", "ops"):
            await connection.execute(f"grant usage on schema {schema} to {role}")
            await connection.execute(f"grant all on all tables in schema {schema} to {role}")
        await connection.execute(f"revoke delete on transfer.outbox from {role}")
        await connection.execute(f"alter role {role} set default_transaction_read_only = on")
        address = database.partition("@")[2]
        checks = await check_database(Running(kafka, f"postgresql://{role}:x@{address}", "", "real"), {})
    finally:
        await connection.execute(f"drop owned by {role}")
        await connection.execute(f"drop role {role}")
        await connection.close()
    assert found(checks, "permissions") == ["transfer: the role lacks delete on outbox"]
    assert found(checks, "engines") == ["PostgreSQL takes no changes from here: a replica, or all is to be read only"]
    assert any("pg_switch_wal" in said for said in found(checks, "permissions", State.ADVICE))


async def test_engines_that_do_not_answer_could_not_be_looked_at(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brokers, "_WITHIN_S", 0.3)
    [check] = await check_database(Running(kafka, NOWHERE, "", "real"), {})
    assert (check.area, check.state) == ("engines", State.UNKNOWN)
    assert "does not answer" in check.found
    [check] = check_brokers(Running("127.0.0.1:1", NOWHERE, "", "real"))
    assert (check.area, check.state) == ("engines", State.UNKNOWN)


def test_settings_that_no_service_would_start_with_and_the_exit_code(
    named: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brokers, "_WITHIN_S", 0.3)
    dead = {**named, "DATABASE_URL": NOWHERE, "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "SLUICE_NAME_KEY": "short"}
    done = run(dead, ["doctor"])
    assert done.returncode == 2
    lines = done.stdout.splitlines()
    assert any(line.startswith("settings") and "wrong" in line and "SLUICE_NAME_KEY" in line for line in lines)
    assert "short" not in done.stdout


async def test_workers_and_monitors_are_asked_themselves() -> None:
    async def ready(_request: web.Request) -> web.Response:
        return web.json_response({"status": "not ready", "reasons": ["braked: too many"]}, status=503)

    application = web.Application()
    application.add_routes([web.get("/readyz", ready), web.get("/healthz", ready)])
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        services = (
            {"name": "transfer", "pid": 1, "health": address},
            {"name": "notify", "pid": 2, "health": "http://127.0.0.1:1"},
        )
        checks = await check_services(Running("", "", "", "real", services, monitor=address))
    finally:
        await runner.cleanup()
    assert found(checks, "services") == ["transfer, process 1 is not ready: braked: too many"]
    assert found(checks, "services", State.UNKNOWN) == ["notify, process 2 does not answer (ClientConnectorError)"]
    assert found(checks, "monitor") == [f"{address}: not ready"]


@pytest.mark.parametrize(
    ("states", "says"),
    [
        ([State.OK], "All is well."),
        ([State.OK, State.ADVICE], "Nothing is wrong; of 2 things 1 could be better."),
        ([State.WRONG, State.ADVICE], "Of 2 things 1 is wrong, 1 could be better."),
        ([State.WRONG, State.WRONG, State.UNKNOWN], "Of 3 things 2 are wrong, 1 could not be looked at."),
    ],
)
def test_the_last_line_says_what_is_wrong_and_what_is_advice(
    states: Sequence[State], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def found(_running: Running) -> list[Check]:
        return [Check("topics", state, "found") for state in states]

    monkeypatch.setattr(command, "look", found)
    nowhere = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "DATABASE_URL": NOWHERE}
    assert run(nowhere, ["doctor"]).stdout.splitlines()[-1] == says
