"""How a person's messages become a gateway's: which channel it serves, and what it is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from services.notify.gateways.gateway import Email, Sms
from services.notify.gateways.mail import Link, html_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.notify.contacts import Contacts
    from services.notify.gateways.gateway import Gateway
    from services.notify.model import Channel, Text

M = TypeVar("M", Sms, Email)
"""What a gateway takes."""


class Leaving(NamedTuple):
    """How a person gets no more of a kind of mail: by a link with these words, or as these words say by themselves."""

    words: str
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Route(Generic[M]):
    """A gateway, the channel that it serves and how many messages a second it may be given; None is any number."""

    gateway: Gateway[M]
    channel: Channel
    rate_per_s: float | None
    make: Callable[[str, Contacts, str, Text, Leaving | None], M]


def make_sms(reference: str, contacts: Contacts, _locale: str, text: Text, _leaving: Leaving | None) -> Sms:
    """Return a text for a person's phone; that of marketing says by itself how to get no more of it."""
    return Sms(reference, contacts.phone or "", text.body)


def make_email(reference: str, contacts: Contacts, locale: str, text: Text, leaving: Leaving | None) -> Email:
    """Return a mail for a person's mailbox; marketing says how to get no more of it."""
    to = contacts.email or ""
    if leaving is None:
        return Email(reference, to, text.title, text.body, html_of(text.title, [text.body], language=locale))
    words, address = leaving
    links, footer = ([Link(words, address)], []) if address else ([], [words])
    html = html_of(text.title, [text.body], language=locale, footer=footer, links=links)
    said = f"{words}: {address}" if address else words
    return Email(reference, to, text.title, f"{text.body}\n\n{said}", html, address)
