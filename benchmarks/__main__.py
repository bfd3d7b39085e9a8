"""Measures the transfer service against the bare floor: `python -m benchmarks [--json FILE] [--only NAME ...]`.

One JSON line a workload: `ratio` is the service's rate to the floor's, `to_uniform` its rate to that of one worker
with the uniform load. They take turns on the same engines, so that both hold on a machine whose speed drifts.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg

from benchmarks import floor
from benchmarks.workloads import REFERENCE, Watcher, Workload, openings, publish, transfers
from local.kafka import start_kafka
from local.postgres import start_postgres
from local.topics import create_topics
from services.runtime import database
from services.transfer.app import MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

PARTITIONS = 12
PATIENCE_S = 120.0
FLOOR_COMMAND = [sys.executable, "-m", "benchmarks.floor"]
SERVICE_COMMAND = [sys.executable, "-m", "services.transfer"]
# As long as workers that are started together may take to join: each has its share from the first poll on.
JOIN_DELAY_MS = 1_000
UNIFORM = Workload("uniform", 150_000)
WORKLOADS = (
    UNIFORM,
    Workload("hot payer", 150_000, hot_share=0.7),
    Workload("two workers", 200_000, workers=2),
    # Warmed up, because the first write of a page after a checkpoint carries the whole page: what was just loaded
    # has all of these before it, a ledger that has worked for a minute has them behind it for half an hour.
    Workload("large ledger", 150_000, wallets=1_000_000, preloaded_transfers=5_000_000, warm_up_transfers=100_000),
)
LATENCY_RATE = 1_000
LATENCY_SECONDS = 30


class Bench:
    """The engines of a run, and what is started on them."""

    def __init__(self, kafka: str, dsn: str) -> None:
        self.kafka = kafka
        self.dsn = dsn

    def environment(self, prefix: str, dsn: str, **more: str) -> dict[str, str]:
        """Return what a worker or the floor needs to know."""
        key = base64.b64encode(b"b" * 32).decode()
        return os.environ | {
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka,
            "DATABASE_URL": dsn,
            "SLUICE_TOPIC_PREFIX": prefix,
            "SLUICE_MASTER_KEY": key,
            "SLUICE_NAME_KEY": key,
            "SLUICE_LOG_LEVEL": "warning",
            **more,
        }

    async def new_database(self, name: str) -> str:
        """Create an empty database and return its DSN."""
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute(f'create database "{name}"')
        finally:
            await connection.close()
        return self.dsn.rsplit("/", 1)[0] + f"/{name}"

    def new_topics(self) -> str:
        """Create a set of topics of its own and return its prefix."""
        prefix = f"b{uuid.uuid4().hex[:8]}."
        create_topics({"bootstrap.servers": self.kafka}, prefix, PARTITIONS)
        return prefix


class Started(NamedTuple):
    """A process that runs: its id, and the JSON line with which it announced itself."""

    pid: int
    said: dict[str, Any]


@contextmanager
def processes(count: int, command: list[str], environment: dict[str, str], log: Path) -> Iterator[list[Started]]:
    """Run processes that announce themselves with one JSON line, started together."""
    children: list[subprocess.Popen[bytes]] = []
    try:
        with log.open("ab") as errors:
            children.extend(
                subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors)  # noqa: S603
                for _ in range(count)
            )
        yield [Started(child.pid, _first_line(child, log)) for child in children]
    finally:
        for child in children:
            child.send_signal(signal.SIGTERM)
        for child in children:
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _first_line(child: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    if child.stdout is None:
        message = "the process has no output"
        raise RuntimeError(message)
    line = child.stdout.readline()
    if not line:
        message = f"a process did not start; see {log}"
        raise RuntimeError(message)
    said: dict[str, Any] = json.loads(line)
    return said


def peak_memory_mb(pid: int) -> float:
    """Return the most memory that a process ever had resident, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


# --- The floor ---


async def prepare_floor(dsn: str, wallets: int) -> None:
    """Make the floor's tables, with wallets that can spend."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(floor.SCHEMA)
        await connection.execute(
            "insert into floor.account select 'wallet:' || n, 1000000000000 from generate_series(0, $1::int - 1) n",
            wallets,
        )
        await connection.execute("analyze floor.account")
    finally:
        await connection.close()


async def run_floor(bench: Bench, workload: Workload, batch_size: int, logs: Path) -> float:
    """Return the seconds that the floor takes for a workload's backlog."""
    prefix, dsn = bench.new_topics(), await bench.new_database(f"floor_{uuid.uuid4().hex[:8]}")
    await prepare_floor(dsn, workload.wallets)
    publish(bench.kafka, f"{prefix}transfer.commands", "transfer.request", transfers(workload))
    environment = bench.environment(prefix, dsn, FLOOR_BATCH_SIZE=str(batch_size), FLOOR_PARTITIONS=str(PARTITIONS))
    watcher = Watcher(bench.kafka, f"{prefix}transfer.events", PARTITIONS)
    try:
        with processes(1, FLOOR_COMMAND, environment, logs / "floor.log") as (only,):
            ended = watcher.wait_for(workload.transfers, PATIENCE_S)
            return ended - float(only.said["first_poll"])
    finally:
        watcher.close()


