"""Decides who is told of an event, what becomes of each notice at once, and what happens to those that wait."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from zoneinfo import available_timezones

import orjson

from schemas.envelope import encode_headers
from schemas.fields import as_text
from schemas.notify import NotificationRequest
from schemas.reasons import FOR_A_WHILE
from schemas.registry import MODELS
from schemas.risk import RiskCleared
from services.notify.contacts import Contacts, hash_address, read_contacts
from services.notify.model import (
    Announcement,
    Category,
    Channel,
    Delivery,
    DigestItem,
    ErasedBy,
    Gathered,
    Gathering,
    InboxMessage,
    Locale,
    Notice,
    Priority,
    Role,
    Status,
    Text,
    Urgency,
    Waiting,
    Why,
)
from services.notify.policy import Rule
from services.notify.quiet import end_of_quiet, read_quiet_hours
from services.notify.wording import WordingError
from services.runtime.erasing import erased, retain
from services.runtime.message import Cause, Outgoing, Timer, Unfit

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import date
    from uuid import UUID

    from pydantic import BaseModel

    from schemas.customer import CustomerProfile
    from services.notify.model import Customer
    from services.notify.policy import Policy
    from services.notify.wording import Wording
    from services.runtime.message import Caused, Lane, Message

SOURCE: Final = "sluice/notify"
EVENTS: Final = "notify.events"
PROFILE_TIMER: Final = "profile"
"""A profile is missing too long; the subject is an event."""
SCHEDULED_TIMER: Final = "scheduled"
"""It is time for what a request asked for; the subject is the request."""
DIGEST_TIMER: Final = "digest"
"""A digest goes out; the subject is its delivery. It is set once, with the first that is gathered."""
ERASE_TIMER: Final = "erase"
"""The receipt of a closing was on its way; the subject is an erasure."""
FORGET_TIMER: Final = "forget"
"""Whoever had a broadcast to a list in their inbox is erased; the subject is the notice of it."""
REST_TIMER: Final = "rest"
"""More waited for a customer than one batch takes; the subject is the customer."""
REPORT_TIMER: Final = "report"
"""Something became of a notice after its event's batch; the subject is the notice and its new status.

Each is set once. Who sets one waits for nobody who has taken it: a lane that holds it may wait for the notice.
"""

DEFAULT_CHANNELS: Final = (Channel.IN_APP, Channel.EMAIL)
"""How a request is told that does not say."""

_NOTICES: Final = uuid.UUID("5f3c2f0e-6f4b-5d0a-9d0b-6a1c9b8f7e21")
LAST: Final = datetime(9998, 1, 1, tzinfo=UTC)
_RECEIPT: Final = "closure.erasing"
CLOSING_ENDS: Final = frozenset(
    f"closure.{end}" for end in ("erasing", "closed", "rejected", "cancelled", "expired", "reopened", "reopen_refused")
)
"""After these nothing of a closing is told that its receipt would follow."""
CLOSING_AWAITED: Final = timedelta(days=30)
"""A closing of which nothing was told for so long keeps nobody from being forgotten."""
_LOOK_AGAIN: Final = timedelta(seconds=10)
_LOOK_AT_CLOSING_AGAIN: Final = timedelta(minutes=1)
TEXTED_NUMBERS_KEPT: Final = timedelta(days=1)
"""Operators count what a number gets in a day at the longest."""
_MOVED: Final = frozenset(("sent", "settled"))
_NO_TEXT: Final = Text("", "")
HOME_ZONE: Final = "Asia/Shanghai"
_ADDRESSED: Final = {Role.PAYER: "payer_customer_id", Role.PAYEE: "payee_customer_id", Role.HOLDER: "customer_id"}


@dataclass(frozen=True, slots=True)
class Rules:
    """What every decision is drawn from besides the facts; the master key is for the hashes of addresses."""

    policy: Policy
    wording: Wording
    master_key: bytes

    def as_sms(self, text: Text, locale: Locale, category: str) -> str:
        """Return what a text says as a text message; marketing says how to get no more of it."""
        sms, ending = self.policy.sms, ""
        if category == Category.MARKETING:
            leaving = self.wording.leaving(locale)
            ending = leaving.reply.format(word=sms.reply_to_leave) if sms.reply_to_leave else leaving.in_app
        return self.wording.as_sms(text, locale, sms.segments, ending)


@dataclass(slots=True)
class Facts:
    """What the database knew of a batch's subjects when it was loaded; the customers are locked."""

    customers: dict[str, Customer] = field(default_factory=dict)
    announced: dict[str, bytes | None] = field(default_factory=dict)
    """What was accepted already, with a hash of its content where it was a request."""
    waiting: dict[str, list[Waiting]] = field(default_factory=dict)
    """By customer, the oldest first."""
    digests: dict[tuple[str, str, str], Gathering] = field(default_factory=dict)
    """By customer, channel and template."""
    items: dict[str, list[Gathered]] = field(default_factory=dict)
    """What was gathered, by delivery, the oldest first."""
    is_everything: bool = True
    """Whether more waits than was loaded."""
    causes: dict[str, Cause] = field(default_factory=dict)
    """What the events of the notices here follow from."""
    receipts: set[str] = field(default_factory=set)
    """The closings whose receipts these customers were to be told of."""
    closing: set[str] = field(default_factory=set)
    """Those of these customers who have a closing that has not come to its end, as far as they were told."""


