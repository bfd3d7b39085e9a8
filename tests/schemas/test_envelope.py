"""Reading a record: both content modes, and every kind of bytes that is no message."""

from __future__ import annotations

import json
import tracemalloc
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.envelope import LARGEST_VALUE, Envelope, Malformed, decode, encode_headers
from schemas.registry import TOPICS
from schemas.transfer import TransferRequest

COMMANDS = TOPICS["transfer.commands"]
ID = "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f506"
REQUEST: dict[str, Any] = {
    "transfer_id": ID,
    "kind": "p2p",
    "payer": "wallet:alice",
    "payee": "wallet:bob",
    "amount_minor": 1250,
    "currency": "CNY",
}
HEADERS: dict[str, bytes | None] = {
    "ce_specversion": b"1.0",
    "ce_id": b"id-1",
    "ce_source": b"shop",
    "ce_type": b"sluice.transfer.request.v1",
    "content-type": b"application/json",
}
EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "id-1",
    "source": "shop",
    "type": "sluice.transfer.request.v1",
    "data": REQUEST,
}
STRUCTURED: list[tuple[str, bytes | None]] = [("content-type", b"application/cloudevents+json")]
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def _headers(**changes: bytes | None) -> list[tuple[str, bytes | None]]:
    return list({**HEADERS, **{name.replace("__", "-"): value for name, value in changes.items()}}.items())


def _body(**changes: Any) -> bytes:
    return json.dumps({**REQUEST, **changes}).encode()


def _event(**changes: Any) -> bytes:
    return json.dumps({**EVENT, **changes}).encode()


def _read(headers: list[tuple[str, bytes | None]], value: bytes | None, models: Any = COMMANDS) -> Envelope:
    found = decode(headers, value, models)
    assert isinstance(found, Envelope), found
    return found


def _refused(headers: list[tuple[str, bytes | None]], value: bytes | None, models: Any = COMMANDS) -> Malformed:
    found = decode(headers, value, models)
    assert isinstance(found, Malformed), found
    assert found.detail
    assert found.detail.isprintable()
    assert len(found.detail) <= 500
    return found


# --- What is read ---


def test_binary_mode_is_read() -> None:
    found = _read(
        _headers(
            ce_time=b"2026-11-23T08:30:00+08:00",
            ce_subject=b"wallet:alice",
            ce_correlationid=b"order-7",
            traceparent=TRACE.encode(),
        ),
        _body(),
    )
    assert (found.type, found.id, found.source, found.subject) == ("transfer.request", "id-1", "shop", "wallet:alice")
    assert (found.correlation_id, found.traceparent) == ("order-7", TRACE)
    assert found.time == datetime(2026, 11, 23, 0, 30, tzinfo=UTC)
    assert found.data == TransferRequest.model_validate_json(_body())


def test_structured_mode_reads_the_same() -> None:
    attributes = {
        "time": "2026-11-23T08:30:00+08:00",
        "subject": "wallet:alice",
        "correlationid": "order-7",
        "traceparent": TRACE,
        "datacontenttype": "application/json; charset=utf-8",
    }
    binary = _headers(
        ce_time=b"2026-11-23T08:30:00+08:00",
        ce_subject=b"wallet:alice",
        ce_correlationid=b"order-7",
        traceparent=TRACE.encode(),
    )
    assert _read(STRUCTURED, _event(**attributes)) == _read(binary, _body())


def test_structured_mode_takes_the_trace_of_the_record_when_the_event_has_none() -> None:
    assert _read([*STRUCTURED, ("traceparent", TRACE.encode())], _event()).traceparent == TRACE


@pytest.mark.parametrize(
    "content_type", [b"application/json", b"Application/JSON ; charset=UTF-8", b"application/json;v=1", None, b""]
)
def test_content_types_of_binary_mode(content_type: bytes | None) -> None:
    assert _read(_headers(content__type=content_type), _body()).type == "transfer.request"


@pytest.mark.parametrize(
    "content_type", [b"application/cloudevents+json", b"APPLICATION/CloudEvents+JSON; charset=utf-8"]
)
def test_content_types_of_structured_mode(content_type: bytes) -> None:
    assert _read([("content-type", content_type)], _event()).type == "transfer.request"


