"""What windows owe, and banks that stop answering, in a real database: each customer once, each window once."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from schemas.envelope import short_type
from schemas.fields import as_text
from schemas.registry import TOPICS
from services.maintenance import records
from services.maintenance.handlers import Handlers
from services.maintenance.policy import Policy
from services.runtime import timers
from services.runtime.database import create_pool
from services.runtime.message import Batch, Lane, Message, Timer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.runtime.database import Connection, Pool
    from services.runtime.message import Effects
    from services.runtime.service import Handler

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
WINDOW = "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f509"
WAIVER = {"kind": "fee_waiver", "value": 1, "text": "Your next transfer costs no fee."}
POLICY = Policy.model_validate({"rails": {"trip_at": 3}})
Said = list[tuple[str, dict[str, Any]]]
_TOPICS = {
    "window": ("maintenance.commands",),
    "transfer": ("transfer.events", "rail.results"),
    "erasure": ("erasure.events",),
    "profile": ("customer.profiles",),
}


class World:
    """The service's handlers over a database, driven as the runtime would."""

    def __init__(self, pool: Pool) -> None:
        self.pool, self.now = pool, NOW
        self.handlers = Handlers(POLICY)

    async def hear(self, *messages: Message) -> Said:
        async with self.pool.acquire() as connection, connection.transaction():
            return await self.hear_in(connection, *messages)

    async def hear_in(self, connection: Connection, *messages: Message) -> Said:
        """Hear messages in a transaction that goes on."""
        effects = await self._handle(messages[0].lane.group)(connection, Batch(messages), self.now)
        await timers.record(connection, effects)
        return _read(effects)

    def _handle(self, group: str) -> Handler:
        handlers = self.handlers
        of_groups = {"window": handlers.on_commands, "transfer": handlers.on_transfers}
        return of_groups.get(group, handlers.on_erasures)

    async def wait(self, by: timedelta) -> Said:
        """Let time pass, and take every timer that is due."""
        self.now += by
        said: Said = []
        while due := await self.due():
            async with self.pool.acquire() as connection, connection.transaction():
                said += await self.take_in(connection, due)
        return said

    async def take_in(self, connection: Connection, due: list[Timer]) -> Said:
        """Take timers of one group that are due in a transaction that goes on."""
        taken = await timers.take(connection, due)
        effects = await self._handle(due[0].lane.group)(connection, Batch((), taken), self.now)
        await timers.record(connection, effects)
        return _read(effects)

    async def due(self) -> list[Timer]:
        """Return what is due of the first group of which something is."""
        async with self.pool.acquire() as connection:
            for group in _TOPICS:
                following = await timers.load_next(connection, [Lane(group, 0)], 100, self.now)
                if due := [timer for timer in following if timer.due_at <= self.now]:
                    return due
        return []

    async def is_clean(self) -> bool:
        async with self.pool.acquire() as connection:
            return not (await records.audit(connection)).findings


def _read(effects: Effects) -> Said:
    said = []
    for outgoing in effects.outgoing:
        type_ = short_type((dict(outgoing.headers)["ce_type"] or b"").decode())
        TOPICS[outgoing.topic][type_].model_validate_json(outgoing.value or b"")
        said.append((type_, orjson.loads(outgoing.value or b"")))
    return said


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    pool = await create_pool(database, "maintenance", "test", size=2)
    yield World(pool)
    await pool.close()


def message(topic: str, type_: str, data: dict[str, Any]) -> Message:
    group = next(group for group, topics in _TOPICS.items() if topic in topics)
    body = TOPICS[topic][type_].model_validate_json(orjson.dumps(data))
    return Message(Lane(group, 0), topic, 0, b"k", type_, str(uuid.uuid4()), "test", body)


def schedule(**more: Any) -> Message:
    plan = {
        "window_id": WINDOW,
        "title": "Upgrade",
        "reason": "Upgrade",
        "starts_at": as_text(NOW),
        "ends_at": as_text(NOW + HOUR),
        "functions": ["transfer"],
        "treatment": "hold",
        "compensation": WAIVER,
    }
    return message("maintenance.commands", "window.schedule", {**plan, **more})


def event(type_: str, customer: str, *, at: datetime = NOW, **more: Any) -> Message:
    transfer = {
        "transfer_id": str(uuid.uuid4()),
        "seq": 1,
        "kind": "p2p",
        "payer": f"wallet:{customer}",
        "payee": "wallet:b",
        "payer_customer_id": customer,
        "amount_minor": 100,
        "fee_minor": 0,
        "currency": "CNY",
        "status": type_.partition(".")[2],
        "requested_at": as_text(NOW),
        "occurred_at": as_text(at),
        **more,
    }
    return message("transfer.events", type_, transfer)


def held(customer: str) -> Message:
    return event("transfer.held", customer, window_id=WINDOW)


def refused(customer: str) -> Message:
    reason = {"code": "maintenance", "retryable": True, "refund": "none"}
    return event("transfer.failed", customer, window_id=WINDOW, reason=reason)


# --- What windows owe ---


async def test_each_customer_gets_what_a_window_owes_once(world: World) -> None:
    await world.hear(schedule())
    assert await world.hear(held("a"), held("a"), refused("b")) == []
    assert await world.hear(held("a")) == []
    said = await world.wait(HOUR)
    granted = [body for type_, body in said if type_ == "compensation.granted"]
    assert sorted(body["customer_id"] for body in granted) == ["a", "b"]
    assert {body["expires_at"] for body in granted} == {as_text(NOW + HOUR + timedelta(days=90))}
    # What is heard of afterwards is given at once, and only to those who have nothing yet.
    assert await world.hear(held("a"), held("c")) == []
    assert [body["customer_id"] for _, body in await world.wait(timedelta(0))] == ["c"]
    assert await world.is_clean()


