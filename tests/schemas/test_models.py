"""What publishers may put into a body, value by value."""

from __future__ import annotations

import json
import typing
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from schemas import transfer
from schemas.account import AccountOpen, AccountRestrict
from schemas.customer import erased_customer
from schemas.examples import EXAMPLES
from schemas.reasons import REASONS, REMEDIES, ClosingCode, ReasonCode, Remedy
from schemas.registry import MODELS, TOPICS
from schemas.topics import TOPICS as LISTED
from schemas.transfer import TransferBatch, TransferRefund, TransferRequest

REQUEST = EXAMPLES["transfer.request"][0]
_LOAN = "loan:L20240000042"


def _request(**changes: Any) -> TransferRequest:
    return TransferRequest.model_validate_json(json.dumps({**REQUEST, **changes}))


def _is_accepted(model: type[BaseModel], body: dict[str, Any]) -> bool:
    try:
        model.model_validate_json(json.dumps(body))
    except ValidationError:
        return False
    return True


ACCEPTED = [
    # Well-formed, whatever the transfer service then makes of it.
    ("amount_minor", 0),
    ("amount_minor", -1),
    ("amount_minor", 2**63 - 1),
    ("amount_minor", -(2**63)),
    ("payer", "wallet:" + "x" * 128),
    ("payer", "wallet:a:b/c@d"),
    ("payee", "bank:ICBC:6222020000000001"),
    ("payee", "bank:x1:" + "9" * 64),
    ("payee", "platform:fees"),
    ("reference", ""),
    ("reference", "午饭\n🍜" + "x" * 130),
    ("reference", None),
    ("payee_name", "王" * 200),
    ("execute_at", "2026-11-23T08:30:00Z"),
    ("execute_at", "2026-11-23t08:30:00.5z"),
    ("execute_at", "2026-11-23 08:30:00+08:00"),
    ("execute_at", "2026-11-23T08:30:00.123456789-03:30"),
    ("execute_at", "1970-01-01T00:00:00Z"),
    ("execute_at", None),
    ("case_id", "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f50a"),
    ("transfer_id", "0192F3A4-5B6C-7D8E-9FA0-B1C2D3E4F506"),
    ("on_maintenance", "reject"),
    ("unheard_of", {"a": [1, 2.5, None]}),
]

REFUSED = [
    ("amount_minor", 2**63),
    ("amount_minor", -(2**63) - 1),
    ("amount_minor", 10**40),
    ("amount_minor", 1.0),
    ("amount_minor", 1.5),
    ("amount_minor", "1250"),
    ("amount_minor", True),
    ("amount_minor", None),
    ("amount_minor", [1250]),
    ("currency", "cny"),
    ("currency", "CNYX"),
    ("currency", "CN"),
    ("currency", "CNY\n"),
    ("currency", ""),
    ("currency", None),
    ("currency", 156),
    ("kind", "P2P"),
    ("kind", None),
    ("payer", "alice"),
    ("payer", "wallet:"),
    ("payer", "wallet:a b"),
    ("payer", "wallet:a\n"),
    ("payer", "wallet:a\x00"),
    ("payer", "wallet:\x7f"),
    ("payer", "wallet:爱丽丝"),
    ("payer", "wallet:" + "x" * 129),
    ("payer", "Wallet:alice"),
    ("payer", ["wallet:alice"]),
    ("payee", "bank:I:1"),
    ("payee", "bank:ICBC:"),
    ("payee", "bank:ICBC"),
    ("payee", "bank:" + "x" * 17 + ":1"),
    ("payee", "bank:IC-BC:1"),
    ("payee", "bank:ICBC:" + "9" * 65),
    ("payee", "platform:"),
    ("payee", "loan:1"),
    ("payee_name", ""),
    ("payee_name", "王" * 201),
    ("payee_name", "a\x00b"),
    ("payee_name", 5),
    ("reference", "x" * 141),
    ("reference", "\x00"),
    ("reference", 5),
    ("execute_at", "2026-11-23T08:30:00"),
    ("execute_at", "2026-11-23"),
    ("execute_at", "2026-11-23T08:30Z"),
    ("execute_at", "2026-11-23T08:30:00+08"),
    ("execute_at", "2026-11-23T08:30:00+0800"),
    ("execute_at", "20261123T083000Z"),
    ("execute_at", "2026-W47-1T00:00:00Z"),
    ("execute_at", "2026-02-30T00:00:00Z"),
    ("execute_at", "2026-11-23T25:00:00Z"),
    ("execute_at", "2026-11-23T08:30:00Z\n"),
    ("execute_at", "٢٠٢٦-11-23T08:30:00Z"),
    ("execute_at", "1969-12-31T23:59:59Z"),
    ("execute_at", "0001-01-01T00:00:00+23:59"),
    ("execute_at", "9999-12-31T23:59:59-23:59"),
    ("execute_at", "1700000000"),
    ("execute_at", 1700000000),
    ("execute_at", 1700000000.5),
    ("execute_at", True),
    ("execute_at", ""),
    ("transfer_id", "alice"),
    ("transfer_id", ""),
    ("transfer_id", 5),
    ("transfer_id", None),
    ("on_maintenance", None),
    ("on_maintenance", "wait"),
]


