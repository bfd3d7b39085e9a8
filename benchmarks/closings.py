"""Measures a clearance to the last wallet closed, with the notifier stopped, against the bare cost of its payouts.

    python -m benchmarks.closings [--wallets 100000]

Everybody's balance is first paid out by withdrawals alone, then again by a clearance that is paused, whose services are
killed and that is resumed on the way. One JSON line: `payouts_per_s` of the first, `cases_per_s` of the second from the
first case to the last wallet that is closed, pause included; `backlog_s` is what the notifier then needs until
everybody is told and forgotten, `memory_mb` the most that a worker of each service held while the wallets were
cleared, and `statement` what the clearance says of itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import asyncpg
from confluent_kafka import Consumer, TopicPartition

from benchmarks.notices import Memory, Publisher, profile
from local.up import started
from schemas.fields import as_text
from services.runtime.database import load_queries

if TYPE_CHECKING:
    from collections.abc import Mapping

QUERIES: Final = load_queries(Path(__file__).with_name("closings.sql"))
PATIENCE_S: Final = 1_800.0
LOOK_EVERY_S: Final = 0.5
PAUSE_S: Final = 3.0
RATE_PER_S: Final = 10_000
BALANCE_MINOR: Final = 1_000


async def wait_for(endpoints: Mapping[str, Any], schema: str, query: str, wanted: int) -> None:
    """Wait until a query answers as wanted."""
    connection = await asyncpg.connect(endpoints["database"], server_settings={"search_path": schema})
    deadline = time.monotonic() + PATIENCE_S
    try:
        while (answer := await connection.fetchval(QUERIES[query])) != wanted:
            if time.monotonic() > deadline:
                message = f"{query}: {answer} instead of {wanted} after {PATIENCE_S:g} s"
                raise TimeoutError(message)
            await asyncio.sleep(LOOK_EVERY_S)
    finally:
        await connection.close()


def wallet_of(number: int) -> str:
    """Return the wallet of one of the customers."""
    return f"wallet:b{number:07d}"


def bank_of(number: int) -> dict[str, str]:
    """Return where somebody's balance goes."""
    return {"payee": f"bank:ICBC:{number:010d}", "payee_name": "王小明"}


def request(publisher: Publisher, kind: str, key: str, **more: Any) -> None:
    """Ask for a transfer of a balance."""
    id_ = str(uuid.uuid4())
    body = {"transfer_id": id_, "kind": kind, "amount_minor": BALANCE_MINOR, "currency": "CNY", **more}
    publisher.publish("transfer.commands", "transfer.request", key, body)


async def fill(endpoints: Mapping[str, Any], publisher: Publisher, count: int) -> None:
    """Give every wallet its balance."""
    for number in range(count):
        request(publisher, "top_up", wallet_of(number), payer="bank:ICBC:0", payee=wallet_of(number))
    publisher.flush()
    await wait_for(endpoints, "transfer", "count_posted", count)


async def prepare(endpoints: Mapping[str, Any], publisher: Publisher, count: int) -> None:
    """Have so many customers with a wallet each, and a balance."""
    for number in range(count):
        person = profile(number)
        publisher.publish("customer.profiles", "customer.profile", person["customer_id"], person)
        opening = {"account_id": wallet_of(number), "customer_id": person["customer_id"], "currency": "CNY"}
        publisher.publish("transfer.commands", "account.open", wallet_of(number), {**opening, "tier": "unlimited"})
    publisher.flush()
    await wait_for(endpoints, "closure", "count_wallets", count)
    await fill(endpoints, publisher, count)


async def pay_out(endpoints: Mapping[str, Any], publisher: Publisher, count: int) -> float:
    """Pay every balance out by a withdrawal; return the seconds until the last has arrived."""
    began = time.monotonic()
    for number in range(count):
        request(publisher, "withdrawal", wallet_of(number), payer=wallet_of(number), **bank_of(number))
    publisher.flush()
    await wait_for(endpoints, "transfer", "count_settled", count)
    return time.monotonic() - began


class Holders(threading.Thread):
    """Those whose wallets are ended: each names an account as soon as they are told."""

    def __init__(self, kafka: str, publisher: Publisher, count: int) -> None:
        super().__init__(daemon=True)
        self._third = count // 3
        self._publisher = publisher
        self._consumer = Consumer({"bootstrap.servers": kafka, "group.id": str(uuid.uuid4()), "log_level": 0})
        partitions = self._consumer.list_topics("closure.events", 20).topics["closure.events"].partitions
        self._consumer.assign([TopicPartition("closure.events", number, 0) for number in partitions])
        self.told = 0
        self.first_at = 0.0
        self.a_third_is_told = threading.Event()
        self.is_over = threading.Event()

    def run(self) -> None:
        """Answer until everything is over."""
        while not self.is_over.is_set():
            for message in self._consumer.consume(5_000, 0.1):
                headers = dict(message.headers() or ())
                if headers.get("ce_type") == b"sluice.closure.received.v1":
                    self._answer(json.loads(message.value() or b"{}"))
        self._consumer.close()

    def _answer(self, event: Mapping[str, Any]) -> None:
        self.first_at = self.first_at or time.monotonic()
        self.told += 1
        if self.told == self._third:
            self.a_third_is_told.set()
        wallet = event["subject"]
        body = {"case_id": event["case_id"], **bank_of(int(wallet.removeprefix("wallet:b")))}
        self._publisher.publish("closure.commands", "closure.payout_account", wallet, body)


