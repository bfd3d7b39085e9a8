"""Sends a command to the maintenance service, and waits for the event that answers it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import orjson
from confluent_kafka import Consumer, TopicPartition

from ops.brokers import asking
from ops.commands import ANSWER_WITHIN_S, Answer, Desk, client_options, encode, publish, unanswered
from schemas import maintenance as wire
from schemas.envelope import short_type

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ops.commands import Command
    from ops.running import Running

_EVENTS: Final = "maintenance.events"
REFUSED: Final = "window.refused"

_DESK: Final = Desk(
    service="maintenance",
    topic="maintenance.commands",
    source="sluice.windows",
    about="window_id",
    models={
        "window.schedule": wire.WindowSchedule,
        "window.reschedule": wire.WindowReschedule,
        "window.start_now": wire.WindowStartNow,
        "window.extend": wire.WindowExtend,
        "window.end": wire.WindowEnd,
        "window.cancel": wire.WindowCancel,
    },
    options={
        "window_id": "--window",
        "starts_at": "--from",
        "ends_at": "--to",
        "functions": "--function",
        "banks": "--bank",
        "currencies": "--currency",
        "alternatives": "--alternative",
        "compensation": "--waive-fees",
    },
)


def ask(running: Running, command: Command) -> Answer:
    """Publish a command and return its answer, which may be a refusal.

    Raises Wrong for what would be a dead letter, NoAnswer where none comes.
    """
    value = encode(_DESK, command)
    with asking(running):
        return _ask(running, command, value)


def _ask(running: Running, command: Command, value: str) -> Answer:
    own = {"group.id": _DESK.source, "enable.auto.commit": False}
    consumer = Consumer({**client_options(running, _DESK), **own})
    try:
        _go_to_end(consumer, f"{running.topic_prefix}{_EVENTS}")
        publish(running, _DESK, command, command.data["window_id"], value)
        deadline = time.monotonic() + ANSWER_WITHIN_S
        while time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is None or message.error() is not None:
                continue
            headers: Any = dict(message.headers() or ())
            said = answer_in(command, headers, message.value())
            if said is not None:
                return said
    finally:
        consumer.close()
    raise unanswered(_DESK, command)


def answer_in(command: Command, headers: Mapping[str, bytes], value: bytes | None) -> Answer | None:
    """Return the answer to a command that a record of the events is; None where it is about something else."""
    said = short_type(headers.get("ce_type", b"").decode())
    if headers.get("ce_subject") != command.data["window_id"].encode() or said not in command.answers | {REFUSED}:
        return None
    return Answer(said, orjson.loads(value or b"{}"))


def _go_to_end(consumer: Consumer, topic: str) -> None:
    partitions = consumer.list_topics(topic, 10).topics[topic].partitions
    ends = []
    for number in partitions:
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, number), 10)
        ends.append(TopicPartition(topic, number, end))
    consumer.assign(ends)
