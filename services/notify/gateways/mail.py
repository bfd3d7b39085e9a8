"""Composes mails: a plain part and an HTML part under headers in which nobody's text can become a header.

The standard library's `EmailMessage` takes about a millisecond a mail; these mails are all alike, so they are put
together from bytes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from email.utils import format_datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from email_validator import EmailNotValidError, validate_email
from jinja2 import Environment, FileSystemLoader, StrictUndefined

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from jinja2 import Template

    from services.notify.gateways.gateway import Email

# C0, DEL, C1, and what Unicode calls line and paragraph separators.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_MAILBOX: Final = re.compile(r"[\w!#$%&'*+/=?^`{|}~-]+(\.[\w!#$%&'*+/=?^`{|}~-]+)*@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")
_REFERENCE: Final = re.compile(r"[!-~]{1,200}")
_UNSUBSCRIBE: Final = re.compile(r"(https?|mailto):[!-;=?-~]{1,900}")
_PLAIN_HEADER: Final = re.compile(r"(?!.*=\?)[ -~]{0,60}")
_SEVEN_BITS: Final = re.compile(rb"(?:[\t -~]{0,900}(?:\r\n|\Z))*")
_LONGEST_LOCAL_PART: Final = 64
_LONGEST_ADDRESS: Final = 254
_WORD_CHARACTERS: Final = 11
"""An encoded word holds 45 bytes (RFC 2047), which are eleven characters at least."""


class NotComposed(ValueError):
    """A mail cannot be made of this: the text says which part of it is wrong and why, and never quotes it."""


class Sender(NamedTuple):
    """Who mails are from: an address, the name beside it, and where answers go if not there."""

    address: str
    name: str = ""
    reply_to: str | None = None


class Link(NamedTuple):
    """A link at the foot of an HTML mail."""

    words: str
    address: str


def compose(email: Email, sender: Sender, now: datetime) -> bytes:
    """Return the mail as it goes over the wire, with CRLF line ends; the same mail gets the same bytes.

    Raises:
        NotComposed: an address is none, or a header would hold a control character.
    """
    if not _REFERENCE.fullmatch(email.reference):
        raise NotComposed("the reference is not 1 to 200 printable ASCII characters")
    text, html = _body("text", email.text), _body("HTML", email.html)
    # Nobody can write a text that holds its own hash, so that none can end its part early.
    boundary = hashlib.blake2b(text + html, digest_size=16).hexdigest()
    headers = (
        f"Date: {format_datetime(now)}\r\n"
        f"{_sender_headers(sender)}"
        f"To: {mailbox(email.to)}\r\n"
        f"Subject: {_header_text('subject', email.subject)}\r\n"
        f"Message-ID: <{_message_id(email.reference)}@{domain_of(sender.address)}>\r\n"
        f"X-Reference: {email.reference}\r\n"
        f"{_unsubscribe_headers(email.unsubscribe)}"
        f'Content-Type: multipart/alternative; boundary="{boundary}"\r\n'
    )
    start = f"\r\n--{boundary}\r\n".encode()
    return b"".join((headers.encode(), start, text, start, html, f"\r\n--{boundary}--\r\n".encode()))


@lru_cache(maxsize=1_024)
def mailbox(address: str) -> str:
    """Return an address as mail servers take it: its domain in ASCII, its local part as it is.

    Where the result is not ASCII the server must know SMTPUTF8 (RFC 6531).

    Raises:
        NotComposed: it is not an address.
    """
    local_part = address.partition("@")[0]
    if address.isascii():
        is_one = _MAILBOX.fullmatch(address) and len(local_part) <= _LONGEST_LOCAL_PART
        if not is_one or len(address) > _LONGEST_ADDRESS:
            raise NotComposed("the address is not a mail address")
        return address
    try:
        checked = validate_email(address, check_deliverability=False, test_environment=True)
    except (EmailNotValidError, UnicodeError):
        raise NotComposed("the address is not a mail address") from None
    return f"{checked.local_part}@{checked.ascii_domain}"


def domain_of(address: str) -> str:
    """Return the domain of an address, in ASCII; NotComposed when it is not an address."""
    return mailbox(address).rpartition("@")[2]


@lru_cache(maxsize=64)
def _sender_headers(sender: Sender) -> str:
    address = mailbox(sender.address)
    name = _display_name(sender.name)
    reply_to = f"Reply-To: {mailbox(sender.reply_to)}\r\n" if sender.reply_to else ""
    whom = f"{name}\r\n <{address}>" if name else address
    return f"From: {whom}\r\n{reply_to}MIME-Version: 1.0\r\nAuto-Submitted: auto-generated\r\n"


def _display_name(name: str) -> str:
    text = _header_text("sender's name", name)
    if text != name or not name:
        return text
    escaped = name.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'


def _unsubscribe_headers(address: str | None) -> str:
    if address is None:
        return ""
    if not _UNSUBSCRIBE.fullmatch(address):
        raise NotComposed("the address for unsubscribing is not one of http, https or mailto")
    # One click is a POST (RFC 8058), which a mailbox cannot take.
    is_one_click = address.startswith("http")
    post = "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" if is_one_click else ""
    return f"List-Unsubscribe: <{address}>\r\n{post}"


def _message_id(reference: str) -> str:
    return hashlib.blake2b(reference.encode(), digest_size=16).hexdigest()


def _header_text(what: str, text: str) -> str:
    """Return a text as a header holds it: short printable ASCII as it is, everything else in encoded words."""
    if _PLAIN_HEADER.fullmatch(text):
        return text
    if _CONTROL.search(text):
        raise NotComposed(f"the {what} holds a control character")
    parts = (text[at : at + _WORD_CHARACTERS] for at in range(0, len(text), _WORD_CHARACTERS))
    return "\r\n ".join(f"=?utf-8?b?{base64.b64encode(_encode(what, part)).decode()}?=" for part in parts)


def _body(what: str, text: str) -> bytes:
    kind = "html" if what == "HTML" else "plain"
    # Text on the wire has CRLF line ends, under whatever encoding (RFC 2046, 4.1.1).
    content = _encode(what, text.replace("\r\n", "\n").replace("\n", "\r\n"))
    encoding = "7bit" if _SEVEN_BITS.fullmatch(content) else "base64"
    if encoding == "base64":
        content = base64.encodebytes(content).replace(b"\n", b"\r\n")
    header = f"Content-Type: text/{kind}; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return header.encode() + content


def _encode(what: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise NotComposed(f"the {what} holds half a character") from None


# --- HTML ---


def html_of(
    title: str, paragraphs: Sequence[str], *, language: str, footer: Sequence[str] = (), links: Sequence[Link] = ()
) -> str:
    """Return a small HTML mail that reads well on any screen, light or dark.

    `language` is its tag (`zh-CN`); all texts are plain and are escaped; a line end in a paragraph stays one.
    """
    return _template().render(title=title, paragraphs=paragraphs, language=language, footer=footer, links=links)


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("mail.html.j2")