async def best_batch_size(bench: Bench, logs: Path) -> int:
    """Return the batch size at which the floor is fastest."""
    trial = Workload("trial", 60_000)
    seconds = {size: await run_floor(bench, trial, size, logs) for size in (500, 1000, 2000, 4000)}
    for size, taken in seconds.items():
        say(f"floor, batches of {size}: {trial.transfers / taken:,.0f}/s")
    return min(seconds, key=lambda size: seconds[size])


# --- The service ---


@dataclass
class Prepared:
    """The topics and the database of a service, and how many transfers its topics have been given."""

    prefix: str
    dsn: str
    published: int = 0

    @property
    def events(self) -> str:
        """The topic of its events."""
        return f"{self.prefix}transfer.events"

    def publish(self, bench: Bench, workload: Workload) -> None:
        """Publish a workload's backlog, other transfers each time."""
        load = transfers(workload, seed=1 + self.published)
        publish(bench.kafka, f"{self.prefix}transfer.commands", "transfer.request", load)
        self.published += workload.transfers


async def prepare_service(bench: Bench, workload: Workload, logs: Path) -> Prepared:
    """Prepare a service whose wallets are open and whose ledger holds what it should."""
    prepared = Prepared(bench.new_topics(), await bench.new_database(f"service_{uuid.uuid4().hex[:8]}"))
    runtime_migrations = Path(database.__file__).with_name("migrations")
    await database.migrate(prepared.dsn, "transfer", [runtime_migrations, MIGRATIONS])
    if workload.preloaded_transfers:
        await preload(prepared.dsn, workload)
    else:
        commands = f"{prepared.prefix}transfer.commands"
        publish(bench.kafka, commands, "account.open", openings(workload.wallets))
        with processes(1, SERVICE_COMMAND, bench.environment(prepared.prefix, prepared.dsn), logs / "service.log"):
            await wait_for_accounts(prepared.dsn, workload.wallets)
    await vacuum(prepared.dsn)
    if workload.warm_up_transfers:
        await warm_up(bench, workload, prepared, logs)
    return prepared


async def warm_up(bench: Bench, workload: Workload, prepared: Prepared, logs: Path) -> None:
    """Have the service do some transfers that are not measured."""
    load = Workload("warm up", workload.warm_up_transfers, workload.wallets)
    prepared.publish(bench, load)
    watcher = Watcher(bench.kafka, prepared.events, PARTITIONS)
    try:
        with processes(1, SERVICE_COMMAND, bench.environment(prepared.prefix, prepared.dsn), logs / "service.log"):
            await asyncio.to_thread(watcher.wait_for, prepared.published, PATIENCE_S)
    finally:
        watcher.close()


async def wait_for_accounts(dsn: str, count: int) -> None:
    """Wait until a number of wallets are open."""
    connection = await asyncpg.connect(dsn)
    deadline = time.monotonic() + PATIENCE_S
    try:
        while await connection.fetchval("select count(*) from transfer.account") < count:
            if time.monotonic() > deadline:
                message = "the wallets did not open"
                raise TimeoutError(message)
            await asyncio.sleep(0.2)
    finally:
        await connection.close()