class Book:
    """The facts of a batch, changed in memory, and everything that has to be recorded or published afterwards."""

    def __init__(self, facts: Facts, rules: Rules, now: datetime, lanes: Collection[Lane]) -> None:
        self.rules = rules
        self.lanes = lanes
        self.now = now
        self.now_text = as_text(now)
        self.customers = facts.customers
        self.announced = facts.announced
        self.waiting = facts.waiting
        self.digests = facts.digests
        self.items = facts.items
        self.is_everything = facts.is_everything
        self.receipts = facts.receipts
        self.closing = facts.closing
        self.causes = facts.causes
        self.opened: dict[tuple[str, str, str], Gathering] = {}
        self.gathered: list[DigestItem] = []
        self.changed: dict[str, Customer] = {}
        self.contacts: dict[str, Contacts] = {}
        self.announcements: list[Announcement] = []
        self.notices: list[Notice] = []
        self.begun: list[Waiting] = []
        self.bank_uses: dict[tuple[str, str], date] = {}
        self.moved: list[Notice] = []
        self.inbox: list[InboxMessage] = []
        self.deliveries: list[Delivery] = []
        self.erased: set[str] = set()
        self.unfit: list[Unfit] = []
        self.outgoing: list[Outgoing] = []
        self.timers: list[Timer] = []

    def digest_until(self, notice: Notice) -> datetime | None:
        """Return until when notices of this kind are gathered; None for the first of a time, which goes out at once."""
        within_s = self.rules.policy.digest.within_s
        if not within_s or notice.role == Role.RECIPIENT:
            return None
        kind = _kind_of(notice)
        gathering = self.digests.get(kind)
        if gathering is not None and gathering.closes_at > self.now:
            return gathering.closes_at
        self.digests[kind] = self.opened[kind] = Gathering(self.now + timedelta(seconds=within_s), has_timer=False)
        return None

    def needs_timer(self, notice: Notice) -> bool:
        """Tell whether this is the first notice that is gathered of its kind; it is so once."""
        gathering = self.digests[_kind_of(notice)]
        if not gathering.has_timer:
            self.digests[_kind_of(notice)] = self.opened[_kind_of(notice)] = gathering._replace(has_timer=True)
        return not gathering.has_timer


def _kind_of(notice: Notice) -> tuple[str, str, str]:
    return notice.customer_id, notice.channel, notice.template


# --- Events ---


def recipients(message: Message, policy: Policy) -> Iterator[tuple[Role, str]]:
    """Yield whom an event is told to; somebody who has two roles in it is told in the first."""
    rule = policy.events.get(message.type)
    told: set[str] = set()
    for role in rule.to if rule and not _is_one_of_several(message.data) else ():
        if rule is not None and role == Role.PAYER and not rule.of_closings and _is_told_by_case(message.data):
            continue
        customer_id = getattr(message.data, _ADDRESSED.get(role, ""), None)
        if customer_id is not None and customer_id not in told:
            told.add(customer_id)
            yield role, customer_id


def _is_one_of_several(event: Any) -> bool:
    """Whether one restriction is over and another goes on, whose end is the one to tell."""
    return isinstance(event, RiskCleared) and event.restricted_until is not None


