"""Mails as bytes: what a mail program reads in them, and that no text becomes a header."""

from __future__ import annotations

from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.headerregistry import Address
from email.utils import unquote
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notify.gateways.gateway import Email
from services.notify.gateways.mail import Link, NotComposed, Sender, compose, html_of, mailbox

if TYPE_CHECKING:
    from email.message import EmailMessage

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
SENDER = Sender("no-reply@sluice.example", "流水钱包", "care@sluice.example")
MAIL = Email("n-1.email.1", "li@example.test", "转账成功", "您好\n", "<p>您好</p>", "https://sluice.example/u?t=1")
HEADERS = [
    "Date",
    "From",
    "Reply-To",
    "MIME-Version",
    "Auto-Submitted",
    "To",
    "Subject",
    "Message-ID",
    "X-Reference",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "Content-Type",
]


def read(content: bytes) -> EmailMessage:
    """Read a mail as a mail program does."""
    return message_from_bytes(content, policy=policy.default)


def body(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


def decoded(header: str) -> str:
    return str(make_header(decode_header(header)))


def test_a_mail_says_who_what_when_and_how_to_stop_it() -> None:
    message = read(compose(MAIL, SENDER, NOW))
    assert message.keys() == HEADERS
    assert message["From"].addresses == (Address("流水钱包", addr_spec="no-reply@sluice.example"),)
    assert message["Date"].datetime == NOW
    assert message["Message-ID"].endswith("@sluice.example>")
    assert {name: message[name] for name in ("To", "Reply-To", "Subject", "X-Reference", "Auto-Submitted")} == {
        "To": "li@example.test",
        "Reply-To": "care@sluice.example",
        "Subject": "转账成功",
        "X-Reference": "n-1.email.1",
        "Auto-Submitted": "auto-generated",
    }
    assert message["List-Unsubscribe"] == "<https://sluice.example/u?t=1>"
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert (body(message, "plain"), body(message, "html").strip()) == ("您好\n", "<p>您好</p>")


def test_only_a_page_can_be_posted_to_and_a_mail_without_an_address_says_nothing_of_unsubscribing() -> None:
    by_mail = read(compose(MAIL._replace(unsubscribe="mailto:stop@sluice.example"), SENDER, NOW))
    assert (by_mail["List-Unsubscribe"], by_mail["List-Unsubscribe-Post"]) == ("<mailto:stop@sluice.example>", None)
    not_at_all = read(compose(MAIL._replace(unsubscribe=None), SENDER, NOW))
    assert not [name for name in not_at_all.keys() if name.startswith("List-")]  # noqa: SIM118


def test_an_attempt_keeps_its_message_id_and_another_has_another() -> None:
    ids = [
        read(compose(mail, sender, NOW))["Message-ID"]
        for mail, sender in [
            (MAIL, SENDER),
            (MAIL._replace(subject="Again"), SENDER),
            (MAIL._replace(reference="n-1.email.2"), SENDER),
            (MAIL, Sender("a@other.example")),
        ]
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


@pytest.mark.parametrize(
    "changed",
    [
        {"subject": "Hello\r\nBcc: all@example.test"},
        {"subject": "Hello\nBcc: all@example.test"},
        {"subject": "Hello\rBcc: all@example.test"},
        {"subject": "Hello\x00"},
        {"subject": "转账\x0b成功"},
        {"subject": "转账\x85成功"},
        {"subject": "转账\u2028成功"},
        {"subject": "half \ud800"},
        {"text": "half \ud800"},
        {"html": "half \udfff"},
        {"to": "li@example.test\r\nBcc: all@example.test"},
        {"to": "li@example.test\n"},
        {"to": "li@example.test, wang@example.test"},
        {"to": "Li <li@example.test>"},
        {"to": "li@example.test> SIZE=1"},
        {"to": '"li\r\n"@example.test'},
        {"to": "李\r\n@example.test"},
        {"to": "li@例子\u2028.test"},
        {"to": "\ud800@example.test"},
        {"to": "example.test"},
        {"to": "@example.test"},
        {"to": ""},
        {"to": "a" * 65 + "@example.test"},
        {"to": "a@" + "b." * 130 + "test"},
        {"reference": ""},
        {"reference": "n-1\r\nBcc: all@example.test"},
        {"reference": "n 1"},
        {"reference": "第一"},
        {"reference": "n" * 201},
        {"unsubscribe": "https://a.test/\r\nBcc: all@example.test"},
        {"unsubscribe": "https://a.test/>, <mailto:all@example.test"},
        {"unsubscribe": "javascript:alert(1)"},
        {"unsubscribe": ""},
    ],
    ids=repr,
)
def test_what_would_break_out_of_its_header_is_refused(changed: dict[str, str]) -> None:
    with pytest.raises(NotComposed):
        compose(MAIL._replace(**changed), SENDER, NOW)


@pytest.mark.parametrize(
    "sender",
    [
        Sender("a@b.test", "Sluice\r\nBcc: all@example.test"),
        Sender("a@b.test\r\nBcc: all@example.test"),
        Sender("a@b.test", "", "c@d.test\nBcc: all@example.test"),
    ],
)
def test_so_is_a_sender(sender: Sender) -> None:
    with pytest.raises(NotComposed):
        compose(MAIL, sender, NOW)


@given(
    subject=st.text(max_size=200),
    name=st.text(max_size=80),
    to=st.one_of(st.emails(), st.text(max_size=60), st.text(max_size=20).map(lambda text: f"{text}@example.test")),
    text=st.text(max_size=300),
)
def test_no_text_ever_becomes_a_header_or_a_part(subject: str, name: str, to: str, text: str) -> None:
    try:
        content = compose(Email("r", to, subject, text, text), Sender("a@b.test", name), NOW)
    except NotComposed:
        return
    head = content.partition(b"\r\n\r\n")[0].replace(b"\r\n ", b" ")
    names = [line.partition(b":")[0].decode() for line in head.split(b"\r\n")]
    assert names == [name for name in HEADERS if name != "Reply-To" and not name.startswith("List-")]
    assert b"\n" not in content.replace(b"\r\n", b"")
    assert b"\r" not in content.replace(b"\r\n", b"")
    message = read(content)
    assert len(list(message.iter_parts())) == 2
    assert max(map(len, content.split(b"\r\n"))) <= 998


@given(st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=200).map(str.strip))
def test_a_subject_and_a_name_read_as_they_were_written(text: str) -> None:
    content = compose(MAIL._replace(subject=text), Sender("a@b.test", text), NOW)
    # Not the newer policies: until Python 3.13 they put spaces between the encoded words of a name.
    message = message_from_bytes(content, policy=policy.compat32)
    assert decoded(message["Subject"]) == text
    assert unquote(decoded(message["From"].rpartition("<")[0].strip())) == text
    head = content.partition(b"\r\n\r\n")[0]
    assert all(len(line) <= 78 for line in head.split(b"\r\n") if b"boundary" not in line)


@given(st.text(max_size=2_000))
def test_bodies_read_as_they_were_written(text: str) -> None:
    try:
        message = read(compose(MAIL._replace(text=text, html=text), SENDER, NOW))
    except NotComposed:
        return
    for kind in ("plain", "html"):
        part = message.get_body((kind,))
        assert part is not None
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        assert content.decode() == text.replace("\r\n", "\n").replace("\n", "\r\n")


@pytest.mark.parametrize(
    ("address", "wire"),
    [
        ("li@example.test", "li@example.test"),
        ("first.last+tag@mail.example.test", "first.last+tag@mail.example.test"),
        ("li@例子.test", "li@xn--fsqu00a.test"),
        ("李@例子.test", "李@xn--fsqu00a.test"),
        ("root@localhost", "root@localhost"),
    ],
)
def test_a_domain_goes_over_the_wire_in_ascii(address: str, wire: str) -> None:
    assert mailbox(address) == wire


def test_html_is_escaped_and_says_its_language() -> None:
    html = html_of(
        "<b>5 & 6</b>",
        ["<script>alert(1)</script>", '"quoted"'],
        language="zh-CN",
        footer=["<i>"],
        links=[Link("<u>", 'https://a.test/?a=1&b="2"')],
    )
    assert '<html lang="zh-CN">' in html
    assert "color-scheme" in html
    for raw in ("<b>", "<script>", "<i>", "<u>", '"2"'):
        assert raw not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert 'href="https://a.test/?a=1&amp;b=&#34;2&#34;"' in html
