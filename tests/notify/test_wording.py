"""What people read: complete in every language, with nothing of an account's number that others should not see."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from schemas.examples import EXAMPLES
from schemas.reasons import REASONS
from schemas.registry import TOPICS
from services.notify.decide import zone_or_home
from services.notify.model import Locale, Role, Text
from services.notify.policy import DEFAULT_POLICY, read_policy
from services.notify.wording import DEFAULT_WORDING, WordingError, money, read_wording, shown_of

if TYPE_CHECKING:
    from pathlib import Path

POLICY = read_policy(DEFAULT_POLICY)
WORDING = read_wording(DEFAULT_WORDING)
TOLD = [(event_type, role) for event_type, rule in POLICY.events.items() for role in rule.to]
SETTLED = EXAMPLES["transfer.settled"][0]


def event(type_: str, body: dict[str, Any]) -> dict[str, Any]:
    return TOPICS["transfer.events"][type_].model_validate_json(orjson.dumps(body)).model_dump()


def tell(type_: str, role: Role, body: dict[str, Any], locale: Locale = Locale.ENGLISH, zone: str = "UTC") -> Text:
    return WORDING.tell(type_, role, event(type_, body), locale, zone)


@pytest.mark.parametrize(("event_type", "role"), TOLD)
def test_every_event_that_reaches_somebody_has_words_in_every_language(event_type: str, role: Role) -> None:
    assert WORDING.tells(event_type, role)
    for locale, example in itertools.product(Locale, EXAMPLES[event_type]):
        text = tell(event_type, role, example, locale)
        for line in text:
            assert line == line.strip()
            assert not re.search(r"[{}]|None|  ", line), line
        assert "400-000-0000" in text.body
        for party in ("payer", "payee", "account_id"):
            assert str(example.get(party, "-")).partition(":")[2] not in text.body or party not in example


def test_there_are_no_words_that_nobody_is_told() -> None:
    assert WORDING.told() == set(TOLD)


@pytest.mark.parametrize("locale", Locale)
def test_every_reason_has_words_and_a_next_step(locale: Locale) -> None:
    assert WORDING.reasons(locale) == REASONS.keys()


@pytest.mark.parametrize(("locale", "code"), list(itertools.product(Locale, REASONS)))
def test_a_failure_says_why_and_what_to_do(locale: Locale, code: str) -> None:
    reason = {"code": code, "retryable": False, "refund": "none"}
    text = tell("transfer.failed", Role.PAYER, {**EXAMPLES["transfer.failed"][0], "reason": reason}, locale)
    assert len(text.body) > 40


def test_amounts_times_and_balances_are_written_as_the_reader_does() -> None:
    body = {**SETTLED, "amount_minor": 123_456, "payer_available_minor": 50, "fee_minor": 10}
    body["occurred_at"] = "2026-11-23T20:30:00Z"
    english = tell("transfer.settled", Role.PAYER, body, zone="America/New_York")
    assert english.title == "CN¥1,234.56 sent"
    assert "Nov 23, 2026, 3:30:00" in english.body
    assert "The fee was CN¥0.10. You now have CN¥0.50 available." in english.body
    chinese = tell("transfer.settled", Role.PAYER, body, Locale.CHINESE, "Asia/Shanghai")
    assert chinese.title == "已转出 ¥1,234.56"
    assert "2026年11月24日 04:30:00" in chinese.body


def test_the_payee_is_not_told_of_the_fee_or_of_the_payers_balance() -> None:
    body = {**SETTLED, "fee_minor": 77, "payer_available_minor": 98_765, "payee_available_minor": 4_321}
    text = tell("transfer.settled", Role.PAYEE, body)
    assert "0.77" not in text.body
    assert "987.65" not in text.body
    assert "43.21" in text.body


@pytest.mark.parametrize("locale", Locale)
def test_the_payee_is_not_told_why_a_payer_could_not_pay(locale: Locale) -> None:
    told = {
        code: tell(
            "transfer.failed",
            Role.PAYEE,
            {**EXAMPLES["transfer.failed"][0], "reason": {"code": code, "retryable": False, "refund": "none"}},
            locale,
        )
        for code in REASONS
    }
    assert len(set(told.values())) == 1


@pytest.mark.parametrize("locale", Locale)
@pytest.mark.parametrize("code", ["account_closed", "account_closing", "account_restricted"])
def test_a_payer_is_not_told_how_the_payees_account_stands(locale: Locale, code: str) -> None:
    reason = {"code": code, "retryable": True, "refund": "none", "available_at": "2031-05-06T00:00:00Z"}
    failed = {**EXAMPLES["transfer.failed"][0], "reason": {**reason, "field": "payee"}}
    other = {**EXAMPLES["transfer.failed"][0], "reason": {**reason, "code": "account_closed", "field": "payee"}}
    text = tell("transfer.failed", Role.PAYER, failed, locale)
    assert text == tell("transfer.failed", Role.PAYER, other, locale)
    assert "2031" not in text.body
    own = {**failed, "reason": {**reason, "field": "payer"}}
    assert "2031" in tell("transfer.failed", Role.PAYER, own, locale).body


@pytest.mark.parametrize(("event_type", "role"), TOLD)
def test_words_do_without_every_field_that_an_event_may_lack(event_type: str, role: Role) -> None:
    model = TOPICS["transfer.events"][event_type]
    needed = {name: EXAMPLES[event_type][0][name] for name, one in model.model_fields.items() if one.is_required()}
    for locale in Locale:
        assert tell(event_type, role, needed, locale).title


@pytest.mark.parametrize("zone", ["localtime", "UTC", "Asia/Shanghai", "America/Argentina/Buenos_Aires"])
def test_every_time_zone_that_a_profile_may_have_can_be_written(zone: str) -> None:
    assert tell("transfer.settled", Role.PAYER, SETTLED, Locale.ENGLISH, zone_or_home(zone)).title


@pytest.mark.parametrize(
    ("number", "shown"),
    [("6222020000001234", "1234"), ("alice", "e"), ("abcdefghi", "ghi"), ("bob", "b"), ("xy", ""), ("x", ""), ("", "")],
)
def test_most_of_an_account_number_is_never_shown(number: str, shown: str) -> None:
    assert shown_of(number) == shown


def test_a_banks_code_is_no_part_of_the_number() -> None:
    text = tell("transfer.sent", Role.PAYER, {**EXAMPLES["transfer.sent"][0], "payee": "bank:ICBCBEBB:62"})
    assert "on its way to an account." in text.body


@pytest.mark.parametrize(
    ("minor", "currency", "locale", "written"),
    [(5, "CNY", "zh_Hans_CN", "¥0.05"), (1_000, "JPY", "en", "¥1,000"), (-1_234, "USD", "en", "-$12.34")],
)
def test_money_has_as_many_digits_as_its_currency(minor: int, currency: str, locale: str, written: str) -> None:
    assert money(minor, currency, locale) == written


def _copy(folder: Path, english: str) -> Path:
    for locale in Locale:
        (folder / f"{locale}.toml").write_text((DEFAULT_WORDING / f"{locale}.toml").read_text("utf-8"), "utf-8")
    (folder / "en.toml").write_text(english, "utf-8")
    return folder


ENGLISH = (DEFAULT_WORDING / "en.toml").read_text("utf-8")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[reasons]", "[reasons", "cannot be read"),
        ("support =", "suport =", "support"),
        ('title = "{{ amount }} sent"', 'title = "{{ amount"', "transfer.settled.payer"),
        ('title = "{{ amount }} sent"', 'title = ""', "transfer.settled.payer.title"),
        ('[notices."transfer.settled".payer]', '[notices."transfer.settled".owner]', "owner"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in ENGLISH
    with pytest.raises(WordingError, match=re.escape(said)) as refused:
        read_wording(_copy(tmp_path, ENGLISH.replace(old, new, 1)))
    assert "en.toml" in str(refused.value)


@pytest.mark.parametrize(
    "template", ["{{ amuont }} sent", "{{ amount.__class__.__mro__ }}", "{{ cycler.__init__.__globals__ }}"]
)
def test_a_template_cannot_say_what_it_does_not_know_nor_reach_into_the_program(tmp_path: Path, template: str) -> None:
    wording = read_wording(_copy(tmp_path, ENGLISH.replace("{{ amount }} sent", template, 1)))
    with pytest.raises(WordingError, match=r"transfer\.settled"):
        wording.tell("transfer.settled", Role.PAYER, event("transfer.settled", SETTLED), Locale.ENGLISH, "UTC")
