"""CloudEvents 1.0 over Kafka: reading both content modes, writing the binary one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

import orjson
from pydantic import BaseModel, ValidationError, create_model
from pydantic_core import from_json

from schemas.fields import NO_NUL, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic_core import ErrorDetails

LARGEST_VALUE: Final = 256 * 1024
"""The most a message's value may weigh, in bytes."""

_LONGEST_ATTRIBUTE: Final = 256
_LONGEST_DETAIL: Final = 500
_LONGEST_ECHO: Final = 60
_MOST_FINDINGS: Final = 5
_BUSHY: Final = 16_000
"""More objects, arrays and members than any message needs: a full batch has some 12,000."""
_PREFIX: Final = "sluice."
_VERSION: Final = ".v1"
_REQUIRED_HEADERS: Final = ("ce_specversion", "ce_id", "ce_source", "ce_type")
_REQUIRED_MEMBERS: Final = ("specversion", "id", "source", "type")
_MEMBERS: Final = (*_REQUIRED_MEMBERS, "datacontenttype", "subject", "time", "correlationid", "traceparent")
_PERSONAL: Final = frozenset(
    {"name", "payee_name", "phone", "id_number", "email", "payer", "payee", "reference", "evidence", "by"}
    | {"applicant", "documents", "payout", "reviewer", "note"}
)
"""The fields whose values no dead letter's detail repeats."""
_SAFE: Final = re.compile(rf"[A-Za-z0-9 _.:+-]{{0,{_LONGEST_ECHO}}}")
_TRACE: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[!-~]*)?")
"""A `traceparent` of any version; a later one may have more."""
_KINDS: Final[Mapping[type, str]] = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number with a fraction",
    list: "an array",
    dict: "an object",
}

Headers = list[tuple[str, bytes]]
Models: TypeAlias = "Mapping[str, type[BaseModel] | None]"


class Envelope(NamedTuple):
    """A message that was read; `type` is the short name: `transfer.request` of `sluice.transfer.request.v1`."""

    type: str
    id: str
    source: str
    subject: str | None
    time: datetime | None
    correlation_id: str | None
    traceparent: str | None
    data: BaseModel


@dataclass(frozen=True, slots=True)
class Malformed:
    """A record that is no message of its topic; `detail` says in one line what to mend, nothing personal in it."""

    reason: Literal["malformed", "unknown_type"]
    detail: str


PASSED_OVER: Final = Malformed("unknown_type", "")
"""What a record is whose type its reader knows and has no use for: it is not looked into."""


class _Unreadable(Exception):
    """The record cannot be read; the text is the detail."""


def decode(headers: Sequence[tuple[str, bytes | None]], value: bytes | None, models: Models) -> Envelope | Malformed:
    """Read a record of a topic whose types are `models`; never raises, whatever the bytes.

    A type without a model is known and not read: the answer is PASSED_OVER itself.
    Of a header that occurs twice, the last counts, as Kafka's own clients have it. A record without a content
    type is read as JSON.
    """
    try:
        if value is None:
            raise _Unreadable("the value is null; this topic's messages have a JSON object as value")
        if len(value) > LARGEST_VALUE:
            raise _Unreadable(f"the value has {len(value)} bytes; at most {LARGEST_VALUE} are allowed")
        attributes = dict(headers)
        content_type = attributes.get("content-type")
        if content_type and not _is_binary_mode(content_type):
            return _decode_structured(attributes, value, models)
        return _decode_binary(attributes, value, models)
    except _Unreadable as error:
        return Malformed("malformed", _one_line(str(error)))


def _is_binary_mode(content_type: bytes) -> bool:
    if content_type == b"application/json":
        return True
    media_type = content_type.partition(b";")[0].strip().lower()
    if media_type not in {b"application/json", b"application/cloudevents+json"}:
        raise _Unreadable("content-type must be application/json or application/cloudevents+json")
    return media_type == b"application/json"