@pytest.mark.parametrize(("field", "value"), ACCEPTED)
def test_well_formed(field: str, value: Any) -> None:
    assert _is_accepted(TransferRequest, {**REQUEST, field: value})


@pytest.mark.parametrize(("field", "value"), REFUSED)
def test_malformed(field: str, value: Any) -> None:
    assert not _is_accepted(TransferRequest, {**REQUEST, field: value})


@pytest.mark.parametrize("field", ["transfer_id", "kind", "payer", "payee", "amount_minor", "currency"])
def test_a_request_needs(field: str) -> None:
    assert not _is_accepted(TransferRequest, {name: value for name, value in REQUEST.items() if name != field})


def test_times_are_read_as_moments_in_utc() -> None:
    assert _request(execute_at="2026-11-23T08:30:00.5+08:00").execute_at == datetime(
        2026, 11, 23, 0, 30, 0, 500_000, tzinfo=UTC
    )


def test_what_a_publisher_leaves_out() -> None:
    request = _request()
    assert (request.on_maintenance, request.expires_at, request.case_id) == ("hold", None, None)
    account = AccountOpen.model_validate_json('{"account_id":"wallet:a","customer_id":"c","currency":"CNY"}')
    assert (account.overdraft_limit_minor, account.tier, account.low_balance_threshold_minor) == (0, "standard", None)


def test_a_message_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        _request().amount_minor = 1  # type: ignore[misc]


@pytest.mark.parametrize(("count", "accepted"), [(0, False), (1, True), (1000, True), (1001, False)])
def test_a_batch_has_up_to_a_thousand_items(count: int, accepted: bool) -> None:  # noqa: FBT001 - a table
    body = {"batch_id": REQUEST["transfer_id"], "atomic": False, "items": [REQUEST] * count}
    assert _is_accepted(TransferBatch, body) is accepted


def test_an_account_is_a_wallet() -> None:
    body = {"customer_id": "c", "currency": "CNY"}
    assert not _is_accepted(AccountOpen, {**body, "account_id": "alice"})
    assert not _is_accepted(AccountOpen, {**body, "account_id": "platform:fees"})


def test_a_restriction_has_a_scope_and_a_reason() -> None:
    body = {"account_id": "wallet:a", "scope": "debit", "reason": "r"}
    assert _is_accepted(AccountRestrict, {**body, "until": "2026-11-23T08:30:00Z"})
    assert not _is_accepted(AccountRestrict, {**body, "scope": "both"})
    assert not _is_accepted(AccountRestrict, {"account_id": "wallet:a", "scope": "all"})


def test_a_refund_of_everything_names_no_amount() -> None:
    body = {"refund_id": REQUEST["transfer_id"], "transfer_id": REQUEST["transfer_id"], "reason": "r"}
    refund = TransferRefund.model_validate_json(json.dumps(body))
    assert refund.amount_minor is None