def _is_told_by_case(event: Any) -> bool:
    """Whether something is a closing's own payout or fee, and its case says what becomes of it."""
    reason = getattr(event, "reason", None)
    is_own = getattr(event, "case_id", None) is not None and event.kind in {"withdrawal", "fee"}
    return is_own and (reason is None or reason.code not in FOR_A_WHILE)


def decide_event(book: Book, message: Message) -> None:
    """Tell everybody whom an event concerns, once; an event that was accepted before is a repeat."""
    if message.data is None or message.id in book.announced:
        return
    rule = book.rules.policy.events.get(message.type)
    event = message.data.model_dump()
    at, told = event.get("occurred_at"), recipients(message, book.rules.policy)
    tellings = [_Telling(book, message.type, role, id_, event, happened_at=at) for role, id_ in told]
    if rule is None or not tellings:
        return
    try:
        for telling in tellings:
            telling.find_words()
    except WordingError as error:
        book.unfit.append(Unfit(message, str(error)))
        return
    leaving = [book.customers[one.customer_id] for one in tellings if message.type == _RECEIPT and not one.is_late]
    origin = _Origin(message.id, message.type, message.lane, rule, Cause.of(message))
    _announce(book, origin, tellings, message.data, None)
    for customer in leaving:
        customer.is_leaving = True
        book.changed[customer.customer_id] = customer
    _note_bank_uses(book, event)


def _note_bank_uses(book: Book, event: Mapping[str, Any]) -> None:
    """Take note of who moved money with a bank, for broadcasts about it."""
    at = event.get("occurred_at")
    for party in ("payer", "payee"):
        kind, _, rest = (event.get(party) or "").partition(":")
        if kind == "bank" and event.get("status") in _MOVED:
            for customer_id in (event["payer_customer_id"], event["payee_customer_id"]):
                if customer_id is not None and not book.customers[customer_id].is_gone_since(at):
                    book.bank_uses[rest.partition(":")[0], customer_id] = book.now.date()


def decide_request(book: Book, message: Message, request: NotificationRequest, content_hash: bytes) -> None:
    """Tell one person what another system asks for, once, and not before its time."""
    id_ = str(request.notification_id)
    if id_ in book.announced:
        if book.announced[id_] != content_hash:
            book.unfit.append(other_content(message, id_))
        return
    try:
        for locale in Locale:
            book.rules.wording.compose(request.template, request.data, locale)
    except WordingError as error:
        book.unfit.append(Unfit(message, f"template: {error}"))
        return
    customer_id = request.customer_id or ""
    telling = _Telling(book, request.template, Role.RECIPIENT, customer_id, request.data, request.expires_at)
    telling.find_words()
    origin = _Origin(id_, request.template, message.lane, _rule_of(request), Cause.of(message))
    is_early = request.not_before is not None and request.not_before > book.now
    _announce(book, origin, [telling], request, content_hash, not_before=request.not_before if is_early else None)


def other_content(message: Message, id_: str) -> Unfit:
    """Return the refusal of what comes under an id that was used for something else."""
    return Unfit(message, f"{id_} was asked for before, with other content")


def _rule_of(request: NotificationRequest) -> Rule:
    category = Category(request.category)
    return Rule(
        to=(Role.RECIPIENT,),
        channels=tuple(map(Channel, request.channels or DEFAULT_CHANNELS)),
        urgency=Urgency.URGENT if category == Category.SECURITY else Urgency.NORMAL,
        category=category,
    )


class _Origin(NamedTuple):
    """What notices are told of: an event or a request."""

    event_id: str
    template: str
    lane: Lane
    rule: Rule
    cause: Cause


def _announce(
    book: Book,
    origin: _Origin,
    tellings: Sequence[_Telling],
    data: BaseModel,
    content_hash: bytes | None,
    not_before: datetime | None = None,
) -> None:
    book.announced[origin.event_id] = content_hash
    book.causes[origin.event_id] = origin.cause
    channels = _channels_of(origin.rule)
    accepted = len(tellings) * len(channels)
    about = (origin.event_id, origin.template, accepted, book.now, content_hash)
    book.announcements.append(Announcement(*about, *origin.cause))
    new = [(telling, _new_notice(book, origin, telling, channel)) for telling in tellings for channel in channels]
    if not_before is not None and not any(telling.is_late for telling in tellings):
        waiting = [notice._replace(why=Why.SCHEDULED) for _, notice in new]
        book.notices += waiting
        book.timers.append(Timer(origin.lane, SCHEDULED_TIMER, origin.event_id, not_before))
    else:
        waiting = [notice for telling, notice in new if _begin(telling, notice)]
        book.timers += [_profile_timer(book, origin.lane, origin.event_id)] if waiting else []
    if waiting:
        body = data.model_dump_json().encode()
        book.begun += [Waiting(notice, body) for notice in waiting]


