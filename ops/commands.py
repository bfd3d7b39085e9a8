"""Publishes a person's command to a service, checked beforehand, so that what is no command is refused at once."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from confluent_kafka import Producer
from pydantic import ValidationError

from local.settings import runtime_settings
from ops.brokers import NoAnswer
from ops.errors import UserError
from schemas.envelope import encode_headers
from schemas.fields import as_text
from services.runtime.kafka import admin_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from ops.running import Running

ANSWER_WITHIN_S: Final = 20.0


class Wrong(UserError):
    """What an option says is nothing that the service could take; the text names the option."""


@dataclass(frozen=True, slots=True)
class Desk:
    """Where a service takes commands of people: what it and its topic are called, and what a command looks like.

    `about` is the field that names what a command is about; `options` are those of fields that are named otherwise.
    """

    service: str
    topic: str
    source: str
    about: str
    models: Mapping[str, type[BaseModel]]
    options: Mapping[str, str] = field(default_factory=dict)


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


def encode(desk: Desk, command: Command) -> str:
    """Return a command's value; raises Wrong for what would be a dead letter."""
    # Not by orjson: it takes no figure beyond 64 bits, which is the model's to refuse.
    value = json.dumps(command.data)
    try:
        desk.models[command.type].model_validate_json(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise Wrong(f"{_option_of(desk, first['loc'], command.data)}: {first['msg']}.") from None
    return value


def _option_of(desk: Desk, place: tuple[int | str, ...], data: Mapping[str, Any]) -> str:
    """Return the option that gave what stands at a place of the command."""
    match place:
        case ("reason_in", int(number), *_):
            return f"--reason-{data['reason_in'][number]['locale'].partition('-')[0]}"
        case ("scope", str(name), *_) | (str(name), *_):
            return desk.options.get(name, f"--{name}")
        case _:
            return "The command"


def publish(running: Running, desk: Desk, command: Command, key: str, value: str) -> str:
    """Publish a command and return its id; raises NoAnswer where the brokers do not take it."""
    producer = Producer(
        {**client_options(running, desk), "acks": "all", "partitioner": "murmur2_random", "message.timeout.ms": 10_000}
    )
    id_ = str(uuid.uuid4())
    headers: Any = encode_headers(
        command.type, id=id_, source=desk.source, time=as_text(datetime.now(UTC)), subject=command.data[desk.about]
    )
    failures: list[object] = []
    producer.produce(
        f"{running.topic_prefix}{desk.topic}",
        key=key,
        value=value,
        headers=headers,
        on_delivery=lambda error, _message: failures.append(error) if error else None,
    )
    if producer.flush(15) or failures:
        raise NoAnswer(f"Kafka at {running.kafka} did not take the command: see whether it runs.")
    return id_


def client_options(running: Running, desk: Desk) -> dict[str, Any]:
    """Return what every client that talks with a service's brokers is told."""
    return admin_options(runtime_settings(running.kafka, running.database), desk.source) | {"log_level": 0}


def unanswered(desk: Desk, command: Command) -> NoAnswer:
    """Return what is said where no answer has come."""
    subject = desk.about.removesuffix("_id")
    about = command.data[desk.about]
    return NoAnswer(
        f"{command.type} of {subject} {about} was published, and the {desk.service} service has not answered within "
        f"{ANSWER_WITHIN_S:.0f} s: it will when it runs, unless the command is a dead letter "
        f"(`sluice dlq ls {desk.topic}`). {command.again}"
    )
