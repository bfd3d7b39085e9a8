"""Whatever a provider quotes of a message, nothing of it is kept; what it says besides is."""

from __future__ import annotations

from urllib.parse import quote

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notify.gateways.gateway import Answer, Email, Outcome, Sms
from services.notify.gateways.quoting import kept, kept_code

TEXT = "王小明，您的验证码是482913，请勿告诉他人。"
SMS = Sms("r.1", "+8613812345678", TEXT)
MAIL = Email("r.1", "wang.xm@mail.example", "Dear Xiaoming Wang", "CN¥12.50 went to Li Na at 08:30.", "<p></p>")
PERSONAL = ("王小明", "小明", "482913", "12345678", "1381234", "wang.xm", "mail.example", "Xiaoming Wang", "Li Na at")


def refused(said: str, **fields: str) -> Answer:
    return Answer("r.1", Outcome.PERMANENT, said=said, **fields)


@pytest.mark.parametrize(
    ("said", "message", "left"),
    [
        ("invalid number +8613812345678", SMS, "invalid number***"),
        ("invalid number 138-1234-5678, check it", SMS, "invalid number***, check it"),
        ("invalid number (0086) 138 1234 5678", SMS, "invalid number***"),
        ("no route to 12345678", SMS, "no route to***"),
        ("blocked: 王小明，您的验证码", SMS, "blocked: ***"),
        (f"blocked: {orjson.dumps(TEXT).decode()}", SMS, 'blocked: "***"'),
        (f"blocked: {quote('王小明')}", SMS, "blocked: ***"),
        (r"blocked: \u738b\u5c0f\u660e", SMS, "blocked: ***"),
        ("code 482913 twice", SMS, "code *** twice"),
        ("<Wang.XM@mail.example>: no such user", MAIL, "<***>: no such user"),
        ("wang.xm is no user here", MAIL, "*** is no user here"),
        ("try ming.wang@other.example instead", MAIL, "try *** instead"),
        ("spam: dear xiaoming wang", MAIL, "spam: ***"),
        ("spam: 'went to Li Na at 08:30.'", MAIL, "spam: '***'"),
        ("the mailbox\r\nis full", MAIL, "the mailbox is full"),
        ("4.2.2 over quota, see 192.0.2.10", MAIL, "4.2.2 over quota, see 192.0.2.10"),
    ],
)
def test_a_quotation_is_masked_and_the_rest_is_left(said: str, message: Sms | Email, left: str) -> None:
    assert kept(refused(said), message).why == left


@pytest.mark.parametrize("message", [SMS, MAIL])
def test_the_whole_message_echoed_leaves_nothing_of_it(message: Sms | Email) -> None:
    why = kept(refused(f"{message} {message!r} {tuple(message)}", why="it was refused"), message).why
    assert why is not None
    assert why.startswith("it was refused: ")
    assert not [one for one in PERSONAL if one.lower() in why.lower()]


@given(before=st.text(max_size=40), after=st.text(max_size=40), cut=st.integers(0, 20))
def test_wherever_it_is_quoted_it_is_found(before: str, after: str, cut: int) -> None:
    why = kept(refused(f"{before} {TEXT[: len(TEXT) - cut]} {SMS.to} {after}"), SMS).why
    assert why is not None
    assert len(why) <= 200
    assert why.isprintable()
    assert "12345678" not in why
    assert "王小" not in why


def test_without_the_message_only_our_own_words_are_kept_and_of_a_success_none() -> None:
    assert kept(refused("王小明", why="in our words"), None).why == "in our words"
    assert kept(Answer("r.1", Outcome.ACCEPTED, "id", said=TEXT), SMS) == Answer("r.1", Outcome.ACCEPTED, "id")


@pytest.mark.parametrize(
    "code", ["503", "5.1.1", "ESME_RINVDSTADR", "0x00000411", "isv.BUSINESS_LIMIT_CONTROL", "no-answer"]
)
def test_a_code_is_kept(code: str) -> None:
    assert kept_code(code) == code


@pytest.mark.parametrize(
    "code", [None, "", "8613812345678", "wang.xm@mail.example", "王小明", "Wang Xiaoming", "x" * 41, "a\0"]
)
def test_what_is_no_code_is_not(code: str | None) -> None:
    assert kept_code(code) is None


@pytest.mark.parametrize("id_", ["x" * 257, "a\0b", ""])
def test_an_id_that_no_receipt_could_name_is_not_kept(id_: str) -> None:
    assert kept(Answer("r.1", Outcome.ACCEPTED, id_), SMS).provider_message_id is None
