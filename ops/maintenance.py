"""Sends a command to the maintenance service, checked beforehand, and waits for what answers it."""

from __future__ import annotations

import json
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition
from pydantic import ValidationError

from local.settings import runtime_settings
from ops.brokers import NoAnswer, asking
from ops.errors import UserError
from schemas import maintenance as wire
from schemas.envelope import encode_headers, short_type
from schemas.fields import as_text
from services.runtime.kafka import admin_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from ops.running import Running

_COMMANDS: Final = "maintenance.commands"
_EVENTS: Final = "maintenance.events"
_SOURCE: Final = "sluice.windows"
_ANSWER_WITHIN_S: Final = 20.0
REFUSED: Final = "window.refused"

_MODELS: Final[Mapping[str, type[BaseModel]]] = {
    "window.schedule": wire.WindowSchedule,
    "window.reschedule": wire.WindowReschedule,
    "window.start_now": wire.WindowStartNow,
    "window.extend": wire.WindowExtend,
    "window.end": wire.WindowEnd,
    "window.cancel": wire.WindowCancel,
}
_OPTIONS: Final = {
    "window_id": "--window",
    "starts_at": "--from",
    "ends_at": "--to",
    "functions": "--function",
    "banks": "--bank",
    "currencies": "--currency",
    "alternatives": "--alternative",
    "compensation": "--waive-fees",
}
"""The options of the fields that are named otherwise."""


class Wrong(UserError):
    """What an option says is nothing that the maintenance service could take; the text names the option."""


class Command(NamedTuple):
    """A command, the types of events that answer it, and how it is asked again where no answer comes."""

    type: str
    data: Mapping[str, Any]
    answers: frozenset[str]
    again: str


class Answer(NamedTuple):
    """The event that answers a command."""

    type: str
    data: dict[str, Any]


def ask(running: Running, command: Command) -> Answer:
    """Publish a command and return its answer, which may be a refusal.

    Raises Wrong for what would be a dead letter, NoAnswer where none comes.
    """
    # Not by orjson: it takes no figure beyond 64 bits, which is the model's to refuse.
    value = json.dumps(command.data)
    _check(command.type, value)
    with asking(running):
        return _ask(running, command, value)


def _check(type_: str, value: str) -> None:
    try:
        _MODELS[type_].model_validate_json(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise Wrong(f"{_option_of(first['loc'], json.loads(value))}: {first['msg']}.") from None


def _option_of(place: tuple[int | str, ...], data: Mapping[str, Any]) -> str:
    """Return the option that gave what stands at a place of the command."""
    match place:
        case ("reason_in", int(number), *_):
            return f"--reason-{data['reason_in'][number]['locale'].partition('-')[0]}"
        case ("scope", str(name), *_) | (str(name), *_):
            return _OPTIONS.get(name, f"--{name}")
        case _:
            return "The command"


def _ask(running: Running, command: Command, value: str) -> Answer:
    options = admin_options(runtime_settings(running.kafka, running.database), _SOURCE) | {"log_level": 0}
    consumer = Consumer({**options, "group.id": _SOURCE, "enable.auto.commit": False})
    try:
        _go_to_end(consumer, f"{running.topic_prefix}{_EVENTS}")
        _publish(options, running, command, value)
        deadline = time.monotonic() + _ANSWER_WITHIN_S
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
    raise NoAnswer(
        f"{command.type} of window {command.data['window_id']} was published, and the maintenance service has not "
        f"answered within {_ANSWER_WITHIN_S:.0f} s: it will when it runs, unless the command is a dead letter "
        f"(`sluice dead-letters {_COMMANDS}`). {command.again}"
    )


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


def _publish(options: Mapping[str, Any], running: Running, command: Command, value: str) -> None:
    producer = Producer({**options, "acks": "all", "partitioner": "murmur2_random", "message.timeout.ms": 10_000})
    window_id = command.data["window_id"]
    headers: Any = encode_headers(
        command.type, id=str(uuid.uuid4()), source=_SOURCE, time=as_text(datetime.now(UTC)), subject=window_id
    )
    failures: list[object] = []
    producer.produce(
        f"{running.topic_prefix}{_COMMANDS}",
        key=window_id,
        value=value,
        headers=headers,
        on_delivery=lambda error, _message: failures.append(error) if error else None,
    )
    if producer.flush(15) or failures:
        raise NoAnswer(f"Kafka at {running.kafka} did not take the command: see whether it runs.")
