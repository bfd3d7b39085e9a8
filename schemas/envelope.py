"""CloudEvents 1.0 over Kafka: reading both content modes, writing the binary one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson
from pydantic import BaseModel, ValidationError, create_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LARGEST_VALUE: Final = 256 * 1024
"""The most a message's value may weigh, in bytes."""

_LONGEST_ID: Final = 256
_LONGEST_DETAIL: Final = 500
_PREFIX: Final = "sluice."
_VERSION: Final = ".v1"
_STRUCTURED: Final = "application/cloudevents+json"

Headers = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Envelope:
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
    """A record that is no message of its topic; `detail` says in one line what to mend, and echoes no values."""

    reason: Literal["malformed", "unknown_type"]
    detail: str


class _Unreadable(Exception):
    """The record cannot be read; the text is the detail."""


def decode(
    headers: Sequence[tuple[str, bytes | None]], value: bytes | None, models: Mapping[str, type[BaseModel]]
) -> Envelope | Malformed:
    """Read a record of a topic whose types are `models`; never raises, whatever the bytes."""
    try:
        if value is None:
            raise _Unreadable("the value is null; this topic's messages have a JSON object as value")
        if len(value) > LARGEST_VALUE:
            raise _Unreadable(f"the value has {len(value)} bytes; at most {LARGEST_VALUE} are allowed")
        attributes = dict(headers)
        content_type = _content_type(attributes.get("content-type"))
        if content_type == _STRUCTURED:
            return _decode_structured(value, models)
        if content_type is not None and content_type != "application/json":
            raise _Unreadable("content-type must be application/json or application/cloudevents+json")
        return _decode_binary(attributes, value, models)
    except _Unreadable as error:
        return Malformed("malformed", _one_line(str(error)))


def _decode_binary(
    attributes: Mapping[str, bytes | None], value: bytes, models: Mapping[str, type[BaseModel]]
) -> Envelope | Malformed:
    id_ = _attribute(attributes, "ce_id")
    source = _attribute(attributes, "ce_source")
    full_type = _attribute(attributes, "ce_type")
    if id_ is None or source is None or full_type is None:
        raise _missing([name for name in ("ce_id", "ce_source", "ce_type") if not attributes.get(name)])
    _check_version(_attribute(attributes, "ce_specversion"))
    short = short_type(full_type)
    model = models.get(short) if short else None
    if short is None or model is None:
        return _unknown(full_type, models)
    return Envelope(
        short,
        id_,
        source,
        _attribute(attributes, "ce_subject"),
        _time(_attribute(attributes, "ce_time")),
        _attribute(attributes, "ce_correlationid"),
        _attribute(attributes, "traceparent"),
        _validate(model, value),
    )


def _decode_structured(value: bytes, models: Mapping[str, type[BaseModel]]) -> Envelope | Malformed:
    try:
        event = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise _Unreadable(f"the value is not JSON: {error.msg} at byte {error.pos}") from None
    if not isinstance(event, dict):
        raise _Unreadable("the value is not a JSON object")
    id_, source, full_type = (_member(event, name) for name in ("id", "source", "type"))
    if id_ is None or source is None or full_type is None:
        raise _missing([name for name in ("id", "source", "type") if not event.get(name)])
    _check_version(_member(event, "specversion"))
    short = short_type(full_type)
    model = models.get(short) if short else None
    if short is None or model is None:
        return _unknown(full_type, models)
    if not isinstance(event.get("data"), dict):
        raise _Unreadable("data is missing or not a JSON object")
    return Envelope(
        short,
        id_,
        source,
        _member(event, "subject"),
        _time(_member(event, "time")),
        _member(event, "correlationid"),
        _member(event, "traceparent"),
        _data_of(_validate(_event_of(model), value)),
    )


@lru_cache(maxsize=256)
def _event_of(model: type[BaseModel]) -> type[BaseModel]:
    """Return the model of a structured event: both modes go through the same strict JSON rules."""
    return create_model(f"{model.__name__}Event", __base__=BaseModel, data=(model, ...))


def _data_of(event: BaseModel) -> BaseModel:
    data: BaseModel = event.data  # type: ignore[attr-defined]
    return data


def _validate(model: type[BaseModel], value: bytes) -> BaseModel:
    try:
        return model.model_validate_json(value)
    except ValidationError as error:
        raise _Unreadable(_describe(error)) from None
    except (ValueError, RecursionError):
        raise _Unreadable("the value is not JSON that can be read") from None


def _describe(error: ValidationError) -> str:
    """Say which fields are wrong and why, without what they contain."""
    findings = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(
        f"{'.'.join(str(part) for part in finding['loc']) or 'the value'}: {finding['msg']}" for finding in findings[:5]
    )


@lru_cache(maxsize=1024)
def short_type(full_type: str) -> str | None:
    """Return `transfer.request` for `sluice.transfer.request.v1`, None for what is not a type of version 1."""
    if full_type.startswith(_PREFIX) and full_type.endswith(_VERSION):
        return full_type[len(_PREFIX) : -len(_VERSION)]
    return None


def _unknown(full_type: str, models: Mapping[str, type[BaseModel]]) -> Malformed:
    known = ", ".join(f"{_PREFIX}{name}{_VERSION}" for name in sorted(models))
    return Malformed("unknown_type", _one_line(f"ce_type {full_type[:60]!r} is not one of this topic's: {known}"))


def _missing(names: Sequence[str]) -> _Unreadable:
    return _Unreadable(f"no CloudEvents envelope: {', '.join(names)} missing")


def _check_version(version: str | None) -> None:
    if version != "1.0":
        raise _Unreadable("ce_specversion must be 1.0")


def _attribute(attributes: Mapping[str, bytes | None], name: str) -> str | None:
    raw = attributes.get(name)
    if not raw:
        return None
    try:
        return _checked(raw.decode(), name)
    except UnicodeDecodeError:
        raise _Unreadable(f"the header {name} is not UTF-8") from None


def _member(event: Mapping[str, Any], name: str) -> str | None:
    value = event.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise _Unreadable(f"{name} is not a string")
    return _checked(value, name)


def _checked(text: str, name: str) -> str:
    if len(text) > _LONGEST_ID:
        raise _Unreadable(f"{name} is longer than {_LONGEST_ID} characters")
    if "\x00" in text:
        raise _Unreadable(f"{name} contains the NUL character")
    return text


def _content_type(raw: bytes | None) -> str | None:
    return None if not raw else _media_type(raw)


@lru_cache(maxsize=256)
def _media_type(raw: bytes) -> str:
    return raw.decode("latin-1").partition(";")[0].strip().lower()


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _Unreadable("ce_time is not an RFC 3339 time") from None
    if moment.tzinfo is None:
        raise _Unreadable("ce_time has no offset")
    return moment


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST_DETAIL]


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
