"""After an erasure nothing of the erased is left in the files of the database and of the brokers, nor in any log.

What the sandboxes of the bank, mail and SMS keep is outside of this: they stand for systems that are not ours.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson
import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from local.kafka import start_kafka
from local.setup import SERVICES
from schemas.fields import as_text
from schemas.topics import TOPICS
from tests.end_to_end.byte_search import encodings_of_bytes, encodings_of_text, find, spellings_of_phone
from tests.end_to_end.closings import Cases, id_number
from tests.end_to_end.system import Reader, System, running_system
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_BROKER = {
    "log.retention.check.interval.ms": "500",
    "log.initial.task.delay.ms": "500",
    "log.cleaner.backoff.ms": "500",
}
_SHORT = {
    "delete": {"retention.ms": "1", "file.delete.delay.ms": "0"},
    "compact": {
        "segment.ms": "1",
        "max.compaction.lag.ms": "1",
        "min.cleanable.dirty.ratio": "0",
        "delete.retention.ms": "1",
        "file.delete.delay.ms": "0",
    },
}
_KEYS = (
    "select customer_id, wrapped_key from transfer.customer_key",
    "select customer_id, wrapped_key from notify.customer_key",
    "select customer_id, wrapped_key from closure.customer_key",
)

_NOTICES = """
select template, channel, status, why, created_at from notify.notice where customer_id = $1 order by created_at
"""


@dataclass
class Person:
    """Somebody with a wallet, and what identifies them."""

    customer_id: str
    name: str
    number: int
    payee_name: str
    locale: str = "zh-CN"
    wallet: str = field(init=False)

    def __post_init__(self) -> None:
        self.wallet = f"wallet:of-{self.customer_id}"

    @property
    def phone(self) -> str:
        return f"+8613987{self.number:06d}"

    @property
    def id_number(self) -> str:
        return id_number(self.number)

    @property
    def email(self) -> str:
        return f"box{self.number}@post.example"

    def applicant(self) -> dict[str, str]:
        return {"name": self.name, "id_number": self.id_number, "phone": self.phone}

    def wanted(self) -> dict[str, set[bytes]]:
        """Return everything that identifies them, by what it is, in every form in which a file may have it."""
        texts = {
            "name": [self.name],
            "payee name": [self.payee_name],
            "phone": spellings_of_phone(self.phone),
            "ID number": [self.id_number],
            "mail address": [self.email],
        }
        return {
            f"{what} of {self.customer_id}": {one for text in several for one in encodings_of_text(text)}
            for what, several in texts.items()
        }


ERASED = (
    Person("one", "欧阳致远", 314_159, "慕容雪晴"),
    Person("two", "Wilhelmina Featherstonehaugh", 271_828, "Barnabas Quillfeather", "en"),
    Person("three", "尉迟Constantine", 161_803, "Zebulon 司徒"),
)
KEPT = Person("kept", "独孤Ermintrude", 141_421, "Peregrine Thistlewaite")


@pytest.fixture(scope="module")
def broker_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    directory = tmp_path_factory.mktemp("broker")
    with start_kafka(directory, more=_BROKER) as kafka:
        yield kafka.bootstrap, directory / "data"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, broker_files: tuple[str, Path]) -> Iterator[System]:
    environment = {"KAFKA_BOOTSTRAP_SERVERS": broker_files[0], "SLUICE_PARTITIONS": "2", "SLUICE_CREATE_TOPICS": "true"}
    home = tmp_path_factory.mktemp("erasure") / "home"
    with running_system(home, notifiers=1, maintainers=1, closers=1, environment=environment) as system:
        yield system


class Story:
    """What people do before, and how they leave."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.transfers = Reader(system.kafka)
        self.windows = Reader(system.kafka, "maintenance.events")
        self.erasures = Reader(system.kafka, "erasure.events")
        self.cases = Cases(system.kafka)
        self.applied: dict[str, str] = {}

    def join(self, person: Person) -> None:
        profile = {"customer_id": person.customer_id, **person.applicant(), "phone_verified": True}
        profile |= {"email": person.email, "locale": person.locale}
        self.system.send("customer.profile", person.customer_id, profile, topic="customer.profiles")
        opening = {"account_id": person.wallet, "customer_id": person.customer_id, "currency": "CNY"}
        self.system.send("account.open", person.wallet, {**opening, "tier": "standard"})
        self.system.request("top_up", "bank:ICBC:0", person.wallet, 3_000_000)

    def move_money(self, person: Person, window_id: str) -> None:
        """Pay to a bank by name, once after a proof, and once into a window that holds it."""
        plain = self._withdraw(person, "bank:ICBC:1", 1_000)
        proven = self._withdraw(person, "bank:ICBC:2", 2_000_000)
        held = self._withdraw(person, "bank:SHUT:3", 700)
        self.transfers.read_until(lambda: self.transfers.status(proven) == "verification_required")
        proof = {"transfer_id": proven, "method": "face", "outcome": "passed"}
        self.system.send("transfer.verify", person.wallet, proof)
        self.transfers.read_until(lambda: {self.transfers.status(one) for one in (plain, proven)} == {"settled"})
        self.transfers.read_until(lambda: self.transfers.status(held) == "held")
        answer = {"window_id": window_id, "customer_id": person.customer_id, "score": 2, "text": f"I am {person.name}"}
        self.system.send("survey.answer", window_id, answer, topic="maintenance.commands")

    def _withdraw(self, person: Person, payee: str, amount_minor: int) -> str:
        return self.system.request("withdrawal", person.wallet, payee, amount_minor, payee_name=person.payee_name)

    def shut_a_bank(self) -> str:
        now = datetime.now(UTC)
        plan = {
            "window_id": str(uuid.uuid4()),
            "title": "Upgrade",
            "reason": "Upgrade",
            "starts_at": as_text(now),
            "ends_at": as_text(now + timedelta(hours=8)),
            "functions": ["withdrawal"],
            "scope": {"banks": ["SHUT"]},
            "treatment": "hold",
            "alternatives": [{"kind": "card", "text": "Pay by card"}],
        }
        self.system.send("window.schedule", plan["window_id"], plan, topic="maintenance.commands")
        started = "sluice.window.started.v1"
        self.windows.read_until(lambda: any(headers["ce_type"] == started for headers, _ in self.windows.records))
        return str(plan["window_id"])

    def apply(self, person: Person) -> None:
        """Apply with a mistake, and correct it with a document."""
        case_id = self.applied[person.customer_id] = str(uuid.uuid4())
        wrong = person.applicant() | {"phone": "+8613900000000"}
        payout = {"payee": f"bank:ICBC:{person.number}", "payee_name": person.name}
        request = {"case_id": case_id, "subject": person.wallet, "reason": f"{person.name} moves", "applicant": wrong}
        self._say("closure.request", person, {**request, "payout": payout, "accepts_fee": True})
        self.cases.wait(case_id, "documents_required")
        document = {"kind": "id_card", "sha256": "ab" * 32, "ref": f"scan of {person.id_number}"}
        correction = {"case_id": case_id, "applicant": person.applicant(), "documents": [document]}
        self._say("closure.correct", person, correction)
        self.cases.wait(case_id, "approved", "in_review")

    def leave(self, person: Person, *, is_gone_before: bool) -> None:
        """Close the wallet; the identity system forgets them when it is told to, or has before the confirmation."""
        case_id = self.applied[person.customer_id]
        for reviewer in ("ann", "ben"):
            if self.cases.types(case_id)[-1] == "in_review":
                review = {"case_id": case_id, "reviewer": reviewer, "outcome": "approved", "note": person.name}
                self._say("closure.review", person, review)
        self.cases.wait(case_id, "approved")
        if is_gone_before:
            wait_for(lambda: self._was_asked_to_confirm(person), what="the customer was asked to confirm")
            self._null(person)
            # What the transfer service does at once.
            self.erasures.read_until(lambda: "transfer" in self._kept(person))
        self._say("closure.confirm", person, {"case_id": case_id})
        self.erasures.read_until(lambda: self._is_to_be_erased(person))
        self._null(person)
        self.cases.wait(case_id, "closed")
        assert self.cases.body(case_id, "closure.closed")["erasure"] == "done"
        self._says_what_stays(person, self.cases.body(case_id, "closure.erasing")["receipt"])

    def _null(self, person: Person) -> None:
        self.system.send("customer.profile", person.customer_id, None, topic="customer.profiles")

    def _was_asked_to_confirm(self, person: Person) -> bool:
        return any(one["template"] == "closure.approved" for one in _notices_of(self.system.database, person))

    def _says_what_stays(self, person: Person, receipt: dict[str, Any]) -> None:
        """Check that services keep what the receipt names, until the same day, and nothing else for a law.

        What they keep besides, to do their work, each names itself.
        """
        named = {(one["what"], one["why"], one["until"]) for one in receipt["retained"]}
        self.erasures.read_until(lambda: {"transfer", "maintenance", "notify", "closure"} <= self._kept(person).keys())
        kept = self._kept(person)
        by_law = {one for of_service in kept.values() for one in of_service if one[1].endswith("_law")}
        assert {what for what, _, _ in by_law} == {"transfers", "closing"}
        assert by_law <= named
        assert any("the account that a balance was paid to" in what for what, _, _ in kept["closure"])
        assert {what for what, _, _ in named} == {"identity", "transfers", "closing"}

    def _kept(self, person: Person) -> dict[str, set[tuple[str, str, str]]]:
        """Return what each service that has forgotten somebody says that it keeps."""
        said = [orjson.loads(value) for headers, value in self.erasures.records if "erased" in headers["ce_type"]]
        return {
            body["service"]: {(one["what"], one["why"], one["until"]) for one in body["retained"]}
            for body in said
            if body["customer_id"] == person.customer_id
        }

    def _is_to_be_erased(self, person: Person) -> bool:
        return any(
            headers["ce_type"] == "sluice.customer.erase.v1"
            and orjson.loads(value)["customer_id"] == person.customer_id
            for headers, value in self.erasures.records
        )

    def _say(self, type_: str, person: Person, data: dict[str, Any]) -> None:
        self.system.send(type_, person.wallet, data, topic="closure.commands")