def test_what_we_write_is_what_we_read() -> None:
    headers = encode_headers(
        "transfer.request",
        id="id-1",
        source="sluice/transfer",
        time="2026-11-23T08:30:00.000000Z",
        subject="wallet:alice",
        correlation_id="order-7",
        traceparent=TRACE,
    )
    found = _read(list(headers), _body())
    assert (found.type, found.id, found.source, found.subject) == (
        "transfer.request",
        "id-1",
        "sluice/transfer",
        "wallet:alice",
    )
    assert (found.time, found.correlation_id, found.traceparent) == (
        datetime(2026, 11, 23, 8, 30, tzinfo=UTC),
        "order-7",
        TRACE,
    )


def test_absent_attributes_are_not_written() -> None:
    written = encode_headers("transfer.sent", id="i", source="s", time="2026-11-23T08:30:00Z", subject="wallet:a")
    assert {name for name, _ in written} == {
        "ce_specversion", "ce_type", "ce_source", "ce_id", "ce_time", "ce_subject", "content-type",
    }  # fmt: skip


def test_of_a_header_that_occurs_twice_the_last_counts() -> None:
    assert _read([*_headers(), ("ce_id", b"id-2")], _body()).id == "id-2"


@pytest.mark.parametrize(
    "trace",
    [
        b"\xff",
        b"a\x00b",
        b"x" * 300,
        b"",
        None,
        TRACE.upper().encode(),
        TRACE.encode() + b"\r\nX: y",
        b"ff" + TRACE[2:].encode(),
        b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-" + b"0" * 16 + b"-01",
    ],
)
def test_a_broken_trace_stops_no_transfer_and_goes_no_further(trace: bytes | None) -> None:
    assert _read(_headers(traceparent=trace), _body()).traceparent is None
    assert _read(STRUCTURED, _event(traceparent=TRACE.upper())).traceparent is None


def test_unknown_fields_and_headers_are_ignored() -> None:
    assert _read(_headers(extra=b"\xff"), _body(surprise={"deep": [1.5]})).data == _read(_headers(), _body()).data


# --- What is malformed ---

ENVELOPES = [
    ([], ["no envelope", "ce_specversion", "ce_id", "ce_source", "ce_type"]),
    *[(_headers(**{name: None}), ["no envelope", name]) for name in HEADERS if name.startswith("ce_")],
    *[(_headers(**{name: b""}), ["no envelope", name]) for name in HEADERS if name.startswith("ce_")],
    (_headers(ce_specversion=b"0.3"), ["ce_specversion must be 1.0"]),
    (_headers(ce_specversion=b"\xff"), ["ce_specversion must be 1.0"]),
    (_headers(ce_id=b"x" * 257), ["ce_id", "257", "256"]),
    (_headers(ce_id=b"a\x00b"), ["ce_id", "NUL"]),
    (_headers(ce_id=b"\xff"), ["ce_id", "UTF-8"]),
    (_headers(ce_id=b"\xed\xa0\x80"), ["ce_id", "UTF-8"]),
    (_headers(ce_source=b"x" * 257), ["ce_source", "257", "256"]),
    (_headers(ce_source=b"a\x00b"), ["ce_source", "NUL"]),
    (_headers(ce_subject=b"\xff"), ["ce_subject", "UTF-8"]),
    (_headers(ce_correlationid=b"a\x00b"), ["ce_correlationid", "NUL"]),
    (_headers(ce_time=b"yesterday"), ["ce_time", "RFC 3339"]),
    (_headers(ce_time=b"2026-11-23"), ["ce_time", "RFC 3339"]),
    (_headers(ce_time=b"2026-11-23T08:30:00"), ["ce_time", "RFC 3339"]),
    (_headers(ce_time=b"0001-01-01T00:00:00+23:59"), ["ce_time", "1970"]),
    (_headers(content__type=b"text/plain"), ["content-type", "application/json"]),
    (_headers(content__type=b"application/jsonp"), ["content-type"]),
    (_headers(content__type=b"application/cloudevents-batch+json"), ["content-type"]),
    (_headers(content__type=b"application/cloudevents+avro"), ["content-type"]),
    (_headers(content__type=b"\xff\x00"), ["content-type"]),
]


