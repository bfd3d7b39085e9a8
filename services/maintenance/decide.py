"""Decides what becomes of windows: commands, moments that have come, and what windows did to transfers."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, get_args
from uuid import UUID, uuid5

import orjson
from pydantic import TypeAdapter, ValidationError

from schemas.envelope import encode_headers
from schemas.fields import BankCode, Currency, as_text
from schemas.maintenance import Function, WindowSchedule
from services.maintenance.model import (
    CLOSING,
    END_TIMER,
    ESCALATE_TIMER,
    FORGET_TIMER,
    GRANT_TIMER,
    OVER,
    REMINDER_TIMER,
    REMINDERS,
    START_TIMER,
    SURVEY_TIMER,
    Answer,
    AnswerKey,
    Refusal,
    Status,
    Step,
    SurveyAnswer,
    Window,
)
from services.runtime.erasing import erased, retain
from services.runtime.message import Outgoing, Timer, TimerKey, identity_of, refusal_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from pydantic import BaseModel

    from schemas import maintenance as wire
    from schemas.transfer import FeeWaived
    from services.maintenance.model import Grant
    from services.maintenance.policy import Policy
    from services.runtime.message import Caused, Lane, Message

SOURCE: Final = "sluice/maintenance"
EVENTS: Final = "maintenance.events"
_LARGEST_PLAN: Final = 16_384
"""What a plan may weigh, in bytes: it stands in every event of its window, and its alternatives in every transfer's."""
_LARGEST_REASON: Final = 8_192
_LOOK_AGAIN: Final = timedelta(minutes=1)
_ERASED_KEPT: Final = timedelta(days=40)
"""Longer than anything on `transfer.events` can be read: 30 days, and what brokers take to remove it."""
FUNCTIONS: Final[tuple[str, ...]] = get_args(Function)
_BANK_CODE: Final = TypeAdapter(BankCode)
_CURRENCY: Final = TypeAdapter(Currency)

_WINDOW_TIMERS: Final = (
    *(f"{REMINDER_TIMER}{before}" for before in REMINDERS),
    START_TIMER,
    END_TIMER,
    ESCALATE_TIMER,
)
STEPS: Final = frozenset({*_WINDOW_TIMERS, SURVEY_TIMER})
"""The timers that take a window on; what is due of them comes before any command about it."""


