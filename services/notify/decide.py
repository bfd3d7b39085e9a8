"""Decides who is told of an event, what became of each notice, and what happens to those that wait."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson

from schemas.envelope import encode_headers
from schemas.fields import as_text
from schemas.registry import TOPICS
from services.notify.model import (
    Announcement,
    Category,
    Channel,
    InboxMessage,
    Locale,
    Notice,
    Role,
    Status,
    Waiting,
    Why,
)
from services.runtime.message import Outgoing, Timer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from schemas.customer import CustomerProfile
    from services.notify.model import Customer
    from services.notify.policy import Policy, Rule
    from services.notify.wording import Wording
    from services.runtime.message import Lane, Message

SOURCE: Final = "sluice/notify"
EVENTS: Final = "notify.events"
PROFILE_TIMER: Final = "profile"

_NOTICES: Final = uuid.UUID("5f3c2f0e-6f4b-5d0a-9d0b-6a1c9b8f7e21")
_HOME_ZONE: Final = "Asia/Shanghai"
_ADDRESSED: Final = {Role.PAYER: "payer_customer_id", Role.PAYEE: "payee_customer_id", Role.HOLDER: "customer_id"}


@dataclass(frozen=True, slots=True)
class Rules:
    """What every decision is drawn from besides the facts."""

    policy: Policy
    wording: Wording


@dataclass(slots=True)
class Facts:
    """What the database knew of a batch's subjects when it was loaded; the customers are locked."""

    customers: dict[str, Customer] = field(default_factory=dict)
    announced: set[str] = field(default_factory=set)
    waiting: dict[str, list[Waiting]] = field(default_factory=dict)
    """By customer, the oldest first."""


class Book:
    """The facts of a batch, changed in memory, and everything that has to be recorded or published afterwards."""

    def __init__(self, facts: Facts, rules: Rules, now: datetime) -> None:
        self.rules = rules
        self.now = now
        self.now_text = as_text(now)
        self.customers = facts.customers
        self.announced = facts.announced
        self.waiting = facts.waiting
        self.changed: dict[str, Customer] = {}
        self.announcements: list[Announcement] = []
        self.notices: list[Notice] = []
        self.begun: list[Waiting] = []
        self.ended: list[Notice] = []
        self.inbox: list[InboxMessage] = []
        self.erased: set[str] = set()
        self.outgoing: list[Outgoing] = []
        self.timers: list[Timer] = []


# --- Events ---


def recipients(message: Message, policy: Policy) -> Iterator[tuple[Role, str]]:
    """Yield whom an event is told to; somebody who has two roles in it is told in the first."""
    rule = policy.events.get(message.type)
    told: set[str] = set()
    for role in rule.to if rule else ():
        customer_id = getattr(message.data, _ADDRESSED[role], None)
        if customer_id is not None and customer_id not in told:
            told.add(customer_id)
            yield role, customer_id


def decide_event(book: Book, message: Message) -> None:
    """Tell everybody whom an event concerns, once; an event that was accepted before is a repeat."""
    if message.data is None or message.id in book.announced:
        return
    addressed = list(recipients(message, book.rules.policy))
    if not addressed:
        return
    rule = book.rules.policy.events[message.type]
    event = message.data.model_dump()
    book.announced.add(message.id)
    accepted = len(addressed) * len(rule.channels)
    book.announcements.append(Announcement(message.id, message.type, accepted, book.now))
    waits = False
    for role, customer_id in addressed:
        for channel in rule.channels:
            notice = _new_notice(book, message, rule, role, customer_id, channel)
            ended = _try(book, message.lane, notice, message.type, event)
            book.notices.append(ended or notice)
            if ended is None:
                waits = True
                book.begun.append(Waiting(notice, message.type, message.data.model_dump_json().encode()))
    if waits:
        due_at = book.now + timedelta(seconds=book.rules.policy.waiting.profile_within_s)
        book.timers.append(Timer(message.lane, PROFILE_TIMER, message.id, due_at))


def _new_notice(book: Book, message: Message, rule: Rule, role: Role, customer_id: str, channel: Channel) -> Notice:
    return Notice(
        notice_id=uuid.uuid5(_NOTICES, f"{message.id}\n{customer_id}\n{channel}"),
        event_id=message.id,
        customer_id=customer_id,
        channel=channel,
        role=role,
        category=rule.category,
        urgency=rule.urgency,
        status=Status.PENDING,
        why=Why.PROFILE_MISSING,
        created_at=book.now,
        ended_at=None,
    )