def _begin(telling: _Telling, notice: Notice) -> bool:
    """Take note of a notice; return whether it waits for a profile."""
    told = telling.tell(notice)
    telling.book.notices.append(told or notice)
    return told is None


def _profile_timer(book: Book, lane: Lane, event_id: str) -> Timer:
    return Timer(
        lane, PROFILE_TIMER, event_id, book.now + timedelta(seconds=book.rules.policy.waiting.profile_within_s)
    )


def _notice_id(event_id: str, customer_id: str, channel: Channel) -> UUID:
    return uuid.uuid5(_NOTICES, f"{event_id}\n{customer_id}\n{channel}")


def _new_notice(book: Book, origin: _Origin, telling: _Telling, channel: Channel) -> Notice:
    return Notice(
        notice_id=_notice_id(origin.event_id, telling.customer_id, channel),
        event_id=origin.event_id,
        customer_id=telling.customer_id,
        channel=channel,
        role=telling.role,
        category=origin.rule.category,
        urgency=origin.rule.urgency,
        template=origin.template,
        delivery_id=None,
        lane_group=origin.lane.group,
        partition=origin.lane.partition,
        status=Status.PENDING,
        why=Why.PROFILE_MISSING,
        told=None,
        created_at=book.now,
        ended_at=None,
    )


@dataclass(slots=True)
class _Telling:
    """An event on its way to one person; it is put into words once, whatever the channels."""

    book: Book
    type: str
    role: Role
    customer_id: str
    event: Mapping[str, Any]
    expires_at: datetime | None = None
    happened_at: datetime | None = None
    has_waited: bool = False
    """It waited for a profile, as the receipt of a closing may: what was heard of before that is told with it."""
    text: Text = _NO_TEXT

    @property
    def is_late(self) -> bool:
        """Whether it would come after the receipt of a closing, which is the last, to nobody, or to somebody new."""
        customer = self.book.customers[self.customer_id]
        return (customer.is_leaving and not self.has_waited) or customer.is_gone_since(self.happened_at)

    def find_words(self) -> None:
        """Put the event into the person's words, if their language is known; WordingError where there are none."""
        customer = self.book.customers[self.customer_id]
        if not customer.is_known:
            return
        wording, locale = self.book.rules.wording, Locale(customer.locale)
        if self.role == Role.RECIPIENT:
            self.text = wording.compose(self.type, self.event, locale)
        else:
            self.text = wording.tell(self.type, self.role, self.event, locale, customer.time_zone)

    def tell(self, notice: Notice) -> Notice | None:
        """Return the notice as it goes on now, once there are words; None when it has to wait for a profile."""
        customer = self.book.customers[self.customer_id]
        if self.is_late:
            return end(self.book, notice, Status.SUPPRESSED, Why.ERASED)
        if not customer.is_known:
            return None
        if (why := _why_not(customer, notice)) is not None:
            return end(self.book, notice, Status.SUPPRESSED, why)
        if self.expires_at is not None and self.expires_at <= self.book.now:
            return end(self.book, notice, Status.FAILED, Why.EXPIRED)
        if notice.channel == Channel.IN_APP:
            return self._put_into_inbox(customer, notice)
        return self._queue(customer, notice)

    def _put_into_inbox(self, customer: Customer, notice: Notice) -> Notice:
        customer.inbox_count += 1
        self.book.changed[customer.customer_id] = customer
        self.book.inbox.append(
            InboxMessage(
                customer.customer_id, customer.inbox_count, notice.notice_id, customer.locale, self.text, self.book.now
            )
        )
        return end(self.book, notice, Status.DELIVERED, None)

    def _queue(self, customer: Customer, notice: Notice) -> Notice:
        book = self.book
        if _never_waits(notice):
            due_at, stands_in_for = book.now, None
            by_sms = notice._replace(channel=Channel.SMS)
            if _is_standby(book, notice) and _why_not(customer, by_sms) is None:
                stands_in_for = _notice_id(notice.event_id, notice.customer_id, Channel.SMS)
                due_at += timedelta(seconds=book.rules.policy.delivering.stand_in_after_s)
            queue(book, customer, notice, self.text, due_at, stands_in_for, until=self.expires_at)
            return notice._replace(why=Why.STANDBY if stands_in_for else Why.QUEUED, delivery_id=notice.notice_id)
        if (closes_at := book.digest_until(notice)) is not None:
            return self._gather(notice, closes_at)
        due_at = end_of_quiet(customer, book.now)
        queue(book, customer, notice, self.text, due_at, until=self.expires_at)
        why = Why.QUEUED if due_at == book.now else Why.QUIET_HOURS
        return notice._replace(why=why, delivery_id=notice.notice_id)

    def _gather(self, notice: Notice, closes_at: datetime) -> Notice:
        """Keep a notice for the digest that goes out at a time."""
        kind = f"digest\n{notice.customer_id}\n{notice.channel}\n{notice.template}\n{as_text(closes_at)}"
        delivery_id = uuid.uuid5(_NOTICES, kind)
        self.book.gathered.append(DigestItem(delivery_id, notice.notice_id, notice.customer_id, self.text))
        if self.book.needs_timer(notice):
            self.book.timers.append(Timer(notice.lane, DIGEST_TIMER, str(delivery_id), closes_at))
        return notice._replace(why=Why.DIGEST, delivery_id=delivery_id)


