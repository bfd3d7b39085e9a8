"""What people read: complete in every language, with nothing of an account's number that others should not see."""

from __future__ import annotations

import copy
import itertools
import re
import typing
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import orjson
import pytest
from pydantic import ValidationError

from schemas import closure, maintenance
from schemas.examples import EXAMPLES
from schemas.reasons import REASONS, REMEDIES, ClosingCode, Remedy
from schemas.registry import MODELS
from services.notify.decide import zone_or_home
from services.notify.gateways.segments import Alphabet, alphabet_of, count_segments
from services.notify.model import Channel, Locale, Role, Text
from services.notify.policy import DEFAULT_POLICY, read_policy
from services.notify.wording import DEFAULT_WORDING, WordingError, money, read_wording, shown_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POLICY = read_policy(DEFAULT_POLICY)
WORDING = read_wording(DEFAULT_WORDING)
TOLD = [(event_type, role) for event_type, rule in POLICY.events.items() for role in rule.to]
SETTLED = EXAMPLES["transfer.settled"][0]


def event(type_: str, body: dict[str, Any]) -> dict[str, Any]:
    return MODELS[type_].model_validate_json(orjson.dumps(body)).model_dump()


def tell(type_: str, role: Role, body: dict[str, Any], locale: Locale = Locale.ENGLISH, zone: str = "UTC") -> Text:
    return WORDING.tell(type_, role, event(type_, body), locale, zone)


GAPS: Final = re.compile(
    r"[{}\[\]]|None|Undefined|  |\( ?\)|（）|[:,;(] ?[.,;:)]|[：，；（][。，；：）]|。。| [.,;:]|\w_\w"
)
"""What a sentence looks like where something is missing, or where a code stands in it."""


def assert_reads_well(text: Text) -> None:
    for line in text:
        assert line == line.strip()
        assert not GAPS.search(line), line
    assert "400-000-0000" in text.body


@pytest.mark.parametrize(("event_type", "role"), TOLD)
def test_every_event_that_reaches_somebody_has_words_in_every_language(event_type: str, role: Role) -> None:
    assert WORDING.tells(event_type, role)
    for locale, example in itertools.product(Locale, EXAMPLES[event_type]):
        text = tell(event_type, role, example, locale)
        assert_reads_well(text)
        for number in numbers(example):
            assert number not in f"{text.title} {text.body}"


def numbers(body: Any) -> Iterator[str]:
    """Yield the number of each account, wallet and loan in a body."""
    for path in paths(body):
        value = at(body, path)
        if isinstance(value, str) and re.fullmatch(r"(wallet|bank|loan):\S+", value):
            yield value.rpartition(":")[2]


