"""`sluice dead-letters`: the newest records that no handler could take, and why; personal data masked as in logs."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
import typer
from confluent_kafka import Consumer, KafkaError, TopicPartition
from rich.markup import escape
from rich.table import Table

from local.settings import runtime_settings
from ops.brokers import NoAnswer, asking
from ops.console import Json, console, print_json
from ops.errors import UserError
from ops.moments import moment_text
from ops.running import find_running
from schemas.topics import DEAD_LETTER_SUFFIX, TOPICS
from services.runtime.kafka import admin_options
from services.runtime.log import mask, mask_text
from services.runtime.topics import Topics, places_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from confluent_kafka import Message

    from ops.running import Running
    from services.runtime.settings import RuntimeSettings
    from services.runtime.topics import Log, Place

_READ_WITHIN_S: Final = 30.0
_CHUNK: Final = 500
_NAMES: Final = tuple(topic.name for topic in TOPICS if topic.name.endswith(DEAD_LETTER_SUFFIX))


class NoSuchTopic(UserError):
    """There is no topic of that name; the text says which there are."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter and where it stands; `of` is where the record stood, `value` masked JSON or how long it is."""

    topic: str
    partition: int
    offset: int
    at: datetime
    reason: str
    detail: str
    service: str
    of: str
    key: str | None
    value: Any


def show(
    topic: Annotated[str | None, typer.Argument(help="Such as transfer.commands; every topic without it.")] = None,
    limit: Annotated[int, typer.Option(help="The newest only.", min=1, max=1_000)] = 20,
    *,
    values: Annotated[bool, typer.Option("--values", help="Show what was sent too, personal data masked.")] = False,
    as_json: Json = False,
) -> None:
    """Print the newest dead letters, newest first."""
    letters, count = _read_newest(find_running(), _names_of(topic), limit)
    if as_json:
        print_json([_shown(letter, values=values) for letter in letters])
    else:
        _print(letters, count, values=values)


def _names_of(topic: str | None) -> Sequence[str]:
    if topic is None:
        return _NAMES
    name = topic.removesuffix(DEAD_LETTER_SUFFIX) + DEAD_LETTER_SUFFIX
    if name not in _NAMES:
        there_are = ", ".join(each.removesuffix(DEAD_LETTER_SUFFIX) for each in _NAMES)
        raise NoSuchTopic(f"There is no topic {topic!r}; there is {there_are}.")
    return [name]


# --- Reading ---


def _read_newest(running: Running, names: Sequence[str], limit: int) -> tuple[list[Letter], int]:
    """Return at most `limit` dead letters, newest first, and how many there are."""
    settings = runtime_settings(running.kafka, running.database)
    with asking(running):
        logs = asyncio.run(_logs(settings, names))
        letters = [_letter(message, running.topic_prefix) for message in _last_of_each(settings, logs, limit)]
    letters.sort(key=lambda letter: (letter.at, letter.offset), reverse=True)
    return letters[:limit], sum(log.end - log.start for log in logs.values())


async def _logs(settings: RuntimeSettings, names: Sequence[str]) -> dict[Place, Log]:
    topics = Topics(settings, "sluice.dead_letters")
    return await topics.logs(places_of(await topics.partition_counts(names)))


def _last_of_each(settings: RuntimeSettings, logs: Mapping[Place, Log], limit: int) -> Iterator[Message]:
    """Yield the last `limit` records of each partition, in any order."""
    waiting = {
        (settings.topic_prefix + place.topic, place.partition): max(log.start, log.end - limit)
        for place, log in logs.items()
        if log.end > log.start
    }
    ends = {(settings.topic_prefix + place.topic, place.partition): log.end for place, log in logs.items()}
    # Without a group: nothing is committed, and nobody is moved.
    own = {"group.id": "unused", "enable.auto.commit": False, "enable.partition.eof": True, "log_level": 0}
    consumer = Consumer({**admin_options(settings, "sluice.dead_letters"), **own})
    try:
        consumer.assign([TopicPartition(*place, offset) for place, offset in waiting.items()])
        deadline = time.monotonic() + _READ_WITHIN_S
        while waiting:
            if time.monotonic() > deadline:
                raise NoAnswer(f"Kafka did not give the dead letters within {_READ_WITHIN_S:g} s.")
            for message in consumer.consume(_CHUNK, 0.2):
                place, offset = (message.topic() or "", message.partition() or 0), message.offset() or 0
                if message.error() is None and offset < ends[place]:
                    yield message
                if _is_at_end(message) or offset + 1 >= ends[place]:
                    waiting.pop(place, None)
    finally:
        consumer.close()


def _is_at_end(message: Message) -> bool:
    error = message.error()
    return error is not None and error.code() == KafkaError._PARTITION_EOF  # noqa: SLF001 - the client's own name


def _letter(message: Message, prefix: str) -> Letter:
    sent: dict[str, Any] = dict(message.headers() or ())
    headers = {name: _text(value or b"") for name, value in sent.items()}
    key = message.key()
    return Letter(
        topic=(message.topic() or "").removeprefix(prefix),
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        at=_moment(headers.get("dlq-time", ""), message.timestamp()[1]),
        reason=headers.get("dlq-reason", ""),
        detail=mask_text(headers.get("dlq-detail", "")),
        service=headers.get("dlq-service", ""),
        of="/".join(headers.get(f"dlq-{name}", "?") for name in ("topic", "partition", "offset")),
        key=None if key is None else mask_text(_text(key)),
        value=_masked(message.value()),
    )


def _moment(text: str, appended_ms: int) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return datetime.fromtimestamp(appended_ms / 1000, UTC)


def _text(raw: str | bytes) -> str:
    return raw if isinstance(raw, str) else raw.decode("utf-8", "backslashreplace")


def _masked(value: str | bytes | None) -> Any:
    """Return a JSON value without personal data; of what is no JSON nobody knows where these are."""
    try:
        return mask(None, "", {"value": orjson.loads(value or b"null")})["value"]
    except orjson.JSONDecodeError:
        return f"{len(value or b'')} bytes that are no JSON"


# --- Words ---


def _shown(letter: Letter, *, values: bool) -> dict[str, Any]:
    said = asdict(letter)
    return said if values else {name: value for name, value in said.items() if name != "value"}


def _print(letters: Sequence[Letter], count: int, *, values: bool) -> None:
    out = console()
    if not letters:
        out.print("There are no dead letters.")
        return
    columns = ("when", "topic", "partition", "offset", "reason", "key", "detail", *(("value",) if values else ()))
    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    for letter in letters:
        place = (letter.topic, str(letter.partition), str(letter.offset))
        texts = [moment_text(letter.at), *place, letter.reason, letter.key or "", letter.detail]
        texts += [orjson.dumps(letter.value).decode()] if values else []
        table.add_row(*(escape(text) for text in texts))
    out.print(table)
    if count > len(letters):
        out.print(f"The newest {len(letters):,} of {count:,}; --limit for more.")