def queue(
    book: Book,
    customer: Customer,
    notice: Notice,
    text: Text,
    due_at: datetime,
    stands_in_for: UUID | None = None,
    delivery_id: UUID | None = None,
    until: datetime | None = None,
) -> None:
    """Have a text leave by the channel of a notice, within the policy's time and not after `until`."""
    policy, is_urgent = book.rules.policy, _never_waits(notice)
    within_s = policy.delivering.urgent_within_s if is_urgent else policy.delivering.normal_within_s
    if notice.channel == Channel.SMS:
        text = Text("", book.rules.as_sms(text, Locale(customer.locale), notice.category))
    book.deliveries.append(
        Delivery(
            delivery_id=delivery_id or notice.notice_id,
            customer_id=customer.customer_id,
            channel=notice.channel,
            priority=Priority.URGENT if is_urgent else Priority.NORMAL,
            due_at=due_at,
            expires_at=min(due_at + timedelta(seconds=within_s), until or LAST),
            stands_in_for=stands_in_for,
            is_marketing=notice.category == Category.MARKETING,
            locale=customer.locale,
            text=text,
        )
    )


def _is_standby(book: Book, notice: Notice) -> bool:
    """Tell whether a notice goes out only where the text message of the same event does not arrive."""
    rule = book.rules.policy.events.get(notice.template)
    return notice.channel == Channel.EMAIL and rule is not None and notice.channel not in rule.channels


def _channels_of(rule: Rule) -> tuple[Channel, ...]:
    """Return the channels of a rule; what is urgent and goes by SMS has mail standing by."""
    stands_by = rule.urgency == Urgency.URGENT and Channel.SMS in rule.channels and Channel.EMAIL not in rule.channels
    return (*rule.channels, Channel.EMAIL) if stands_by else rule.channels


def decide_digests(book: Book, timers: Iterable[Timer]) -> None:
    """Let what was gathered go out, each digest as one message; one that holds one notice says just that."""
    for timer in timers:
        items = book.items.pop(timer.subject, [])
        if not items:
            continue
        notice = items[0].notice
        customer = book.customers[notice.customer_id]
        locale, texts = Locale(customer.locale), [item.text for item in items]
        text = texts[0] if len(texts) == 1 else book.rules.wording.digest(texts, locale)
        due_at = end_of_quiet(customer, book.now)
        queue(book, customer, notice, text, due_at, delivery_id=notice.delivery_id)
        why = Why.QUEUED if due_at == book.now else Why.QUIET_HOURS
        book.moved += [item.notice._replace(why=why) for item in items]


def _never_waits(notice: Notice) -> bool:
    return notice.urgency == Urgency.URGENT or notice.category == Category.SECURITY


