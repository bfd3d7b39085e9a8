"""`sluice replay DIR`: sends a history of customers, accounts and transfers through the system and checks it."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import threading
import time
import uuid
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
import typer
from confluent_kafka import Consumer, Producer, TopicPartition
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from local.settings import runtime_settings
from local.up import started
from ops.brokers import asking
from ops.database import connect
from ops.errors import UserError
from ops.money import amount_text
from ops.running import NotRunning, Running, find_running, running_from
from ops.stopping import ending_in_order
from schemas.envelope import encode_headers
from services.runtime.kafka import admin_options
from services.transfer import records

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

SOURCE: Final = "sluice/replay"
FINAL: Final = frozenset({"settled", "failed", "refunded", "cancelled", "expired"})
_COLUMNS: Final = {
    "customers.csv": ("customer_id", "name"),
    "accounts.csv": ("account_id", "customer_id", "currency", "overdraft_limit_minor", "tier"),
    "transfers.csv": (
        "transfer_id", "occurred_on", "kind", "payer", "payee", "amount_minor", "currency", "expected_balance_minor",
    ),
}  # fmt: skip
_PATIENCE_S: Final = 60.0
_LOOK_EVERY_S: Final = 2.0
_DECIDED_WITHIN_S: Final = 5.0
_FAULTS: Final = ("not_ended", "refused", "balances_off", "dead_letters")
_SHOWN: Final = 20
_STOPPED: Final = (
    "Stopped. Nothing is lost: what was sent goes on, and the same replay again sends the rest and checks everything."
)


class ReplayError(UserError):
    """The history cannot be read or did not come through; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Row:
    """One transfer of the history; `wallet` keys it, and its balance is expected; `others` it touches too."""

    line: int
    transfer_id: str
    wallet: str
    others: tuple[str, ...]
    body: bytes
    currency: str
    expected_minor: int


@dataclass(frozen=True, slots=True)
class History:
    """What the files hold, ready to be published: (key, id, body) of customers and accounts."""

    customers: list[tuple[str, str, bytes]]
    accounts: list[tuple[str, str, bytes]]
    transfers: list[Row]


@dataclass(slots=True)
class Outcomes:
    """What became of each transfer, as its events say."""

    statuses: dict[str, str] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    refused: dict[str, str] = field(default_factory=dict)
    balances: dict[str, int | None] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)
    last_heard: float = field(default_factory=time.monotonic)
    last_ended: float = 0.0


def run(
    directory: Annotated[Path, typer.Argument(help="Folder with customers.csv, accounts.csv and transfers.csv.")],
    rate: Annotated[
        float | None, typer.Option(help="Transfers a second; without it, as fast as can be.", min=0.01)
    ] = None,
    report_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the report to this file.", dir_okay=False)
    ] = None,
) -> None:
    """Replay a directory on the running system, or on a temporary one; exit 1 when anything is off."""
    console = Console()
    _check_report_file(report_file)
    history = read_history(directory)
    with ending_in_order(_STOPPED), _system(console) as running, asking(running):
        report = Replay(running, console).run(history, rate)
    _show(console, report)
    if report_file is not None:
        report_file.write_text(json.dumps(report, indent=2) + "\n")
    if any(report[name] for name in _FAULTS) or report["audit"] != "clean":
        raise SystemExit(1)


def _check_report_file(path: Path | None) -> None:
    folder = Path() if path is None else path.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ReplayError(f"Nothing can be written to {folder}: make that folder, or name another file.")


@contextmanager
def _system(console: Console) -> Iterator[Running]:
    try:
        yield find_running()
    except NotRunning:
        console.print("Nothing is running here: starting Kafka, PostgreSQL and the services for this replay …")
        # Nobody is to be told again of what happened long ago.
        with started(maintainers=0, closers=0, notifiers=0) as said:
            yield running_from(said)


# --- Reading ---