class Book:
    """The windows of a batch, changed in memory, and what has to be recorded and published afterwards."""

    def __init__(
        self, windows: dict[UUID, Window], answers: dict[AnswerKey, Answer], policy: Policy, now: datetime
    ) -> None:
        self.windows = windows
        self.answers = answers
        self.policy = policy
        self.now = now
        self.changed: dict[UUID, Window] = {}
        self.steps: list[Step] = []
        self.answered: dict[AnswerKey, Answer] = {}
        self.survey_answers: dict[tuple[UUID, str], SurveyAnswer] = {}
        self.outgoing: list[Outgoing] = []
        self.timers: dict[TimerKey, Timer | None] = {}

    def advance(self, lane: Lane, window: Window, type_: str, status: str, **extra: Any) -> None:
        """Make the next event of a window: the whole window as it is now, and one number in `revision`."""
        window.revision += 1
        window.status = status
        window.event_type = type_
        window.occurred_at = self.now
        body = {
            "window_id": str(window.window_id),
            **window.plan,
            "starts_at": as_text(window.starts_at),
            "ends_at": as_text(window.ends_at),
            "revision": window.revision,
            "occurred_at": as_text(self.now),
            **{name: value for name, value in extra.items() if value is not None},
        }
        window.event_body = orjson.dumps(body)
        self.windows[window.window_id] = self.changed[window.window_id] = window
        self.steps.append(Step(window.window_id, window.revision, type_, status, window.event_body, self.now))
        self.publish(lane, window)

    def publish(self, lane: Lane, window: Window) -> None:
        """Publish the latest event of a window, again for whoever asks again."""
        id_ = f"{window.window_id}.{window.revision}"
        at = window.occurred_at or self.now
        self._say(lane, window.window_id, window.event_type, id_, window.event_body, at, window)

    def refuse(self, message: Message, window_id: UUID, refusal: Refusal) -> None:
        """Answer a command that cannot be done; the window, if there is one, stays as it is."""
        reason: dict[str, Any] = {"code": refusal.code, "retryable": refusal.code == "state_conflict"}
        reason |= {"refund": "none"}
        reason |= {name: value for name in ("field", "detail") if (value := getattr(refusal, name)) is not None}
        body = {"window_id": str(window_id), "reason": reason, "occurred_at": as_text(self.now)}
        self._say(message.lane, window_id, "window.refused", refusal_id(message), orjson.dumps(body), self.now, message)

    def answer_again(self, message: Message, known: Answer) -> None:
        """Answer a command that was done before as it was answered then."""
        if known.type is not None and known.event_id is not None and known.body is not None:
            # A refusal was caused by the command, which is here again; anything else by who planned the window.
            window = None if known.type == "window.refused" else self.windows.get(known.window_id)
            said = (known.type, known.event_id, known.body, known.occurred_at)
            self._say(message.lane, known.window_id, *said, window or message)

    def grant(self, lane: Lane, window: Window, grant: Grant) -> None:
        """Tell a customer what they get for a window."""
        self._compensate(lane, window, grant, "compensation.granted", f"{grant.compensation_id}.granted")

    def use(self, lane: Lane, window: Window, grant: Grant, use: FeeWaived) -> None:
        """Tell that a customer has used what they got."""
        id_ = f"{grant.compensation_id}.{use.transfer_id}.used"
        more = {"transfer_id": str(use.transfer_id), "occurred_at": as_text(use.occurred_at)}
        self._compensate(lane, window, grant, "compensation.used", id_, **more)

    def _compensate(self, lane: Lane, window: Window, grant: Grant, type_: str, id_: str, **extra: Any) -> None:
        body = {
            "compensation_id": str(grant.compensation_id),
            "customer_id": grant.customer_id,
            "window_id": str(grant.window_id),
            "compensation": window.plan["compensation"],
            "expires_at": as_text(grant.expires_at),
            "occurred_at": as_text(self.now),
            **extra,
        }
        self._say(lane, grant.window_id, type_, id_, orjson.dumps(body), self.now, window)

    def _say(self, lane: Lane, window_id: UUID, type_: str, id_: str, body: bytes, at: datetime, cause: Caused) -> None:
        headers = encode_headers(
            type_,
            id=id_,
            source=SOURCE,
            time=as_text(at),
            subject=str(window_id),
            correlation_id=cause.correlation_id,
            traceparent=cause.traceparent,
        )
        self.outgoing.append(Outgoing(lane, EVENTS, str(window_id).encode(), body, headers))

    def set_timer(self, lane: Lane, kind: str, window: Window, due_at: datetime) -> None:
        """Ask to be called at a moment; a timer of the same kind and window is moved."""
        key = TimerKey(kind, str(window.window_id))
        self.timers[key] = Timer(lane, key.kind, key.subject, due_at)

    def clear_timers(self, window: Window) -> None:
        """Ask not to be called for what was planned of a window."""
        for kind in _WINDOW_TIMERS:
            self.timers[TimerKey(kind, str(window.window_id))] = None


# --- Commands ---


def answer_key(message: Message) -> AnswerKey | None:
    """Return what a command is remembered by; None for a plan, which is remembered by its window."""
    return None if message.type == "window.schedule" else AnswerKey(message.source, message.id)


def decide_command(book: Book, message: Message) -> None:
    """Decide one command; one that was decided before is answered as it was then."""
    data: Any = message.data
    content_hash = hash_content(message.type, data)
    if isinstance(data, WindowSchedule):
        _decide_schedule(book, message, data, content_hash)
        return
    key = AnswerKey(message.source, message.id)
    known = book.answers.get(key)
    if known is None:
        before = len(book.outgoing)
        _decide_change(book, message, data)
        answer = _take_answer(key, content_hash, data.window_id, book, before)
        book.answers[key] = book.answered[key] = answer
    elif known.content_hash != content_hash:
        book.refuse(message, data.window_id, Refusal("duplicate_id_conflict", "ce_id"))
    else:
        book.answer_again(message, known)