def _why_not(customer: Customer, notice: Notice) -> Why | None:
    """Return why a person is not told on a channel; None when they are."""
    if notice.category == Category.MARKETING and (customer.is_unsubscribed or not customer.wants_marketing):
        return Why.NO_CONSENT
    # What is for a person's own security reaches them whatever they chose.
    if notice.category != Category.SECURITY and not customer.wants(notice.channel):
        return Why.CHANNEL_OFF
    reach = customer.reach(notice.channel)
    return None if reach == "good" else Why(reach)


def end(book: Book, notice: Notice, status: Status, why: Why | None) -> Notice:
    """Return the notice as it ends in this batch, and have that published: by the lane of its event, as everything."""
    ended = notice._replace(status=status, why=why, ended_at=book.now)
    if notice.lane not in book.lanes:
        book.timers.append(report_timer(notice.lane, notice.notice_id, status, book.now))
        return ended
    book.outgoing.append(report(ended, book.now_text, book.causes.get(notice.event_id, Cause())))
    return ended._replace(told=status)


def report_timer(lane: Lane, notice_id: UUID, status: str, now: datetime) -> Timer:
    """Return the timer by which a lane publishes what became of a notice."""
    return Timer(lane, REPORT_TIMER, f"{notice_id}.{status}", now)


def reported(timer: Timer) -> UUID:
    """Return the notice that such a timer is about."""
    return uuid.UUID(timer.subject.partition(".")[0])


def report(notice: Notice, now_text: str, cause: Caused, gateway: str | None = None) -> Outgoing:
    """Return the message that says what became of a notice, made because of an event, and its last gateway."""
    body: dict[str, Any] = {
        "notice_id": str(notice.notice_id),
        "event_id": notice.event_id,
        "customer_id": notice.customer_id,
        "channel": notice.channel,
        "template": notice.template,
        "category": notice.category,
        "occurred_at": now_text,
    }
    if gateway is not None:
        body["gateway"] = gateway
    if notice.why is not None:
        body["why"] = notice.why
    headers = encode_headers(
        f"notification.{notice.status}",
        id=f"{notice.notice_id}.{notice.status}",
        source=SOURCE,
        time=now_text,
        subject=str(notice.notice_id),
        correlation_id=cause.correlation_id,
        traceparent=cause.traceparent,
    )
    return Outgoing(notice.lane, EVENTS, notice.customer_id.encode(), orjson.dumps(body), headers)


# --- Profiles ---


def decide_profile(book: Book, lane: Lane, profile: CustomerProfile) -> None:
    """Take note of how a customer wants to be told, and tell them what waited for it.

    While an erasure waits, a profile that follows a null one is somebody new: who was there before is forgotten now.
    Any other belongs to whoever is erased, serves the receipt of their closing, and is forgotten with the rest.
    """
    customer = book.customers[profile.customer_id]
    if customer.erasing == ErasedBy.PROFILE:
        _forget(book, customer.customer_id)
    contacts, phone_reach, email_reach = read_contacts(profile)
    channels = profile.preferences.channels
    customer.is_known = True
    customer.locale = profile.locale
    customer.time_zone = zone_or_home(profile.time_zone)
    customer.tier = profile.tier
    customer.wants_in_app, customer.wants_email, customer.wants_sms = channels.in_app, channels.email, channels.sms
    customer.wants_marketing = profile.preferences.marketing
    # Who unsubscribed agrees again by first saying no, and then yes, where their profile is kept.
    customer.is_unsubscribed = customer.is_unsubscribed and profile.preferences.marketing
    customer.quiet_from, customer.quiet_to = read_quiet_hours(profile.preferences.quiet_hours)
    customer.phone_reach, customer.email_reach = phone_reach, email_reach
    customer.phone_hash = hash_address(book.rules.master_key, contacts.phone)
    book.changed[customer.customer_id] = customer
    book.contacts[customer.customer_id] = contacts
    _tell_waiting(book, lane, customer.customer_id)


def _tell_waiting(book: Book, lane: Lane, customer_id: str) -> None:
    for waiting in book.waiting.pop(customer_id, ()):
        if waiting.body is not None:
            notice = waiting.notice
            book.moved.append(_tell_late(book, notice, waiting.body, has_waited=True))
    _go_on_later(book, lane, customer_id)