def _decode_binary(attributes: Mapping[str, bytes | None], value: bytes, models: Models) -> Envelope | Malformed:
    for name in _REQUIRED_HEADERS:
        if not attributes.get(name):
            raise _missing([name for name in _REQUIRED_HEADERS if not attributes.get(name)])
    if attributes["ce_specversion"] != b"1.0":
        raise _Unreadable("ce_specversion must be 1.0")
    full_type = _header(attributes, "ce_type") or ""
    short = short_type(full_type)
    model = models.get(short)
    if model is None:
        return PASSED_OVER if short in models else _unknown(full_type, models)
    time = _header(attributes, "ce_time")
    return Envelope(
        short,
        _header(attributes, "ce_id") or "",
        _header(attributes, "ce_source") or "",
        _header(attributes, "ce_subject"),
        None if time is None else _time(time, "ce_time"),
        _header(attributes, "ce_correlationid"),
        _trace_of(attributes),
        _validate(model, value),
    )


def _decode_structured(attributes: Mapping[str, bytes | None], value: bytes, models: Models) -> Envelope | Malformed:
    event = _json_object(value)
    members = {name: _member(event, name) for name in _MEMBERS}
    missing = [name for name in _REQUIRED_MEMBERS if not members[name]]
    if missing:
        raise _missing(missing)
    if members["specversion"] != "1.0":
        raise _Unreadable("specversion must be 1.0")
    if members["datacontenttype"] and not _is_binary_mode(members["datacontenttype"].encode()):
        raise _Unreadable("datacontenttype must be application/json")
    full_type = members["type"] or ""
    short = short_type(full_type)
    model = models.get(short)
    if model is None:
        return PASSED_OVER if short in models else _unknown(full_type, models)
    if not isinstance(event.get("data"), dict):
        raise _Unreadable("data is missing or no JSON object")
    return Envelope(
        short,
        members["id"] or "",
        members["source"] or "",
        members["subject"],
        None if members["time"] is None else _time(members["time"], "time"),
        members["correlationid"],
        _trace(members["traceparent"]) or _trace_of(attributes),
        _data_of(_validate(_event_of(model), value)),
    )


def _json_object(value: bytes) -> dict[str, Any]:
    try:
        event = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise _Unreadable(f"the value is not JSON: {error.msg} at character {error.pos}") from None
    if not isinstance(event, dict):
        raise _Unreadable("the value is no JSON object")
    return event


@lru_cache(maxsize=256)
def _event_of(model: type[BaseModel]) -> type[BaseModel]:
    """Return the model of a structured event: both modes go through the same strict JSON rules."""
    return create_model(f"{model.__name__}Event", data=(model, ...))


def _data_of(event: BaseModel) -> BaseModel:
    data: BaseModel = event.data  # type: ignore[attr-defined]
    return data


@lru_cache(maxsize=1024)
def short_type(full_type: str) -> str:
    """Return `transfer.request` for `sluice.transfer.request.v1`, nothing for what is no type of version 1."""
    if full_type.startswith(_PREFIX) and full_type.endswith(_VERSION):
        return full_type[len(_PREFIX) : -len(_VERSION)]
    return ""


def _unknown(full_type: str, models: Models) -> Malformed:
    known = ", ".join(sorted(models))
    shown = ascii(full_type[:_LONGEST_ECHO])
    detail = f"ce_type {shown} is unknown here; it must be {_PREFIX}<name>{_VERSION} with a name of: {known}"
    return Malformed("unknown_type", _one_line(detail))


def _missing(names: Sequence[str]) -> _Unreadable:
    return _Unreadable(f"no envelope: {', '.join(names)} missing; every record is a CloudEvent 1.0")


def _header(attributes: Mapping[str, bytes | None], name: str) -> str | None:
    raw = attributes.get(name)
    if not raw:
        return None
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise _Unreadable(f"the header {name} is not UTF-8") from None
    return _checked(text, name)


def _member(event: Mapping[str, Any], name: str) -> str | None:
    value = event.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise _Unreadable(f"{name} must be a string, and is {_kind(value)}")
    return _checked(value, name)


def _checked(text: str, name: str) -> str:
    if len(text) > _LONGEST_ATTRIBUTE:
        raise _Unreadable(f"{name} has {len(text)} characters; at most {_LONGEST_ATTRIBUTE} are allowed")
    if "\x00" in text:
        raise _Unreadable(f"{name} contains the NUL character")
    return text