async def vacuum(dsn: str) -> None:
    """Give the planner fresh statistics."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("vacuum analyze")
    finally:
        await connection.close()


PRELOAD = (
    """
    insert into transfer.account (
        account_id, customer_id, currency, tier, status, overdraft_limit_minor, posted_minor, entry_count, version,
        used_on, opened_at, opening_hash
    )
    select
        'wallet:' || n, 'customer-' || n, 'CNY', 'unlimited', 'open', 1000000000000, 0, 2 * ($2::bigint / $1::bigint),
        1, current_date, now(), '\\x00'
    from generate_series(0, $1::bigint - 1) as n
    """,
    """
    insert into transfer.transfer (
        transfer_id, content_hash, kind, payer, payee, payer_customer_id, payee_customer_id, amount_minor, fee_minor,
        currency, status, requested_at, seq, event_type, event_body, occurred_at
    )
    select
        gen_random_uuid(), '\\x00112233445566778899aabbccddeeff', 'p2p', 'wallet:' || n % $1::bigint,
        'wallet:' || (n + 1) % $1::bigint, 'customer-' || n % $1::bigint, 'customer-' || (n + 1) % $1::bigint, 100, 0,
        'CNY', 'settled', now(), 1, 'transfer.settled', convert_to(repeat('x', 420), 'UTF8'), now()
    from generate_series(0, $2::bigint - 1) as n
    """,
    """
    insert into transfer.movement
    select
        gen_random_uuid(), 'transfer', 'CNY', 100,
        'wallet:' || n % $1::bigint, 2 * (n / $1::bigint) + 1, -100,
        'wallet:' || (n + 1) % $1::bigint, 2 * (n / $1::bigint) + 2, 0, now()
    from generate_series(0, $2::bigint - 1) as n
    """,
)


async def preload(dsn: str, workload: Workload) -> None:
    """Fill a ledger as if the service had worked for long."""
    connection = await asyncpg.connect(dsn)
    try:
        for statement in PRELOAD:
            needs_both = "$2" in statement
            values = (workload.wallets, workload.preloaded_transfers) if needs_both else (workload.wallets,)
            await connection.execute(statement, *values, timeout=1800)
    finally:
        await connection.close()


async def run_service(bench: Bench, workload: Workload, prepared: Prepared, logs: Path) -> tuple[float, float]:
    """Return the seconds that the service takes for a workload's backlog, and a worker's peak memory in MB."""
    environment = bench.environment(prepared.prefix, prepared.dsn)
    watcher = Watcher(bench.kafka, prepared.events, PARTITIONS)
    try:
        # What is there already is read before the measuring begins.
        watcher.wait_for(prepared.published, PATIENCE_S)
        began = datetime.now(UTC)
        prepared.publish(bench, workload)
        with processes(workload.workers, SERVICE_COMMAND, environment, logs / "service.log") as workers:
            first_poll = min([await asyncio.to_thread(wait_ready, worker.said["health"]) for worker in workers])
            ended = await asyncio.to_thread(watcher.wait_for, prepared.published, PATIENCE_S)
            memory_mb = max(peak_memory_mb(worker.pid) for worker in workers)
    finally:
        watcher.close()
    return ended - min(first_poll, await _first_decided(prepared.dsn, began)), memory_mb


async def _first_decided(dsn: str, began: datetime) -> float:
    """Return when the first transfer of the backlog was decided: a poll that was earlier than the last look."""
    connection = await asyncpg.connect(dsn)
    try:
        first = await connection.fetchval(
            "select min(requested_at) from transfer.transfer where reference = $1 and requested_at >= $2",
            REFERENCE,
            began,
        )
    finally:
        await connection.close()
    if first is None:
        message = "no transfer of the backlog was recorded"
        raise RuntimeError(message)
    return float(first.timestamp())


def wait_ready(health: str) -> float:
    """Wait until a worker has its partitions; return when that was, by the wall clock."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{health}/readyz", timeout=1):  # noqa: S310 - our own address
                return time.time()
        except OSError:
            time.sleep(0.005)
    message = "the worker did not become ready"
    raise TimeoutError(message)


# --- Latency ---


async def latency(bench: Bench, logs: Path, batch_size: int) -> dict[str, Any]:
    """Return p50 and p99 from publish to the final event's arrival at a steady rate, of the floor and the service."""
    workload = Workload("latency at 1,000/s", LATENCY_RATE * LATENCY_SECONDS)
    prefix, dsn = bench.new_topics(), await bench.new_database(f"floor_{uuid.uuid4().hex[:8]}")
    await prepare_floor(dsn, workload.wallets)
    environment = bench.environment(prefix, dsn, FLOOR_BATCH_SIZE=str(batch_size), FLOOR_PARTITIONS=str(PARTITIONS))
    with processes(1, FLOOR_COMMAND, environment, logs / "floor.log"):
        floor_p50, floor_p99 = await asyncio.to_thread(_measure_latency, bench, prefix, workload)
    prepared = await prepare_service(bench, workload, logs)
    environment = bench.environment(prepared.prefix, prepared.dsn)
    with processes(1, SERVICE_COMMAND, environment, logs / "service.log") as (worker,):
        await asyncio.to_thread(wait_ready, worker.said["health"])
        p50, p99 = await asyncio.to_thread(_measure_latency, bench, prepared.prefix, workload)
        memory = peak_memory_mb(worker.pid)
    return {
        "workload": workload.name,
        "transfers": workload.transfers,
        "workers": workload.workers,
        "seconds": LATENCY_SECONDS,
        "per_second": LATENCY_RATE,
        "floor_per_second": LATENCY_RATE,
        "ratio": None,
        "to_uniform": None,
        "p50_ms": p50,
        "p99_ms": p99,
        "floor_p50_ms": floor_p50,
        "floor_p99_ms": floor_p99,
        "p99_ratio": round(p99 / floor_p99, 2),
        "peak_memory_mb": round(memory),
    }