def paths(body: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    for key, value in inner:
        yield (*path, key)
        yield from paths(value, (*path, key))


def at(body: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        body = body[key]
    return body


@pytest.mark.parametrize(("event_type", "role"), TOLD)
def test_an_english_text_message_needs_no_dearer_alphabet_and_none_is_too_long(event_type: str, role: Role) -> None:
    for locale, example in itertools.product(Locale, EXAMPLES[event_type]):
        text = tell(event_type, role, example, locale, "Asia/Shanghai")
        alphabet = Alphabet.GSM_7 if locale == Locale.ENGLISH else Alphabet.UCS_2
        assert alphabet_of(text_message(text, locale)) == alphabet
        # Its title says by itself what it is about, and how to learn more.
        assert count_segments(WORDING.as_sms(text._replace(body="x" * 2_000), locale, 2)) <= 2, text.title


def text_message(text: Text, locale: Locale) -> str:
    """Return a text as a text message, which says all of it."""
    message = WORDING.as_sms(text, locale, POLICY.sms.segments)
    assert count_segments(message) <= POLICY.sms.segments
    assert message.endswith(text.body.replace("\u202f", " ").replace("\xa0", " ")), (locale, text)
    return message


LONG: Final[dict[str, Any]] = {
    "payer": "wallet:9f86d081884c7d65",
    "payee": "bank:SPDB:6222020000000001",
    "account_id": "wallet:9f86d081884c7d65",
    "subject": "wallet:9f86d081884c7d65",
    "functions": ["transfer", "withdrawal", "top_up"],
    "banks": ["ABC", "BOCOM", "PSBC"],
    "currencies": ["CNY"],
    "previous": {"starts_at": "2026-12-27T17:00:00Z", "ends_at": "2026-12-28T13:45:00Z"},
}
"""What is longest of what is usual; amounts are hundreds of millions."""


@pytest.mark.parametrize(("event_type", "role"), [one for one in TOLD if Channel.SMS in POLICY.events[one[0]].channels])
def test_a_text_message_says_everything_though_its_values_are_long(event_type: str, role: Role) -> None:
    for example, locale in itertools.product(EXAMPLES[event_type], Locale):
        text_message(tell(event_type, role, _at_length(example), locale, "Asia/Shanghai"), locale)


def _at_length(body: Any) -> Any:
    if isinstance(body, list):
        return [_at_length(one) for one in body]
    if not isinstance(body, dict):
        return body
    longer = {name: LONG.get(name) or _at_length(value) for name, value in body.items()}
    return longer | {name: 98_765_432_100 for name, value in longer.items() if name.endswith("_minor") and value}


@pytest.mark.parametrize("locale", Locale)
def test_a_title_that_is_too_long_for_a_text_message_is_cut(locale: Locale) -> None:
    text = Text("维护 maintenance " * 100, "x" * 2_000)
    message = WORDING.as_sms(text, locale, 3)
    assert message.endswith("...")
    assert count_segments(message) == 3


def test_there_are_no_words_that_nobody_is_told() -> None:
    assert WORDING.told() == set(TOLD)


@pytest.mark.parametrize("locale", Locale)
def test_every_reason_has_words_and_a_next_step(locale: Locale) -> None:
    assert WORDING.reasons(locale) == REASONS.keys()


@pytest.mark.parametrize("locale", Locale)
@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("code", ClosingCode),
        ("remedy", Remedy),
        ("cause", closure.Cause),
        ("consequences", closure.Consequence),
        ("what", closure.KeptData),
        ("why", closure.KeptBecause),
        ("why", closure.Deferred),
        ("kind", closure.ObligationKind),
        ("functions", maintenance.Function),
        ("before", maintenance.Before),
    ],
)
def test_every_code_that_people_are_told_has_words(locale: Locale, field: str, values: Any) -> None:
    assert set(typing.get_args(values)) <= WORDING.terms(locale, field)


@pytest.mark.parametrize("locale", Locale)
@pytest.mark.parametrize("event_type", ["closure.documents_required", "closure.rejected", "closure.reopen_refused"])
@pytest.mark.parametrize(("code", "remedy"), [(code, one) for code, all_ in REMEDIES.items() for one in all_])
def test_what_keeps_a_closing_from_going_on_is_told_with_what_mends_it(
    locale: Locale, event_type: str, code: str, remedy: str
) -> None:
    listed = "items" if event_type == "closure.documents_required" else "reasons"
    said = {**EXAMPLES[event_type][0], "obligations": [], listed: [{"code": code, "field": "f", "remedy": remedy}]}
    text = tell(event_type, Role.HOLDER, said, locale)
    assert_reads_well(text)
    others = {tell(event_type, Role.HOLDER, _mended(said, listed, one), locale) for one in REMEDIES if one != code}
    assert text not in others


def _mended(said: dict[str, Any], listed: str, code: ClosingCode) -> dict[str, Any]:
    return {**said, listed: [{"code": code, "field": "f", "remedy": REMEDIES[code][0]}]}


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
    assert "Nov 23, 2026, 3:30\u202fPM" in english.body
    assert "The fee was CN¥0.10. You now have CN¥0.50 available." in english.body
    chinese = tell("transfer.settled", Role.PAYER, body, Locale.CHINESE, "Asia/Shanghai")
    assert chinese.title == "已转出 ¥1,234.56"
    assert "2026年11月24日 04:30，" in chinese.body


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
    model = MODELS[event_type]
    needed = {name: EXAMPLES[event_type][0][name] for name, one in model.model_fields.items() if one.is_required()}
    for locale in Locale:
        assert_reads_well(tell(event_type, role, needed, locale))


@pytest.mark.parametrize(("event_type", "role"), TOLD)
def test_no_sentence_has_a_gap_where_something_is_missing_or_empty(event_type: str, role: Role) -> None:
    for example, locale in itertools.product(EXAMPLES[event_type], Locale):
        for lacking in _each_lacking_something(event_type, example):
            assert_reads_well(tell(event_type, role, lacking, locale))