def _try(book: Book, lane: Lane, notice: Notice, type_: str, event: Mapping[str, Any]) -> Notice | None:
    """Return the notice as it ends now; None when it has to wait."""
    customer = book.customers[notice.customer_id]
    if not customer.is_known:
        return None
    # What is for a person's own security reaches them whatever they chose.
    if not customer.wants_in_app and notice.category != Category.SECURITY:
        return _end(book, lane, notice, type_, Status.SUPPRESSED, Why.CHANNEL_OFF)
    locale = Locale(customer.locale)
    text = book.rules.wording.tell(type_, Role(notice.role), event, locale, customer.time_zone)
    customer.inbox_count += 1
    book.changed[customer.customer_id] = customer
    book.inbox.append(
        InboxMessage(
            customer.customer_id, customer.inbox_count, notice.notice_id, locale, text.title, text.body, book.now
        )
    )
    return _end(book, lane, notice, type_, Status.DELIVERED, None)


def _end(book: Book, lane: Lane, notice: Notice, type_: str, status: Status, why: Why | None) -> Notice:
    ended = notice._replace(status=status, why=why, ended_at=book.now)
    body: dict[str, Any] = {
        "notice_id": str(notice.notice_id),
        "event_id": notice.event_id,
        "customer_id": notice.customer_id,
        "channel": notice.channel,
        "template": type_,
        "category": notice.category,
        "occurred_at": book.now_text,
    }
    if why is not None:
        body["why"] = why
    headers = encode_headers(
        f"notification.{status}",
        id=f"{notice.notice_id}.{status}",
        source=SOURCE,
        time=book.now_text,
        subject=str(notice.notice_id),
    )
    book.outgoing.append(Outgoing(lane, EVENTS, notice.customer_id.encode(), orjson.dumps(body), headers))
    return ended


# --- Profiles ---


def decide_profile(book: Book, lane: Lane, profile: CustomerProfile) -> None:
    """Take note of how a customer wants to be told, and tell them what waited for it."""
    customer = book.customers[profile.customer_id]
    customer.is_known = True
    customer.locale = profile.locale
    customer.time_zone = zone_or_home(profile.time_zone)
    customer.wants_in_app = profile.preferences.channels.in_app
    book.changed[customer.customer_id] = customer
    for waiting in book.waiting.pop(customer.customer_id, ()):
        ended = _try(book, lane, waiting.notice, waiting.type, _read(waiting))
        if ended is not None:
            book.ended.append(ended)


def decide_erasure(book: Book, lane: Lane, customer_id: str) -> None:
    """Forget a customer: what they were told goes, what waited is suppressed, the accounting stays."""
    customer = book.customers[customer_id]
    customer.is_known = False
    customer.locale, customer.time_zone, customer.wants_in_app = Locale.CHINESE, _HOME_ZONE, True
    book.changed[customer_id] = customer
    book.erased.add(customer_id)
    book.inbox = [message for message in book.inbox if message.customer_id != customer_id]
    for waiting in book.waiting.pop(customer_id, ()):
        book.ended.append(_end(book, lane, waiting.notice, waiting.type, Status.SUPPRESSED, Why.ERASED))


def zone_or_home(name: str) -> str:
    """Return the time zone of that name, or the platform's own where there is none."""
    try:
        return ZoneInfo(name).key
    except (ValueError, OSError, ZoneInfoNotFoundError):
        return _HOME_ZONE


def _read(waiting: Waiting) -> dict[str, Any]:
    return TOPICS["transfer.events"][waiting.type].model_validate_json(waiting.body).model_dump()


# --- Waiting too long ---


def decide_timer(book: Book, timer: Timer) -> None:
    """Suppress what still waits of an event: there was no profile in time."""
    for of_customer in book.waiting.values():
        for waiting in [one for one in of_customer if one.notice.event_id == timer.subject]:
            of_customer.remove(waiting)
            ended = _end(book, timer.lane, waiting.notice, waiting.type, Status.SUPPRESSED, Why.PROFILE_MISSING)
            book.ended.append(ended)
