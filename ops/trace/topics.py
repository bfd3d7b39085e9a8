"""What only the topics know: commands, refusals, banks' words, dead letters; read around known moments and no more."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import orjson
from confluent_kafka import Consumer, TopicPartition

from local.settings import runtime_settings
from ops.dlq.letters import logs_of, read_spans, text_of
from ops.trace.story import Line
from schemas.envelope import short_type
from schemas.topics import DEAD_LETTER_SUFFIX, TOPICS
from services.runtime.kafka import admin_options
from services.runtime.log import mask, mask_text
from services.runtime.publisher import murmur2
from services.runtime.topics import Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from confluent_kafka import Message

    from ops.running import Running
    from ops.trace.story import Look, What
    from services.runtime.settings import RuntimeSettings
    from services.runtime.topics import Log

_BEFORE: Final = timedelta(minutes=10)
"""A command may have waited before it was decided."""
_AFTER: Final = timedelta(minutes=1)
MOST_RECORDS: Final = 20_000
"""So many records of a topic are read around each moment, the latest of each partition."""
MOST_LINES: Final = 1_000
"""So many records are told of at most."""
_MOST_SPANS: Final = 6
_ASKED_WITHIN_S: Final = 10.0
_KEPT: Final = {topic.name: topic.retention for topic in TOPICS}


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found in topics, and what was not looked at or is gone."""

    lines: list[Line]
    values: list[dict[str, Any]]
    notes: list[str]


async def look(running: Running, looks: Sequence[Look]) -> tuple[RuntimeSettings, dict[Place, Log]]:
    """Return the settings to read with, and the logs of every topic that is looked at."""
    settings = runtime_settings(running.kafka, running.database)
    return settings, await logs_of(settings, sorted({one.topic for one in looks}))


