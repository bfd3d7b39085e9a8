"""Whatever is killed and whenever: each command has one outcome, money is conserved, and events are the ledger's."""

from __future__ import annotations

import os
import signal
import uuid
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest

from schemas.envelope import short_type
from services.transfer import records
from tests.end_to_end.system import Reader, System, dice, running_system
from tests.waiting import wait_until

WORKERS = 2
WALLETS = 200
REPORTED = 2_000
"""So many that a report of all takes several transactions."""
FINAL = {"settled", "failed", "refunded", "cancelled", "expired"}
BANK = {"failure_rate": 0.05, "return_rate": 0.03, "return_after_s": 1, "duplicate_rate": 0.1}


@pytest.mark.parametrize(("transfers", "kills"), [(6_000, 6), pytest.param(20_000, 25, marks=pytest.mark.soak)])
async def test_every_command_has_one_outcome_whatever_is_killed(tmp_path: Path, transfers: int, kills: int) -> None:
    with running_system(tmp_path / "home", workers=WORKERS, bank=BANK) as system:
        everybody = system.open_wallets(REPORTED)
        wallets = everybody[:WALLETS]
        for wallet in wallets:
            system.request("top_up", "bank:TEST:1", wallet, 1_000_000)
        requested = _publish(system, wallets, transfers)
        reader = Reader(system.kafka)
        _kill_while_it_works(system, reader, transfers, kills)
        reader.read_until(lambda: all(reader.status(id_) in FINAL for id_ in requested), 120)
        await _wait_until_quiet(system, reader)
        await _check_report(system, reader, everybody)
        reader.close()
        await _check(system, reader, requested)


def _publish(system: System, wallets: list[str], transfers: int) -> list[str]:
    chance = dice(7)
    requested = []
    for number in range(transfers):
        payer, payee = chance.sample(wallets, 2)
        amount = chance.randrange(1, 50_000)
        share = chance.random()
        if share < 0.2:
            requested.append(system.request("withdrawal", payer, f"bank:TEST:{number}", amount))
        elif share < 0.3:
            requested.append(system.request("top_up", "bank:TEST:1", payee, amount))
        else:
            requested.append(system.request("p2p", payer, payee, amount))
        if share > 0.97:
            refund = {"refund_id": requested[-1], "transfer_id": requested[-1], "reason": "test"}
            system.send("transfer.refund", payer, {**refund, "amount_minor": 1 + amount // 2})
        if share > 0.95:
            # The same again: answered again, done once.
            data = {"transfer_id": requested[-1], "kind": "p2p", "payer": payer, "payee": payee}
            system.send("transfer.request", payer, {**data, "amount_minor": amount, "currency": "CNY"})
    return requested


def _kill(pid: int) -> None:
    # What another kill has ended is not there any more, until the endpoints say so.
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _kill_while_it_works(system: System, reader: Reader, transfers: int, kills: int) -> None:
    chance = dice(11)
    system.flush()
    # Each kill comes a little further on, so that they fall into every part of the work.
    for number in range(kills):
        target = number * transfers // (2 * kills)
        reader.read_until(lambda: len(reader.latest) >= target and _is_alive(system), 120)  # noqa: B023 - used at once
        _kill(chance.choice(system.endpoints()["services"])["pid"])
        if number == kills // 3:
            _kill(system.endpoints()["engines"]["kafka_pid"])
        if number == 2 * kills // 3:
            _kill(system.endpoints()["engines"]["postgres_pid"])


def _is_alive(system: System) -> bool:
    """Tell whether every worker that the endpoints name runs: a killed one has been replaced."""
    services = system.endpoints()["services"]
    return len(services) == WORKERS and all(Path(f"/proc/{service['pid']}").exists() for service in services)


async def _wait_until_quiet(system: System, reader: Reader) -> None:
    """Returns from the bank may still come: wait until nothing has for some reads, and nothing is unpublished."""
    connection = await asyncpg.connect(system.database, server_settings={"search_path": "transfer"})
    try:
        silent = 0
        for _ in range(600):
            silent = 0 if reader.read() else silent + 1
            if silent > 30 and not await connection.fetchval("select count(*) from outbox"):
                return
    finally:
        await connection.close()
    raise AssertionError("it did not become quiet")


async def _check_report(system: System, reader: Reader, wallets: list[str]) -> None:
    """Ask for a report of all, and kill whoever makes it: all are told of, and the end is told once and last."""
    report_id = str(uuid.uuid4())
    system.send("accounts.report", report_id, {"report_id": report_id, "subjects": "all"})
    system.flush()
    connection = await asyncpg.connect(system.database, server_settings={"search_path": "transfer"})
    try:
        await wait_until(lambda: connection.fetchval("select count > 0 from account_report"))
        for service in system.endpoints()["services"]:
            _kill(service["pid"])
        assert 0 < await connection.fetchval("select count from account_report") < len(wallets)
    finally:
        await connection.close()
    reader.read_until(lambda: len(_said(reader, "accounts.report_finished")) > 0)
    # All that it counts was published before it; of another partition it may be read after it.
    while reader.read():
        pass
    (finished,) = _said(reader, "accounts.report_finished")
    told = [(body["account_id"], body["report_id"]) for body in _said(reader, "account.reported")]
    assert set(told) == {(wallet, report_id) for wallet in wallets}
    assert (finished["report_id"], finished["count"]) == (report_id, len(wallets))


def _said(reader: Reader, type_: str) -> list[dict[str, Any]]:
    return [orjson.loads(body) for headers, body in reader.records if short_type(headers["ce_type"]) == type_]


async def _check(system: System, reader: Reader, requested: list[str]) -> None:
    connection = await asyncpg.connect(system.database, server_settings={"search_path": "transfer"})
    try:
        audit = await records.audit(connection)
        assert audit.findings == []
        statuses = {str(row[0]): row[1] for row in await connection.fetch("select transfer_id, status from transfer")}
        assert set(requested) <= set(statuses)
        assert {statuses[id_] for id_ in requested} <= FINAL
        ledger = {
            f"{row['transfer_id']}.{row['seq']}": row["body"]
            for row in await connection.fetch(
                """
                select transfer_id, seq, body from transfer_step
                union all select transfer_id, seq, event_body from transfer
                """
            )
        }
    finally:
        await connection.close()
    published: defaultdict[str, set[bytes]] = defaultdict(set)
    for headers, value in reader.records:
        if headers["ce_type"].startswith("sluice.transfer.") and "command_refused" not in headers["ce_type"]:
            published[headers["ce_id"]].add(value)
    assert all(len(values) == 1 for values in published.values()), "a repeated event has other bytes"
    assert {id_: next(iter(values)) for id_, values in published.items()} == ledger
    _check_order(reader)


def _check_order(reader: Reader) -> None:
    highest: defaultdict[str, int] = defaultdict(int)
    for _, value in reader.records:
        event = orjson.loads(value)
        if "seq" in event:
            assert event["seq"] <= highest[event["transfer_id"]] + 1, "an event came before the one it follows"
            highest[event["transfer_id"]] = max(highest[event["transfer_id"]], event["seq"])