def hash_content(type_: str, data: BaseModel) -> bytes:
    """Return the hash of what a command says: equal commands, equal hashes, whatever their spelling."""
    said = data.model_dump(mode="json", exclude_defaults=True)
    content = orjson.dumps(said, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(type_.encode() + content, digest_size=16).digest()


def _take_answer(key: AnswerKey, content_hash: bytes, window_id: UUID, book: Book, before: int) -> Answer:
    said = book.outgoing[before:]
    if not said:
        return Answer(key, content_hash, window_id, None, None, None, book.now)
    type_, event_id = identity_of(said[0])
    return Answer(key, content_hash, window_id, type_, event_id, said[0].value, book.now)


def _decide_schedule(book: Book, message: Message, command: WindowSchedule, content_hash: bytes) -> None:
    known = book.windows.get(command.window_id)
    if known is not None and known.content_hash != content_hash:
        book.refuse(message, command.window_id, Refusal("duplicate_id_conflict", "window_id"))
    elif known is not None:
        book.publish(message.lane, known)
    else:
        _decide_plan(book, message, command, content_hash)


def _decide_plan(book: Book, message: Message, command: WindowSchedule, content_hash: bytes) -> None:
    said = _plan_of(command)
    refusal = _refuse_plan(book, command) or _refuse_size(said, _LARGEST_PLAN, None)
    if refusal is not None:
        book.refuse(message, command.window_id, refusal)
    else:
        window = Window(
            window_id=command.window_id,
            content_hash=content_hash,
            plan=said,
            starts_at=command.starts_at,
            ends_at=command.ends_at,
            correlation_id=message.correlation_id,
            traceparent=message.traceparent,
        )
        plan(book, message.lane, window)


def plan(book: Book, lane: Lane, window: Window) -> None:
    """Announce a new window; one whose time has come starts at once."""
    book.advance(lane, window, "window.scheduled", Status.SCHEDULED, skipped=_set_timers(book, lane, window))
    if window.starts_at <= book.now:
        start(book, lane, window)


def _plan_of(command: WindowSchedule) -> dict[str, Any]:
    said = command.model_dump(mode="json", exclude={"window_id", "starts_at", "ends_at"}, exclude_none=True)
    said["alternatives"] = [way.model_dump(mode="json", exclude_defaults=True) for way in command.alternatives]
    said["functions"] = _each_once(said["functions"])
    said["scope"] = {name: _each_once(codes) for name, codes in said["scope"].items()}
    return said


def _each_once(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _refuse_plan(book: Book, command: WindowSchedule) -> Refusal | None:
    planning = book.policy.planning
    if not command.functions:
        return Refusal("function_unknown", "functions", f"name at least one of {', '.join(FUNCTIONS)}")
    for function in command.functions:
        if function not in FUNCTIONS:
            return Refusal("function_unknown", "functions", f"{function!r} is none of {', '.join(FUNCTIONS)}")
    for bank in command.scope.banks:
        if not _fits(_BANK_CODE, bank) or (planning.banks and bank not in planning.banks):
            return Refusal("bank_unknown", "scope.banks", f"{bank!r} is no bank's code")
    for currency in command.scope.currencies:
        if not _fits(_CURRENCY, currency):
            return Refusal("currency_unknown", "scope.currencies", f"{currency!r} is no ISO 4217 code")
    return _refuse_times(book, command.starts_at, command.ends_at) or _refuse_compensation(command.compensation)


def _fits(form: TypeAdapter[str], text: str) -> bool:
    try:
        form.validate_python(text)
    except ValidationError:
        return False
    return True


def _refuse_times(book: Book, starts_at: datetime, ends_at: datetime) -> Refusal | None:
    planning = book.policy.planning
    if ends_at <= starts_at:
        return Refusal("times_invalid", "ends_at", "it ends before it starts")
    if ends_at <= book.now:
        return Refusal("times_invalid", "ends_at", "it lies in the past")
    if ends_at - starts_at > timedelta(seconds=planning.longest_s):
        return Refusal("times_invalid", "ends_at", f"a window lasts {planning.longest_s:.0f} s at the longest")
    if starts_at < book.now - timedelta(seconds=planning.late_by_s):
        return Refusal("times_invalid", "starts_at", "it lies in the past")
    return None


def _refuse_size(said: Mapping[str, Any], largest: int, field: str | None) -> Refusal | None:
    size = len(orjson.dumps(said))
    return (
        Refusal("plan_too_large", field, f"{size:,} bytes; at most {largest:,} are taken") if size > largest else None
    )


def _refuse_compensation(compensation: wire.Compensation | None) -> Refusal | None:
    if compensation is not None and compensation.kind == "coupon" and compensation.currency is None:
        return Refusal("compensation_invalid", "compensation.currency", "a coupon's value has a currency")
    return None


def _decide_change(book: Book, message: Message, data: Any) -> None:
    window = book.windows.get(data.window_id)
    if window is None:
        book.refuse(message, data.window_id, Refusal("window_unknown", "window_id"))
        return
    refusal = _refuse_size(_why(data), _LARGEST_REASON, "reason")
    refusal = refusal or _CHANGES[message.type](book, message.lane, window, data)
    if refusal is not None:
        book.refuse(message, window.window_id, refusal)


def _reschedule(book: Book, lane: Lane, window: Window, command: wire.WindowReschedule) -> Refusal | None:
    if window.status in OVER:
        return _conflict(window)
    is_closing = window.status in CLOSING
    starts_at, ends_at = command.starts_at, command.ends_at
    if is_closing and starts_at <= book.now:
        # When it began is no plan any more.
        starts_at = window.starts_at
    refusal = _refuse_times(book, book.now if is_closing and starts_at <= book.now else starts_at, ends_at)
    if refusal is not None:
        return refusal
    previous = _times(window)
    window.starts_at, window.ends_at = starts_at, ends_at
    status = Status.EXTENDED if is_closing and starts_at <= book.now else Status.SCHEDULED
    skipped = _set_timers(book, lane, window) if status == Status.SCHEDULED else None
    book.advance(lane, window, "window.rescheduled", status, previous=previous, skipped=skipped, **_why(command))
    if status == Status.EXTENDED:
        _set_end(book, lane, window)
    elif starts_at <= book.now:
        start(book, lane, window)
    return None


def _start_now(book: Book, lane: Lane, window: Window, _command: BaseModel) -> Refusal | None:
    if window.status != Status.SCHEDULED:
        return _conflict(window)
    refusal = _refuse_times(book, book.now, window.ends_at)
    if refusal is None:
        window.starts_at = min(window.starts_at, book.now)
        start(book, lane, window)
    return refusal


def _extend(book: Book, lane: Lane, window: Window, command: wire.WindowExtend) -> Refusal | None:
    if window.status not in CLOSING:
        return _conflict(window)
    if command.ends_at <= window.ends_at:
        return Refusal("times_invalid", "ends_at", "it does not end later than now planned")
    refusal = _refuse_times(book, max(book.now, window.starts_at), command.ends_at)
    if refusal is not None:
        return refusal
    previous = _times(window)
    window.ends_at = command.ends_at
    book.advance(lane, window, "window.extended", Status.EXTENDED, previous=previous, **_why(command))
    _set_end(book, lane, window)
    return None


def _end(book: Book, lane: Lane, window: Window, _command: BaseModel) -> Refusal | None:
    if window.status not in CLOSING:
        return _conflict(window)
    end(book, lane, window)
    return None


def _cancel(book: Book, lane: Lane, window: Window, command: wire.WindowCancel) -> Refusal | None:
    if window.status != Status.SCHEDULED:
        return _conflict(window)
    book.clear_timers(window)
    book.advance(lane, window, "window.cancelled", Status.CANCELLED, **_why(command))
    _settle_debts(book, lane, window)
    return None


def _answer_survey(book: Book, _lane: Lane, window: Window, command: wire.SurveyAnswer) -> Refusal | None:
    if window.answer_by is None or window.answer_by < book.now:
        return Refusal("state_conflict", detail="nobody is asked about this window now")
    book.survey_answers[window.window_id, command.customer_id] = SurveyAnswer(
        window.window_id, command.customer_id, command.score, book.now
    )
    return None


_CHANGES: Final[Mapping[str, Callable[[Book, Lane, Window, Any], Refusal | None]]] = {
    "window.reschedule": _reschedule,
    "window.start_now": _start_now,
    "window.extend": _extend,
    "window.end": _end,
    "window.cancel": _cancel,
    "survey.answer": _answer_survey,
}


def _why(command: BaseModel) -> dict[str, Any]:
    """Return why a window is changed, in whatever languages that is said."""
    said = command.model_dump(mode="json", include={"reason", "reason_in"}, exclude_defaults=True)
    return {f"change_{name}": text for name, text in said.items()}


def _conflict(window: Window) -> Refusal:
    return Refusal("state_conflict", detail=f"the window is {window.status}")


def _times(window: Window) -> dict[str, str]:
    return {"starts_at": as_text(window.starts_at), "ends_at": as_text(window.ends_at)}


# --- A window's life ---


def _set_timers(book: Book, lane: Lane, window: Window) -> list[str] | None:
    """Plan reminders and the start of a window; return the reminders that there is no time for."""
    book.clear_timers(window)
    skipped = []
    for before, ahead in REMINDERS.items():
        due_at = window.starts_at - ahead
        if due_at > book.now:
            book.set_timer(lane, f"{REMINDER_TIMER}{before}", window, due_at)
        else:
            skipped.append(before)
    book.set_timer(lane, START_TIMER, window, window.starts_at)
    return skipped or None


def _set_end(book: Book, lane: Lane, window: Window) -> None:
    book.clear_timers(window)
    book.set_timer(lane, END_TIMER, window, window.ends_at)


def start(book: Book, lane: Lane, window: Window) -> None:
    """Close what a window covers."""
    _set_end(book, lane, window)
    book.advance(lane, window, "window.started", Status.STARTED)


def end(book: Book, lane: Lane, window: Window) -> None:
    """Open what a window covered, give what is owed for it, and plan the question how it was."""
    book.clear_timers(window)
    book.set_timer(lane, SURVEY_TIMER, window, book.now + timedelta(seconds=book.policy.survey.after_s))
    book.advance(lane, window, "window.ended", Status.ENDED)
    _settle_debts(book, lane, window)


def _settle_debts(book: Book, lane: Lane, window: Window) -> None:
    if window.compensates:
        book.set_timer(lane, GRANT_TIMER, window, book.now)


def owe(book: Book, lane: Lane, window: Window) -> None:
    """Have those whom a window owes something looked for once it is over, by the lane that has heard of them."""
    due_at = book.now if window.status in OVER else max(window.ends_at, book.now + _LOOK_AGAIN)
    key = TimerKey(GRANT_TIMER, f"{window.window_id}/{lane.group}/{lane.partition}")
    book.timers[key] = Timer(lane, key.kind, key.subject, due_at)


def subject_of(timer: Timer) -> UUID:
    """Return the window that a timer is about."""
    return UUID(timer.subject.partition("/")[0])


def catch_up(book: Book, due: Iterable[Timer]) -> None:
    """Take every step of windows whose time has come, in order, also those that follow from others and are due too."""
    waiting = list(due)
    while waiting:
        timer = min(waiting, key=lambda one: one.due_at)
        waiting.remove(timer)
        book.timers[TimerKey(timer.kind, timer.subject)] = None
        _take_step(book, timer)
        # What a step has cleared or moved is asked for no more.
        waiting = [one for one in waiting if book.timers.get(TimerKey(one.kind, one.subject), one) is one]
        waiting += [
            one
            for one in book.timers.values()
            if one is not None and one.kind in STEPS and one.due_at <= book.now and one not in waiting
        ]


def _take_step(book: Book, timer: Timer) -> None:
    window = book.windows.get(subject_of(timer))
    if window is None:
        return
    lane = timer.lane
    if timer.kind == START_TIMER and window.status == Status.SCHEDULED:
        start(book, lane, window)
    elif timer.kind == END_TIMER and window.status in CLOSING:
        _reach_end(book, lane, window)
    elif timer.kind == ESCALATE_TIMER and window.status == Status.OVERRUN:
        book.advance(lane, window, "window.escalated", Status.OVERRUN)
    elif timer.kind == SURVEY_TIMER and window.status == Status.ENDED:
        window.answer_by = book.now + timedelta(seconds=book.policy.survey.answer_within_s)
        book.advance(lane, window, "survey.requested", Status.ENDED, answer_by=as_text(window.answer_by))
    elif timer.kind.startswith(REMINDER_TIMER) and window.status == Status.SCHEDULED:
        before = timer.kind.removeprefix(REMINDER_TIMER)
        book.advance(lane, window, "window.reminder", Status.SCHEDULED, before=before)


def _reach_end(book: Book, lane: Lane, window: Window) -> None:
    if not window.is_confirmed:
        end(book, lane, window)
        return
    patience = timedelta(seconds=book.policy.overrun.escalate_after_s)
    book.set_timer(lane, ESCALATE_TIMER, window, book.now + patience)
    book.advance(lane, window, "window.overrun", Status.OVERRUN)


# --- What is owed ---

_COMPENSATIONS: Final = UUID("5f0b8e0a-6a63-4a52-9d2c-54a3f6a4c9d1")
_RAILS: Final = UUID("0c9a1f7e-3c0d-4b55-8f4d-0b7a9e1d2c33")


def compensation_id(window_id: UUID, customer_id: str) -> UUID:
    """Return the id of what a customer gets for a window: always the same."""
    return uuid5(_COMPENSATIONS, f"{window_id}/{customer_id}")


# --- Whom to forget ---


def forget(book: Book, message: Message, customer_id: str) -> None:
    """Answer that a customer is forgotten, and have that kept as long as late news might bring them back."""
    until = book.now + _ERASED_KEPT
    key = TimerKey(FORGET_TIMER, customer_id)
    book.timers[key] = Timer(message.lane, key.kind, key.subject, until)
    kept = retain(
        "that they were erased, under their customer id",
        "late news of their transfers must not bring them back",
        until,
    )
    case_id = getattr(message.data, "case_id", None)
    book.outgoing.append(
        erased(message.lane, message.id, customer_id, "maintenance", [kept], book.now, message, case_id)
    )


# --- Rails that stop answering ---


def rail_window_id(bank: str, message: Message, now: datetime) -> UUID:
    """Return the id of the window that a bank makes because of a message that is read now."""
    return uuid5(_RAILS, f"{bank}/{message.source}/{message.id}/{as_text(now)}")


def trip(book: Book, message: Message, bank: str) -> None:
    """Make the window of a bank that has stopped answering: it begins at once, and ends when the bank answers.

    Where nothing is left that it could answer, the window's own end lets payouts try the bank again.
    """
    window = Window(
        window_id=rail_window_id(bank, message, book.now),
        content_hash=b"",
        plan={
            "title": f"Bank {bank} does not answer",
            "reason": f"Payouts to {bank} are without an answer",
            "ends": "automatic",
            "treatment": "hold",
            "alternatives": [],
            "drill": False,
            "functions": ["withdrawal", "closure_payout"],
            "scope": {"banks": [bank], "currencies": []},
        },
        starts_at=book.now,
        ends_at=book.now + timedelta(seconds=book.policy.rails.expected_s),
        correlation_id=message.correlation_id,
        traceparent=message.traceparent,
    )
    plan(book, message.lane, window)