def read_history(directory: Path) -> History:
    """Read the three files; ReplayError names file, line and column of the first thing that is wrong."""
    customers = [_customer(row) for _, row in _rows(directory, "customers.csv")]
    accounts = [_account(line, row) for line, row in _rows(directory, "accounts.csv")]
    transfers = [_transfer(line, row) for line, row in _rows(directory, "transfers.csv")]
    if not transfers:
        raise ReplayError(f"{directory / 'transfers.csv'} has no rows: there is nothing to replay.")
    _check_ids(transfers)
    _check_wallets(transfers, {account_id for account_id, _, _ in accounts})
    return History(customers, accounts, transfers)


def _check_ids(transfers: Sequence[Row]) -> None:
    lines: dict[str, int] = {}
    for row in transfers:
        before = lines.setdefault(row.transfer_id, row.line)
        if before != row.line:
            raise ReplayError(
                f"transfers.csv, line {row.line}: the transfer_id {row.transfer_id} stands in line {before} already."
            )


def _check_wallets(transfers: Sequence[Row], accounts: Collection[str]) -> None:
    for row in transfers:
        for wallet in (row.wallet, *row.others):
            if wallet.startswith("wallet:") and wallet not in accounts:
                raise ReplayError(f"transfers.csv, line {row.line}: {wallet} is not in accounts.csv.")


def _rows(directory: Path, name: str) -> Iterator[tuple[int, Mapping[str, str]]]:
    path = directory / name
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            reader = csv.DictReader(lines)
            if missing := [column for column in _COLUMNS[name] if column not in (reader.fieldnames or ())]:
                raise ReplayError(f"{path} has no column {missing[0]}; it needs {', '.join(_COLUMNS[name])}.")
            for row in reader:
                yield reader.line_num, row
    except OSError as error:
        raise ReplayError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ReplayError(f"{path} is not UTF-8.") from error


def _whole(name: str, line: int, row: Mapping[str, str], column: str) -> int:
    try:
        return int(row[column])
    except (ValueError, TypeError):
        raise ReplayError(f"{name}, line {line}: {column} is {row[column]!r}, not a whole number.") from None


def _customer(row: Mapping[str, str]) -> tuple[str, str, bytes]:
    profile: dict[str, Any] = {"customer_id": row["customer_id"], "name": row["name"]}
    profile |= {name: row[name] for name in ("phone", "email", "locale") if row.get(name)}
    return row["customer_id"], f"profile-{row['customer_id']}", orjson.dumps(profile)


def _account(line: int, row: Mapping[str, str]) -> tuple[str, str, bytes]:
    body = {name: row[name] for name in ("account_id", "customer_id", "currency", "tier")}
    overdraft = _whole("accounts.csv", line, row, "overdraft_limit_minor")
    return (
        row["account_id"],
        f"open-{row['account_id']}",
        orjson.dumps(body | {"overdraft_limit_minor": overdraft}),
    )


def _transfer(line: int, row: Mapping[str, str]) -> Row:
    body: dict[str, Any] = {name: row[name] for name in ("transfer_id", "kind", "payer", "payee", "currency")}
    body["amount_minor"] = _whole("transfers.csv", line, row, "amount_minor")
    if row.get("reference"):
        body["reference"] = row["reference"]
    expected = _whole("transfers.csv", line, row, "expected_balance_minor")
    try:
        transfer_id = str(uuid.UUID(row["transfer_id"]))
    except ValueError:
        raise ReplayError(f"transfers.csv, line {line}: transfer_id is {row['transfer_id']!r}, not a UUID.") from None
    wallet = row["payer"] if row["payer"].startswith("wallet:") else row["payee"]
    others = tuple({row["payer"], row["payee"]} - {wallet})
    return Row(line, transfer_id, wallet, others, orjson.dumps(body), row["currency"], expected)


# --- Sending and following ---