@pytest.mark.parametrize(("headers", "words"), ENVELOPES)
def test_an_envelope_that_cannot_be_read(headers: list[tuple[str, bytes | None]], words: list[str]) -> None:
    found = _refused(headers, _body())
    assert found.reason == "malformed"
    assert [word for word in words if word not in found.detail] == []


EVENTS = [
    (b"[]", ["JSON object"]),
    (b"null", ["JSON object"]),
    (b"", ["not JSON"]),
    (b"{", ["not JSON"]),
    (b"\xff", ["not JSON"]),
    (b"{}", ["no envelope", "specversion", "id", "source", "type"]),
    (_event(id=None), ["no envelope", "id"]),
    (_event(id=""), ["no envelope", "id"]),
    (_event(id=7), ["id must be a string", "a number"]),
    (_event(id="x" * 257), ["id", "257", "256"]),
    (_event(source="a\x00b"), ["source", "NUL"]),
    (_event(specversion="0.3"), ["specversion must be 1.0"]),
    (_event(specversion=1.0), ["specversion must be a string"]),
    (_event(time="2026-11-23"), ["time", "RFC 3339"]),
    (_event(data=None), ["data"]),
    (_event(data="{}"), ["data"]),
    (_event(data=[REQUEST]), ["data"]),
    (_event(datacontenttype="text/xml"), ["application/json"]),
    (_event(data={**REQUEST, "amount_minor": 1.0}), ["data.amount_minor", "integer"]),
    (_event(data={**REQUEST, "amount_minor": 10**30}), ["data.amount_minor"]),
    (_event(data={**REQUEST, "deep": 1}).replace(b": 1}", b": " + b"[" * 300 + b"]" * 300 + b"}"), ["recursion"]),
    (_event(data={**REQUEST, "deep": 1}).replace(b": 1}", b": " + b"[" * 9000 + b"]" * 9000 + b"}"), ["depth"]),
]


@pytest.mark.parametrize(("value", "words"), EVENTS)
def test_a_structured_event_that_cannot_be_read(value: bytes, words: list[str]) -> None:
    found = _refused(STRUCTURED, value)
    assert found.reason == "malformed"
    assert [word for word in words if word not in found.detail] == []


VALUES = [
    (None, ["null"]),
    (b"", ["JSON"]),
    (b" " * (LARGEST_VALUE + 1), ["262145", "262144"]),
    (b"null", ["object"]),
    (b"[]", ["object", "array"]),
    (b'"text"', ["object"]),
    (b"{", ["JSON"]),
    (b"\xff\xfe", ["JSON"]),
    (b"\xef\xbb\xbf" + _body(), ["JSON"]),
    (b'{"a":' * 20_000, ["JSON"]),
    (b"[" * 100_000, ["JSON"]),
    (b'{"amount_minor":' + b"9" * 200_000 + b"}", ["JSON"]),
    (b'{"amount_minor":1e999999}', ["amount_minor"]),
    (_body(note="QQ").replace(b'"QQ"', b'"\xff"'), ["JSON"]),
    (_body(note="QQ").replace(b'"QQ"', b'"\\ud800"'), ["JSON"]),
    (_body(reference="QQ").replace(b'"QQ"', b'"\\udc00\\ud800"'), ["JSON"]),
]


@pytest.mark.parametrize(("value", "words"), VALUES)
def test_a_value_that_is_no_json_object(value: bytes | None, words: list[str]) -> None:
    found = _refused(_headers(), value)
    assert found.reason == "malformed"
    assert [word for word in words if word not in found.detail] == []


def test_the_largest_value_is_read() -> None:
    value = _body()
    assert _read(_headers(), value[:-1] + b" " * (LARGEST_VALUE - len(value)) + b"}").type == "transfer.request"


def _telling(customers: list[str]) -> bytes:
    said = {
        "notification_id": str(uuid4()),
        "audience": {"customers": customers},
        "template": "t",
        "category": "service",
    }
    return json.dumps(said, separators=(",", ":")).encode()


