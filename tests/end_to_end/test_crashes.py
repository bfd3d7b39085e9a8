"""Whatever is killed and whenever: each command has one outcome, money is conserved, and events are the ledger's."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from pathlib import Path

import asyncpg
import orjson

from services.transfer import records
from tests.end_to_end.system import Reader, System, dice, running_system

TRANSFERS = 20_000
KILLS = 25
WORKERS = 2
WALLETS = 200
FINAL = {"settled", "failed", "refunded", "cancelled", "expired"}
BANK = {"failure_rate": 0.05, "return_rate": 0.03, "return_after_s": 1, "duplicate_rate": 0.1}


async def test_every_command_has_one_outcome_whatever_is_killed(tmp_path: Path) -> None:
    with running_system(tmp_path / "home", workers=WORKERS, bank=BANK) as system:
        wallets = system.open_wallets(WALLETS)
        for wallet in wallets:
            system.request("top_up", "bank:TEST:1", wallet, 1_000_000)
        requested = _publish(system, wallets)
        reader = Reader(system.kafka)
        _kill_while_it_works(system, reader)
        reader.read_until(lambda: all(reader.status(id_) in FINAL for id_ in requested), 120)
        await _wait_until_quiet(system, reader)
        reader.close()
        await _check(system, reader, requested)


def _publish(system: System, wallets: list[str]) -> list[str]:
    chance = dice(7)
    requested = []
    for number in range(TRANSFERS):
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


def _kill_while_it_works(system: System, reader: Reader) -> None:
    chance = dice(11)
    system.flush()
    # Each kill comes a little further on, so that they fall into every part of the work.
    for number in range(KILLS):
        target = number * TRANSFERS // (2 * KILLS)
        reader.read_until(lambda: len(reader.latest) >= target and _is_alive(system), 120)  # noqa: B023 - used at once
        os.kill(chance.choice(system.endpoints()["services"])["pid"], signal.SIGKILL)
        if number == KILLS // 3:
            os.kill(system.endpoints()["engines"]["kafka_pid"], signal.SIGKILL)
        if number == 2 * KILLS // 3:
            os.kill(system.endpoints()["engines"]["postgres_pid"], signal.SIGKILL)


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