class Replay:
    """One replay on a running system."""

    def __init__(self, running: Running, console: Console) -> None:
        self._running = running
        self._console = console
        # Their own log would come in pages; what fails is raised.
        options = admin_options(runtime_settings(running.kafka, running.database), "sluice.replay")
        self._options: dict[str, Any] = {**options, "log_level": 0}
        self._prefix = running.topic_prefix
        self._outcomes = Outcomes()
        self._done_before: dict[str, bytes] = {}
        self._dead_before = 0
        self._done = threading.Event()
        self._failed: list[BaseException] = []

    def run(self, history: History, rate: float | None) -> dict[str, Any]:
        """Publish a history and wait until every transfer has ended, or nothing goes on; return the report."""
        wallets = {row.transfer_id: row.wallet for row in history.transfers}
        self._done_before = asyncio.run(self._first_events(list(wallets)))
        self._dead_before = self._count_dead_letters()
        follower = threading.Thread(target=self._follow, args=(wallets, self._consumer()), daemon=True)
        follower.start()
        try:
            self._send("customer.profiles", "customer.profile", history.customers)
            self._open_accounts(history.accounts)
            started_at = time.monotonic()
            with self._progress(len(history.transfers)):
                self._send("transfer.commands", "transfer.request", self._in_order(history.transfers), rate)
                self._await(lambda: len(self._outcomes.ended), len(wallets))
        finally:
            self._done.set()
            follower.join(10)
        seconds = max(0.0, self._outcomes.last_ended - started_at)
        return asyncio.run(self._report(history, seconds))

    def _in_order(self, rows: Iterable[Row]) -> Iterator[tuple[str, str, bytes]]:
        """Yield the rows' messages, each once what touched its wallets before is decided or has the same key.

        Kafka keeps the order of one key only, and a wallet is credited under its payers' keys.
        """
        last: dict[str, Row] = {}
        for row in rows:
            for wallet in (row.wallet, *row.others):
                before = last.get(wallet)
                if before is not None and before.wallet != row.wallet and wallet.startswith("wallet:"):
                    self._await_decided(before)
                last[wallet] = row
            yield row.wallet, row.transfer_id, row.body

    def _await_decided(self, row: Row) -> None:
        """Wait for what becomes of a request, but not for long after the last event of any: it may be a dead letter."""
        since = time.monotonic()
        outcomes = self._outcomes
        while not (row.transfer_id in outcomes.statuses or row.transfer_id in outcomes.refused or self._failed):
            if time.monotonic() - max(since, outcomes.last_heard) > _DECIDED_WITHIN_S:
                return
            self._done.wait(0.001)

    def _consumer(self) -> Consumer:
        consumer = Consumer(
            {
                **self._options,
                "group.id": f"replay-{uuid.uuid4()}",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 10,
            }
        )
        topic = f"{self._prefix}transfer.events"
        partitions = [TopicPartition(topic, number) for number in self._partitions(consumer, topic)]
        for partition in partitions:
            partition.offset = consumer.get_watermark_offsets(partition, 10)[1]
        consumer.assign(partitions)
        return consumer

    def _partitions(self, consumer: Consumer, topic: str) -> list[int]:
        found = list(consumer.list_topics(topic, 10).topics[topic].partitions)
        if not found:
            raise ReplayError(f"The topic {topic} is missing: `sluice topics create` makes it.")
        return found

    def _follow(self, wallets: Mapping[str, str], consumer: Consumer) -> None:
        try:
            while not self._done.is_set():
                for message in consumer.consume(2_000, 0.01):
                    if message.error() is None:
                        self._note(wallets, message.value() or b"{}")
        except BaseException as error:  # noqa: BLE001 - reported by the thread that waits
            self._failed.append(error)
        finally:
            consumer.close()

    def _note(self, wallets: Mapping[str, str], value: bytes) -> None:
        event = orjson.loads(value)
        outcomes = self._outcomes
        outcomes.last_heard = time.monotonic()
        id_ = event.get("transfer_id")
        if id_ is None:
            # An account that was opened, or the command that was refused.
            outcomes.answered.add(f"open-{event['account_id']}" if "account_id" in event else event["command_id"])
            if "reason" in event:
                outcomes.reasons[event["reason"]["code"]] += 1
            return
        wallet = wallets.get(id_)
        if wallet is None:
            return
        if event.get("command_id") == id_:
            self._note_refused(id_, event["reason"]["code"])
        if "status" not in event:
            return
        outcomes.statuses[id_] = event["status"]
        if event["seq"] == 1:
            outcomes.balances[id_] = _balance_of(event, wallet)
        if event["status"] in FINAL and id_ not in outcomes.ended:
            outcomes.ended.add(id_)
            outcomes.last_ended = outcomes.last_heard
            if "reason" in event:
                outcomes.reasons[event["reason"]["code"]] += 1

    def _note_refused(self, id_: str, code: str) -> None:
        """Remember a request that was refused itself, and say so: no outcome will come of it."""
        outcomes = self._outcomes
        outcomes.refused[id_] = code
        outcomes.ended.add(id_)
        outcomes.last_ended = outcomes.last_heard
        outcomes.reasons[code] += 1
        if len(outcomes.refused) <= _SHOWN:
            self._console.print(f"The request {id_} is refused because of {code}.", soft_wrap=True)

    def _send(
        self, topic: str, type_: str, messages: Iterable[tuple[str, str, bytes]], rate: float | None = None
    ) -> None:
        producer = Producer(
            {
                **self._options,
                "acks": "all",
                "linger.ms": 5,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
            }
        )
        started_at = time.monotonic()
        for number, (key, id_, body) in enumerate(messages):
            if rate is not None:
                _wait_until(producer, started_at + number / rate)
            moment = datetime.now(UTC).isoformat()
            headers: Any = encode_headers(type_, id=id_, source=SOURCE, time=moment, subject=id_)
            while True:
                try:
                    producer.produce(f"{self._prefix}{topic}", key=key, value=body, headers=headers)
                except BufferError:
                    producer.poll(0.1)
                else:
                    break
            producer.poll(0)
        if left := producer.flush(_PATIENCE_S):
            raise ReplayError(f"Kafka did not take {left} messages within {_PATIENCE_S:g} s.")

    def _open_accounts(self, accounts: Sequence[tuple[str, str, bytes]]) -> None:
        wanted = {id_ for _, id_, _ in accounts}
        with self._console.status(f"Opening {len(accounts):,} accounts …"):
            self._send("transfer.commands", "account.open", accounts)
            self._await(lambda: len(self._outcomes.answered & wanted), len(wanted))

    def _await(self, count: Callable[[], int], wanted: int) -> None:
        """Wait until so many are answered or dead letters, or nothing has gone on for long."""
        self._outcomes.last_heard = time.monotonic()
        next_look = time.monotonic() + _LOOK_EVERY_S
        while count() < wanted:
            if self._failed:
                raise ReplayError(f"The events cannot be followed: {self._failed[0]}")
            now = time.monotonic()
            if now - self._outcomes.last_heard > _PATIENCE_S:
                self._console.print(
                    f"Nothing has happened for {_PATIENCE_S:g} s. Look at the services' /readyz and logs."
                )
                return
            if now > next_look and now - self._outcomes.last_heard > _LOOK_EVERY_S:
                if count() + self._dead_letters() >= wanted:
                    return
                next_look = now + _LOOK_EVERY_S
            self._done.wait(0.02)

    @contextmanager
    def _progress(self, total: int) -> Iterator[None]:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console, refresh_per_second=4) as progress:
            task = progress.add_task("Transfers", total=total)
            watching = threading.Thread(target=self._show_progress, args=(progress, task), daemon=True)
            watching.start()
            yield
            progress.update(task, completed=len(self._outcomes.ended))

    def _show_progress(self, progress: Progress, task: Any) -> None:
        while not self._done.wait(0.25):
            progress.update(task, completed=len(self._outcomes.ended))

    def _dead_letters(self) -> int:
        return self._count_dead_letters() - self._dead_before

    def _count_dead_letters(self) -> int:
        consumer = Consumer({**self._options, "group.id": f"replay-{uuid.uuid4()}"})
        try:
            total = 0
            for name in ("transfer.commands.dlq", "customer.profiles.dlq", "rail.results.dlq"):
                topic = f"{self._prefix}{name}"
                for number in self._partitions(consumer, topic):
                    low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), 10)
                    total += high - low
            return total
        finally:
            consumer.close()

    async def _first_events(self, ids: Iterable[str]) -> dict[str, bytes]:
        async with connect(self._running, "transfer") as connection:
            found = await records.read_first_events(connection, [uuid.UUID(id_) for id_ in ids])
        return {str(id_): event for id_, event in found.items()}

    async def _report(self, history: History, seconds: float) -> dict[str, Any]:
        outcomes = self._outcomes
        await self._find_balances(history)
        async with connect(self._running, "transfer") as connection:
            audit = await records.audit(connection)
        off = [
            {
                "transfer_id": row.transfer_id,
                "wallet": row.wallet,
                "currency": row.currency,
                "expected_minor": row.expected_minor,
                "found_minor": found,
            }
            for row in history.transfers
            if row.transfer_id not in outcomes.refused
            and (found := outcomes.balances.get(row.transfer_id)) != row.expected_minor
        ]
        is_new = not self._done_before and seconds > 0
        return {
            "transfers": len(history.transfers),
            "done_before": len(self._done_before),
            "outcomes": dict(Counter(outcomes.statuses.values())),
            "reasons": dict(outcomes.reasons),
            "not_ended": sum(row.transfer_id not in outcomes.ended for row in history.transfers),
            "refused": len(outcomes.refused),
            "first_refused": dict(islice(outcomes.refused.items(), _SHOWN)),
            "balances_off": len(off),
            "first_balances_off": off[:_SHOWN],
            "dead_letters": self._dead_letters(),
            "seconds": round(seconds, 2),
            "per_second": round(len(history.transfers) / seconds) if is_new else None,
            "audit": "clean" if audit.clean else [finding.rule for finding in audit.findings],
        }

    async def _find_balances(self, history: History) -> None:
        """Look up the balances right after the transfers whose first events did not come by: those done before."""
        balances = self._outcomes.balances
        wallets = {row.transfer_id: row.wallet for row in history.transfers if row.transfer_id not in balances}
        unknown = wallets.keys() - self._done_before.keys()
        firsts = self._done_before | (await self._first_events(unknown) if unknown else {})
        for id_, wallet in wallets.items():
            if id_ in firsts:
                balances[id_] = _balance_of(orjson.loads(firsts[id_]), wallet)