def _tell_late(book: Book, notice: Notice, body: bytes, *, has_waited: bool) -> Notice:
    facts, expires_at = _read(notice, body)
    role = Role(notice.role)
    telling = _Telling(book, notice.template, role, notice.customer_id, facts, expires_at, has_waited=has_waited)
    try:
        telling.find_words()
    except WordingError:
        return end(book, notice, Status.FAILED, Why.UNTELLABLE)
    return telling.tell(notice) or notice


def _read(notice: Notice, body: bytes) -> tuple[Mapping[str, Any], datetime | None]:
    """Return what a waiting notice was to tell, an event's fields or a request's data, and until when it is of use."""
    if notice.role == Role.RECIPIENT:
        request = NotificationRequest.model_validate_json(body)
        return request.data, request.expires_at
    return MODELS[notice.template].model_validate_json(body).model_dump(), None


def _go_on_later(book: Book, lane: Lane, customer_id: str) -> None:
    if not book.is_everything:
        book.timers.append(Timer(lane, REST_TIMER, customer_id, book.now))


class Erasure(NamedTuple):
    """That a customer is to be forgotten: what asked for it, and until when the receipt of a closing may go first.

    `case_id` is the closing whose receipt goes first, though it may be heard of later.
    """

    customer_id: str
    cause: str
    deadline: str
    case_id: str = ""
    correlation_id: str | None = None
    traceparent: str | None = None

    @property
    def follows_from(self) -> Cause:
        """What it follows from; of one that was asked for before that was kept, what asked for it."""
        return Cause(self.correlation_id or self.cause, self.traceparent)

    def subject(self) -> str:
        """Return the erasure as the subject of a timer."""
        return orjson.dumps(list(self)).decode()


def read_erasure(subject: str) -> Erasure:
    """Return the erasure that a timer is about."""
    return Erasure(*orjson.loads(subject))


def new_erasure(book: Book, customer_id: str, message: Message, case_id: UUID | None = None) -> Erasure:
    """Return an erasure that begins now, with what asks for it."""
    about = "" if case_id is None else str(case_id)
    cause = (message.correlation_id, message.traceparent)
    return Erasure(customer_id, message.id, _receipt_until(book), about, *cause)


def _receipt_until(book: Book) -> str:
    return as_text(book.now + timedelta(seconds=book.rules.policy.erasing.receipt_within_s))


def decide_erasure(book: Book, lane: Lane, erasure: Erasure, by: ErasedBy) -> None:
    """Begin to forget a customer, and be done at once where no receipt of a closing waits."""
    customer = book.customers[erasure.customer_id]
    is_soon = by == ErasedBy.PROFILE and customer.erasing == ErasedBy.REQUEST
    # The null profile of two that ask for the same is what tells the profiles before from those after.
    customer.erasing = customer.erasing if customer.erasing == ErasedBy.PROFILE else by
    book.changed[customer.customer_id] = customer
    if is_soon:
        # The request before waits for a receipt, which may not be heard of yet.
        book.timers.append(Timer(lane, ERASE_TIMER, erasure.subject(), book.now + _LOOK_AGAIN))
        return
    go_on_erasing(book, lane, erasure)


def go_on_erasing(book: Book, lane: Lane, erasure: Erasure) -> None:
    """Forget a customer and say so, once the receipt of their closing has left or has taken too long.

    Who was forgotten meanwhile may be somebody new by now, and is let alone.
    """
    if book.customers[erasure.customer_id].erasing is None:
        _answer(book, lane, erasure)
        return
    if not erasure.case_id and erasure.customer_id in book.closing and _RECEIPT in book.rules.policy.events:
        # Their closing goes on, and will erase them: its receipt has its time from then on.
        later = erasure._replace(deadline=_receipt_until(book))
        book.timers.append(Timer(lane, ERASE_TIMER, later.subject(), book.now + _LOOK_AT_CLOSING_AGAIN))
        return
    pending = book.waiting.get(erasure.customer_id, ())
    is_unheard_of = _RECEIPT in book.rules.policy.events and erasure.case_id not in {"", *book.receipts}
    is_on_its_way = is_unheard_of or any(one.notice.template == _RECEIPT for one in pending)
    if book.now_text < erasure.deadline and is_on_its_way:
        book.timers.append(Timer(lane, ERASE_TIMER, erasure.subject(), book.now + _LOOK_AGAIN))
        return
    if not book.is_everything:
        # What was not loaded is found by what would be cleared now.
        _suppress(book, erasure.customer_id)
        book.timers.append(Timer(lane, ERASE_TIMER, erasure.subject(), book.now))
        return
    _forget(book, erasure.customer_id)
    _answer(book, lane, erasure)


