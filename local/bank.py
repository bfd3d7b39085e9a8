"""The sandbox bank: a connector that answers `rail.instructions` on `rail.results`, as well or as badly as it is told.

By default everything settles at once. `bank.json` in the run's directory, read again whenever it changes, or
`SLUICE_BANK_…` in the environment say otherwise; see `Behaviour`.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from local.settings import load_local_settings, runtime_settings
from schemas import registry
from schemas.envelope import Envelope, decode, encode_headers
from schemas.rail import PayoutInquired, PayoutInstructed
from services.runtime.clock import clock_from_setting
from services.runtime.kafka import admin_options
from services.runtime.settings import SettingsError, describe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from services.runtime.clock import Clock

SOURCE: Final = "sandbox-bank"
_BATCH: Final = 2_000
_POLL_S: Final = 0.02
_SESSION_MS: Final = 6_000
_PRODUCE_TIMEOUT_S: Final = 30

_MEMORY: Final = """
create table if not exists instruction (
    transfer_id text primary key, payee text not null, key blob, answers text not null, inquiry text not null
) without rowid;
create table if not exists answer (
    due_at text not null, transfer_id text not null, number integer not null, key blob, answer text not null,
    primary key (transfer_id, number)
);
create index if not exists answer_due on answer (due_at);
"""


class Answer(BaseModel):
    """What the bank says of a payout, and how long after the instruction."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answer: Literal["settled", "failed", "returned", "unknown"]
    after_s: Annotated[float, Field(ge=0)] = 0
    rail_code: str = "MS03"
    detail: str | None = None


class Rule(BaseModel):
    """How payouts to some payees go: a pattern such as `bank:ICBC:*`, the answers in order; none is silence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    payee: str
    answers: tuple[Answer, ...] = ()
    inquiry: Literal["same", "unknown", "silent"] = "same"


class Behaviour(BaseSettings):
    """How the bank behaves; shares are of all payouts, chosen by the payout's id, so a repeat gets the same."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_prefix="SLUICE_BANK_", env_ignore_empty=True)

    delay_s: Annotated[float, Field(ge=0)] = 0
    failure_rate: Annotated[float, Field(ge=0, le=1)] = 0
    failure_code: str = "MS03"
    return_rate: Annotated[float, Field(ge=0, le=1)] = 0
    return_after_s: Annotated[float, Field(ge=0)] = 1
    silence_rate: Annotated[float, Field(ge=0, le=1)] = 0
    duplicate_rate: Annotated[float, Field(ge=0, le=1)] = 0
    rules: tuple[Rule, ...] = ()

    def rule_for(self, transfer_id: str, payee: str) -> Rule:
        """Return what happens to one payout."""
        for rule in self.rules:
            if fnmatchcase(payee, rule.payee):
                return rule
        luck = _luck(transfer_id)
        settled = Answer(answer="settled", after_s=self.delay_s)
        if (luck := luck - self.failure_rate) < 0:
            answers: tuple[Answer, ...] = (Answer(answer="failed", after_s=self.delay_s, rail_code=self.failure_code),)
        elif (luck := luck - self.return_rate) < 0:
            answers = (settled, Answer(answer="returned", after_s=self.delay_s + self.return_after_s))
        elif (luck := luck - self.silence_rate) < 0:
            answers = ()
        elif luck - self.duplicate_rate < 0:
            answers = (settled, settled)
        else:
            answers = (settled,)
        return Rule(payee=payee, answers=answers)


def _luck(transfer_id: str) -> float:
    return int.from_bytes(hashlib.blake2b(transfer_id.encode(), digest_size=6).digest()) / 2**48


class BehaviourFile:
    """The behaviour as a file says, read again when it changes; a file that is wrong changes nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen_ns = -1
        self._behaviour = Behaviour()

    def read(self) -> Behaviour:
        """Return the behaviour in force."""
        try:
            changed_ns = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return self._behaviour
        if changed_ns != self._seen_ns:
            self._seen_ns = changed_ns
            try:
                self._behaviour = Behaviour(**json.loads(self._path.read_text()))
            except (ValidationError, json.JSONDecodeError, TypeError) as error:
                sys.stderr.write(f"{self._path} is not a behaviour, the one before stays: {error}\n")
        return self._behaviour


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer to be published."""

    transfer_id: str
    number: int
    key: bytes | None
    answer: Answer


