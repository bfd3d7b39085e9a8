"""The sandbox bank: a connector that answers `rail.instructions` on `rail.results`, as well or as badly as it is told.

By default everything settles at once; `local.bank_behaviour` says how to have it otherwise. What it was told and will
answer is kept in a file, so that it goes on after a restart and says the same of a payout that it is told twice.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer

from local.bank_behaviour import Answer, Behaviour, Conduct, Rule
from local.behaviour import BehaviourFile
from local.settings import load_local_settings, runtime_settings
from schemas import registry
from schemas.envelope import Envelope, decode, encode_headers
from schemas.rail import PayoutInquired, PayoutInstructed
from services.runtime.clock import clock_from_setting
from services.runtime.kafka import admin_options
from services.runtime.message import Cause
from services.runtime.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from services.runtime.clock import Clock
    from services.runtime.settings import RuntimeSettings

SOURCE: Final = "sandbox-bank"
_BATCH: Final = 2_000
_POLL_S: Final = 0.02
_SESSION_MS: Final = 6_000
_LOOK_EVERY_S: Final = 1.0

_MEMORY: Final = """
create table if not exists instruction (
    transfer_id text primary key,
    conduct text not null
) without rowid;
create table if not exists answer (
    due_at text not null,
    transfer_id text not null,
    number integer not null,
    key blob,
    answer text not null,
    correlation_id text,
    traceparent text,
    primary key (transfer_id, number)
) without rowid;
create index if not exists answer_due on answer (due_at);
create table if not exists rule_use (
    rule text primary key,
    times integer not null
) without rowid;
"""


# What a memory of before lacks.
_COLUMNS: Final = ("correlation_id", "traceparent")


class NotPublished(Exception):
    """The brokers did not take an answer; the instructions are read again by the next process."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer to be published; `place` is its place among the answers to the instruction.

    It carries on the correlation and the trace of what it answers.
    """

    transfer_id: str
    id: str
    key: bytes | None
    answer: Answer
    cause: Cause
    place: int = 0


class _Told(NamedTuple):
    """An instruction: who is to be paid, and what the answers to it have."""

    payee: str
    key: bytes | None
    cause: Cause


class Bank:
    """What the bank remembers and does; it neither reads nor writes topics."""

    def __init__(self, memory: Path, behaviour: BehaviourFile[Behaviour], clock: Clock) -> None:
        self._db = sqlite3.connect(memory, isolation_level=None)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = normal")
        self._db.executescript(_MEMORY)
        known = {row[1] for row in self._db.execute("pragma table_info (answer)")}
        for column in _COLUMNS:
            if column not in known:
                self._db.execute(f"alter table answer add column {column} text")
        self._uses: dict[str, int] = dict(self._db.execute("select rule, times from rule_use").fetchall())
        self._behaviour = behaviour
        self._clock = clock

    def handle(self, messages: Sequence[tuple[Envelope, bytes | None]]) -> list[Reply]:
        """Take instructions and inquiries, with their keys; return what is to be said now, and remember the rest."""
        instructed = {
            str(envelope.data.transfer_id): _Told(envelope.data.payee, key, _cause(envelope))
            for envelope, key in messages
            if isinstance(envelope.data, PayoutInstructed)
        }
        replies = self._instruct(instructed) if instructed else []
        for envelope, key in messages:
            if isinstance(envelope.data, PayoutInquired):
                answer = self._answer_to_inquiry(str(envelope.data.transfer_id))
                if answer is not None:
                    id_ = f"{envelope.id}.{answer.answer}"
                    replies.append(Reply(str(envelope.data.transfer_id), id_, key, answer, _cause(envelope)))
        return replies

    def _instruct(self, instructed: dict[str, _Told]) -> list[Reply]:
        now = self._clock.now()
        conducts = self._conducts(instructed)
        replies: list[Reply] = []
        later: list[tuple[Any, ...]] = []
        for id_, told in instructed.items():
            for place, answer in enumerate(conducts[id_].answers):
                if answer.after_s:
                    due_at = now + timedelta(seconds=answer.after_s)
                    later.append((due_at.isoformat(), id_, place, told.key, answer.model_dump_json(), *told.cause))
                else:
                    replies.append(_reply(id_, told.key, answer, place, told.cause))
        if later:
            self._db.execute("begin")
            self._db.executemany("insert or ignore into answer values (?, ?, ?, ?, ?, ?, ?)", later)
            self._db.execute("commit")
        return replies

    def _conducts(self, instructed: dict[str, _Told]) -> dict[str, Conduct]:
        """Return what becomes of each payout: for one that was told before, what was decided then."""
        asked = orjson.dumps(list(instructed)).decode()
        query = "select transfer_id, conduct from instruction where transfer_id in (select value from json_each(?))"
        known = {id_: Conduct.model_validate_json(text) for id_, text in self._db.execute(query, [asked])}
        behaviour = self._behaviour.read()
        new: dict[str, Conduct] = {}
        used: set[str] = set()
        for id_, told in instructed.items():
            if id_ not in known:
                rule = behaviour.rule_for(told.payee, self._is_used_up)
                new[id_] = rule.conduct() if rule else behaviour.conduct_of(id_)
                if rule is not None and rule.times is not None:
                    text = rule.model_dump_json()
                    self._uses[text] = self._uses.get(text, 0) + 1
                    used.add(text)
        texts = {conduct: conduct.model_dump_json() for conduct in set(new.values())}
        self._db.execute("begin")
        rows = [(id_, texts[conduct]) for id_, conduct in new.items()]
        self._db.executemany("insert into instruction values (?, ?)", rows)
        self._db.executemany(
            "insert or replace into rule_use values (?, ?)", [(rule, self._uses[rule]) for rule in used]
        )
        self._db.execute("commit")
        return known | new

    def _is_used_up(self, rule: Rule) -> bool:
        return rule.times is not None and self._uses.get(rule.model_dump_json(), 0) >= rule.times

    def _answer_to_inquiry(self, id_: str) -> Answer | None:
        found = self._db.execute("select conduct from instruction where transfer_id = ?", [id_]).fetchone()
        if found is None:
            return Answer(answer="unknown")
        conduct = Conduct.model_validate_json(found[0])
        if conduct.inquiry == "unknown":
            return Answer(answer="unknown")
        waiting = {row[0] for row in self._db.execute("select number from answer where transfer_id = ?", [id_])}
        said = [answer for place, answer in enumerate(conduct.answers) if place not in waiting]
        return said[-1] if said and conduct.inquiry == "same" else None

    def due(self) -> list[Reply]:
        """Return the answers whose time has come."""
        rows = self._db.execute(
            "select transfer_id, key, answer, number, correlation_id, traceparent from answer"
            " where due_at <= ? order by due_at, number limit ?",
            [self._clock.now().isoformat(), _BATCH],
        )
        return [
            _reply(id_, key, Answer.model_validate_json(text), place, Cause(*cause))
            for id_, key, text, place, *cause in rows
        ]

    def forget(self, replies: Sequence[Reply]) -> None:
        """Drop answers that were published."""
        self._db.execute("begin")
        self._db.executemany(
            "delete from answer where transfer_id = ? and number = ?",
            [(reply.transfer_id, reply.place) for reply in replies],
        )
        self._db.execute("commit")


def _reply(transfer_id: str, key: bytes | None, answer: Answer, place: int, cause: Cause) -> Reply:
    # The same answer twice is one event that came twice.
    return Reply(transfer_id, f"{transfer_id}.{answer.answer}", key, answer, cause, place)


def _cause(envelope: Envelope) -> Cause:
    """Return what an answer carries on; what came without a correlation begins one with its own id."""
    return Cause(envelope.correlation_id or envelope.id, envelope.traceparent)


def to_message(reply: Reply, now: datetime) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Return the value and headers of an answer."""
    answer = reply.answer
    body: dict[str, Any] = {"transfer_id": reply.transfer_id}
    if answer.answer in {"failed", "returned"}:
        body["rail_code"] = answer.rail_code
        if answer.detail is not None:
            body["detail"] = answer.detail
    headers = encode_headers(
        f"payout.{answer.answer}",
        id=reply.id,
        source=SOURCE,
        time=now.isoformat(),
        subject=reply.transfer_id,
        correlation_id=reply.cause.correlation_id,
        traceparent=reply.cause.traceparent,
    )
    return orjson.dumps(body), headers