def _answer(book: Book, lane: Lane, erasure: Erasure) -> None:
    kept = timedelta(days=book.rules.policy.erasing.accounting_kept_days)
    retained = [
        retain(
            "that they were erased, and that and when they were told of which event, not what they read",
            "every notice is accounted for",
            book.now + kept,
        ),
        retain(
            "a keyed hash of the number that text messages went to, not whose it is",
            "operators allow a number only so many a day",
            book.now + TEXTED_NUMBERS_KEPT,
        ),
    ]
    id_ = erasure.customer_id
    answer = erased(lane, erasure.cause, id_, "notify", retained, book.now, erasure.follows_from, erasure.case_id)
    book.outgoing.append(answer)


def _forget(book: Book, customer_id: str) -> None:
    customer = book.customers[customer_id]
    customer.is_known = False
    customer.locale, customer.time_zone, customer.tier = Locale.CHINESE, HOME_ZONE, "standard"
    customer.wants_in_app = customer.wants_email = customer.wants_sms = True
    customer.wants_marketing = customer.is_unsubscribed = False
    customer.quiet_from = customer.quiet_to = None
    customer.phone_reach = customer.email_reach = Why.NO_ADDRESS
    customer.phone_hash, customer.contacts, customer.wrapped_key, customer.erasing = b"", None, None, None
    customer.erased_at, customer.is_leaving = book.now, False
    book.changed[customer_id] = customer
    book.contacts.pop(customer_id, None)
    book.erased.add(customer_id)
    book.inbox = [message for message in book.inbox if message.customer_id != customer_id]
    book.deliveries = [delivery for delivery in book.deliveries if delivery.customer_id != customer_id]
    book.gathered = [item for item in book.gathered if item.customer_id != customer_id]
    _suppress(book, customer_id)


def _suppress(book: Book, customer_id: str) -> None:
    moved = [notice for notice in book.moved if notice.customer_id == customer_id and notice.status == Status.PENDING]
    book.moved = [notice for notice in book.moved if notice not in moved]
    waiting = [one.notice for one in book.waiting.pop(customer_id, ())]
    book.moved.extend(end(book, notice, Status.SUPPRESSED, Why.ERASED) for notice in [*moved, *waiting])


def decide_rest(book: Book, timer: Timer) -> None:
    """Go on with what waited for a customer where the last batch stopped; nothing waits for one who was erased."""
    if book.customers[timer.subject].is_known:
        _tell_waiting(book, timer.lane, timer.subject)


def zone_or_home(name: str) -> str:
    """Return the time zone of that name, or the platform's own where there is none that everybody knows."""
    return name if name in _zones() else HOME_ZONE


@cache
def _zones() -> frozenset[str]:
    # Names such as `localtime` and `posix/…` are this machine's own, and not the database's.
    return frozenset(zone for zone in available_timezones() if "/" in zone or zone == "UTC") - {"Factory"}


# --- Waiting too long ---


def decide_timeouts(book: Book, timers: Iterable[Timer]) -> None:
    """Suppress what still waits of events: there was no profile in time. Tell what had to wait for its time."""
    of_event: dict[str, list[Waiting]] = {}
    for waiting in (one for of_customer in book.waiting.values() for one in of_customer):
        of_event.setdefault(waiting.notice.event_id, []).append(waiting)
    for timer in timers:
        for notice, body in of_event.pop(timer.subject, ()):
            if body is not None and timer.kind == PROFILE_TIMER:
                book.moved.append(end(book, notice, Status.SUPPRESSED, Why.PROFILE_MISSING))
            elif body is not None:
                _tell_in_time(book, timer, notice, body)


def _tell_in_time(book: Book, timer: Timer, notice: Notice, body: bytes) -> None:
    told = _tell_late(book, notice._replace(why=Why.PROFILE_MISSING), body, has_waited=False)
    book.moved.append(told)
    if told.why == Why.PROFILE_MISSING:
        book.timers.append(_profile_timer(book, timer.lane, timer.subject))
