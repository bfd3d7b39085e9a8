"""Workers that do everything at once to the same few people never wait for each other in a circle."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson
import pytest

from schemas.registry import TOPICS
from services.notify.broadcast.handlers import Broadcasts
from services.notify.decide import Rules
from services.notify.delivery.dispatch import CONNECTIONS_A_GATEWAY, OWN_CONNECTIONS, Dispatcher
from services.notify.delivery.receipts import on_receipts
from services.notify.gateways.gateway import Answer, Outcome
from services.notify.gateways.route import Route, make_email, make_sms
from services.notify.handlers import Handlers
from services.notify.inbox.store import mark_read
from services.notify.model import Channel
from services.notify.purge import purge_some
from services.runtime import timers
from services.runtime.database import Connection, create_pool
from services.runtime.message import Batch, Effects, Lane, Message
from tests.notify.system import reachable, restricted
from tests.notify.test_broadcast import command, request, window
from tests.notify.test_notices import KEYS, MASTER_KEY, NOW, POLICY, WORDING, erasure, settled
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.runtime.database import Pool

PEOPLE = range(30)
WORKERS = range(2)
TURNS = 40
WINDOWS = [str(uuid.UUID(int=number)) for number in range(2)]
MUCH_LATER = timedelta(days=POLICY.erasing.accounting_kept_days)
GROUPS = ("profile", "transfer", "maintenance", "command", "receipt")
RULES = Rules(POLICY, WORDING, MASTER_KEY)
HANDLERS = Handlers(RULES, KEYS, Broadcasts(RULES))
HANDLE: dict[str, Callable[[Connection, Batch, datetime], Awaitable[Effects]]] = {
    "profile": HANDLERS.on_profiles,
    "transfer": HANDLERS.on_events,
    "maintenance": HANDLERS.on_events_for_many,
    "command": HANDLERS.on_commands,
    "receipt": on_receipts,
}
WAYS = (Outcome.ACCEPTED, Outcome.ACCEPTED, Outcome.TECHNICAL, Outcome.UNKNOWN, Outcome.PERMANENT)


class Hurried:
    """A clock on which a second is a minute, so that digests close and ladders allow more."""

    def __init__(self) -> None:
        self._began = datetime.now(UTC)

    def now(self) -> datetime:
        return NOW + 60 * (datetime.now(UTC) - self._began)


class Fickle:
    """A gateway that takes some messages, of which all are known by `said`, some without having answered yet."""

    batch_size, can_inquire, longest_s = 10, True, 1.0

    def __init__(self, name: str, said: list[Message]) -> None:
        self.name, self._said, self._random = name, said, random.Random(name)

    async def start(self) -> None:
        """Nothing: it never speaks by itself."""

    async def send(self, messages: Sequence[Any], until: float) -> list[Answer]:
        assert until > asyncio.get_running_loop().time()
        answers = [
            Answer(one.reference, outcome, f"{self.name}-{one.reference}", is_dead=outcome == Outcome.PERMANENT)
            for one in messages
            for outcome in [self._random.choice(WAYS)]
        ]
        self._said += [self._receipt(answer) for answer in answers]
        return answers

    def _receipt(self, answer: Answer) -> Message:
        body = {"provider": self.name, "provider_message_id": answer.provider_message_id, "at": "2026-11-23T09:00:00Z"}
        body |= {"client_reference": answer.reference} if self._random.random() < 0.5 else {}
        type_ = self._random.choice(["message.delivered", "message.delivered", "message.failed"])
        data = TOPICS["notify.receipts"][type_].model_validate_json(orjson.dumps(body))
        return Message(Lane("receipt", 0), "notify.receipts", 0, b"k", type_, answer.reference, "test", data)

    async def inquire(self, references: Sequence[str]) -> list[Answer]:
        return [Answer(reference, self._random.choice([Outcome.ABSENT, Outcome.DELIVERED])) for reference in references]

    async def close(self) -> None:
        """Nothing: it has no connections."""


class Rush:
    """Everything that workers do, each in an order of its own; what the database ends instead is kept."""

    def __init__(self, pool: Pool) -> None:
        self.pool, self.clock = pool, Hurried()
        self.failures: list[asyncpg.DeadlockDetectedError] = []
        self.broadcasts: list[str] = []
        self.receipts: list[Message] = []
        self.over = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as beside:
            for _ in WORKERS:
                routes = [
                    Route(Fickle("sms-a", self.receipts), Channel.SMS, 500, make_sms),
                    Route(Fickle("sms-b", self.receipts), Channel.SMS, None, make_sms),
                    Route(Fickle("mail", []), Channel.EMAIL, None, make_email),
                ]
                around: Any = SimpleNamespace(pool=self.pool, clock=self.clock, stopping=self.over)
                beside.create_task(Dispatcher(routes, RULES, KEYS, "http://here").run(around))
            for worker in WORKERS:
                beside.create_task(self._on_time(worker))
            async with asyncio.TaskGroup() as group:
                for worker in WORKERS:
                    for act in (
                        self._profiles,
                        self._events,
                        self._commands,
                        self._receipts,
                        self._reading,
                        self._purging,
                        self._windows,
                    ):
                        group.create_task(self._turns(act, worker, random.Random(f"{act.__name__}{worker}")))
            self.over.set()

    async def _turns(self, act: Callable[..., Awaitable[None]], worker: int, chance: random.Random) -> None:
        for turn in range(TURNS):
            await act(worker, chance, turn)

    async def _transact(self, group: str, batch: Batch) -> None:
        now = self.clock.now()
        try:
            async with self.pool.acquire() as connection, connection.transaction():
                effects = await HANDLE[group](connection, batch, now)
                await timers.record(connection, effects)
        except asyncpg.SerializationError:
            await self._transact(group, batch)
        except asyncpg.DeadlockDetectedError as error:
            self.failures.append(error)

    async def _handle(self, worker: int, group: str, messages: Sequence[Message]) -> None:
        await self._transact(group, Batch([one._replace(lane=Lane(group, worker)) for one in messages]))

    async def _on_time(self, worker: int) -> None:
        lanes = [Lane(group, worker) for group in GROUPS]
        while not self.over.is_set():
            due = await self._due(lanes)
            for group in GROUPS:
                if of_group := [timer for timer in due if timer.lane.group == group]:
                    await self._take(group, of_group)
            await asyncio.wait([asyncio.create_task(self.over.wait())], timeout=0.02)

    async def _due(self, lanes: Sequence[Lane]) -> list[Any]:
        now = self.clock.now()
        async with self.pool.acquire() as connection:
            return [timer for timer in await timers.load_next(connection, lanes, 200, now) if timer.due_at <= now]

    async def _take(self, group: str, due: Sequence[Any]) -> None:
        now = self.clock.now()
        try:
            async with self.pool.acquire() as connection, connection.transaction():
                if taken := await timers.take(connection, due):
                    await timers.record(connection, await HANDLE[group](connection, Batch((), taken), now))
        except asyncpg.SerializationError:
            await self._take(group, due)
        except asyncpg.DeadlockDetectedError as error:
            self.failures.append(error)

    async def _profiles(self, worker: int, chance: random.Random, turn: int) -> None:
        someone = chance.sample(PEOPLE, 8)
        said = [erasure(f"c{one}") if turn and chance.random() < 0.1 else reachable(one) for one in someone]
        await self._handle(worker, "profile", said)

    async def _events(self, worker: int, chance: random.Random, turn: int) -> None:
        someone = chance.sample(PEOPLE, 8)
        said = [restricted(one)._replace(id=f"r{worker}.{turn}.{one}") for one in someone]
        said += [settled(payer=f"c{one}", payee=f"c{chance.choice(PEOPLE)}") for one in someone]
        await self._handle(worker, "transfer", said)

    async def _commands(self, worker: int, chance: random.Random, turn: int) -> None:
        said = []
        if turn % 4 == 0:
            said = [request(audience={"all": True}), request(audience={"customers": [f"c{one}" for one in PEOPLE]})]
            self.broadcasts += [str(one.data.notification_id) for one in said]  # type: ignore[union-attr]
        said += [request(customer_id=f"c{one}") for one in chance.sample(PEOPLE, 3)]
        for id_ in chance.sample(self.broadcasts, min(4, len(self.broadcasts))):
            type_ = chance.choice(["broadcast.pause", "broadcast.resume", "broadcast.resume", "broadcast.cancel"])
            said.append(command(type_, {"notification_id": id_}))
        await self._handle(worker, "command", said)

    async def _windows(self, worker: int, chance: random.Random, turn: int) -> None:
        if turn % 10 == 0:
            told = [
                window("window.scheduled", scope={}, revision=1 + chance.randrange(9), window_id=id_) for id_ in WINDOWS
            ]
            await self._handle(worker, "maintenance", [one._replace(id=f"w{worker}.{turn}.{one.id}") for one in told])

    async def _receipts(self, worker: int, chance: random.Random, _turn: int) -> None:
        await wait_until(self._has_receipts)
        latest = self.receipts[-60:]
        await self._handle(worker, "receipt", chance.sample(latest, min(20, len(latest))))

    async def _has_receipts(self) -> bool:
        return bool(self.receipts)

    async def _reading(self, _worker: int, chance: random.Random, turn: int) -> None:
        async with self.pool.acquire() as connection:
            await mark_read(connection, f"c{chance.choice(PEOPLE)}", [], turn, self.clock.now())

    async def _purging(self, _worker: int, _chance: random.Random, _turn: int) -> None:
        try:
            async with self.pool.acquire() as connection:
                await purge_some(POLICY.erasing, connection, self.clock.now() + MUCH_LATER, limit=3)
        except asyncpg.DeadlockDetectedError as error:
            self.failures.append(error)


async def test_no_deadlock_whatever_happens_at_once(notifier_dsn: str) -> None:
    size = 2 * (OWN_CONNECTIONS + 3 * CONNECTIONS_A_GATEWAY) + 8 * len(WORKERS)
    pool = await create_pool(notifier_dsn, "notify", "test", size=size)
    rush = Rush(pool)
    await rush.run()
    told = await pool.fetch("select distinct status, why from notice")
    await pool.close()
    assert [error.detail for error in rush.failures] == []
    assert await deadlocks(notifier_dsn) == 0
    # It was a rush: much became of notices.
    assert {"delivered", "failed", "suppressed", "sent"} <= {row[0] for row in told}
    assert {"erased", "cancelled", "undelivered", "rejected"} <= {row[1] for row in told}


async def test_who_is_removed_while_they_are_looked_up_is_looked_up_again(pool: Pool) -> None:
    async with pool.acquire() as connection, pool.acquire() as other:
        await connection.execute("insert into customer (customer_id) values ('c1')")
        removal = other.transaction()
        await removal.start()
        await other.execute("delete from customer")
        batch = Batch([restricted(1)])

        async def tell() -> Effects:
            async with connection.transaction():
                return await HANDLERS.on_events(connection, batch, NOW)

        telling = asyncio.create_task(tell())
        await wait_until(lambda: pool.fetchval("select count(*) from pg_locks where not granted"))
        await removal.commit()
        with pytest.raises(asyncpg.SerializationError):
            await telling
        await tell()
        assert await connection.fetchval("select count(*) from notice where customer_id = 'c1'") > 0


async def test_two_who_tell_of_one_window_at_once_tell_of_it_one_after_the_other(pool: Pool) -> None:
    old, new = (
        window("window.scheduled", scope={}, revision=revision)._replace(id=f"revision {revision}")
        for revision in (1, 2)
    )
    async with pool.acquire() as connection, pool.acquire() as other:
        earlier = other.transaction()
        await earlier.start()
        await HANDLERS.on_events_for_many(other, Batch([old]), NOW)

        async def tell() -> Effects:
            async with connection.transaction():
                return await HANDLERS.on_events_for_many(connection, Batch([new]), NOW)

        telling = asyncio.create_task(tell())
        await wait_until(lambda: pool.fetchval("select count(*) from pg_locks where not granted"))
        await earlier.commit()
        await telling
        states = await connection.fetch("select state from broadcast order by revision")
    assert [row[0] for row in states] == ["cancelled", "running"]


async def deadlocks(dsn: str) -> int:
    """Return how many the database has found, once those who were in them have said so and left."""
    others = "select count(*) = 0 from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    connection = await asyncpg.connect(dsn)
    try:
        await wait_until(lambda: connection.fetchval(f"{others} and backend_type = 'client backend'"))
        return int(
            await connection.fetchval("select deadlocks from pg_stat_database where datname = current_database()")
        )
    finally:
        await connection.close()