def _notices_of(dsn: str, person: Person) -> list[dict[str, Any]]:
    async def read() -> list[dict[str, Any]]:
        connection = await asyncpg.connect(dsn)
        try:
            return [dict(row) for row in await connection.fetch(_NOTICES, person.customer_id)]
        finally:
            await connection.close()

    return asyncio.run(read())


def _wanted(person: Person, keys: Mapping[str, set[bytes]]) -> dict[str, set[bytes]]:
    """Return what must not be found of an erased person, and what is of one who is not."""
    of_keys = {one for key in keys[person.customer_id] for one in encodings_of_bytes(key)}
    return person.wanted() | {f"keys of {person.customer_id}": of_keys}


def _wrapped_keys(dsn: str) -> dict[str, set[bytes]]:
    async def read() -> dict[str, set[bytes]]:
        connection = await asyncpg.connect(dsn)
        keys: dict[str, set[bytes]] = {}
        try:
            for query in _KEYS:
                for owner, wrapped in await connection.fetch(query):
                    keys.setdefault(owner, set()).add(bytes(wrapped))
            # Samples of every column go into the planner's statistics.
            await connection.execute("analyze")
        finally:
            await connection.close()
        return keys

    return asyncio.run(read())


def _is_scrubbed(dsn: str) -> bool:
    """Return whether the services have rewritten everything that held keys of the erased."""

    async def read() -> bool:
        connection = await asyncpg.connect(dsn)
        try:
            return not any([await connection.fetchval(f"select count(*) from {one}.destroyed_key") for one in SERVICES])
        finally:
            await connection.close()

    return asyncio.run(read())


