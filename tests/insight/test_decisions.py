"""When failures restrict somebody, by a table; and that no repeat, order or cut changes it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.examples import EXAMPLES
from schemas.registry import MODELS
from services.insight.decide import (
    as_other,
    cleared,
    cleared_id,
    count_failure,
    delivery_of,
    due_at,
    outcome_of,
    restricted_until,
)
from services.insight.model import Failure, Flag, Suspicion
from services.insight.policy import DEFAULT_POLICY, Rule, read_policy
from services.runtime.checked_files import FileError
from services.runtime.message import Cause

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

RULE = Rule(name="many", count=3, within_s=60, restrict_for_s=600, reasons=frozenset({"verification_failed"}))
CAUSE = Cause("c-1", None)
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def failed(seconds: float, name: str = "") -> Failure:
    return Failure(NOON + timedelta(seconds=seconds), name or f"t{seconds}", "verification_failed")


def counted(failures: Sequence[Failure], known: Suspicion = Suspicion()) -> tuple[Suspicion, list[Flag]]:  # noqa: B008 - nothing changes it
    flags: list[Flag] = []
    for failure in failures:
        before, known = known, count_failure(known, failure, "c", RULE, CAUSE)
        flags += [known.flag] if known.flag is not None and known.flag != before.flag else []
    return known, flags


@pytest.mark.parametrize(
    ("failures", "flagged_at"),
    [
        ([failed(0), failed(1)], []),
        ([failed(0), failed(1), failed(59)], [59]),
        # The first is too old by then.
        ([failed(0), failed(1), failed(60)], []),
        ([failed(0), failed(30), failed(61), failed(62)], [62]),
        # What is read twice counts once.
        ([failed(0), failed(0), failed(0), failed(1)], []),
        # Of one moment, and out of order, as wallets of one customer may be read.
        ([failed(5, "a"), failed(5, "b"), failed(5, "c")], [5]),
        ([failed(30), failed(0), failed(10)], [30]),
        ([failed(90), failed(0), failed(10)], []),
        # Nothing counts while the flag is in force, and afterwards all begins anew.
        ([failed(n) for n in (0, 1, 2, 3, 4, 5, 6, 601)], [2]),
        ([failed(n) for n in (0, 1, 2, 602, 603)], [2]),
        ([failed(n) for n in (0, 1, 2, 602, 603, 604)], [2, 604]),
    ],
)
def test_so_many_failures_in_so_short_a_time_raise_a_flag(failures: list[Failure], flagged_at: list[int]) -> None:
    _, flags = counted(failures)
    assert [(flag.since, flag.until) for flag in flags] == [
        (NOON + timedelta(seconds=at), NOON + timedelta(seconds=at + RULE.restrict_for_s)) for at in flagged_at
    ]


@given(st.lists(st.integers(0, 2_000), max_size=30), st.data())
def test_reading_anything_again_raises_no_other_flag(seconds: list[int], data: Any) -> None:
    failures = [failed(at, f"{number}") for number, at in enumerate(sorted(seconds))]
    known, flags = counted(failures)
    # Cut off anywhere and read again from before: with what was remembered then, and from its JSON.
    cut = data.draw(st.integers(0, len(failures)))
    back = data.draw(st.integers(0, cut))
    remembered, first = counted(failures[:cut])
    again, then = counted(failures[back:], Suspicion.of_json(remembered.as_json()))
    assert {flag.id for flag in (*first, *then)} == {flag.id for flag in flags}
    assert again.flag == known.flag
    # With nothing remembered, the same flags.
    assert counted(failures)[1] == flags


def test_ids_tell_customers_rules_and_causes_apart() -> None:
    other_rule = RULE.model_copy(update={"name": "other"})
    known, _ = counted([failed(0), failed(1)])
    flags = [
        count_failure(known, failure, customer, rule, CAUSE).flag
        for failure, customer, rule in [
            (failed(2), "c", RULE),
            (failed(2), "d", RULE),
            (failed(2), "c", other_rule),
            (failed(3), "c", RULE),
        ]
    ]
    ids = {flag.id for flag in flags if flag} | {cleared_id(flag) for flag in flags if flag}
    assert len(ids) == 8


def test_a_flag_is_looked_at_when_it_is_over_and_what_is_known_when_it_cannot_count() -> None:
    known, (flag,) = counted([failed(0), failed(1), failed(2)])
    assert due_at(known, RULE) == flag.until
    after = cleared(known)
    assert (after.flag, after.counts_from) == (None, flag.until)
    assert due_at(after, RULE) == flag.until + timedelta(seconds=60)
    assert due_at(counted([failed(0), failed(1)])[0], RULE) == NOON + timedelta(seconds=61)
    # The policy has that rule no more.
    assert due_at(counted([failed(1)])[0], None) == NOON + timedelta(seconds=1)


def test_what_ends_carries_on_what_the_failure_that_began_it_carried() -> None:
    known, _ = counted([failed(0), failed(1), failed(2)])
    body = known.as_json()
    back = Suspicion.of_json(json.loads(json.dumps(body)))
    assert back == known
    assert back.flag is not None
    assert back.flag.cause == CAUSE
    # As it was kept before.
    before = Suspicion.of_json({**body, "flag": body["flag"][:5]})
    assert before.flag == back.flag._replace(cause=Cause())


@pytest.mark.parametrize(
    ("others", "now", "until"),
    [
        ({}, 10, None),
        ({"b": 5}, 10, None),
        ({"b": 15}, 10, 15),
        ({"b": 15, "c": 20, "d": 1}, 10, 20),
        # All are over by now.
        ({"b": 15}, 15, None),
        # When it is flagged, its own end counts; that of others where it is later.
        ({"b": 9}, 1, None),
        ({"b": 11}, 1, 11),
    ],
)
def test_of_several_flags_the_last_to_end_is_told(others: dict[str, int], now: int, until: int | None) -> None:
    def flag(rule: str, ends: int) -> Flag:
        return Flag(rule, "c", rule, NOON, NOON + timedelta(seconds=ends))

    own = flag("a", 10)
    flags = [own, *(flag(rule, ends) for rule, ends in others.items())]
    expected = None if until is None else NOON + timedelta(seconds=until)
    assert restricted_until(own, flags, NOON + timedelta(seconds=now)) == expected


def event(type_: str, **fields: Any) -> Any:
    return MODELS[type_].model_validate_json(json.dumps({**EXAMPLES[type_][0], **fields}))


@pytest.mark.parametrize(
    ("type_", "fields", "outcome"),
    [
        ("transfer.settled", {"payee": "wallet:b", "payer": "wallet:a"}, ("settled", "", "")),
        ("transfer.settled", {"payer": "bank:X1:9", "payee": "wallet:a"}, ("settled", "", "X1")),
        ("transfer.failed", {"payer": "wallet:a", "payee": "bank:X1:9"}, ("failed", "insufficient_balance", "X1")),
        ("transfer.held", {}, None),
        ("transfer.sent", {}, None),
    ],
)
def test_how_a_transfer_ended_is_counted_by_reason_and_bank(
    type_: str, fields: dict[str, Any], outcome: tuple[str, ...] | None
) -> None:
    reason = {"code": "insufficient_balance", "retryable": True, "refund": "none"}
    more = {"reason": reason} if type_ == "transfer.failed" else {}
    found = outcome_of(type_, event(type_, **fields, **more))
    assert found == outcome
    if found is not None:
        assert as_other(found) == (*found[:2], "other")


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"channel": "sms", "gateway": "sms-a"}, ("sms-a", "sms", "delivered")),
        ({"channel": "in_app"}, ("", "in_app", "delivered")),
    ],
)
def test_what_became_of_a_notice_is_counted_by_gateway(fields: dict[str, Any], key: tuple[str, ...]) -> None:
    assert delivery_of("notification.delivered", event("notification.delivered", **fields)) == key


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('reasons = ["bad_luck"]', "no such reasons: bad_luck"),
        ('reasons = ["risk_restricted"]', "would have a flag make the next one"),
        (
            'reasons = ["expired"]\n[[rules]]\nname = "a"\ncount = 2\nwithin_s = 1\nrestrict_for_s = 1\nreasons = []',
            "two rules",
        ),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(f'[[rules]]\nname = "a"\ncount = 2\nwithin_s = 1\nrestrict_for_s = 1\n{text}\n')
    with pytest.raises(FileError, match=why):
        read_policy(path)


def test_the_packaged_policy_counts_nothing_that_the_platform_or_a_bank_causes() -> None:
    reasons = {reason for rule in read_policy(DEFAULT_POLICY).rules for reason in rule.reasons}
    assert reasons
    assert not reasons & {"maintenance", "rail_timeout", "rail_rejected", "insufficient_balance", "batch_rejected"}