def read(running: Running, settings: RuntimeSettings, logs: Mapping[Place, Log], looks: Sequence[Look]) -> Seen:
    """Read what is looked for; blocks. Moments mean nothing to the brokers where the services' clock is another."""
    notes: list[str] = []
    times = {place: _joined(asked) for place, asked in _places(logs, looks).items() if logs[place].end}
    if running.clock == "real":
        spans = _offsets(settings, logs, {place: _few(place, one, notes) for place, one in times.items()}, notes)
    else:
        spans = {place: [(logs[place].start, logs[place].end)] for place in times}
    shares = Counter(place.topic for place in times)
    cut = {
        place: [_cut(place, span, MOST_RECORDS // shares[place.topic], notes) for span in of_place if span[0] < span[1]]
        for place, of_place in spans.items()
    }
    lines: list[Line] = []
    values: list[dict[str, Any]] = []
    for place, message in (found for one in _rounds(cut) for found in read_spans(settings, one)):
        record = Record.of(place, message)
        if any(_is_wanted(look_, record) for look_ in looks):
            if len(lines) == MOST_LINES:
                # Such as of a word that stands in all of them.
                notes.append(f"{MOST_LINES:,} records alone: more name it.")
                break
            lines.append(record.as_line(is_real=running.clock == "real"))
            values.append(record.body)
    return Seen(lines, values, notes)


def partition_of(key: str, count: int) -> int:
    """Return the partition that a key's messages stand in."""
    return murmur2(key.encode()) % count


_Times: TypeAlias = tuple[datetime, datetime]
_T = TypeVar("_T")


def _places(logs: Mapping[Place, Log], looks: Iterable[Look]) -> dict[Place, set[_Times]]:
    """Return between which times each partition is read."""
    counts: defaultdict[str, int] = defaultdict(int)
    for place in logs:
        counts[place.topic] += 1
    times: defaultdict[Place, set[_Times]] = defaultdict(set)
    now = datetime.now(UTC)
    for one in looks:
        numbers = range(counts[one.topic]) if one.key is None else [partition_of(one.key, counts[one.topic])]
        for number in numbers:
            times[Place(one.topic, number)] |= {(moment - _BEFORE, moment + _AFTER) for moment in one.moments}
            times[Place(one.topic, number)] |= {(one.since, now + _AFTER)} if one.since is not None else set()
    return times


def _few(place: Place, times: list[_Times], notes: list[str]) -> list[_Times]:
    if len(times) <= _MOST_SPANS:
        return times
    half = _MOST_SPANS // 2
    notes.append(f"{place.topic}: looked around the first and the last {half} moments alone.")
    return [*times[:half], *times[-half:]]


def _offsets(
    settings: RuntimeSettings, logs: Mapping[Place, Log], times: Mapping[Place, list[_Times]], notes: list[str]
) -> dict[Place, list[tuple[int, int]]]:
    """Return the offsets between which each partition was written at its times."""
    found: dict[Place, list[tuple[int, int]]] = {place: [] for place in times}
    options = {**admin_options(settings, "sluice.trace"), "group.id": "unused", "log_level": 0}
    consumer = Consumer(options)
    try:
        for one in _rounds(times):
            firsts = _asked(consumer, settings, logs, {place: span[0] for place, span in one.items()})
            lasts = _asked(consumer, settings, logs, {place: span[1] for place, span in one.items()})
            for place in one:
                found[place].append((firsts[place], lasts[place]))
    finally:
        consumer.close()
    for place, spans in found.items():
        if spans and 0 < logs[place].start >= spans[0][0]:
            start, where = logs[place].start, f"{place.topic}/{place.partition}"
            kept = _KEPT.get(place.topic)
            notes.append(
                f"{where} has nothing before offset {start:,} any more."
                if kept is None
                else f"{where} has nothing before offset {start:,} any more ({place.topic} is kept {kept.days} days)."
            )
    return found


def _asked(
    consumer: Consumer, settings: RuntimeSettings, logs: Mapping[Place, Log], moments: Mapping[Place, datetime]
) -> dict[Place, int]:
    """Return of each partition the offset of the first record that was written at a moment or later."""
    prefix = settings.topic_prefix
    asked = [
        TopicPartition(prefix + place.topic, place.partition, max(0, int(moment.timestamp() * 1000)))
        for place, moment in moments.items()
    ]
    found: dict[Place, int] = {}
    for one in consumer.offsets_for_times(asked, _ASKED_WITHIN_S):
        place = Place(one.topic.removeprefix(prefix), one.partition)
        log = logs[place]
        found[place] = log.end if one.offset < 0 else min(max(one.offset, log.start), log.end)
    return found


def _joined(times: Iterable[_Times]) -> list[_Times]:
    """Return times of which none overlap."""
    joined: list[_Times] = []
    for first, last in sorted(times):
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined


def _cut(place: Place, span: tuple[int, int], most: int, notes: list[str]) -> tuple[int, int]:
    first, last = span
    if last - first > most:
        where = f"{place.topic}/{place.partition}"
        notes.append(f"{where}: the last {most:,} of {last - first:,} records were looked at.")
    return max(first, last - most), last


def _rounds(spans: Mapping[Place, list[_T]]) -> list[dict[Place, _T]]:
    """Return spans so that each round has one of each partition."""
    count = max((len(of_place) for of_place in spans.values()), default=0)
    return [
        {place: of_place[number] for place, of_place in spans.items() if number < len(of_place)}
        for number in range(count)
    ]


# --- Records ---


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it was read, in whichever mode its envelope is written."""

    place: Place
    offset: int
    at: datetime
    key: str | None
    headers: Mapping[str, str]
    value: bytes
    envelope: Mapping[str, Any]
    body: dict[str, Any]

    @classmethod
    def of(cls, place: Place, message: Message) -> Record:
        """Read a record; what is no message is kept as it is."""
        raw: Any = message.headers() or ()
        headers = {name: text_of(value or b"") for name, value in raw}
        value: Any = message.value() or b""
        key: Any = message.key()
        said = _object(value)
        if "cloudevents" in headers.get("content-type", ""):
            envelope, data = said, said.get("data")
            body = data if isinstance(data, dict) else {}
        else:
            envelope = {name.removeprefix("ce_"): text for name, text in headers.items() if name.startswith("ce_")}
            body = said
        at = datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC)
        name = None if key is None else text_of(key)
        return cls(place, message.offset() or 0, at, name, headers, value, envelope, body)

    @property
    def type(self) -> str:
        """The short name of its type, or what stands in its place."""
        return short_type(str(self.envelope.get("type") or "")) or "no type"

    @property
    def id(self) -> str:
        """Its `ce_id`, or nothing."""
        return str(self.envelope.get("id") or "")

    @property
    def correlation(self) -> str | None:
        """What it belongs to: its correlation, or where it has none it begins one by its own id."""
        return str(self.envelope.get("correlationid") or "") or self.id or None

    def as_line(self, *, is_real: bool) -> Line:
        """Return it as a line; by the brokers' time where that is the services', else by its own."""
        is_letter = self.place.topic.endswith(DEAD_LETTER_SUFFIX)
        own_time = self.headers.get("dlq-time") if is_letter else self.envelope.get("time")
        at = self.at if is_real and not is_letter else _moment(own_time, self.at)
        body: Any = mask(None, "", self.body)
        reason, rule = self.body.get("reason"), self.body.get("rule")
        # What insight suspects somebody of is the name of a rule.
        code = reason.get("code") if isinstance(reason, dict) else rule if isinstance(rule, str) else None
        detail = (
            f"from {self.envelope.get('source') or 'nobody'}, {self.place.topic}/{self.place.partition}/{self.offset}"
        )
        if is_letter:
            code, said = self.headers.get("dlq-reason"), mask_text(self.headers.get("dlq-detail", ""))
            detail = f"{said} ({self.place.topic}/{self.place.partition}/{self.offset})"
        what = _what(self.place.topic, self.type)
        return Line(
            at=at,
            service=self.headers.get("dlq-service", "") if is_letter else _service(self.place.topic, self.envelope),
            what=what,
            name=self.type,
            about=_about(self.body) or self.id,
            why=code,
            amount_minor=_number(self.body.get("amount_minor")),
            currency=self.body.get("currency") if isinstance(self.body.get("currency"), str) else None,
            detail=detail,
            correlation=self.correlation,
            event_id=self.id,
            # An event is known by its id alone, to the database, too.
            source=str(self.envelope.get("source") or "") if what in {"command", "answer"} else None,
            said=body,
        )


def _object(value: bytes) -> dict[str, Any]:
    try:
        said = orjson.loads(value)
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}


def _moment(text: Any, otherwise: datetime) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return otherwise
    return moment if moment.tzinfo else otherwise


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) else None


IDS: Final = ("transfer_id", "refund_id", "case_id", "window_id", "clearance_id", "notification_id", "customer_id")


def _about(body: Mapping[str, Any]) -> str | None:
    return next((str(body[name]) for name in IDS if isinstance(body.get(name), str)), None)


def _service(topic: str, envelope: Mapping[str, Any]) -> str:
    """Return who wrote it, where that is one of ours; else the topic's own service."""
    source = str(envelope.get("source") or "")
    return source.removeprefix("sluice/") if source.startswith("sluice/") else topic.partition(".")[0]


def _what(topic: str, type_: str) -> What:
    if topic.endswith(DEAD_LETTER_SUFFIX):
        return "dead letter"
    if topic == "rail.instructions":
        return "instruction"
    if topic == "rail.results":
        return "answer"
    return "command" if topic.endswith(".commands") or type_ == "customer.erase" else "event"


def _is_wanted(look_: Look, record: Record) -> bool:
    if look_.topic != record.place.topic or (look_.types and not record.type.startswith(look_.types)):
        return False
    names = {record.id, str(record.envelope.get("correlationid") or "")}
    return not look_.needles.isdisjoint(names) or says(record.value, look_.needles)


def says(value: bytes, ids: frozenset[str]) -> bool:
    """Tell whether one of the ids stands in a record whole: one customer's may be the beginning of another's."""
    return any(id_.encode() in value for id_ in ids) and _whole(ids).search(value) is not None


@lru_cache(maxsize=1_024)
def _whole(ids: frozenset[str]) -> re.Pattern[bytes]:
    said = b"|".join(re.escape(id_.encode()) for id_ in sorted(ids))
    return re.compile(rb"(?<![\w-])(?:" + said + rb")(?![\w-])")