def _each_lacking_something(event_type: str, example: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in paths(example):
        for change in ("remove", "", " ", [], 0):
            lacking = copy.deepcopy(example)
            parent = at(lacking, path[:-1])
            if change == "remove":
                del parent[path[-1]]
            else:
                parent[path[-1]] = change
            try:
                MODELS[event_type].model_validate_json(orjson.dumps(lacking))
            except ValidationError:
                continue
            yield lacking


# --- Windows ---

WINDOW: Final = EXAMPLES["window.extended"][0]


@pytest.mark.parametrize("locale", Locale)
def test_a_change_of_time_is_told_as_a_change(locale: Locale) -> None:
    for type_ in ("window.rescheduled", "window.extended"):
        body = {
            **EXAMPLES[type_][0],
            "ends_at": "2026-11-28T21:00:00Z",
            "previous": {"starts_at": "2026-11-28T18:07:00Z", "ends_at": "2026-11-28T20:17:00Z"},
        }
        text = tell(type_, Role.CONCERNED, body, locale)
        assert ("9:00\u202fPM" if locale == Locale.ENGLISH else "21:00") in text.title
        assert ("8:17\u202fPM" if locale == Locale.ENGLISH else "20:17") in text.body
        assert ("9:00\u202fPM" if locale == Locale.ENGLISH else "21:00") in text.body


def test_a_window_says_what_is_closed_with_which_banks_why_and_what_else_one_can_do() -> None:
    english = tell("window.scheduled", Role.CONCERNED, EXAMPLES["window.scheduled"][0]).body
    assert (
        "transfers and withdrawals with ICBC and China Construction Bank in Chinese Yuan are not available" in english
    )
    assert "(Upgrade of the core banking system)" in english
    assert "waits, and goes on by itself" in english
    assert "Or: Withdraw to a card of another bank. If it stops a payment of yours, this is" in english
    assert "to make up for it: Your next withdrawal costs no fee." in english
    chinese = tell("window.scheduled", Role.CONCERNED, EXAMPLES["window.scheduled"][0], Locale.CHINESE).body
    assert "暂停工商银行和建设银行的人民币转账和提现" in chinese


@pytest.mark.parametrize("type_", sorted(type_ for type_ in POLICY.events if type_.startswith("window.")))
def test_a_window_is_told_in_its_readers_language_alone(type_: str) -> None:
    said = {
        "zh-CN": ("银行要求", "请用另一张卡", "免一次手续费"),
        "en": ("The bank asked", "Use a card", "No fee once"),
    }
    for own, other in itertools.permutations(said):
        window = _window_saying(type_, *said[other])
        both = {**window, **_window_saying(type_, *said[other], said={own: said[own]})}
        read = tell(type_, Role.CONCERNED, both, Locale(own)).body
        # What is said in the other language alone is left out, and what it would say else is in the reader's words.
        less = tell(type_, Role.CONCERNED, window, Locale(own)).body
        theirs = tell(type_, Role.CONCERNED, window, Locale(other)).body
        for text in said[other]:
            assert text not in read + less
        for own_text, other_text in zip(said[own], said[other], strict=True):
            assert (own_text in read) == (other_text in theirs)
            assert own_text not in less
        assert (re.search("[\u4e00-\u9fff]", read + less) is not None) == (own == "zh-CN")


def _window_saying(
    type_: str, reason: str, way: str, gift: str, said: dict[str, tuple[str, str, str]] | None = None
) -> dict[str, Any]:
    in_each = [
        [{"locale": locale, "text": texts[place]} for locale, texts in (said or {}).items()] for place in range(3)
    ]
    return {
        **EXAMPLES[type_][0],
        "reason": reason,
        "reason_in": in_each[0],
        "change_reason": reason,
        "change_reason_in": in_each[0],
        "alternatives": [{"kind": "card", "text": way, "text_in": in_each[1]}],
        "compensation": {"kind": "fee_waiver", "value": 1, "text": gift, "text_in": in_each[2]},
    }


@pytest.mark.parametrize(
    ("compensation", "english", "chinese"),
    [
        ({"kind": "coupon", "value": 500, "currency": "CNY"}, "a coupon worth CN¥5.00.", "价值 ¥5.00 的优惠券一张。"),
        ({"kind": "coupon", "value": 500}, "this: a coupon.", "优惠券一张。"),
        ({"kind": "fee_waiver", "value": 1}, "your next fee is waived.", "免收一次手续费。"),
        ({"kind": "fee_waiver", "value": 3}, "your next 3 fees are waived.", "免收 3 次手续费。"),
    ],
)
def test_a_compensation_without_a_text_is_said_by_what_it_is(
    compensation: dict[str, Any], english: str, chinese: str
) -> None:
    body = {**EXAMPLES["compensation.granted"][0], "compensation": {**compensation, "text": ""}}
    for locale, words in ((Locale.ENGLISH, english), (Locale.CHINESE, chinese)):
        text = tell("compensation.granted", Role.HOLDER, body, locale)
        assert_reads_well(text)
        assert words in text.body


def test_a_window_says_whose_clock_it_goes_by() -> None:
    for type_ in ("window.scheduled", "window.rescheduled", "window.reminder", "window.started", "window.extended"):
        assert "(Beijing time)" in tell(type_, Role.CONCERNED, EXAMPLES[type_][0]).body
        assert "北京时间" in tell(type_, Role.CONCERNED, EXAMPLES[type_][0], Locale.CHINESE).body


def test_a_bank_without_a_name_is_said_by_its_code_and_others_texts_end_as_sentences() -> None:
    body = {**WINDOW, "scope": {"banks": ["XIB"]}, "alternatives": [{"kind": "k", "text": "Pay by card"}]}
    text = tell("window.started", Role.CONCERNED, body).body
    assert "with XIB are not available" in text
    assert "Or: Pay by card. If" in text


def test_a_window_of_a_currency_names_it_in_its_title() -> None:
    body = {**EXAMPLES["window.scheduled"][0], "functions": ["transfer"], "scope": {"currencies": ["USD"]}}
    assert tell("window.scheduled", Role.CONCERNED, body).title.startswith("No transfers in US Dollar from")
    assert "暂停美元转账" in tell("window.scheduled", Role.CONCERNED, body, Locale.CHINESE).title


@pytest.mark.parametrize("functions", [["top_up"], ["transfer", "top_up"], ["transfer"]])
def test_a_window_that_refuses_says_what_becomes_of_money_that_a_bank_has_sent(functions: list[str]) -> None:
    body = {**EXAMPLES["window.scheduled"][0], "functions": functions, "treatment": "reject"}
    english = tell("window.scheduled", Role.CONCERNED, body).body
    chinese = tell("window.scheduled", Role.CONCERNED, body, Locale.CHINESE).body
    takes_top_ups = "top_up" not in functions
    assert ("no money is taken" in english, "也不会扣款" in chinese) == (takes_top_ups, takes_top_ups)
    goes_back = not takes_top_ups
    assert ("goes back to it by itself" in english, "会自动退回" in chinese) == (goes_back, goes_back)


def test_the_end_of_a_window_promises_nothing_of_others_that_go_on() -> None:
    english = tell("window.ended", Role.CONCERNED, EXAMPLES["window.ended"][0])
    chinese = tell("window.ended", Role.CONCERNED, EXAMPLES["window.ended"][0], Locale.CHINESE)
    assert "Unless other maintenance that we told you of is still under way" in english.body
    assert "如无我们已通知您的其他维护仍在进行" in chinese.body
    assert english.title.startswith("Maintenance is over")
    assert chinese.title.startswith("维护已结束")


@pytest.mark.parametrize("type_", sorted(type_ for type_, role in TOLD if role == Role.PAYER))
def test_a_withdrawal_is_called_one_in_chinese(type_: str) -> None:
    for example in EXAMPLES[type_]:
        asked = {**example, "kind": "withdrawal", "payer": "wallet:alice", "payee": "bank:ICBC:6222020000000001"}
        assert "转账" not in "".join(tell(type_, Role.PAYER, asked, Locale.CHINESE))


# --- Closing ---


def test_another_wallet_below_zero_is_named() -> None:
    body = copy.deepcopy(EXAMPLES["closure.rejected"][0])
    body["obligations"] = [{**body["obligations"][2], "account_id": "wallet:1234567890"}]
    assert "wallet below zero (your wallet ending 890) CN¥12.50." in tell("closure.rejected", Role.HOLDER, body).body


def test_who_confirms_in_vain_is_told_why() -> None:
    _, missing = EXAMPLES["closure.command_refused"]
    assert "name the bank account" in tell("closure.command_refused", Role.HOLDER, missing).body


def test_what_is_owed_is_listed_each_in_its_currency() -> None:
    body = copy.deepcopy(EXAMPLES["closure.rejected"][0])
    body["obligations"][1] |= {"currency": "USD"}
    text = tell("closure.rejected", Role.HOLDER, body).body
    assert "loan ending 0042 CN¥1,062.00, credit card $203.10, wallet below zero CN¥12.50." in text
    assert (
        "待还：贷款（尾号 0042） ¥1,062.00，信用卡 US$203.10，钱包欠款 ¥12.50。"
        in tell("closure.rejected", Role.HOLDER, body, Locale.CHINESE).body
    )


def test_who_closes_a_wallet_sees_the_balance_the_fee_the_payout_and_the_deadline_before_they_confirm() -> None:
    text = tell("closure.approved", Role.HOLDER, EXAMPLES["closure.approved"][0]).body
    assert "Your balance is CN¥1,259.90, the fee is CN¥10.00, and CN¥1,249.90 is paid out to the account ending" in text
    assert "by Nov 30, 2026, 4:00\u202fPM" in text
    assert "the fee" not in tell("closure.approved", Role.HOLDER, EXAMPLES["closure.approved"][1]).body


@pytest.mark.parametrize(("locale", "asks"), [(Locale.ENGLISH, "name the bank account"), (Locale.CHINESE, "请先指定")])
def test_who_named_no_account_is_asked_for_one_before_they_confirm(locale: Locale, asks: str) -> None:
    approved = EXAMPLES["closure.approved"][0]
    assert asks not in tell("closure.approved", Role.HOLDER, approved, locale).body
    assert asks in tell("closure.approved", Role.HOLDER, {**approved, "payee": None}, locale).body
    has_nothing = {**approved, "payee": None, "fee_minor": approved["balance_minor"], "payout_minor": 0}
    assert asks not in tell("closure.approved", Role.HOLDER, has_nothing, locale).body


@pytest.mark.parametrize("type_", ["transfer.failed", "transfer.refunded"])
def test_nobody_is_told_to_send_the_payout_of_a_closing_again(type_: str) -> None:
    reason = {"code": "rail_rejected", "retryable": False, "refund": "automatic"}
    body = {**EXAMPLES[type_][0], "reason": reason}
    assert "send it again" in tell(type_, Role.PAYER, body).body
    paid_out = tell(type_, Role.PAYER, {**body, "case_id": str(UUID(int=1))}).body
    assert "the bank refused it." in paid_out
    assert "again" not in paid_out


def test_the_last_notice_has_the_receipt_and_what_is_kept_for_how_long() -> None:
    text = tell("closure.erasing", Role.HOLDER, EXAMPLES["closure.erasing"][0])
    assert "R-20261123-4F50A" in text.title
    assert "CN¥1,249.90 went to the account ending 0001, after the fee of CN¥10.00." in text.body
    assert "your identity until Nov 23, 2036 (law against money laundering)" in text.body


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
        ("{% include 'closed' %}", "{% include 'closing' %}", "closing"),
        ("{% include 'closed' %}", "{% include support %}", "window.scheduled"),
        ('what = "{{', "what = \"{% include 'what' %}{{", "window.scheduled"),
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


@pytest.mark.parametrize(
    ("locale", "words", "later"),
    [
        (
            Locale.ENGLISH,
            ("nothing can be sent", "4:30", "not a credit record", "still receive", "tell us at once"),
            "6:30",
        ),
        (Locale.CHINESE, ("不能转出", "16:30", "不是信用记录", "仍可收款", "立即联系我们"), "18:30"),
    ],
)
def test_a_flag_says_what_is_restricted_until_when_and_that_it_is_no_credit_record(
    locale: Locale, words: tuple[str, ...], later: str
) -> None:
    alone, with_another = (
        tell("risk.flagged", Role.HOLDER, example, locale, "Asia/Shanghai") for example in EXAMPLES["risk.flagged"]
    )
    assert [word for word in words if word not in alone.body] == []
    # Another rule's lasts longer: that is the end to tell.
    assert words[1] not in with_another.title + with_another.body
    assert later in with_another.title