@pytest.mark.parametrize(
    ("name", "change", "accepted"),
    [
        ("window.schedule", {"functions": ["loans"]}, True),
        ("window.schedule", {"functions": "transfer"}, False),
        ("window.started", {"functions": []}, False),
        ("window.started", {"functions": ["loans"]}, False),
        ("window.schedule", {"scope": {}}, True),
        ("window.schedule", {"scope": {"banks": ["I-C"]}}, True),
        ("window.started", {"scope": {"banks": ["I-C"]}}, False),
        ("window.schedule", {"treatment": None}, False),
        ("window.schedule", {"drill": "true"}, False),
        ("window.schedule", {"compensation": None}, True),
        ("window.schedule", {"compensation": {"kind": "coupon", "value": 0.5, "text": "t"}}, False),
        ("window.reminder", {"before": "2d"}, False),
        ("window.reminder", {"revision": 0}, False),
        ("survey.answer", {"score": 0}, False),
        ("survey.answer", {"score": 6}, False),
        ("closure.request", {"subject": _LOAN}, True),
        ("closure.request", {"subject": "bank:ICBC:1"}, False),
        ("closure.request", {"subject": "loan:"}, False),
        ("closure.request", {"applicant": {"name": "王小明", "phone": "1"}}, False),
        ("closure.request", {"payout": {"payee": "bank:ICBC:62"}}, False),
        ("closure.request", {"accepts_fee": 1}, False),
        ("closure.documents", {"documents": []}, False),
        ("closure.documents", {"documents": [{"kind": "id_card", "sha256": "9F" * 32, "uri": "u"}]}, False),
        ("closure.review", {"decision": "perhaps"}, False),
        ("closure.rejected", {"reasons": []}, False),
        ("closure.rejected", {"reasons": [{"code": "insufficient_balance", "remedy": "wait"}]}, False),
        ("clearance.start", {"subjects": "some"}, False),
        ("clearance.start", {"subjects": []}, False),
        ("clearance.start", {"subjects": [_LOAN]}, False),
        ("clearance.start", {"rate_per_s": 0}, False),
        ("clearance.start", {"rate_per_s": 0.5}, False),
        ("credit.status_changed", {"status": "open"}, False),
        ("customer.erase", {"case_id": None}, True),
        ("customer.erased", {"retained": [{"what": "w", "why": "y", "until": "2031-11-23T00:00:00Z"}]}, False),
        ("risk.flagged", {"rule": None}, False),
        ("risk.flagged", {"until": None}, False),
        ("risk.flagged", {"until": "2026-11-24"}, False),
        ("risk.cleared", {"rule": None}, True),
        ("risk.cleared", {"rule": ""}, False),
    ],
)
def test_what_windows_closings_erasures_and_risks_take(name: str, change: dict[str, Any], accepted: bool) -> None:  # noqa: FBT001 - a table
    assert _is_accepted(MODELS[name], {**EXAMPLES[name][0], **change}) is accepted


@pytest.mark.parametrize(
    ("topic", "events"),
    [("maintenance.events", ("revision",)), ("closure.events", ("revision", "subject", "case_id"))],
)
def test_every_window_and_case_event_counts_its_changes(topic: str, events: tuple[str, ...]) -> None:
    for name, model in TOPICS[topic].items():
        is_about_one = name.startswith(topic.partition(".")[0].replace("maintenance", "window"))
        if is_about_one and name not in {"window.refused", "closure.command_refused"}:
            assert set(events) <= model.model_fields.keys(), name


def test_a_window_that_says_little_closes_everything_by_itself_and_for_everybody() -> None:
    window: Any = MODELS["window.schedule"].model_validate_json(json.dumps(EXAMPLES["window.schedule"][1]))
    assert (window.scope.banks, window.scope.currencies, window.drill, window.alternatives) == ((), (), False, ())


# --- Every type ---


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_text_refuses_what_cannot_be_stored(name: str) -> None:
    """Put a NUL into each text of each example: none of them may pass."""
    for example in EXAMPLES[name]:
        for path in _texts(example):
            assert not _is_accepted(MODELS[name], _with_nul(example, path)), path