class Bank:
    """What the bank remembers and does."""

    def __init__(self, memory: Path, behaviour: BehaviourFile, clock: Clock) -> None:
        self._db = sqlite3.connect(memory, isolation_level=None)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = normal")
        self._db.executescript(_MEMORY)
        self._behaviour = behaviour
        self._clock = clock

    def handle(self, messages: Sequence[Message]) -> list[Reply]:
        """Take instructions and inquiries; return what is to be said at once, and remember what later."""
        now = self._clock.now()
        behaviour = self._behaviour.read()
        replies: list[Reply] = []
        instructions: list[tuple[Any, ...]] = []
        later: list[tuple[Any, ...]] = []
        inquiries: list[tuple[str, bytes | None]] = []
        for envelope, key in _read(messages):
            if isinstance(envelope.data, PayoutInquired):
                inquiries.append((str(envelope.data.transfer_id), key))
            elif isinstance(envelope.data, PayoutInstructed):
                id_ = str(envelope.data.transfer_id)
                rule = behaviour.rule_for(id_, envelope.data.payee)
                instructions.append((id_, envelope.data.payee, key, _dump(rule.answers), rule.inquiry))
                for number, answer in enumerate(rule.answers):
                    if answer.after_s:
                        due_at = now + timedelta(seconds=answer.after_s)
                        later.append((due_at.isoformat(), id_, number, key, answer.model_dump_json()))
                    else:
                        replies.append(Reply(id_, number, key, answer))
        self._remember(instructions, later)
        for id_, key in inquiries:
            replies += self._answer_inquiry(id_, key)
        return replies

    def _remember(self, instructions: Sequence[tuple[Any, ...]], later: Sequence[tuple[Any, ...]]) -> None:
        if not instructions:
            return
        self._db.execute("begin")
        self._db.executemany("insert or ignore into instruction values (?, ?, ?, ?, ?)", instructions)
        self._db.executemany("insert or ignore into answer values (?, ?, ?, ?, ?)", later)
        self._db.execute("commit")

    def _answer_inquiry(self, id_: str, key: bytes | None) -> list[Reply]:
        found = self._db.execute("select answers, inquiry from instruction where transfer_id = ?", [id_]).fetchone()
        number = self._clock.now().microsecond
        unknown = Reply(id_, number, key, Answer(answer="unknown"))
        if found is None or found[1] == "unknown":
            return [unknown]
        waiting = {
            row[0] for row in self._db.execute("select number from answer where transfer_id = ?", [id_]).fetchall()
        }
        said = [answer for place, answer in enumerate(_load(found[0])) if place not in waiting]
        if found[1] == "silent" or not said:
            return []
        return [Reply(id_, number, key, said[-1])]

    def due(self) -> list[Reply]:
        """Return the answers whose time has come."""
        rows = self._db.execute(
            "select transfer_id, number, key, answer from answer where due_at <= ? order by due_at limit ?",
            [self._clock.now().isoformat(), _BATCH],
        )
        return [Reply(id_, number, key, Answer.model_validate_json(text)) for id_, number, key, text in rows]

    def forget(self, replies: Sequence[Reply]) -> None:
        """Drop answers that were published."""
        self._db.executemany(
            "delete from answer where transfer_id = ? and number = ?",
            [(reply.transfer_id, reply.number) for reply in replies],
        )


def _dump(answers: Sequence[Answer]) -> str:
    return orjson.dumps([answer.model_dump() for answer in answers]).decode()


def _load(text: str) -> list[Answer]:
    return [Answer(**answer) for answer in orjson.loads(text)]


_MODELS: Final = registry.TOPICS["rail.instructions"]


def _read(messages: Sequence[Message]) -> Iterator[tuple[Envelope, bytes | None]]:
    for message in messages:
        if (error := message.error()) is not None:
            if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - the library's name for it
                sys.stderr.write(f"{error.str()}\n")
            continue
        headers: Any = message.headers() or []
        envelope = decode(headers, message.value(), _MODELS)
        if isinstance(envelope, Envelope):
            yield envelope, message.key()
        else:
            sys.stderr.write(f"not understood: {envelope.detail}\n")


def to_message(reply: Reply, now: datetime) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Return the value and headers of an answer; its id is the same when it is said again."""
    answer = reply.answer
    body: dict[str, Any] = {"transfer_id": reply.transfer_id}
    if answer.answer in {"failed", "returned"}:
        body["rail_code"] = answer.rail_code
    if answer.detail is not None:
        body["detail"] = answer.detail
    headers = encode_headers(
        f"payout.{answer.answer}",
        id=f"{reply.transfer_id}.{answer.answer}.{reply.number}",
        source=SOURCE,
        time=now.isoformat(),
        subject=reply.transfer_id,
    )
    return orjson.dumps(body), headers


def main() -> None:
    """Answer until SIGTERM."""
    local = load_local_settings()
    dsn = local.dsn.get_secret_value() if local.dsn else "postgresql://none"
    settings = runtime_settings(local.bootstrap or "", dsn)
    home = Path(os.environ.get("SLUICE_BANK_HOME", local.home)).resolve()
    (home / "data").mkdir(parents=True, exist_ok=True)
    clock = clock_from_setting(settings.clock)
    bank = Bank(home / "data" / "bank.sqlite", BehaviourFile(home / "bank.json"), clock)
    connection = admin_options(settings, "sandbox-bank")
    consumer = Consumer(
        {
            **connection,
            "group.id": f"{settings.topic_prefix}sandbox-bank",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": _SESSION_MS,
            "fetch.wait.max.ms": 10,
        }
    )
    producer = Producer({**connection, "acks": "all", "linger.ms": 2, "partitioner": "murmur2_random"})
    consumer.subscribe([f"{settings.topic_prefix}rail.instructions"])
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    announced = {"service": "bank", "pid": os.getpid(), "behaviour": str(home / "bank.json")}
    sys.stdout.write(json.dumps(announced) + "\n")
    sys.stdout.flush()
    topic = f"{settings.topic_prefix}rail.results"
    while not stopping:
        messages = consumer.consume(_BATCH, _POLL_S)
        due = bank.due()
        replies = [*bank.handle(messages), *due]
        if replies:
            _publish(producer, topic, replies, clock.now())
        if messages:
            # Only now: what was not answered is read again after a crash, and answered the same.
            with suppress(KafkaException):
                consumer.commit(asynchronous=True)
        if due:
            bank.forget(due)
    consumer.close()


def _publish(producer: Producer, topic: str, replies: Sequence[Reply], now: datetime) -> None:
    for reply in replies:
        value, headers = to_message(reply, now)
        producer.produce(topic, key=reply.key, value=value, headers=headers)  # type: ignore[arg-type]
        producer.poll(0)
    while producer.flush(_PRODUCE_TIMEOUT_S):
        sys.stderr.write("the brokers do not answer; waiting\n")


if __name__ == "__main__":
    try:
        main()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    except ValidationError as error:
        sys.stderr.write(f"{describe(error)}\n")
        sys.exit(2)
