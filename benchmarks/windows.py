"""What maintenance costs: the gate with no, ten and a thousand windows in force, and the release of what one held.

One JSON line each; the loads with and without windows take turns on the same engines:

    python -m benchmarks.windows [--transfers 150000] [--rounds 3] [--held 100000] [--rate 500]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import orjson

from benchmarks.__main__ import (
    PARTITIONS,
    PATIENCE_S,
    SERVICE_COMMAND,
    Bench,
    Prepared,
    peak_memory_mb,
    prepare_service,
    processes,
    run_service,
    say,
    wait_ready,
)
from benchmarks.workloads import Watcher, Workload, publish, transfers
from local.kafka import start_kafka
from local.postgres import start_postgres
from schemas.fields import as_text
from services.runtime.database import load_queries

if TYPE_CHECKING:
    from collections.abc import Iterator

_QUERIES: Final = load_queries(Path(__file__).with_name("windows.sql"))

COUNTS: Final = (0, 10, 1_000)
NEW_FOR_S: Final = 20


def window(window_id: str, revision: int, **more: Any) -> bytes:
    """Return the body of a window's event: in force for a day, unless more is said."""
    now = datetime.now(UTC)
    return orjson.dumps(
        {
            "window_id": window_id,
            "title": "Upgrade",
            "reason": "Upgrade",
            "starts_at": as_text(now - timedelta(minutes=1)),
            "ends_at": as_text(now + timedelta(days=1)),
            "functions": ["transfer"],
            "treatment": "hold",
            "revision": revision,
            "occurred_at": as_text(now),
            **more,
        }
    )


def other_windows(count: int) -> Iterator[tuple[str, str, bytes]]:
    """Yield windows in force that close transfers, but none of the workload's: of other currencies, each of its own."""
    for number in range(count):
        id_ = str(uuid.uuid4())
        currency = "".join(chr(65 + number // 26**place % 26) for place in range(3))
        yield id_, id_, window(id_, 1, scope={"currencies": [currency if currency != "CNY" else "XXX"]})


async def _wait_until(dsn: str, query: str, count: int) -> None:
    """Wait until a query of `windows.sql` answers with a number."""
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "transfer"})
    deadline = time.monotonic() + 5 * PATIENCE_S
    try:
        while await connection.fetchval(_QUERIES[query]) != count:
            if time.monotonic() > deadline:
                message = f"{query} did not become {count}"
                raise TimeoutError(message)
            await asyncio.sleep(0.2)
        await connection.execute(_QUERIES.refresh_statistics)
    finally:
        await connection.close()


# --- The gate ---


async def measure_gate(bench: Bench, count: int, rounds: int, logs: Path) -> list[dict[str, Any]]:
    """Return a line a number of windows: medians over rounds in which all take turns."""
    workload = Workload("uniform", count)
    prepared = {}
    for windows in COUNTS:
        prepared[windows] = await prepare_service(bench, workload, logs)
        if windows:
            publish(
                bench.kafka, f"{prepared[windows].prefix}maintenance.events", "window.started", other_windows(windows)
            )
            environment = bench.environment(prepared[windows].prefix, prepared[windows].dsn)
            with processes(1, SERVICE_COMMAND, environment, logs / "service.log"):
                await _wait_until(prepared[windows].dsn, "count_windows", windows)
    seconds: dict[int, list[float]] = {windows: [] for windows in COUNTS}
    for number in range(rounds):
        for windows in COUNTS if number % 2 else reversed(COUNTS):
            taken, _ = await run_service(bench, workload, prepared[windows], logs)
            seconds[windows].append(taken)
            say(f"{windows} windows: {count / taken:,.0f}/s")
    return [
        {
            "workload": f"uniform, {windows} windows in force",
            "transfers": count,
            "per_second": round(count / median(seconds[windows])),
            "to_none": round(median(a / b for a, b in zip(seconds[0], seconds[windows], strict=True)), 3),
        }
        for windows in COUNTS
    ]


# --- The release ---