def _texts(body: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    here = [path] if isinstance(body, str) else []
    return here + [found for key, value in inner for found in _texts(value, (*path, key))]


def _with_nul(body: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    copy: Any = json.loads(json.dumps(body))
    parent = copy
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] += "\x00"
    return copy


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_text_is_bounded(name: str) -> None:
    unbounded = [where for where, schema in _strings(MODELS[name].model_json_schema()) if not _is_bounded(schema)]
    assert unbounded == []


def _strings(schema: Any, where: str = "") -> list[tuple[str, dict[str, Any]]]:
    if not isinstance(schema, dict):
        return []
    found = [(where, schema)] if schema.get("type") == "string" else []
    for group in ("properties", "$defs"):
        for key, inner in schema.get(group, {}).items():
            found += _strings(inner, f"{where}.{key}")
    for inner in [*schema.get("anyOf", ()), schema.get("items")]:
        found += _strings(inner, where)
    return found


def _is_bounded(schema: dict[str, Any]) -> bool:
    closed = schema.keys() & {"enum", "const", "format", "maxLength"}
    return bool(closed) or not schema.get("pattern", "*").endswith(("*$", "+$"))


# --- Tables ---


def test_every_reason_has_a_row() -> None:
    assert set(REASONS) == set(typing.get_args(ReasonCode))


def test_every_closing_code_has_a_remedy_and_no_remedy_is_of_none() -> None:
    assert set(REMEDIES) == set(typing.get_args(ClosingCode))
    assert {remedy for of_code in REMEDIES.values() for remedy in of_code} == set(typing.get_args(Remedy))
    assert all(REMEDIES.values())
    assert not set(REMEDIES) & set(REASONS)


@pytest.mark.parametrize(
    "said",
    [
        *(item for example in EXAMPLES["closure.documents_required"] for item in example["items"]),
        *(
            reason
            for name in ("closure.rejected", "closure.reopen_refused")
            for example in EXAMPLES[name]
            for reason in example["reasons"]
        ),
    ],
)
def test_what_the_examples_advise_is_a_remedy_of_their_code(said: dict[str, Any]) -> None:
    assert said["remedy"] in REMEDIES[said["code"]]


@pytest.mark.parametrize(
    ("code", "iso20022"),
    [
        ("insufficient_balance", "AM04"),
        ("payer_unknown", "AC02"),
        ("payee_unknown", "AC03"),
        ("same_account", "AC03"),
        ("payee_name_mismatch", "BE01"),
        ("payee_name_unverified", "BE01"),
        ("account_closed", "AC04"),
        ("account_closing", "AC07"),
        ("account_restricted", "AC06"),
        ("limit_single", "AM02"),
        ("limit_daily_amount", "AM14"),
        ("limit_daily_count", "SL15"),
        ("limit_monthly_amount", "SL16"),
        ("amount_invalid", "AM12"),
        ("currency_mismatch", "AM03"),
        ("maintenance", "AB08"),
        ("verification_failed", "AG08"),
        ("verification_expired", "DS24"),
        ("expired", "DS24"),
        ("risk_restricted", "FR01"),
        ("rail_timeout", "AB05"),
        ("rail_rejected", "MS03"),
        ("rail_returned", "MS03"),
        ("duplicate_id_conflict", "AM05"),
        ("regulatory", "RR04"),
        ("transfer_unknown", None),
        ("state_conflict", None),
        ("refund_exceeds", None),
        ("batch_rejected", None),
        ("account_exists", None),
        ("account_unknown", None),
        ("tier_unknown", None),
    ],
)
def test_the_iso_code_of_a_reason(code: str, iso20022: str | None) -> None:
    assert REASONS[code].iso20022 == iso20022


def test_every_status_has_its_event() -> None:
    # A refund that is on its way is told by `refund_started`.
    named = {name.removeprefix("transfer.") for name in TOPICS["transfer.events"]} | {"refunding"}
    assert set(typing.get_args(transfer.TransferStatus)) <= named


def test_every_topic_with_types_is_listed_with_its_dead_letters() -> None:
    names = {topic.name for topic in LISTED}
    assert names == {name for topic in TOPICS for name in (topic, f"{topic}.dlq")}


@pytest.mark.parametrize(
    ("name", "days", "compact"),
    [
        ("transfer.commands", 7, False),
        ("transfer.events", 30, False),
        ("account.states", None, True),
        ("rail.instructions", 7, False),
        ("rail.results", 7, False),
        ("maintenance.commands", 7, False),
        ("maintenance.events", 400, False),
        ("closure.commands", 7, False),
        ("closure.events", 30, False),
        ("erasure.events", 30, False),
        ("customer.profiles", None, True),
        ("notify.events", 30, False),
        ("notify.receipts", 7, False),
        ("closure.events.dlq", 30, False),
        ("transfer.commands.dlq", 30, False),
        ("customer.profiles.dlq", 30, False),
    ],
)
def test_how_long_a_topic_is_kept(name: str, days: int | None, compact: bool) -> None:  # noqa: FBT001 - a table
    topic = next(topic for topic in LISTED if topic.name == name)
    assert (topic.retention.days if topic.retention else None, topic.compact) == (days, compact)


@pytest.mark.parametrize("customer_id", ["c", "客" * 128, "\ufffd"])
def test_a_null_profile_erases_whom_its_key_names(customer_id: str) -> None:
    assert erased_customer(customer_id.encode()) == customer_id


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (None, "without a key"),
        (b"", "0 characters"),
        (b"\xff\xfe", "UTF-8"),
        (b"a\x00b", "NUL"),
        (b"x" * 129, "129"),
    ],
)
def test_a_null_profile_under_a_key_that_is_nobodys_erases_nobody(key: bytes | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        erased_customer(key)