async def test_many_get_it_in_slices(world: World) -> None:
    await world.hear(schedule())
    customers = [f"c{number}" for number in range(1_203)]
    await world.hear(*map(held, customers))
    said = await world.wait(HOUR)
    granted = [body["customer_id"] for type_, body in said if type_ == "compensation.granted"]
    assert sorted(granted) == sorted(customers)
    assert await world.is_clean()


@pytest.mark.parametrize("plan", [{"drill": True}, {"compensation": None}])
async def test_a_drill_and_a_window_that_promised_nothing_owe_nothing(world: World, plan: dict[str, Any]) -> None:
    await world.hear(schedule(**plan))
    await world.hear(held("a"))
    assert "compensation.granted" not in [type_ for type_, _ in await world.wait(HOUR)]
    assert await world.is_clean()


async def test_what_is_used_is_counted_and_told(world: World) -> None:
    await world.hear(schedule())
    await world.hear(held("a"))
    granted = next(body for type_, body in await world.wait(HOUR) if type_ == "compensation.granted")
    waived = {
        "transfer_id": str(uuid.uuid4()),
        "customer_id": "a",
        "window_id": WINDOW,
        "compensation_id": granted["compensation_id"],
        "fee_minor": 10,
        "currency": "CNY",
        "occurred_at": as_text(world.now),
    }
    ((type_, body),) = await world.hear(message("transfer.events", "fee.waived", waived))
    assert (type_, body["transfer_id"], body["customer_id"]) == ("compensation.used", waived["transfer_id"], "a")
    # Heard again, it is one use still.
    assert await world.hear(message("transfer.events", "fee.waived", waived)) == []
    unknown = {**waived, "compensation_id": str(uuid.uuid4())}
    assert await world.hear(message("transfer.events", "fee.waived", unknown)) == []
    async with world.pool.acquire() as connection:
        (window,) = await records.list_windows(connection, uuid.UUID(WINDOW), 10)
    assert (window["compensated"], window["compensation_used"]) == (1, 1)


# --- Banks that stop answering ---


def delayed(bank: str = "ICBC") -> Message:
    more = {"kind": "withdrawal", "payee": f"bank:{bank}:1", "refund_due_on": "2026-11-26"}
    return event("transfer.delayed", "a", **more)


def answered(transfer: Message) -> Message:
    data: Any = transfer.data
    return message("rail.results", "payout.settled", {"transfer_id": str(data.transfer_id)})


async def test_a_bank_that_is_silent_closes_its_withdrawals_until_it_answers(world: World) -> None:
    silent = [delayed() for _ in range(3)]
    assert await world.hear(*silent[:2], delayed("CCB")) == []
    said = await world.hear(silent[2])
    assert [type_ for type_, _ in said] == ["window.scheduled", "window.started"]
    assert said[1][1]["scope"]["banks"] == ["ICBC"]
    assert await world.hear(delayed()) == []
    assert [type_ for type_, _ in await world.hear(answered(silent[0]))] == ["window.ended"]
    # It starts anew, with what is silent from now on.
    assert await world.hear(delayed(), delayed()) == []
    said = await world.hear(delayed())
    assert [type_ for type_, _ in said] == ["window.scheduled", "window.started"]
    # An operator ends it, and the bank is still silent.
    end = message("maintenance.commands", "window.end", {"window_id": said[1][1]["window_id"]})
    assert [type_ for type_, _ in await world.hear(end)] == ["window.ended"]
    assert [type_ for type_, _ in await world.hear(delayed())] == ["window.scheduled", "window.started"]
    # Where nothing is left that it could answer, its end lets payouts try again.
    assert [type_ for type_, _ in await world.wait(HOUR)].count("window.ended") == 1


async def test_what_was_silent_long_ago_closes_nothing(world: World) -> None:
    assert await world.hear(delayed(), delayed()) == []
    world.now += HOUR
    assert await world.hear(delayed()) == []


async def test_banks_that_two_lanes_find_silent_at_once_make_one_window(world: World) -> None:
    await world.hear(delayed(), delayed())
    said = await asyncio.gather(*(world.hear(delayed()) for _ in range(2)))
    assert sorted([type_ for type_, _ in one] for one in said) == [[], ["window.scheduled", "window.started"]]


async def test_a_bank_that_answers_in_time_closes_nothing(world: World) -> None:
    for _ in range(5):
        silent = delayed()
        assert await world.hear(silent) == []
        assert await world.hear(answered(silent)) == []


# --- After a time down ---


async def test_what_was_due_is_said_before_a_command_is_answered(world: World) -> None:
    await world.hear(schedule(starts_at=as_text(NOW + 3 * HOUR), ends_at=as_text(NOW + 4 * HOUR), ends="confirmed"))
    world.now += 6 * HOUR
    said = await world.hear(message("maintenance.commands", "window.end", {"window_id": WINDOW}))
    steps = ["window.reminder", "window.started", "window.overrun", "window.ended"]
    assert [type_ for type_, _ in said] == steps
    assert [body["revision"] for _, body in said] == [2, 3, 4, 5]
    assert await world.wait(timedelta(0)) == []
    assert await world.is_clean()
