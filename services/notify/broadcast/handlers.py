"""Begins broadcasts, takes them further chunk by chunk, and does what is asked of them meanwhile."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from schemas.envelope import encode_headers
from schemas.fields import as_text
from schemas.notify import BroadcastCancel, BroadcastControl, BroadcastPause, NotificationRequest
from services.notify.broadcast import store
from services.notify.broadcast.audience import asked_for, concerned_by, told_about
from services.notify.broadcast.model import Broadcast, State
from services.notify.broadcast.texts import BroadcastText, write_texts
from services.notify.decide import DEFAULT_CHANNELS, EVENTS, HOME_ZONE, SOURCE, other_content
from services.notify.model import Locale, Role
from services.notify.wording import WordingError
from services.runtime.message import Cause, Effects, Outgoing, Timer, Unfit

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from pydantic import BaseModel

    from schemas.notify import Audience
    from services.notify.broadcast.audience import Reached
    from services.notify.broadcast.model import Counts
    from services.notify.decide import Rules
    from services.notify.policy import Rule
    from services.runtime.database import Connection
    from services.runtime.message import Lane, Message

BROADCAST_TIMER: Final = "broadcast"
"""A broadcast goes on; the subject is its notification."""

_CHUNK: Final = 500
_MOST_QUEUED: Final = 8_000
"""So many messages of a broadcast wait for gateways at once: what is more is resolved when there is room."""
_ROOM_AGAIN: Final = timedelta(seconds=0.1)
_LOOK_AGAIN: Final = timedelta(seconds=1)
_FORESEEABLE: Final = timedelta(days=30)
_PROGRESS_EVERY: Final = timedelta(seconds=5)

_NO_BROADCAST: Final = "notification_id: no broadcast was asked for by this id before; use its request's key, too"
_AFTERWARDS: Final = frozenset(("window.overrun", "window.ended", "window.cancelled"))
_USEFUL_UNTIL: Final = {"survey.requested": "answer_by"}
_NUMBERS: Final = ("accepted", "delivered", "sent", "failed", "suppressed", "pending")
_GOES_ON: Final[dict[str, str]] = {State.RUNNING: "running", State.PAUSED: "paused", State.CANCELLED: "running"}
_ENDED: Final[dict[str, str]] = {State.RUNNING: "finished", State.PAUSED: "finished", State.CANCELLED: "cancelled"}


@dataclass(slots=True)
class _Begun:
    broadcasts: list[Broadcast] = field(default_factory=list)
    targets: list[tuple[str, str]] = field(default_factory=list)
    wallets: list[tuple[str, str]] = field(default_factory=list)
    causes: dict[str, Cause] = field(default_factory=dict)
    timers: list[Timer] = field(default_factory=list)
    unfit: list[Unfit] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Broadcasts:
    """What the handlers of broadcasts need besides their batch."""

    rules: Rules

    async def on_requests(
        self, connection: Connection, messages: Sequence[Message], locked: Collection[str], now: datetime
    ) -> Effects:
        """Begin the broadcasts that are asked for; pause, resume and cancel these and those that are locked."""
        asked = [
            _asked_by(message, message.data, message.data.audience, self.rules.master_key)
            for message in messages
            if isinstance(message.data, NotificationRequest) and message.data.audience is not None
        ]
        controls = [message for message in messages if isinstance(message.data, BroadcastControl)]
        begun = await self._begin(connection, asked, now)
        unknown = _unknown(messages, locked, begun.unfit)
        await _control(connection, [message for message in controls if message not in unknown], now)
        return replace(begun, unfit=[*begun.unfit, *(Unfit(message, _NO_BROADCAST) for message in unknown)])

    @staticmethod
    async def lock(connection: Connection, messages: Sequence[Message]) -> list[str]:
        """Lock and return the broadcasts that are to be paused, resumed or cancelled, before anything else."""
        ids = [_subject(one) for one in messages if isinstance(one.data, BroadcastControl)]
        return await store.lock_all(connection, ids) if ids else []

    @staticmethod
    async def lock_told_before(connection: Connection, messages: Sequence[Message]) -> None:
        """Lock what is still being told of the same windows and clearances, before anything else."""
        if abouts := [about for message in messages if (about := told_about(message.data)) is not None]:
            await store.lock_about(connection, [about for about, _ in abouts])

    async def on_events(self, connection: Connection, messages: Sequence[Message], now: datetime) -> Effects:
        """Begin the broadcasts of events that concern many, such as a window's, and end what is told of it still.

        What is told of it still is locked.
        """
        asked = []
        for message in messages:
            rule = self.rules.policy.events.get(message.type)
            if rule is not None and Role.CONCERNED in rule.to and (audience := concerned_by(message.data)) is not None:
                asked.append(_told_of(message, rule, audience, self.rules.master_key))
        return await self._begin(connection, asked, now)

    # --- Beginning ---

    async def _begin(self, connection: Connection, asked: Sequence[_Asked], now: datetime) -> Effects:
        known = await store.load_hashes(connection, [one.notification_id for one in asked])
        begun = _Begun()
        for one in asked:
            id_ = one.notification_id
            if id_ not in known:
                known[id_] = one.content_hash
                self._add(begun, one, now)
            elif known[id_] != one.content_hash:
                begun.unfit.append(other_content(one.message, id_))
        if begun.broadcasts:
            await store.insert(connection, begun.broadcasts, begun.targets, begun.wallets, begun.causes)
            await store.cancel_outdated(connection, [one.about for one in begun.broadcasts if one.about], now)
        return Effects(timers_set=begun.timers, unfit=begun.unfit)

    def _add(self, begun: _Begun, asked: _Asked, now: datetime) -> None:
        try:
            texts = self._texts(asked)
        except WordingError as error:
            begun.unfit.append(Unfit(asked.message, f"template: {error}"))
            return
        id_, not_before = asked.notification_id, max(now, asked.not_before or now)
        patience = timedelta(seconds=self.rules.policy.delivering.normal_within_s)
        begun.causes[id_] = Cause.of(asked.message)
        begun.broadcasts.append(
            Broadcast(
                notification_id=id_,
                content_hash=asked.content_hash,
                template=asked.template,
                category=asked.category,
                channels=list(asked.channels),
                audience_kind=asked.audience.kind,
                audience_values=list(asked.audience.values),
                currencies=list(asked.audience.currencies),
                about=asked.about,
                revision=asked.revision,
                texts=texts,
                not_before=not_before,
                expires_at=asked.expires_at or not_before + patience,
                state=State.RUNNING,
                reached="",
                expected=0,
                resolved_at=None,
                progress_at=None,
                is_over=False,
                created_at=now,
            )
        )
        begun.targets += [(id_, customer) for customer in asked.audience.customers]
        begun.wallets += [(id_, wallet) for wallet in asked.audience.wallets]
        begun.timers.append(Timer(asked.message.lane, BROADCAST_TIMER, id_, not_before))

    def _texts(self, asked: _Asked) -> str:
        wording = self.rules.wording
        texts: dict[str, BroadcastText] = {}
        for locale in Locale:
            if asked.is_event:
                # The same for everybody, so that its times are those of the platform's own clocks.
                text = wording.tell(asked.template, Role.CONCERNED, asked.facts, locale, HOME_ZONE)
            else:
                text = wording.compose(asked.template, asked.facts, locale)
            texts[locale] = BroadcastText(text.title, text.body, self.rules.as_sms(text, locale, asked.category))
        return write_texts(texts)


class _Asked(NamedTuple):
    """A broadcast that is asked for, by a request or by an event."""

    message: Message
    notification_id: str
    content_hash: bytes
    template: str
    facts: Mapping[str, Any]
    is_event: bool
    category: str
    channels: Sequence[str]
    audience: Reached
    not_before: datetime | None
    expires_at: datetime | None
    about: str | None = None
    revision: int | None = None


def _asked_by(message: Message, request: NotificationRequest, audience: Audience, key: bytes) -> _Asked:
    return _Asked(
        message=message,
        notification_id=str(request.notification_id),
        content_hash=hash_content(request, key),
        template=request.template,
        facts=request.data,
        is_event=False,
        category=request.category,
        channels=request.channels or DEFAULT_CHANNELS,
        audience=asked_for(audience),
        not_before=request.not_before,
        expires_at=request.expires_at,
    )


def _told_of(message: Message, rule: Rule, audience: Reached, key: bytes) -> _Asked:
    data: Any = message.data
    about, revision = told_about(data) or (None, None)
    return _Asked(
        message=message,
        notification_id=message.id,
        content_hash=hash_content(data, key),
        template=message.type,
        facts=data.model_dump(),
        is_event=True,
        category=rule.category,
        channels=rule.channels,
        audience=audience,
        not_before=None,
        # What was said of a window is of no use once it is over; that it is over is.
        expires_at=None
        if message.type in _AFTERWARDS
        else getattr(data, _USEFUL_UNTIL.get(message.type, "ends_at"), None),
        about=about,
        revision=revision,
    )


# --- Going on ---


async def go_on(connection: Connection, timer: Timer, now: datetime) -> Effects:
    """Take a broadcast a chunk further; publish how it stands every few seconds, and when it is over."""
    broadcast = await store.lock(connection, timer.subject)
    if broadcast is None or broadcast.is_over:
        return Effects()
    due_at = await _resolve(connection, broadcast, timer.lane, now)
    said = await _tell(connection, broadcast, timer.lane, now)
    return Effects(
        outgoing=[said.message] if said.message is not None else [],
        timers_set=[] if said.is_over else [timer._replace(due_at=due_at)],
    )


async def _resolve(connection: Connection, broadcast: Broadcast, lane: Lane, now: datetime) -> datetime:
    """Make the notices of the next people, if there are more and there is room; return when to go on."""
    id_ = broadcast.notification_id
    if broadcast.state != State.RUNNING:
        # What a gateway had at that moment, and gave back.
        await store.apply_states(connection, [id_], now)
    if broadcast.resolved_at is None and now >= broadcast.expires_at:
        await store.move_on(connection, id_, broadcast.reached, 0, now)
        return now + _LOOK_AGAIN
    if broadcast.resolved_at is not None or broadcast.state != State.RUNNING:
        return now + _LOOK_AGAIN
    if await store.count_queued(connection, id_, _MOST_QUEUED, now) + _CHUNK > _MOST_QUEUED:
        return now + _ROOM_AGAIN
    if not broadcast.reached:
        await store.expect(connection, broadcast, now)
    chosen = await store.choose(connection, broadcast, _CHUNK, now)
    is_last = len(chosen) < _CHUNK
    accepted = await store.announce(connection, broadcast, chosen, lane, now) if chosen else 0
    reached = chosen[-1][0] if chosen else broadcast.reached
    await store.move_on(connection, id_, reached, accepted, now if is_last else None)
    return now + _LOOK_AGAIN if is_last else now


class _Said(NamedTuple):
    message: Outgoing | None
    is_over: bool


async def _tell(connection: Connection, broadcast: Broadcast, lane: Lane, now: datetime) -> _Said:
    """Publish how a broadcast stands, every few seconds and when it is over."""
    counts = await store.load_counts(connection, broadcast.notification_id)
    if counts is None:
        return _Said(None, is_over=False)
    # Counts that are older than the last chunk know nothing of it.
    knows_all = broadcast.resolved_at is not None and counts.counted_at > broadcast.resolved_at and counts.is_whole
    is_over = knows_all and counts.pending == counts.out == 0
    if not is_over and broadcast.progress_at is not None and now < broadcast.progress_at + _PROGRESS_EVERY:
        return _Said(None, is_over=False)
    await store.note_progress(connection, broadcast.notification_id, now, is_over=is_over)
    if is_over:
        await store.close(connection, broadcast.notification_id)
    return _Said(_progress(broadcast, counts, lane, now, is_over=is_over), is_over)


def _unknown(messages: Sequence[Message], known: Collection[str], unfit: Sequence[Unfit]) -> list[Message]:
    """Return what is asked of broadcasts that nobody has asked for before it, in the order of the messages."""
    unknown: list[Message] = []
    there, refused = set(known), [one.message for one in unfit]
    for message in messages:
        if isinstance(message.data, NotificationRequest):
            if message.data.audience is not None and message not in refused:
                there.add(_subject(message))
        elif isinstance(message.data, BroadcastControl) and _subject(message) not in there:
            unknown.append(message)
    return unknown


def _subject(message: Message) -> str:
    data: Any = message.data
    return str(data.notification_id)


async def _control(connection: Connection, controls: Sequence[Message], now: datetime) -> None:
    """Pause, resume and cancel; of several commands about one broadcast in a batch the last counts, or a cancel."""
    asked: dict[str, Message] = {}
    for one in controls:
        id_ = _subject(one)
        if id_ not in asked or not isinstance(asked[id_].data, BroadcastCancel):
            asked[id_] = one
    wanted: dict[State, list[str]] = {}
    for id_, message in asked.items():
        wanted.setdefault(_state(message), []).append(id_)
    changed = [id_ for state, ids in wanted.items() for id_ in await store.set_states(connection, ids, state, now)]
    if changed:
        await store.apply_states(connection, changed, now)


def _state(message: Message) -> State:
    if isinstance(message.data, BroadcastCancel):
        return State.CANCELLED
    return State.PAUSED if isinstance(message.data, BroadcastPause) else State.RUNNING


def hash_content(data: BaseModel, key: bytes) -> bytes:
    """Return a keyed hash of what is asked for, by which a repeat is told from something else under the same id."""
    return hmac.digest(key, data.model_dump_json().encode(), hashlib.sha256)


def _progress(broadcast: Broadcast, counts: Counts, lane: Lane, now: datetime, *, is_over: bool) -> Outgoing:
    id_, now_text = broadcast.notification_id, as_text(now)
    body: dict[str, Any] = {"notification_id": id_, "occurred_at": now_text}
    body |= {name: getattr(counts, name) for name in _NUMBERS}
    if is_over:
        type_, body["status"] = "broadcast.finished", _ENDED[broadcast.state]
    else:
        type_, body["status"] = "broadcast.progress", _GOES_ON[broadcast.state]
        if (eta := _eta(broadcast, counts, now)) is not None:
            body["eta"] = as_text(eta)
    headers = encode_headers(
        type_,
        id=f"{id_}.{type_}.{now_text}",
        source=SOURCE,
        time=now_text,
        subject=id_,
        correlation_id=counts.correlation_id,
        traceparent=counts.traceparent,
    )
    return Outgoing(lane, EVENTS, id_.encode(), orjson.dumps(body), headers)


def _eta(broadcast: Broadcast, counts: Counts, now: datetime) -> datetime | None:
    """Return when a broadcast will be done if it goes on as it has so far."""
    done, expected = counts.accepted - counts.pending, broadcast.expected * len(broadcast.channels)
    if broadcast.state != State.RUNNING or not done or not expected:
        return None
    left = (counts.counted_at - broadcast.not_before) * max(0, expected - done) / done
    return now + left if left < _FORESEEABLE else None