def test_a_list_of_people_may_be_as_long_as_its_message_and_its_schema_allow() -> None:
    headers = encode_headers("notification.request", id="1", source="test", time="2026-11-23T08:30:00Z", subject="1")
    people, short = [str(uuid4()) for _ in range(6_700)], [f"c{number}" for number in range(10_000)]
    for customers in (people, short):
        assert isinstance(decode(headers, _telling(customers), TOPICS["notify.commands"]), Envelope)
    for customers, why in (([*people, *people], "at most 262144 are allowed"), ([*short, "one more"], "at most 10000")):
        found = decode(headers, _telling(customers), TOPICS["notify.commands"])
        assert isinstance(found, Malformed)
        assert why in found.detail


@pytest.mark.parametrize(
    "full_type",
    [
        "sluice.transfer.nope.v1",
        "sluice.transfer.request.v2",
        "transfer.request",
        "sluice.v1",
        "sluice..v1",
        "com.example.transfer.request.v1",
        "sluice.transfer.settled.v1",
        "转账",
    ],
)
def test_an_unknown_type_is_named_beside_the_known_ones(full_type: str) -> None:
    for found in (
        _refused(_headers(ce_type=full_type.encode()), _body()),
        _refused(STRUCTURED, _event(type=full_type)),
    ):
        assert found.reason == "unknown_type"
        assert ascii(full_type) in found.detail
        assert [name for name in COMMANDS if name not in found.detail] == []


PRIVATE = [
    ("transfer.commands", "transfer.request", {**REQUEST, "payee_name": "Zhang" + "x" * 300}, "Zhang"),
    ("transfer.commands", "transfer.request", {**REQUEST, "payee": "bank:622202 0000"}, "622202"),
    ("customer.profiles", "customer.profile", {"customer_id": "c", "name": "Zhang\x00"}, "Zhang"),
    ("customer.profiles", "customer.profile", {"customer_id": "c", "name": "N", "phone": 13800138000}, "13800138000"),
    ("customer.profiles", "customer.profile", {"customer_id": "c", "name": "N", "id_number": 110101}, "110101"),
    ("customer.profiles", "customer.profile", {"customer_id": "c", "name": "N", "email": "a" * 400}, "aaaa"),
    ("customer.profiles", "customer.profile", {"customer_id": "c", "name": ["Zhang"]}, "Zhang"),
    ("closure.commands", "closure.correct", {"applicant": "Zhang"}, "Zhang"),
    ("closure.commands", "closure.correct", {"applicant": {"name": "N", "id_number": 110101, "phone": "1"}}, "110101"),
    ("closure.commands", "closure.documents", {"documents": [{"uri": 110101}]}, "110101"),
    ("closure.commands", "closure.request", {"payout": "622202"}, "622202"),
    ("closure.commands", "closure.review", {"reviewer": ["Zhang"], "note": 110101}, "110101"),
]


@pytest.mark.parametrize(("topic", "name", "body", "secret"), PRIVATE)
def test_what_is_personal_is_never_repeated(topic: str, name: str, body: dict[str, Any], secret: str) -> None:
    headers = _headers(ce_type=f"sluice.{name}.v1".encode())
    assert secret not in _refused(headers, json.dumps(body).encode(), TOPICS[topic]).detail


def test_the_detail_names_each_field_and_what_was_found() -> None:
    detail = _refused(_headers(), _body(kind="gift", amount_minor="12", currency="yuan")).detail
    assert "kind: " in detail
    assert "'p2p'" in detail
    assert "'gift'" in detail
    assert "amount_minor: " in detail
    assert "integer" in detail
    assert "currency: " in detail


def test_a_missing_field_is_named() -> None:
    assert "payer: is missing" in _refused(_headers(), b'{"kind": "p2p"}').detail


# --- Anything at all ---

NAMES = st.sampled_from([*HEADERS, "ce_time", "ce_subject", "ce_correlationid", "traceparent", "other"])
TYPES = st.sampled_from([f"sluice.{name}.v1".encode() for types in TOPICS.values() for name in types])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(list(REQUEST)) | st.text(), inner),
    max_leaves=12,
)
MODELS = st.sampled_from(list(TOPICS.values()))


@given(st.lists(st.tuples(NAMES, st.none() | st.binary(max_size=300))), st.none() | st.binary(), MODELS)
def test_no_record_raises(headers: list[tuple[str, bytes | None]], value: bytes | None, models: Any) -> None:
    assert isinstance(decode(headers, value, models), Envelope | Malformed)