# --- The connector ---


class Connector:
    """Reads instructions, publishes answers, and commits what is answered."""

    def __init__(self, settings: RuntimeSettings, bank: Bank, clock: Clock) -> None:
        options = admin_options(settings, SOURCE)
        self._bank = bank
        self._clock = clock
        self._results = f"{settings.topic_prefix}rail.results"
        self._instructions = f"{settings.topic_prefix}rail.instructions"
        self._producer = Producer(
            {
                **options,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 2,
                "partitioner": "murmur2_random",
                "reconnect.backoff.max.ms": 1_000,
            }
        )
        self._consumer = Consumer(
            {
                **options,
                "group.id": f"{settings.topic_prefix}{SOURCE}",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "session.timeout.ms": _SESSION_MS,
                "fetch.wait.max.ms": 10,
                "reconnect.backoff.max.ms": 1_000,
                "topic.metadata.refresh.interval.ms": 5_000,
            }
        )
        self._failures: list[str] = []

    def run(self, is_stopping: Callable[[], bool]) -> None:
        """Answer until told to stop; raises NotPublished or KafkaException when another process must try."""
        self._consumer.subscribe([self._instructions])
        try:
            while not is_stopping():
                messages = self._poll()
                due = self._bank.due()
                self._publish([*self._bank.handle(list(_read(messages))), *due], is_stopping)
                # Only now: what was not answered is read again after a crash, and answered the same.
                self._commit(messages)
                if due:
                    self._bank.forget(due)
            with suppress(KafkaException):
                self._consumer.commit(asynchronous=False)
        finally:
            self._consumer.close()

    def _poll(self) -> list[Message]:
        # One wakes up; the others are there already.
        first = self._consumer.poll(_POLL_S)
        return [] if first is None else [first, *self._consumer.consume(_BATCH - 1, 0)]

    def _commit(self, messages: Sequence[Message]) -> None:
        if messages:
            with suppress(KafkaException):
                self._consumer.commit(asynchronous=True)

    def _publish(self, replies: Sequence[Reply], is_stopping: Callable[[], bool]) -> None:
        if not replies:
            return
        now = self._clock.now()
        for reply in replies:
            headers: Any
            value, headers = to_message(reply, now)
            self._producer.produce(
                self._results,
                key=reply.key,
                value=value,
                headers=headers,
                on_delivery=self._note_failure,
            )
            self._producer.poll(0)
        while self._producer.flush(_LOOK_EVERY_S):
            if is_stopping():
                raise NotPublished("told to stop while the brokers do not answer")
        if self._failures:
            raise NotPublished(self._failures[0])

    def _note_failure(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._failures.append(error.str())


_MODELS: Final = registry.TOPICS["rail.instructions"]


def _read(messages: Sequence[Message]) -> Iterator[tuple[Envelope, bytes | None]]:
    for message in messages:
        if (error := message.error()) is not None:
            if error.fatal():
                raise KafkaException(error)
            _log(error.str())
            continue
        headers: Any = message.headers() or []
        envelope = decode(headers, message.value(), _MODELS)
        if isinstance(envelope, Envelope):
            yield envelope, message.key()
        else:
            _log(f"not understood: {envelope.detail}")


def _log(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main() -> int:
    """Answer until SIGTERM; return the process's exit code."""
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: stopping.append(number))
    try:
        local = load_local_settings()
        dsn = local.dsn.get_secret_value() if local.dsn else "postgresql://none"
        settings = runtime_settings(local.bootstrap or "", dsn)
        home = Path(os.environ.get("SLUICE_BANK_HOME") or local.home).resolve()
        path = Path(os.environ.get("SLUICE_BANK_BEHAVIOUR") or home / "bank.json")
        behaviour = BehaviourFile(path, Behaviour)
    except SettingsError as error:
        _log(str(error))
        return 2
    (home / "data").mkdir(parents=True, exist_ok=True)
    clock = clock_from_setting(settings.clock)
    connector = Connector(settings, Bank(home / "data" / "bank.db", behaviour, clock), clock)
    announced = {"service": "bank", "pid": os.getpid(), "behaviour": str(path.resolve())}
    sys.stdout.write(json.dumps(announced) + "\n")
    sys.stdout.flush()
    try:
        connector.run(lambda: bool(stopping))
    except (NotPublished, KafkaException) as error:
        if not stopping:
            _log(str(error))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