def _maintain(dsn: str, *statements: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


def _shorten_retention(kafka: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka, "log_level": 0})
    resources = []
    for topic in TOPICS:
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in _SHORT["compact" if topic.compact else "delete"].items()
        ]
        resources.append(ConfigResource(ResourceType.TOPIC, topic.name, incremental_configs=entries))
    for future in admin.incremental_alter_configs(resources).values():
        future.result(30)


def _receipt_was_told_last(dsn: str, person: Person) -> None:
    """Check that somebody has read their receipt on every channel, and was told nothing that came after it."""
    notices = _notices_of(dsn, person)
    receipts = [one for one in notices if one["template"] == "closure.erasing"]
    assert {(one["channel"], one["status"]) for one in receipts} <= {
        (channel, status) for channel in ("in_app", "email", "sms") for status in ("sent", "delivered")
    }, receipts
    assert {one["channel"] for one in receipts} == {"in_app", "email", "sms"}
    later = [one for one in notices if one["created_at"] > receipts[0]["created_at"]]
    told = [(one["template"], one["channel"]) for one in later if one["status"] in {"sent", "delivered"}]
    assert told == [], notices


def test_nothing_of_the_erased_is_left_on_disk(system: System, broker_files: tuple[str, Path]) -> None:
    database = system.home / "data" / "postgres" / "data"
    logs = system.home / "logs"
    kafka, broker = broker_files
    story = Story(system)
    for person in (*ERASED, KEPT):
        story.join(person)
    window_id = story.shut_a_bank()
    for person in (*ERASED, KEPT):
        story.move_money(person, window_id)
    story.apply(KEPT)
    for person in ERASED:
        story.apply(person)
    keys = _wrapped_keys(system.database)
    # By the transfer service, the notifier and the closing service.
    assert {len(keys[person.customer_id]) for person in (*ERASED, KEPT)} == {3}
    for person in ERASED:
        story.leave(person, is_gone_before=person is ERASED[-1])
    for person in ERASED:
        _receipt_was_told_last(system.database, person)
    of_erased = {name: needles for person in ERASED for name, needles in _wanted(person, keys).items()}
    of_kept = _wanted(KEPT, keys)
    # It is there until it is cleared, so the search can find it.
    before = find(broker, of_erased)
    assert {f"name of {person.customer_id}" for person in ERASED} <= before.keys()
    wait_for(lambda: _is_scrubbed(system.database), deadline_s=30, what="the services have cleared what is erased")
    _maintain(system.database, "vacuum", "analyze", "checkpoint")
    assert find(database, of_erased) == {}
    _shorten_retention(kafka)

    def is_gone() -> bool:
        # A compacted topic is cleaned up to the segment that is written to: what comes next begins another.
        story.join(KEPT)
        for number in range(8):
            nobody = {"customer_id": f"nobody-{number}", "name": "Nobody"}
            system.send("customer.profile", f"nobody-{number}", nobody, topic="customer.profiles")
        system.flush()
        return not find(broker, of_erased)

    wait_for(is_gone, deadline_s=60, what="the brokers have cleared what is old")
    assert find(database, of_erased) == {}
    assert find(logs, of_erased) == {}
    kept = find(database, of_kept)
    assert "keys of kept" in kept, kept
    assert {"name of kept", "phone of kept", "ID number of kept"} <= find(broker, of_kept).keys()