async def measure_release(bench: Bench, count: int, rate: int, logs: Path) -> dict[str, Any]:
    """Return how fast a window's end lets go what it held, and how long new transfers take meanwhile and otherwise."""
    workload = Workload("held", count)
    prepared = await prepare_service(bench, workload, logs)
    window_id = str(uuid.uuid4())
    _say_of(bench, prepared, window_id, "window.started", 1)
    environment = bench.environment(prepared.prefix, prepared.dsn)
    with processes(1, SERVICE_COMMAND, environment, logs / "service.log") as (worker,):
        await asyncio.to_thread(wait_ready, worker.said["health"])
        await _wait_until(prepared.dsn, "count_windows", 1)
        prepared.publish(bench, workload)
        await _wait_until(prepared.dsn, "count_held", count)
        said = await asyncio.to_thread(_release, bench, prepared, window_id, count, rate)
        await _wait_until(prepared.dsn, "count_held", 0)
        said["peak_memory_mb"] = round(peak_memory_mb(worker.pid))
    return said


def _say_of(bench: Bench, prepared: Prepared, window_id: str, type_: str, revision: int) -> None:
    topic = f"{prepared.prefix}maintenance.events"
    publish(bench.kafka, topic, type_, [(f"{window_id}.{revision}", window_id, window(window_id, revision))])


def _release(bench: Bench, prepared: Prepared, window_id: str, count: int, rate: int) -> dict[str, Any]:
    """End the window, and meanwhile ask for new transfers at a steady rate."""
    watcher = Watcher(bench.kafka, prepared.events, PARTITIONS, fetch_bytes=1)
    new = Workload("new", rate * NEW_FOR_S)
    sent: dict[str, float] = {}
    commands = f"{prepared.prefix}transfer.commands"

    def ask() -> None:
        sent.update(publish(bench.kafka, commands, "transfer.request", transfers(new, seed=987), rate=rate))

    try:
        ended_at = time.perf_counter()
        _say_of(bench, prepared, window_id, "window.ended", 2)
        asking = threading.Thread(target=ask)
        asking.start()
        watcher.wait_for(count + new.transfers, PATIENCE_S, look_every_s=0.002)
        asking.join()
    finally:
        watcher.close()
    released = sorted(moment for id_, moment in watcher.arrived.items() if id_ not in sent)
    taken_s = released[-1] - ended_at
    during = sorted(1000 * (watcher.arrived[id_] - at) for id_, at in sent.items() if at < released[-1])
    after = sorted(1000 * (watcher.arrived[id_] - at) for id_, at in sent.items() if at >= released[-1] + 1)
    return {
        "workload": f"release of {count:,} beside {rate} new a second",
        "released": len(released),
        "seconds": round(taken_s, 1),
        "per_second": round(len(released) / taken_s),
        "new_during": len(during),
        **_percentiles("new", during),
        **_percentiles("new_afterwards", after),
    }


def _percentiles(name: str, taken: list[float]) -> dict[str, float]:
    if not taken:
        return {}
    return {
        f"{name}_p50_ms": round(taken[len(taken) // 2], 1),
        f"{name}_p99_ms": round(taken[len(taken) * 99 // 100], 1),
    }


async def run(arguments: argparse.Namespace) -> None:
    """Start engines, measure, and print a line each."""
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        place = Path(folder)
        with start_kafka(place / "kafka") as kafka, start_postgres(place / "postgres") as postgres:
            bench = Bench(kafka.bootstrap, postgres.dsn)
            if arguments.held:
                say_line(await measure_release(bench, arguments.held, arguments.rate, place))
            if arguments.transfers:
                for line in await measure_gate(bench, arguments.transfers, arguments.rounds, place):
                    say_line(line)


def say_line(line: dict[str, Any]) -> None:
    """Print a result."""
    print(json.dumps(line), flush=True)  # noqa: T201


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transfers", type=int, default=150_000, help="of the uniform load; 0 leaves the gate out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--held", type=int, default=100_000, help="transfers to release; 0 leaves the release out")
    parser.add_argument("--rate", type=int, default=500, help="new transfers a second meanwhile")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