def _measure_latency(bench: Bench, prefix: str, workload: Workload) -> tuple[float, float]:
    watcher = Watcher(bench.kafka, f"{prefix}transfer.events", PARTITIONS, fetch_bytes=1)
    commands = f"{prefix}transfer.commands"
    # Long enough for the broker's compiler to have seen this load.
    warm_up = Workload("warm up", 10 * LATENCY_RATE)
    try:
        publish(bench.kafka, commands, "transfer.request", transfers(warm_up, seed=2), rate=LATENCY_RATE)
        watcher.wait_for(warm_up.transfers, PATIENCE_S)
        with _in_background(watcher, warm_up.transfers + workload.transfers):
            sent = publish(bench.kafka, commands, "transfer.request", transfers(workload), rate=LATENCY_RATE)
    finally:
        watcher.close()
    taken = sorted(1000 * (watcher.arrived[id_] - moment) for id_, moment in sent.items())
    return round(taken[len(taken) // 2], 1), round(taken[len(taken) * 99 // 100], 1)


@contextmanager
def _in_background(watcher: Watcher, count: int) -> Iterator[None]:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(watcher.wait_for, count, PATIENCE_S, look_every_s=0.002)
        yield
        waiting.result()


# --- The run ---


async def compare(bench: Bench, workload: Workload, batch_size: int, rounds: int, logs: Path) -> dict[str, Any]:
    """Return one workload's line: medians over rounds in which floor, service and uniform load take turns."""
    floor_load = Workload(workload.name, workload.transfers, workload.wallets, workload.hot_share)
    ratios, rates, floor_rates, memories, to_uniform = [], [], [], [], []
    prepared: Prepared | None = None
    for _ in range(rounds):
        if prepared is not None and workload.preloaded_transfers:
            # It takes minutes to make, and is not noticeably larger after a round.
            await vacuum(prepared.dsn)
        else:
            prepared = await prepare_service(bench, workload, logs)
        floor_rate = workload.transfers / await run_floor(bench, floor_load, batch_size, logs)
        seconds, memory = await run_service(bench, workload, prepared, logs)
        rates.append(workload.transfers / seconds)
        floor_rates.append(floor_rate)
        ratios.append(rates[-1] / floor_rate)
        memories.append(memory)
        if workload != UNIFORM:
            uniform_seconds, _ = await run_service(bench, UNIFORM, await prepare_service(bench, UNIFORM, logs), logs)
            to_uniform.append(rates[-1] / (UNIFORM.transfers / uniform_seconds))
        say(_round_of(workload, floor_rate, rates[-1], to_uniform))
    rate = statistics.median(rates)
    return {
        "workload": workload.name,
        "transfers": workload.transfers,
        "workers": workload.workers,
        "seconds": round(workload.transfers / rate, 2),
        "per_second": round(rate),
        "floor_per_second": round(statistics.median(floor_rates)),
        "ratio": round(statistics.median(ratios), 2),
        "to_uniform": round(statistics.median(to_uniform), 2) if to_uniform else None,
        # A backlog has no latency.
        "p50_ms": None,
        "p99_ms": None,
        "peak_memory_mb": round(max(memories)),
    }


def _round_of(workload: Workload, floor_rate: float, rate: float, to_uniform: list[float]) -> str:
    beside_uniform = f", {to_uniform[-1]:.2f} of uniform" if to_uniform else ""
    return f"{workload.name}: floor {floor_rate:,.0f}/s, service {rate:,.0f}/s{beside_uniform}"


def say(text: str) -> None:
    """Tell whoever watches how far it is; results go to standard output, this does not."""
    sys.stderr.write(f"{text}\n")


async def main() -> None:
    """Run the workloads asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", nargs="*", help="names of workloads: " + ", ".join(w.name for w in WORKLOADS) + ", latency"
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns of floor and service a workload")
    parser.add_argument("--json", type=Path, help="also write the lines to this file")
    options = parser.parse_args()
    lines = []
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as directory:
        place = Path(directory)
        with (
            start_kafka(place / "kafka", join_delay_ms=JOIN_DELAY_MS) as kafka,
            start_postgres(place / "postgres") as postgres,
        ):
            bench = Bench(kafka.bootstrap, postgres.dsn)
            batch_size = await best_batch_size(bench, place)
            say(f"the floor's best batch size is {batch_size}")
            for workload in WORKLOADS:
                if not options.only or workload.name in options.only:
                    lines.append(await compare(bench, workload, batch_size, options.rounds, place))
                    print(json.dumps(lines[-1]), flush=True)  # noqa: T201
            if not options.only or "latency" in options.only:
                lines.append(await latency(bench, place, batch_size))
                print(json.dumps(lines[-1]), flush=True)  # noqa: T201
    if options.json:
        options.json.write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    asyncio.run(main())