def _balance_of(event: Mapping[str, Any], wallet: str) -> int | None:
    """Return what an event says that its transfer left available in a wallet."""
    side = "payer" if event["payer"] == wallet else "payee"
    return event.get(f"{side}_available_minor")


def _wait_until(producer: Producer, moment: float) -> None:
    while (left := moment - time.monotonic()) > 0:
        producer.poll(min(left, 0.05))


def _show(console: Console, report: Mapping[str, Any]) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("transfers", f"{report['transfers']:,}")
    for status, count in sorted(report["outcomes"].items()):
        table.add_row(f"  {status}", f"{count:,}")
    for reason, count in sorted(report["reasons"].items()):
        table.add_row(f"  because of {reason}", f"{count:,}")
    for name in ("not_ended", "refused"):
        if report[name]:
            table.add_row(name.replace("_", " "), f"{report[name]:,}")
    table.add_row("balances off", f"{report['balances_off']:,}")
    table.add_row("dead letters", f"{report['dead_letters']:,}")
    if report["done_before"]:
        table.add_row("done already", f"{report['done_before']:,}")
    table.add_row("seconds", f"{report['seconds']:,.1f}")
    if report["per_second"] is not None:
        table.add_row("transfers a second", f"{report['per_second']:,}")
    table.add_row("audit", report["audit"] if report["audit"] == "clean" else "; ".join(report["audit"]))
    console.print(table)
    for off in report["first_balances_off"]:
        expected = amount_text(off["expected_minor"], off["currency"])
        found = "none" if off["found_minor"] is None else amount_text(off["found_minor"], off["currency"])
        console.print(f"{off['wallet']}: after {off['transfer_id']} expected {expected}, found {found}", soft_wrap=True)
    if report["done_before"] == report["transfers"]:
        console.print("Everything had been done already: it was asked for again, moved nothing, and was checked.")