def workers(home: Path) -> list[tuple[str, int]]:
    """Return the workers of the closing and of the transfer service: the service and the process."""
    services = json.loads((home / "run.json").read_text())["services"]
    return [(one["name"], one["pid"]) for one in services if one["name"] in {"closure", "transfer"}]


def kill(home: Path) -> None:
    """Kill the workers, and wait until there are others."""
    killed = {pid for _, pid in workers(home)}
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    while len({pid for _, pid in workers(home)} - killed) < len(killed):
        time.sleep(LOOK_EVERY_S)


def start(publisher: Publisher) -> str:
    """Begin a clearance of every wallet; return its id."""
    now, id_ = datetime.now(UTC), str(uuid.uuid4())
    command = {
        "clearance_id": id_,
        "cause": "platform_transition",
        "subjects": "all",
        "announce_at": as_text(now),
        "starts_at": as_text(now + timedelta(seconds=1)),
        "deadline": as_text(now + timedelta(days=30)),
        "rate_per_s": RATE_PER_S,
    }
    publisher.publish("closure.commands", "clearance.start", id_, command)
    publisher.flush()
    return id_


class Cleared(NamedTuple):
    """Seconds until the first case, and from there to the last wallet; the most memory that workers had, by service."""

    first_s: float
    took_s: float
    memory_mb: dict[str, int]


async def clear(home: Path, endpoints: Mapping[str, Any], publisher: Publisher, count: int) -> Cleared:
    """Clear every wallet, with a pause and kills on the way."""
    held = [(name, Memory(pid)) for name, pid in workers(home)]
    holders = Holders(endpoints["kafka"], publisher, count)
    holders.start()
    began = time.monotonic()
    id_ = start(publisher)
    await asyncio.to_thread(holders.a_third_is_told.wait, PATIENCE_S)
    publisher.publish("closure.commands", "clearance.pause", id_, {"clearance_id": id_})
    publisher.flush()
    await asyncio.sleep(PAUSE_S)
    await asyncio.to_thread(kill, home)
    held += [(name, Memory(pid)) for name, pid in workers(home)]
    publisher.publish("closure.commands", "clearance.resume", id_, {"clearance_id": id_})
    publisher.flush()
    await wait_for(endpoints, "transfer", "count_closed", count)
    took_s = time.monotonic() - holders.first_at
    holders.is_over.set()
    holders.join()
    most_mb = {name: round(max(one.most_mb for whose, one in held if whose == name)) for name, _ in held}
    return Cleared(holders.first_at - began, took_s, most_mb)


async def measure_closed(home: Path, count: int) -> tuple[float, Cleared]:
    """Return how many seconds the payouts alone take, and what clearing does."""
    with started(home, notifiers=0) as endpoints:
        publisher = Publisher(endpoints["kafka"])
        await prepare(endpoints, publisher, count)
        bare_s = await pay_out(endpoints, publisher, count)
        await fill(endpoints, publisher, count)
        return bare_s, await clear(home, endpoints, publisher, count)


async def measure(home: Path, count: int) -> dict[str, Any]:
    """Return the figures."""
    bare_s, cleared = await measure_closed(home, count)
    with started(home) as endpoints:
        began = time.monotonic()
        await wait_for(endpoints, "closure", "count_not_forgotten", 0)
        backlog_s = time.monotonic() - began
        await wait_for(endpoints, "closure", "count_running", 0)
        connection = await asyncpg.connect(endpoints["database"], server_settings={"search_path": "closure"})
        said = await connection.fetchval(QUERIES.load_statement)
        await connection.close()
    return {
        "wallets": count,
        "payouts_per_s": round(count / bare_s),
        "cases_per_s": round(count / cleared.took_s),
        "to_payouts": round(bare_s / cleared.took_s, 3),
        "seconds": round(cleared.took_s, 1),
        "first_case_s": round(cleared.first_s, 1),
        "backlog_s": round(backlog_s, 1),
        "memory_mb": cleared.memory_mb,
        "statement": json.loads(said),
    }


def main() -> None:
    """Measure once and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wallets", type=int, default=100_000)
    parser.add_argument("--home", type=Path, help="keep data and logs here")
    asked = parser.parse_args()
    with TemporaryDirectory(prefix="sluice-bench-") as folder:
        print(json.dumps(asyncio.run(measure(asked.home or Path(folder), asked.wallets))))  # noqa: T201


if __name__ == "__main__":
    main()
