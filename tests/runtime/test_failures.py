"""What happens to messages that can't be handled, and to those beside them."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import TYPE_CHECKING

import asyncpg
import orjson
import pytest
from aiokafka import AIOKafkaProducer

from tests.waiting import wait_until

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

    from tests.runtime.world import World


def reasons(letters: list[ConsumerRecord[bytes, bytes]]) -> list[str]:
    """Return the reasons that dead letters give."""
    return sorted(dict(letter.headers)["dlq-reason"].decode() for letter in letters)


async def test_a_message_that_fails_alone_is_dead_lettered_and_its_neighbours_are_not(world: World) -> None:
    ids = [f"m{number}" for number in range(100)]
    await world.add(ids[:50], partition=1)
    await world.add(["bad"], partition=1, poison=True)
    await world.add(ids[50:], partition=1)
    async with world.worker():
        # In the order of the partition, although the batch was taken apart.
        assert await world.entered(100) == ids
        await world.settled()
    (letter,) = await world.read("toy.sums.dlq")
    headers = {name: value.decode() for name, value in letter.headers}
    assert letter.key == b"bad"
    assert orjson.loads(letter.value or b"") == {"amount": 1, "poison": True}
    assert headers["dlq-reason"] == "unexpected"
    assert headers["dlq-topic"] == "toy.sums"
    assert (headers["dlq-partition"], headers["dlq-offset"]) == ("1", "50")
    assert headers["ce_id"] == "bad"
    assert "RuntimeError" in headers["dlq-detail"]
    assert "on_sums" in headers["dlq-detail"]
    assert "Zhang San" not in headers["dlq-detail"]


async def test_the_brake_stops_the_consumer_before_the_topic_is_drained(world: World) -> None:
    await world.add([f"m{number}" for number in range(60)], partition=0, poison=True)
    async with world.worker(brake_in_a_row=5) as consumer:

        async def is_braked() -> bool:
            return any("braked" in reason for reason in consumer.reasons_not_ready())

        await wait_until(is_braked, what="brake")
    assert len(await world.read("toy.sums.dlq")) == 5
    assert await world.value("select sum(next_offset) from consumed_offset") == 5


async def test_malformed_and_unknown_messages_never_stop_a_consumer(world: World) -> None:
    good = orjson.dumps({"amount": 1})
    await world.send(
        [
            ("toy.sums", b"k", b"not json", world.headers("1"), 0),
            ("toy.sums", b"k", orjson.dumps({"amount": "x"}), world.headers("2"), 0),
            ("toy.sums", b"k", good, [], 0),
            ("toy.sums", b"k", good, world.headers("4", "toy.other"), 0),
            ("toy.sums", b"k", None, world.headers("5"), 0),
            ("toy.sums", None, good, world.headers("keyless"), 0),
            ("toy.sums", b"k", b"x" * 300_000, world.headers("7"), 0),
        ]
    )
    async with world.worker(brake_in_a_row=1) as consumer:
        assert await world.entered(1) == ["keyless"]
        await world.settled()
        await world.ready(consumer)
    letters = await world.read("toy.sums.dlq")
    assert reasons(letters) == ["malformed"] * 5 + ["unknown_type"]
    assert {letter.key for letter in letters} == {b"k"}


async def test_a_record_that_the_client_cannot_read_is_dead_lettered_without_its_headers(world: World) -> None:
    await world.add([f"a{n}" for n in range(5)], partition=0)
    await world.send_unreadable("toy.sums", 0)
    await world.add([f"b{n}" for n in range(5)], partition=0)
    await world.add([f"c{n}" for n in range(5)], partition=1)
    async with world.worker():
        assert len(set(await world.entered(15))) == 15
        await world.settled()
    (letter,) = await world.read("toy.sums.dlq")
    assert (letter.key, letter.value) == (b"key", b"value")
    assert dict(letter.headers)["dlq-offset"] == b"5"


async def test_a_record_that_fills_its_topic_is_dead_lettered_all_the_same(world: World) -> None:
    huge = b"\xff" * 1_048_000
    await world.send([("toy.sums", b"k", huge, [], 0), ("toy.sums", b"l", b"?", [("h", b"x" * 1_040_000)], 0)])
    await world.add(["after"], partition=0)
    async with world.worker():
        assert await world.entered(1) == ["after"]
        await world.settled()
    by_key = {letter.key: letter for letter in await world.read("toy.sums.dlq")}
    assert dict(by_key[b"k"].headers)["dlq-value-bytes"] == b"1048000"
    assert by_key[b"k"].value == huge[:1024]
    assert dict(by_key[b"l"].headers)["dlq-headers-dropped"] == b"1"
    assert by_key[b"l"].value == b"?"


async def test_an_answer_that_no_broker_would_take_is_the_fault_of_its_message(world: World) -> None:
    await world.add(["big"], partition=0, answer_bytes=1_100_000)
    await world.add(["small"], partition=0)
    async with world.worker():
        assert await world.entered(1) == ["small"]
        await world.settled()
    (letter,) = await world.read("toy.sums.dlq")
    assert b"TooLarge" in dict(letter.headers)["dlq-detail"]


async def test_a_unique_violation_that_stays_is_a_bug(world: World) -> None:
    await world.add(["first", "second"], partition=0, unique_id="same")
    async with world.worker():
        await world.settled()
    assert await world.entries() == ["first"]
    assert reasons(await world.read("toy.sums.dlq")) == ["unexpected"]


async def test_a_tombstone_reaches_the_handler_that_asks_for_it(world: World) -> None:
    note = orjson.dumps({"text": "hello"})
    await world.send(
        [
            ("toy.notes", b"n", note, world.headers("n", "toy.note"), 2),
            ("toy.notes", b"n", None, [], 2),
        ]
    )
    async with world.worker():
        assert await world.entered(2) == ["toy.note", "toy.notes.tombstone"]
    assert [row["amount"] for row in await world.fetch("select amount from entry order by number")] == [1, -1]


async def test_connections_lost_in_mid_batch_change_nothing(world: World, postgres_dsn: str) -> None:
    ids = [f"m{number}" for number in range(200)]
    name = await world.value("select current_database()")
    admin = await asyncpg.connect(postgres_dsn)
    kill = (
        "select count(pg_terminate_backend(pid)) from pg_stat_activity"
        " where datname = $1 and application_name = 'toy' and state = 'idle in transaction'"
    )
    async with world.worker(batch_size=20) as consumer:
        for start in range(0, 200, 20):
            await world.add(ids[start : start + 20], slow_s=0.002)

        async def has_killed() -> bool:
            return bool(await admin.fetchval(kill, name))

        for _ in range(3):
            await wait_until(has_killed, what="a transaction to break")
        assert sorted(await world.entered(200)) == sorted(ids)
        await world.settled()
        await world.ready(consumer)
    await admin.close()
    assert sorted(await world.answered()) == sorted(ids)
    assert await world.read("toy.sums.dlq") == []


async def test_a_database_that_is_away_is_waited_for(world: World) -> None:
    async with world.gate() as gate, world.worker(database_url=gate.dsn) as consumer:
        await world.add(["before"])
        await world.entered(1)
        gate.shut()
        await world.add(["during"])

        async def complains() -> bool:
            return any("database" in reason for reason in consumer.reasons_not_ready())

        await wait_until(complains, what="complaint")
        await gate.open()
        await world.entered(2)
        await world.ready(consumer)
    assert sorted(await world.entries()) == ["before", "during"]


async def test_a_failing_message_does_not_hold_up_another_partition(world: World) -> None:
    await asyncio.gather(
        world.add(["bad"], partition=0, poison=True),
        world.add(["x"], partition=1),
        world.add(["y"], partition=1, topic="toy.more_sums"),
    )
    async with world.worker():
        assert sorted(await world.entered(2)) == ["x", "y"]
        await world.settled()


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_a_batch_that_unpacks_to_too_much_is_one_dead_letter_and_holds_nothing_up(
    world: World, codec: str
) -> None:
    await world.add(["before"], partition=0)
    await world.send_compressed(codec, [b" " * 3_000_000, b" " * 3_000_000], partition=0)
    await world.add(["after"], partition=0)
    await world.add([f"b{n}" for n in range(5)], partition=1)
    async with world.worker(max_unpacked_bytes=5_000_000) as consumer:
        assert len(set(await world.entered(7))) == 7
        await world.settled()
        await world.ready(consumer)
    (letter,) = await world.read("toy.sums.dlq")
    headers = dict(letter.headers)
    assert (letter.key, letter.value) == (None, None)
    assert (headers["dlq-reason"], headers["dlq-offset"]) == (b"malformed", b"2")
    assert b"records 1 to 2" in headers["dlq-detail"]
    assert b"5000000" in headers["dlq-detail"]


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_what_publishers_compress_is_read(world: World, codec: str) -> None:
    values = [orjson.dumps({"amount": 1, "pad": "x" * 100_000})] * 15
    await world.send_compressed(codec, values, partition=0)
    await world.send_compressed(codec, values, partition=0)
    async with world.worker(max_unpacked_bytes=2_000_000):
        await world.entered(30)
        await world.settled()
    assert await world.value("select count(distinct record_offset) from entry") == 30
    assert await world.read("toy.sums.dlq") == []


async def test_a_compacted_topic_takes_no_batch_that_cannot_be_unpacked_for_a_null_value(world: World) -> None:
    await world.send_compressed("zstd", [b" " * 3_000_000], partition=0, topic="toy.notes")
    async with world.worker(max_unpacked_bytes=2_000_000):
        await world.settled()
    assert await world.entries() == []
    assert len(await world.read("toy.notes.dlq")) == 1


async def test_what_the_java_client_compresses_by_snappy_is_read(world: World) -> None:
    value = orjson.dumps({"amount": 1, "pad": "x" * 100_000})
    async with AIOKafkaProducer(bootstrap_servers=world.bootstrap, compression_type="snappy") as producer:
        for id_ in ("a", "b"):
            await producer.send(f"{world.prefix}toy.sums", value, partition=0, headers=world.headers(id_))
    async with world.worker():
        assert await world.entered(2) == ["a", "b"]


@pytest.mark.parametrize(("count", "is_read"), [(20_000, True), (700_000, False)])
async def test_a_batch_of_little_but_headers_is_one_dead_letter(world: World, count: int, is_read: bool) -> None:  # noqa: FBT001 - both ways
    async with AIOKafkaProducer(bootstrap_servers=world.bootstrap, compression_type="zstd") as producer:
        value = orjson.dumps({"amount": 1, "pad": "x" * 1_000_000})
        batch = producer.create_batch()
        batch.append(timestamp=1, key=b"k", value=value, headers=[*world.headers("many"), *[("", b"")] * count])
        await (await producer.send_batch(batch, f"{world.prefix}toy.sums", partition=0))
    await world.add(["after"], partition=0)
    async with world.worker():
        assert await world.entered(1) == ["after"]
        await world.settled()
    (letter,) = await world.read("toy.sums.dlq")
    assert (b"headers" in dict(letter.headers)["dlq-detail"]) is not is_read


async def test_records_of_many_headers_are_not_one_batch(world: World) -> None:
    headers = [("", b"")] * 5_000
    await world.send([("toy.sums", b"k", b"{}", headers, 0) for _ in range(60)])
    async with world.worker():
        await world.settled()
    assert len(await world.read("toy.sums.dlq")) == 60
    # In memory they are half a megabyte each.
    assert await world.value("select batch_number from lane where partition = 0 and lane_group = 'sums'") >= 6


async def test_many_batches_that_unpack_to_much_are_not_unpacked_at_once(world: World) -> None:
    await world.add([f"m{number}" for number in range(10)], partition=0)
    async with AIOKafkaProducer(bootstrap_servers=world.bootstrap, compression_type="zstd") as producer:
        for _ in range(40):
            batch = producer.create_batch()
            batch.append(timestamp=1, key=b"k", value=b" " * 1_900_000, headers=world.headers("large"))
            await (await producer.send_batch(batch, f"{world.prefix}toy.sums", partition=0))
    await world.add(["after"], partition=0)
    tracemalloc.start()
    try:
        async with world.worker(max_unpacked_bytes=2_000_000):
            await world.entered(11)
            await world.settled()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(await world.read("toy.sums.dlq")) == 40
    assert peak < 40_000_000
