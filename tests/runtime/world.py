"""A toy service's surroundings in a test: its topics, its database, and workers of it here or in processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import struct
import sys
import time
import uuid
from collections import defaultdict
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import asyncpg
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.record.util import calc_crc32c as crc32c
from confluent_kafka import Producer
from confluent_kafka import TopicPartition as Partition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.cimpl import NewTopic

from schemas.envelope import encode_headers
from services.runtime.app import MIGRATIONS
from services.runtime.clock import clock_from_setting
from services.runtime.consumer import Consumer
from services.runtime.database import create_pool, migrate
from services.runtime.publisher import murmur2
from services.runtime.settings import RuntimeSettings
from services.runtime.topics import Place, Topics, places_of
from tests.runtime.toy.service import CONSUMED, PRODUCED, SCHEMA, toy
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from aiokafka import ConsumerRecord

    from services.runtime.database import Pool
    from services.runtime.service import Service

ROOT = Path(__file__).parents[2]
PARTITIONS = 4
_CHECKSUM_AT = 17


class World:
    """One test's prefix of topics and database."""

    def __init__(self, bootstrap: str, dsn: str, pool: Pool) -> None:
        self.bootstrap = bootstrap
        self.dsn = dsn
        self.pool = pool
        self.prefix = f"t{uuid.uuid4().hex[:8]}."
        self._topics = Topics(self.settings(), "test")
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        self._producer: AIOKafkaProducer | None = None
        self._running: list[asyncio.Task[None]] = []

    # Topics.

    def create_topics(self, topics: Sequence[str] = (*CONSUMED, *PRODUCED), **config: str) -> None:
        """Create topics by their logical names and wait for them."""
        new = [NewTopic(self.prefix + topic, PARTITIONS, 1, config=config) for topic in topics]
        for future in self._admin.create_topics(new).values():
            future.result(20)
        self._await_leaders(topics)

    def _await_leaders(self, topics: Sequence[str]) -> None:
        asked = {Partition(self.prefix + topic, n): OffsetSpec.latest() for topic in topics for n in range(PARTITIONS)}
        deadline = time.monotonic() + 20
        while any(future.exception() for future in self._admin.list_offsets(asked, request_timeout=2).values()):
            assert time.monotonic() < deadline, "no leaders for the new topics"

    def delete_topics(self, *topics: str) -> None:
        """Delete topics by their logical names."""
        for future in self._admin.delete_topics([self.prefix + topic for topic in topics]).values():
            future.result(20)

    async def delete_records(self, topic: str, partition: int, before: int) -> None:
        """Let the log of a partition start at an offset."""
        where = Partition(self.prefix + topic, partition, before)
        await asyncio.to_thread(lambda: [f.result(20) for f in self._admin.delete_records([where]).values()])

    @property
    async def producer(self) -> AIOKafkaProducer:
        """The test's own producer."""
        if self._producer is None:
            self._producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap)
            await self._producer.start()
        return self._producer

    async def send(self, records: Sequence[tuple[str, bytes | None, bytes | None, list[Any], int | None]]) -> None:
        """Produce records of (topic, key, value, headers, partition) and wait for them."""
        producer = await self.producer
        futures = []
        for topic, key, value, headers, partition in records:
            count = PARTITIONS
            number = partition if partition is not None else murmur2(key or b"") % count
            futures.append(
                await producer.send(self.prefix + topic, key=key, value=value, headers=headers, partition=number)
            )
        await asyncio.gather(*futures)

    async def add(
        self, ids: Sequence[str], *, topic: str = "toy.sums", partition: int | None = None, **fields: Any
    ) -> None:
        """Send one `toy.add` of 1 for each id, keyed by it."""
        value = orjson.dumps({"amount": 1, **fields})
        await self.send([(topic, i.encode(), value, self.headers(i), partition) for i in ids])

    async def add_in_transaction(self, ids: Sequence[str], *, commits: bool) -> None:
        """Send a `toy.add` of 1 for each id in one transaction of a client that is not ours, and end it."""
        options = {"bootstrap.servers": self.bootstrap, "transactional.id": uuid.uuid4().hex, "log_level": 0}

        def send() -> None:
            producer = Producer({**options, "partitioner": "murmur2_random"})
            producer.init_transactions(30)
            producer.begin_transaction()
            for id_ in ids:
                headers: Any = self.headers(id_)
                producer.produce(self.prefix + "toy.sums", key=id_, value=orjson.dumps({"amount": 1}), headers=headers)
            producer.flush(30)
            (producer.commit_transaction if commits else producer.abort_transaction)(30)

        await asyncio.to_thread(send)

    async def send_compressed(
        self, codec: str, values: Sequence[bytes], *, partition: int, topic: str = "toy.sums"
    ) -> None:
        """Send values in one record batch, by a client that is not ours."""
        options: dict[str, Any] = {
            "bootstrap.servers": self.bootstrap,
            "compression.codec": codec,
            "message.max.bytes": 100_000_000,
            "batch.size": 100_000_000,
            "linger.ms": 1_000,
            "log_level": 0,
        }
        failed = []

        def send() -> None:
            producer = Producer(options)
            for number, value in enumerate(values):
                headers: Any = self.headers(f"{codec}{number}")
                producer.produce(
                    self.prefix + topic,
                    value=value,
                    headers=headers,
                    partition=partition,
                    on_delivery=lambda error, _: failed.append(error) if error else None,
                )
            producer.flush(30)

        await asyncio.to_thread(send)
        assert not failed

    async def length(self, topic: str) -> int:
        """Return how many offsets the partitions of a topic have given out, to records and to markers."""
        logs = await self._topics.logs([Place(topic, number) for number in range(PARTITIONS)])
        return sum(log.end for log in logs.values())

    async def send_unreadable(self, topic: str, partition: int) -> None:
        """Send a record with a header whose name is not UTF-8, as a client in C can."""
        producer = await self.producer
        builder = producer.create_batch()
        builder.append(timestamp=1, key=b"key", value=b"value", headers=[("NAME", b"")])
        built = bytearray(builder._build())
        at = built.index(b"NAME")
        built[at : at + 4] = b"\xff\xfe\xff\xfe"
        struct.pack_into(">I", built, _CHECKSUM_AT, crc32c(bytes(built[_CHECKSUM_AT + 4 :])))
        builder._buffer = bytes(built)
        await (await producer.send_batch(builder, self.prefix + topic, partition=partition))

    @staticmethod
    def headers(id_: str, type_: str = "toy.add") -> list[tuple[str, bytes]]:
        """Return the envelope of a toy message."""
        return encode_headers(type_, id=id_, source="test", time="2026-01-01T00:00:00Z", subject=id_)

    async def read(self, topic: str) -> list[ConsumerRecord[bytes, bytes]]:
        """Return all records of a topic, by partition, then offset."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, auto_offset_reset="earliest")
        await consumer.start()
        try:
            partitions = [TopicPartition(self.prefix + topic, number) for number in range(PARTITIONS)]
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            found = defaultdict(list)
            while any([await consumer.position(p) < ends[p] for p in partitions]):
                for partition, records in (await consumer.getmany(timeout_ms=200)).items():
                    found[partition].extend(records)
            return [record for partition in partitions for record in found[partition]]
        finally:
            await consumer.stop()

    async def answered(self, topic: str = "toy.events") -> list[str]:
        """Return the ids of the answers published, with repeats, by partition in order."""
        return [json.loads(record.value or b"{}").get("id", "") for record in await self.read(topic)]

    # Database.

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """Return the rows of a query in the service's schema."""
        return await self.pool.fetch(query, *arguments)

    async def value(self, query: str, *arguments: Any) -> Any:
        """Return the first column of the first row."""
        return await self.pool.fetchval(query, *arguments)

    async def entries(self) -> list[str]:
        """Return the ids entered, in order, with repeats."""
        return [row["id"] for row in await self.fetch("select id from entry order by number")]

    async def entered(self, count: int, *, within_s: float = 20) -> list[str]:
        """Wait for a number of entries and return their ids."""

        async def enough() -> bool:
            return bool(await self.value("select count(*) >= $1 from entry", count))

        await wait_until(enough, deadline_s=within_s, what=f"{count} entries")
        return await self.entries()

    async def settled(self, *, within_s: float = 20) -> None:
        """Wait until everything sent to the consumed topics is behind the service; its answers may be under way."""

        async def all_behind() -> bool:
            return await self._remaining() == 0

        await wait_until(all_behind, deadline_s=within_s, what="everything consumed")

    async def published(self, *, within_s: float = 20) -> None:
        """Wait until a worker has published everything, whoever left it."""

        async def nothing_is_left() -> bool:
            return await self.value("select count(*) from outbox") == 0

        await wait_until(nothing_is_left, deadline_s=within_s, what="an empty outbox")

    async def _remaining(self) -> int:
        logs = await self._topics.logs(places_of(dict.fromkeys(CONSUMED, PARTITIONS)))
        rows = await self.fetch("select topic, partition, next_offset from consumed_offset")
        done = {(row["topic"], row["partition"]): row["next_offset"] for row in rows}
        return sum(log.end - done.get(place, 0) for place, log in logs.items())

    # Workers.

    def settings(self, **changes: Any) -> RuntimeSettings:
        """Return settings for this world, quick to notice things."""
        fields = {
            "kafka_bootstrap_servers": self.bootstrap,
            "database_url": self.dsn,
            "topic_prefix": self.prefix,
            "watch_interval_s": 0.3,
            "timer_interval_s": 0.05,
        }
        return RuntimeSettings(**{**fields, **changes})

    @asynccontextmanager
    async def worker(self, service: Service | None = None, **changes: Any) -> AsyncIterator[Consumer]:
        """Run a worker in this process until the context ends."""
        settings = self.settings(**changes)
        stopping = asyncio.Event()
        pool = await create_pool(settings.database_url.get_secret_value(), SCHEMA, "toy", size=3)
        consumer = Consumer(service or toy(), settings, pool, clock_from_setting(settings.clock), stopping)
        task = asyncio.create_task(consumer.run())
        self._running.append(task)
        try:
            yield consumer
        finally:
            stopping.set()
            try:
                async with asyncio.timeout(20):
                    await task
            finally:
                pool.terminate()

    async def ended(self) -> None:
        """Wait until a worker of this process ends by itself."""
        await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)

    async def ready(self, consumer: Consumer, *, within_s: float = 15) -> None:
        """Wait until a worker of this process has nothing to complain of."""

        async def is_ready() -> bool:
            return not consumer.reasons_not_ready()

        await wait_until(is_ready, deadline_s=within_s, what="worker ready")

    @asynccontextmanager
    async def process(self, **environment: str) -> AsyncIterator[Process]:
        """Run a worker in a process of its own; it is killed when the context ends."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.runtime.toy",
            cwd=ROOT,
            env={**os.environ, **self.environment(), **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        worker = Process(process)
        try:
            yield worker
        finally:
            await worker.kill()

    def environment(self) -> dict[str, str]:
        """Return the settings of a worker process."""
        return {
            "PYTHONPATH": str(ROOT),
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap,
            "DATABASE_URL": self.dsn,
            "SLUICE_TOPIC_PREFIX": self.prefix,
            "SLUICE_WATCH_INTERVAL": "0.3",
            "SLUICE_TIMER_INTERVAL": "0.05",
        }

    @asynccontextmanager
    async def gate(self) -> AsyncIterator[Gate]:
        """Stand between a worker and the database."""
        gate = Gate(self.dsn)
        await gate.open()
        try:
            yield gate
        finally:
            gate.shut()

    async def close(self) -> None:
        """Let go of the clients."""
        if self._producer is not None:
            await self._producer.stop()


class Gate:
    """A way to the database that can be cut and restored."""

    def __init__(self, dsn: str) -> None:
        self._there = urlsplit(dsn)
        self._port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def dsn(self) -> str:
        """Where the database is, through the gate."""
        user = self._there.username or "postgres"
        return f"postgresql://{user}:{self._there.password or ''}@127.0.0.1:{self._port}{self._there.path}"

    async def open(self) -> None:
        """Let connections through."""
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    def shut(self) -> None:
        """Cut the connections and let no other through."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        directory = parse_qs(self._there.query).get("host")
        if directory:
            port = self._there.port or 5432
            upstream = await asyncio.open_unix_connection(f"{directory[0]}/.s.PGSQL.{port}")
        else:
            upstream = await asyncio.open_connection(self._there.hostname, self._there.port)
        for source, sink in ((reader, upstream[1]), (upstream[0], writer)):
            task = asyncio.create_task(_pump(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65_536):
            sink.write(data)
    finally:
        sink.close()


class Process:
    """A worker process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._log = asyncio.create_task(self._read_log())
        self.log: list[str] = []
        self.address = ""

    async def _read_log(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self.log.append(line.decode())

    async def announced(self) -> dict[str, Any]:
        """Wait for the line that the worker prints once it listens."""
        assert self._process.stdout is not None
        async with asyncio.timeout(20):
            line = await self._process.stdout.readline()
        announcement: dict[str, Any] = json.loads(line or b"{}")
        self.address = announcement.get("health", "")
        return announcement

    async def get(self, path: str) -> tuple[int, str]:
        """Return status and body of its HTTP endpoint."""
        async with aiohttp.ClientSession() as session, session.get(self.address + path) as response:
            return response.status, await response.text()

    async def ready(self) -> None:
        """Wait until it announces itself and says that it is ready."""
        await self.announced()
        await self.settled_ready()

    async def settled_ready(self) -> None:
        """Wait until it says that it is ready."""

        async def is_ready() -> bool:
            return (await self.get("/readyz"))[0] == 200

        await wait_until(is_ready, what="worker process ready")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def ended(self, *, within_s: float = 25) -> int:
        """Return its exit code once it ends."""
        async with asyncio.timeout(within_s):
            code = await self._process.wait()
            await self._log
        return code

    async def kill(self) -> None:
        """Kill it, if it is still there."""
        if self._process.returncode is None:
            self.signal(signal.SIGKILL)
        await self.ended()


async def make_world(bootstrap: str, admin_dsn: str) -> World:
    """Return a world with an empty database that has the runtime's and the toy's tables."""
    name = f"toy_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(admin_dsn)
    try:
        await admin.execute(f"create database {name}")
    finally:
        await admin.close()
    dsn = admin_dsn.replace("/postgres?", f"/{name}?") if "/postgres?" in admin_dsn else _renamed(admin_dsn, name)
    await migrate(dsn, SCHEMA, [MIGRATIONS, toy().migrations])
    return World(bootstrap, dsn, await create_pool(dsn, SCHEMA, "test", size=2))


def _renamed(dsn: str, name: str) -> str:
    return dsn.rpartition("/")[0] + f"/{name}"
