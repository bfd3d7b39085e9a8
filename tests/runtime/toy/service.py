"""The toy's messages, handlers and service."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
from pydantic import BaseModel

from services.runtime.message import Effects, Outgoing, Timer, TimerKey
from services.runtime.service import Service, Subscription

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from services.runtime.database import Connection
    from services.runtime.message import Batch, Message

SCHEMA = "toy"


class Add(BaseModel):
    """Add an amount; the other fields make the handler misbehave or set timers."""

    amount: int
    poison: bool = False
    unique_id: str | None = None
    answer_bytes: int = 0
    slow_s: float = 0
    timer_kind: str = "remind"
    timer_after_s: float | None = None
    clear_timer: str | None = None


class Note(BaseModel):
    """A profile of somebody, on a compacted topic."""

    text: str


async def on_sums(connection: Connection, batch: Batch, now: datetime) -> Effects:
    """Enter each amount, answer each message, and do what timers say."""
    if any(timer.kind == "broken" for timer in batch.timers):
        raise RuntimeError("Zhang San 13812345678")
    await connection.executemany(
        "insert into firing (kind, subject, due_at, fired_at) values ($1, $2, $3, $4)",
        [(timer.kind, timer.subject, timer.due_at, now) for timer in batch.timers],
    )
    adds = [(message, message.data) for message in batch.messages if isinstance(message.data, Add)]
    if any(add.poison for _, add in adds):
        raise RuntimeError("Zhang San 13812345678")
    if slow_s := sum(add.slow_s for _, add in adds):
        await asyncio.sleep(slow_s)
    await connection.copy_records_to_table(
        "entry",
        records=[
            (message.id, message.topic, message.lane.partition, message.offset, add.amount) for message, add in adds
        ],
        columns=["id", "topic", "partition", "record_offset", "amount"],
    )
    await connection.executemany(
        "insert into uniquely (id) values ($1)", [(add.unique_id,) for _, add in adds if add.unique_id]
    )
    return Effects(
        outgoing=[*_answers(adds), *(_fired(timer, now) for timer in batch.timers)],
        timers_set=[
            Timer(message.lane, add.timer_kind, message.id, now + timedelta(seconds=add.timer_after_s))
            for message, add in adds
            if add.timer_after_s is not None
        ],
        timers_cleared=[TimerKey(add.timer_kind, add.clear_timer) for _, add in adds if add.clear_timer is not None],
    )


def _answers(adds: Iterable[tuple[Message, Add]]) -> Iterable[Outgoing]:
    for message, add in adds:
        value = orjson.dumps({"id": message.id, "amount": add.amount, "pad": "x" * add.answer_bytes})
        headers = [("ce_id", message.id.encode())]
        yield Outgoing(message.lane, "toy.follow_ups", message.key, value, headers)
        yield Outgoing(message.lane, "toy.events", message.key, value, headers)


def _fired(timer: Timer, now: datetime) -> Outgoing:
    value = orjson.dumps({"id": f"{timer.kind}/{timer.subject}", "at": now.isoformat()})
    return Outgoing(timer.lane, "toy.events", timer.subject.encode(), value, [])


async def on_notes(connection: Connection, batch: Batch, _now: datetime) -> Effects:
    """Enter a note as 1 and a tombstone as -1."""
    await connection.copy_records_to_table(
        "entry",
        records=[
            (message.type, message.topic, message.lane.partition, message.offset, 1 if message.data else -1)
            for message in batch.messages
        ],
        columns=["id", "topic", "partition", "record_offset", "amount"],
    )
    return Effects()


def toy() -> Service:
    """Return the toy: two co-partitioned topics of sums, and a compacted one of notes."""
    return Service(
        name="toy",
        schema=SCHEMA,
        subscriptions=(
            Subscription("notes", {"toy.notes": {"toy.note": Note}}, on_notes, tombstones=True),
            Subscription("sums", {"toy.sums": {"toy.add": Add}, "toy.more_sums": {"toy.add": Add}}, on_sums),
        ),
        follow_up_topics=frozenset({"toy.follow_ups"}),
        migrations=Path(__file__).with_name("migrations"),
    )


CONSUMED = ("toy.sums", "toy.more_sums", "toy.notes")
PRODUCED = ("toy.events", "toy.follow_ups", *(f"{topic}.dlq" for topic in CONSUMED))