def _trace_of(attributes: Mapping[str, bytes | None]) -> str | None:
    raw = attributes.get("traceparent")
    return _trace(raw.decode("ascii", "replace")) if raw else None


def _trace(text: str | None) -> str | None:
    # A broken trace must not stop money: it is dropped, as W3C Trace Context has it.
    if not text or len(text) > _LONGEST_ATTRIBUTE:
        return None
    return text if _TRACE.fullmatch(text) else None


def _time(text: str, name: str) -> datetime:
    try:
        return parse_time(text)
    except ValueError as error:
        raise _Unreadable(f"{name}: {error}") from None


# --- What is wrong with a body ---


def _validate(model: type[BaseModel], value: bytes) -> BaseModel:
    try:
        if len(value) > _BUSHY and _is_bushy(value):
            _rehearse(model, value)
        return model.model_validate_json(value)
    except ValidationError as error:
        raise _Unreadable(_describe(error)) from None


def _is_bushy(value: bytes) -> bool:
    return sum(value.count(mark) for mark in (b"{", b"[", b",")) > _BUSHY


def _rehearse(model: type[BaseModel], value: bytes) -> None:
    """Raise what is wrong with a value at less cost; what is right passes, and some of what is wrong.

    Of text, each finding holds a copy of the object that it is about, as often as a field is missing; here it is the
    object itself. Texts may stand for numbers here, and nothing is stricter.
    """
    try:
        body = from_json(value)
    except ValueError:
        return
    model.model_validate(body, strict=False)


def _describe(error: ValidationError) -> str:
    """Say which fields are wrong, why, and what they are instead unless that is personal."""
    findings = error.errors(include_url=False, include_context=False)
    sentences = [_finding(finding) for finding in findings[:_MOST_FINDINGS]]
    if len(findings) > _MOST_FINDINGS:
        sentences.append(f"and {len(findings) - _MOST_FINDINGS} more")
    return "; ".join(sentences)


def _finding(finding: ErrorDetails) -> str:
    where = ".".join(str(part) for part in finding["loc"]) or "the value"
    if finding["type"] == "missing":
        return f"{where}: is missing"
    if finding["type"] == "json_invalid":
        return f"{where}: {finding['msg']}"
    expected = finding["msg"].removeprefix("Value error, ")
    if finding["type"] == "string_pattern_mismatch" and NO_NUL in expected:
        expected = "must not contain the NUL character"
    personal = not _PERSONAL.isdisjoint(finding["loc"])
    found = "" if personal else f" (found {_shown(finding['input'])})"
    return f"{where}: {expected}{found}"


def _shown(value: Any) -> str:
    if isinstance(value, str) and _SAFE.fullmatch(value):
        return repr(value)
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**64):
        return str(value).lower()
    return _kind(value)


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return f"a string of {len(value)} characters"
    return _KINDS.get(type(value), "a value of another type")


def _one_line(text: str) -> str:
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= _LONGEST_DETAIL else f"{line[: _LONGEST_DETAIL - 1]}…"


# --- Writing ---


def encode_headers(
    type: str,  # noqa: A002 - the envelope's word
    *,
    id: str,  # noqa: A002 - the envelope's word
    source: str,
    time: str,
    subject: str,
    correlation_id: str | None = None,
    traceparent: str | None = None,
) -> Headers:
    """Return the headers of a message in binary mode; `type` is the short name, `time` RFC 3339 in UTC."""
    headers = [
        *_fixed_headers(type, source),
        ("ce_id", id.encode()),
        ("ce_time", time.encode()),
        ("ce_subject", subject.encode()),
    ]
    if correlation_id is not None:
        headers.append(("ce_correlationid", correlation_id.encode()))
    if traceparent is not None:
        headers.append(("traceparent", traceparent.encode()))
    return headers


@lru_cache(maxsize=256)
def _fixed_headers(type_: str, source: str) -> tuple[tuple[str, bytes], ...]:
    return (
        ("ce_specversion", b"1.0"),
        ("ce_type", f"{_PREFIX}{type_}{_VERSION}".encode()),
        ("ce_source", source.encode()),
        ("content-type", b"application/json"),
    )