@given(TYPES, JSON, MODELS)
def test_no_body_raises(full_type: bytes, body: Any, models: Any) -> None:
    value = json.dumps(body).encode()
    for headers in (_headers(ce_type=full_type), STRUCTURED):
        assert isinstance(decode(headers, value, models), Envelope | Malformed)


@given(st.dictionaries(st.sampled_from([*EVENT, "time", "subject", "traceparent", "datacontenttype"]), JSON), TYPES)
def test_no_structured_event_raises(changes: dict[str, Any], full_type: bytes) -> None:
    value = json.dumps({**EVENT, "type": full_type.decode(), **changes}).encode()
    for models in TOPICS.values():
        assert isinstance(decode(STRUCTURED, value, models), Envelope | Malformed)


@given(st.sampled_from([*REQUEST, "reference", "execute_at", "payee_name", "case_id"]), JSON)
def test_no_field_raises(field: str, value: Any) -> None:
    assert isinstance(decode(_headers(), _body(**{field: value}), COMMANDS), Envelope | Malformed)


@given(st.binary(max_size=64), st.integers(min_value=0, max_value=200), st.integers(min_value=0, max_value=8))
def test_no_damage_raises(damage: bytes, at: int, length: int) -> None:
    whole = _body(reference="x", execute_at="2026-11-23T08:30:00Z")
    damaged = whole[:at] + damage + whole[at + length :]
    assert isinstance(decode(_headers(), damaged, COMMANDS), Envelope | Malformed)


# --- What a value may cost ---

MOST_MEMORY = 25_000_000


def _filled(start: str, unit: str, end: str) -> bytes:
    """Return a value of the largest size that repeats a unit."""
    count = (LARGEST_VALUE - len(start) - len(end) + 1) // (len(unit) + 1)
    return (start + ",".join([unit] * count) + end).encode()


COSTLY = {
    "wrong items": ("transfer.batch", _filled('{"batch_id":"x","atomic":1,"items":[', "{}", "]}")),
    "a wrong item of many": ("transfer.batch", _filled('{"items":[{"x":[', "[]", "]}]}")),
    "numbers for items": ("transfer.batch", _filled('{"items":[', "0", "]}")),
    "objects in what is ignored": ("transfer.request", _filled('{"x":[', "{}", "]}")),
    "depth in what is ignored": ("transfer.request", _filled('{"x":[', '{"a":' * 90 + "0" + "}" * 90, "]}")),
    "members that are ignored": ("transfer.request", _filled("{", '"":[]', "}")),
    "texts in what is ignored": ("transfer.request", _filled('{"x":[', '"ab"', "]}")),
    "wrong alternatives": ("transfer.held", _filled('{"alternatives":[', "{}", "]}")),
    "wrong methods": ("transfer.verification_required", _filled('{"methods":[', "0", "]}")),
    "channels": ("customer.profile", _filled('{"preferences":{"channels":{"sms":[', "{}", "]}}}")),
}
EVERY_MODEL = {name: model for types in TOPICS.values() for name, model in types.items()}


@pytest.mark.parametrize(("name", "value"), COSTLY.values(), ids=COSTLY)
def test_what_is_wrong_with_a_large_value_is_found_in_little_memory(name: str, value: bytes) -> None:
    tracemalloc.start()
    try:
        found = _refused(_headers(ce_type=f"sluice.{name}.v1".encode()), value, EVERY_MODEL)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.reason == "malformed"
    assert peak < MOST_MEMORY


def test_a_large_value_is_read_as_strictly_as_a_small_one() -> None:
    ignored = {"x": [{}] * 60_000}
    assert _read(_headers(), _body(**ignored)).data == _read(_headers(), _body()).data
    for wrong in ({"amount_minor": "12"}, {"payer": 1}, {"execute_at": 5}, {"transfer_id": None}):
        assert _refused(_headers(), _body(**wrong, **ignored)) == _refused(_headers(), _body(**wrong))


@given(TYPES, JSON, MODELS)
def test_what_is_right_is_right_in_a_large_value_too(full_type: bytes, body: Any, models: Any) -> None:
    headers = _headers(ce_type=full_type)
    found = decode(headers, json.dumps(body).encode(), models)
    if isinstance(found, Envelope) and isinstance(body, dict):
        assert decode(headers, json.dumps({**body, "": [0] * 17_000}).encode(), models) == found
