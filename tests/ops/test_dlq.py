"""Dead letters as people on call see them: the newest first, with the reason, and without personal data."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import threading
import uuid
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from local.settings import runtime_settings
from local.topics import create_topics
from ops.acts import record_act
from ops.database import connect
from ops.dlq import looking
from ops.dlq.letters import read_spans
from ops.dlq.marks import State, forget_gone
from ops.dlq.selection import Selection
from ops.running import Running
from services.runtime.dead_letters import Rejected, dead_letter
from services.runtime.message import Lane
from services.runtime.topics import Log, Place
from tests.conftest import PARTITIONS, with_database
from tests.ops.in_process import Done, run
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ops.dlq.letters import Letter

NOW = datetime(2026, 11, 23, 8, 30, tzinfo=UTC)
LONG = b"k" * 50_000


@pytest.fixture
def letters(kafka: str, topic_prefix: str, database: str) -> dict[str, str]:
    """An environment that names brokers with 30 dead letters."""
    return _with_letters(kafka, topic_prefix, database)


@pytest.fixture(scope="module")
def unchanged(kafka: str, postgres_dsn: str, template: str) -> dict[str, str]:
    """The same for all tests that only look."""
    prefix = f"t{uuid.uuid4().hex[:8]}."
    create_topics({"bootstrap.servers": kafka}, prefix, PARTITIONS)
    return _with_letters(kafka, prefix, with_database(postgres_dsn, template))


def _with_letters(kafka: str, prefix: str, database: str) -> dict[str, str]:
    producer = Producer({"bootstrap.servers": kafka})
    for number in range(30):
        value = {"payer": "wallet:6222020000000001", "payee_name": "王小明", "amount_minor": number}
        body = b"{" if number == 28 else json.dumps(value).encode()
        publish(producer, prefix, number, body)
    assert producer.flush(30) == 0
    named = {"KAFKA_BOOTSTRAP_SERVERS": kafka, "DATABASE_URL": database, "SLUICE_TOPIC_PREFIX": prefix}
    # Topics that were just made may have no leader for a moment.
    wait_for(lambda: sluice(named, ["ls"]).returncode == 0, what="leaders")
    return named


def publish(producer: Producer, prefix: str, number: int, value: bytes, service: str = "transfer") -> None:
    topic, partition = ("rail.results" if number == 29 else "transfer.commands"), number % 3
    detail = f"number {number}: wallet:6222020000000001 called 13812345678"
    own = [("ce_id", str(number).encode())]
    rejected = Rejected(topic, partition, number, b"wallet:6222020000000001", value, own, "malformed", detail)
    letter = dead_letter(rejected, Lane("wallet", partition), service, NOW + timedelta(seconds=number), 1_000_000)
    headers: Any = list(letter.headers)
    where = (prefix + letter.topic, letter.value, letter.key, partition)
    producer.produce(*where, headers=headers)


def sluice(environment: dict[str, str], words: Sequence[str]) -> Done:
    """Run `sluice dlq`."""
    return run(environment, ["dlq", *words])


def told(environment: dict[str, str], *words: str) -> list[dict[str, Any]]:
    done = sluice(environment, ["ls", *words, "--json"])
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_the_newest_come_first_with_the_reason_and_their_place(unchanged: dict[str, str]) -> None:
    found = told(unchanged)
    assert len(found) == 20
    assert [letter["of"].rpartition("/")[2] for letter in found] == [str(number) for number in range(29, 9, -1)]
    assert found[0] == {
        "id": "rail.results.dlq/2/0",
        "topic": "rail.results.dlq",
        "partition": 2,
        "offset": 0,
        "at": "2026-11-23T08:30:29Z",
        "state": "waiting",
        "reason": "malformed",
        "detail": "number 29: wallet:***0001 called ***",
        "service": "transfer",
        "of": "rail.results/2/29",
        "key": "wallet:***0001",
    }


def test_a_topic_and_a_limit_narrow_it(unchanged: dict[str, str]) -> None:
    for topic in ("transfer.commands", "transfer.commands.dlq"):
        found = told(unchanged, topic, "--limit", "2")
        assert [letter["of"] for letter in found] == ["transfer.commands/1/28", "transfer.commands/0/27"]
    assert told(unchanged, "notify.events") == []
    shown = sluice(unchanged, ["ls", "notify.events"])
    assert (shown.returncode, shown.stdout) == (0, "There are no dead letters.\n")


def test_all_are_counted_and_only_those_that_are_listed_are_kept(
    letters: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [letter["id"] for letter in told(letters, "--limit", "2")]
    assert sluice(letters, ["discard", *ids, "--yes", "--why", "theirs"]).returncode == 0
    monkeypatch.setattr(looking, "_AT_ONCE", 4)
    monkeypatch.setenv("SLUICE_TOPIC_PREFIX", letters["SLUICE_TOPIC_PREFIX"])
    running = Running(letters["KAFKA_BOOTSTRAP_SERVERS"], letters["DATABASE_URL"], "", "real")
    for oldest, numbers in ((False, [27, 26, 25]), (True, [0, 1, 2])):
        listed = asyncio.run(looking.first_letters(running, Selection(), {State.WAITING}, 3, oldest=oldest))
        assert [letter.original[2] for letter, _ in listed.first] == numbers
        assert {letter.value for letter, _ in listed.first} == {None}
        assert listed.counts == {(State.WAITING, "malformed"): 28, (State.DISCARDED, "malformed"): 2}
        assert listed.of({State.WAITING}) == 28


async def test_a_listing_may_be_broken_off_while_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    reads, goes_on = threading.Event(), threading.Event()

    def read(*_: Any, **__: Any) -> Iterator[Letter]:
        reads.set()
        goes_on.wait(10)
        yield from ()

    monkeypatch.setattr(looking, "read_letters", read)
    monkeypatch.setattr(looking, "connect", lambda *_: nullcontext())
    running = Running("", "", "", "real")
    listing = asyncio.create_task(looking.first_letters(running, Selection(), {State.WAITING}, 3))
    await asyncio.to_thread(reads.wait, 10)
    listing.cancel()
    await asyncio.wait([listing], timeout=0.1)
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await listing


def test_values_are_shown_on_demand_and_masked(unchanged: dict[str, str]) -> None:
    rail, broken, whole = told(unchanged, "--limit", "3", "--values")
    assert rail["value"]["amount_minor"] == 29
    assert broken["value"] == "1 bytes that are no JSON"
    assert whole["value"] == {"payer": "wallet:***0001", "payee_name": "***", "amount_minor": 27}
    shown = sluice(unchanged, ["ls", "--values", "--limit", "3"])
    assert "2026-11-23 16:30:29" in shown.stdout
    assert "3 of 30 dead letters: 30 waiting (malformed)." in shown.stdout
    for personal in ("王小明", "62220200", "13812345678"):
        assert personal not in shown.stdout


def test_a_topic_that_is_none(unchanged: dict[str, str]) -> None:
    done = sluice(unchanged, ["ls", "transfer.nothing"])
    assert (done.returncode, done.stdout) == (2, "")
    assert "transfer.commands" in done.stderr


def test_time_reason_and_key_narrow_it(unchanged: dict[str, str]) -> None:
    between = ("--since", "2026-11-23T08:30:05Z", "--until", "2026-11-23T08:30:08Z")
    assert [letter["of"] for letter in told(unchanged, *between)] == [
        f"transfer.commands/{number % 3}/{number}" for number in (7, 6, 5)
    ]
    assert told(unchanged, "--reason", "unexpected") == told(unchanged, "--key", "wallet:1") == []
    assert len(told(unchanged, "--key", "wallet:6222020000000001", "--limit", "100")) == 30


def test_one_letter_is_shown_whole(unchanged: dict[str, str]) -> None:
    done = sluice(unchanged, ["show", "transfer.commands.dlq/0/9", "--json"])
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["of"], said["value"]["amount_minor"]) == ("transfer.commands/0/27", 27)
    for words, code in ((["show", "transfer.commands.dlq/0/99"], 1), (["show", "17"], 1), (["show", "x.dlq/0/1"], 2)):
        assert sluice(unchanged, words).returncode == code


def test_nothing_is_done_without_yes_and_never_without_a_reason(unchanged: dict[str, str]) -> None:
    tried = sluice(unchanged, ["replay", "--topic", "transfer.commands"])
    assert (tried.returncode, tried.stderr) == (0, "")
    assert tried.stdout == "29 dead letters to transfer.commands\nNothing was done: --yes does it.\n"
    assert "--why is empty" in sluice(unchanged, ["replay", "--topic", "transfer.commands", "--yes"]).stderr
    assert sluice(unchanged, ["replay", "--yes", "--why", "x"]).returncode == 2
    assert len(told(unchanged, "--state", "waiting", "--limit", "100")) == 30
    assert replayed(unchanged) == []


def test_a_replay_writes_each_once_to_its_old_partition_and_is_logged(letters: dict[str, str]) -> None:
    words = ["replay", "--topic", "transfer.commands", "--rate", "1000", "--yes", "--why", "the parser is mended"]
    first = sluice(letters, [*words, "--who", "Li Na"])
    assert first.returncode == 0, first.stderr
    again = sluice(letters, words)
    assert "29 dead letters replayed or discarded before" in again.stdout
    assert "There is nothing to replay." in again.stdout
    written = replayed(letters)
    assert len(written) == 29
    for message in written:
        said = dict(message.headers())
        assert said["dlq-replay-of"].decode().split("/")[:2] == ["transfer.commands.dlq", str(message.partition())]
        assert not {"dlq-reason", "dlq-detail"} & said.keys()
    assert {letter["state"] for letter in told(letters, "transfer.commands", "--limit", "100")} == {"replayed"}
    (act,) = acts(letters)
    assert (act["who"], act["what"], act["about"]) == ("Li Na", "dlq replay", "29 dead letters")
    assert act["why"] == "the parser is mended"
    assert len(act["detail"]["letters"]) == 29
    forced = sluice(letters, ["replay", "transfer.commands.dlq/0/9", "--force", "--yes", "--why", "lost downstream"])
    assert forced.returncode == 0, forced.stderr
    assert len(replayed(letters)) == 30


def test_what_was_discarded_is_not_replayed(letters: dict[str, str]) -> None:
    id_ = "rail.results.dlq/2/0"
    assert sluice(letters, ["discard", id_, "--yes", "--why", "a test of theirs"]).returncode == 0
    assert [letter["id"] for letter in told(letters, "--state", "discarded")] == [id_]
    assert "nothing to replay" in sluice(letters, ["replay", id_, "--yes", "--why", "x"]).stdout


def test_a_replay_that_was_cut_off_writes_only_what_was_not_written(letters: dict[str, str], database: str) -> None:
    done = sluice(letters, ["replay", "--topic", "transfer.commands", "--rate", "1000", "--yes", "--why", "x"])
    assert done.returncode == 0, done.stderr
    # As a crash leaves it that came after the brokers had one of two records, and before anybody knew.
    asyncio.run(execute(database, "update ops.handled_letter set state = 'replaying' where record_offset = 9"))
    other = "update ops.handled_letter set state = 'replaying', target_end = 1000 where letter_id = $1"
    asyncio.run(execute(database, other, "transfer.commands.dlq/2/8"))
    words = ["replay", "--topic", "transfer.commands", "--yes", "--why", "x"]
    asyncio.run(execute(database, "update ops.handled_letter set changed_at = now()"))
    early = sluice(letters, words)
    assert (early.returncode, early.stdout) == (2, "")
    assert re.search(r"may be writing still: try again in 2\d s\.", early.stderr)
    asyncio.run(execute(database, "update ops.handled_letter set changed_at = now() - interval '1 minute'"))
    again = sluice(letters, words)
    assert again.returncode == 0, again.stderr
    assert "Replayed 1 dead letter." in again.stdout
    assert len(replayed(letters)) == 30
    assert {letter["state"] for letter in told(letters, "transfer.commands", "--limit", "100")} == {"replayed"}


def test_what_several_services_could_not_read_is_written_once(letters: dict[str, str], database: str) -> None:
    producer = Producer({"bootstrap.servers": letters["KAFKA_BOOTSTRAP_SERVERS"]})
    value = {"payer": "wallet:6222020000000001", "payee_name": "王小明", "amount_minor": 9}
    publish(producer, letters["SLUICE_TOPIC_PREFIX"], 9, json.dumps(value).encode(), "maintenance")
    assert producer.flush(30) == 0
    ids = [
        letter["id"] for letter in told(letters, "transfer.commands", "--limit", "100") if letter["of"].endswith("/9")
    ]
    assert len(ids) == 2
    words = ["replay", *ids, "--yes", "--why", "both are mended"]
    done = sluice(letters, words)
    assert "written once: 1 in all" in done.stdout
    assert "Replayed 2 dead letters." in done.stdout
    (message,) = replayed(letters)
    assert {value.decode() for name, value in message.headers() if name == "dlq-replay-of"} == set(ids)
    asyncio.run(execute(database, "update ops.handled_letter set state = 'replaying', changed_at = '2026-01-01'"))
    assert "There is nothing to replay." in sluice(letters, words).stdout
    assert len(replayed(letters)) == 1


def test_no_record_keeps_the_others_from_being_seen_and_mended(letters: dict[str, str], tmp_path: Path) -> None:
    producer = Producer({"bootstrap.servers": letters["KAFKA_BOOTSTRAP_SERVERS"]})
    odd = {
        30: b'{"a":' * 300 + b"1" + b"}" * 300,
        31: b'{"a":' * 1_000 + b"1" + b"}" * 1_000,
        32: b'{"amount_minor":12345678901234567890123}',
        33: b'{"a":1,"a":2}',
    }
    for number, value in odd.items():
        publish(producer, letters["SLUICE_TOPIC_PREFIX"], number, value)
    topic = f"{letters['SLUICE_TOPIC_PREFIX']}transfer.commands.dlq"
    far: list[tuple[str, str | bytes | None]] = [("dlq-topic", "transfer.commands"), ("dlq-partition", "99")]
    producer.produce(topic, b"{}", b"\x1b[2J" + LONG, 0, headers=[*far, ("dlq-time", "9999-12-31T23:59:59+00:00")])
    producer.produce(topic, b"{}", b"k", 1)
    producer.produce(topic, b"{}", b"k", 1, headers=[("dlq-topic", "__consumer_offsets"), ("dlq-partition", "0")])
    assert producer.flush(30) == 0
    listed = sluice(letters, ["ls", "--values", "--limit", "100"]).stdout
    assert "\\x1b[2J" in listed
    assert "k" * 200 not in re.sub(r"\s", "", listed)
    found = {letter["of"]: letter["id"] for letter in told(letters, "--limit", "100")}
    for number in odd:
        done = sluice(letters, ["show", found[f"transfer.commands/{number % 3}/{number}"]])
        assert done.returncode == 0, done.stderr
    file = tmp_path / "all"
    assert sluice(letters, ["export", str(file)]).returncode == 0
    said = {line["id"]: line for line in map(json.loads, file.read_text().splitlines())}
    assert len(said) == 37
    for number, value in odd.items():
        assert base64.b64decode(said[found[f"transfer.commands/{number % 3}/{number}"]]["value_base64"]) == value
    places = {"transfer.commands/99/?": "is there no more", "?/?/?": "does not say where"}
    places |= {"__consumer_offsets/0/?": "is none of Sluice's topics"}
    for place, says in places.items():
        sure = [] if "?/?" in place else ["--yes", "--why", "x"]
        done = sluice(letters, ["replay", found[place], found["transfer.commands/0/27"], *sure])
        assert (done.returncode, done.stdout) == (1, "")
        assert says in done.stderr
    assert (replayed(letters), acts(letters)) == ([], [])


def test_mended_records_are_replayed_and_keep_their_id_and_key(letters: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "mended"
    assert sluice(letters, ["export", str(file), "--topic", "transfer.commands"]).returncode == 0
    assert file.stat().st_mode & 0o777 == 0o600
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines) == 29
    assert lines[-1] == {"id": "transfer.commands.dlq/1/9", "headers": {"ce_id": "28"}, "value_base64": "ew=="}
    mended = [{"id": line["id"], "headers": line["headers"], "value": {"amount_minor": 1}} for line in lines[-2:]]
    too_long = json.dumps(mended[0] | {"value": "x" * 1_000_000})
    file.write_text(f"{too_long}\n{json.dumps(mended[1])}")
    done = sluice(letters, ["replay", "--repaired", str(file), "--yes", "--why", "their bug"])
    assert (done.returncode, "brokers take 1,000,000" in done.stderr) == (1, True)
    # As another system's editor writes it.
    file.write_text("\ufeff" + "\r\n".join(json.dumps(line) for line in mended))
    done = sluice(letters, ["replay", "--repaired", str(file), "--yes", "--why", "their bug"])
    assert done.returncode == 0, done.stderr
    written = replayed(letters)
    assert {message.value() for message in written} == {b'{"amount_minor":1}'}
    assert {(message.key(), dict(message.headers())["ce_id"]) for message in written} == {
        (b"wallet:6222020000000001", b"27"),
        (b"wallet:6222020000000001", b"28"),
    }
    assert sluice(letters, ["discard", "transfer.commands.dlq/0/0", "--yes", "--why", "theirs"]).returncode == 0
    again = sluice(letters, ["replay", "--repaired", str(file)]).stdout
    assert "2 dead letters replayed or discarded before" in again, "what the file is not about is not counted"
    mended[0]["headers"] = {"ce_id": "another"}
    for line, says in BAD_LINES.items():
        file.write_text(line.replace("ID", mended[0]["id"]))
        done = sluice(letters, ["replay", "--repaired", str(file)])
        assert (done.returncode, done.stdout) == (2, "")
        assert says in done.stderr


BAD_LINES = {
    '{"id": "ID", "headers": {"ce_id": "another"}, "value": {}}': "changes ce_id",
    '{"id": "ID", "headers": {}, "value": {}}': "changes ce_id",
    '{"id": "ID", "headers": {"ce_id": "27"}}': "either",
    '{"id": "ID", "value": {}}': "must have",
    '{"id": "transfer.commands.dlq/0/77", "headers": {}, "value": 1}': "not among the letters",
    "nothing": "no JSON",
    '{"id": ["ID"], "headers": {"ce_id": "27"}, "value": {}}': "not among the letters",
    '{"id": "ID", "headers": {"ce_id": "27", "a\\u0000b": "x"}, "value": {}}': "must be texts by name",
    '{"id": "ID", "headers": {"ce_id": "27"}, "value": {"amount_minor": 1, "amount_minor": 2}}': "says a name twice",
    '{"id": "ID", "headers": {"ce_id": "27"}, "value": {"amount_minor": 12345678901234567890123}}': "more digits",
}


def test_a_records_own_headers_are_its_own_whatever_they_are_called(letters: dict[str, str], tmp_path: Path) -> None:
    own: list[tuple[str, bytes | None]] = [("ce_id", b"40"), ("dlq-value-bytes", b"7"), ("tag", b"a"), ("tag", b"b")]
    own += [("none", None), ("raw", b"\xff")]
    for number in (40, 41):
        rejected = Rejected("transfer.commands", 0, number, b"wallet:1", b"{}", own, "malformed", "payee: is missing")
        letter = dead_letter(rejected, Lane("wallet", 0), "transfer", NOW, 1_000_000)
        headers: Any = [("dlq-replay-of", b"transfer.commands.dlq/0/1"), *letter.headers]
        producer = Producer({"bootstrap.servers": letters["KAFKA_BOOTSTRAP_SERVERS"]})
        producer.produce(letters["SLUICE_TOPIC_PREFIX"] + letter.topic, b"{}", b"wallet:1", 0, headers=headers)
        assert producer.flush(30) == 0
    as_it_was, mended = sorted(
        letter["id"] for letter in told(letters, "transfer.commands", "--key", "wallet:1", "--limit", "2")
    )
    file = tmp_path / "mended"
    assert sluice(letters, ["export", str(file), "--key", "wallet:1"]).returncode == 0
    (line,) = [line for line in map(json.loads, file.read_text().splitlines()) if line["id"] == mended]
    assert line["headers"][2:] == [["tag", "a"], ["tag", "b"], ["none", None], ["raw", {"base64": "/w=="}]]
    file.write_text(json.dumps(line))
    for words in ([as_it_was], ["--repaired", str(file)]):
        done = sluice(letters, ["replay", *words, "--yes", "--why", "theirs"])
        assert done.returncode == 0, done.stderr
    written = replayed(letters)
    assert [message.headers()[:-1] for message in written] == [own, own]
    assert [message.headers()[-1][1].decode() for message in written] == [as_it_was, mended]


def test_what_retention_takes_meanwhile_is_passed_over_and_no_more(letters: dict[str, str]) -> None:
    kafka, prefix = letters["KAFKA_BOOTSTRAP_SERVERS"], letters["SLUICE_TOPIC_PREFIX"]
    admin, taken = AdminClient({"bootstrap.servers": kafka}), TopicPartition(f"{prefix}transfer.commands.dlq", 0, 4)
    admin.delete_records([taken])[taken].result(30)
    settings = runtime_settings(kafka, letters["DATABASE_URL"]).model_copy(update={"topic_prefix": prefix})
    # As it was before.
    found = read_spans(settings, {Place("transfer.commands.dlq", 0): (0, 10)})
    assert [message.offset() for _, message in found] == [4, 5, 6, 7, 8, 9]


async def test_what_became_of_a_letter_is_known_as_long_as_it_is_there_and_for_a_week(
    kafka: str, topic_prefix: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICE_TOPIC_PREFIX", topic_prefix)
    logs = {Place("transfer.commands.dlq", 0): Log("topic-1", 5, 9), Place("notify.commands.dlq", 0): Log("2", 0, 0)}
    gone = {("topic-1", 0, 4), ("topic-1", 1, 7), ("of-a-topic-before", 0, 7)}
    insert = """insert into handled_letter
        (topic_id, partition, record_offset, letter_id, state, act_id, changed_at)
        values ($1, $2, $3, 'x', 'discarded', $4, now() - make_interval(days => $5))"""
    async with connect(Running(kafka, database, topic_prefix, "real"), "ops") as connection:
        act_id = await record_act(connection, who="li", what="dlq discard", about="letters", why="theirs")
        for place in gone | {("topic-1", 0, 5)}:
            await connection.execute(insert, *place, act_id, 6)
        kept = []
        for age in ("0 days", "2 days"):
            await connection.execute(f"update handled_letter set changed_at = changed_at - interval '{age}'")
            await forget_gone(connection, logs)
            rows = await connection.fetch("select topic_id, partition, record_offset from handled_letter")
            kept.append({tuple(row) for row in rows})
    assert kept == [gone | {("topic-1", 0, 5)}, {("topic-1", 0, 5)}]


def acts(environment: dict[str, str]) -> list[dict[str, Any]]:
    done = run(environment, ["acts", "--json"])
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def replayed(environment: dict[str, str]) -> list[Any]:
    """Return what stands in transfer.commands, to which nothing but replays was ever written."""
    topic = f"{environment['SLUICE_TOPIC_PREFIX']}transfer.commands"
    reader = Consumer({"bootstrap.servers": environment["KAFKA_BOOTSTRAP_SERVERS"], "group.id": "unused"})
    found = []
    for partition in range(3):
        start, end = reader.get_watermark_offsets(TopicPartition(topic, partition))
        reader.assign([TopicPartition(topic, partition, start)])
        while len(found) < sum_of(end, found, partition):
            message = reader.poll(10)
            assert message is not None
            found.append(message)
    reader.close()
    return found


def sum_of(end: int, found: list[Any], partition: int) -> int:
    """Return how many are found once this partition is read to its end."""
    return end + sum(message.partition() < partition for message in found)


async def execute(dsn: str, statement: str, *arguments: Any) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement, *arguments)
    finally:
        await connection.close()
