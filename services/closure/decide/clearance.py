"""Decides how a clearance goes on: announced, its wallets reported, their cases begun at a rate, its statement."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import orjson

from schemas.fields import as_text
from schemas.reasons import FOR_A_WHILE
from services.closure.decide import cases
from services.closure.decide.draining import drain
from services.closure.model import Case, Clearance, ClearanceStatus, ClearedWallet, Refusal, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from uuid import UUID

    from schemas.closure import ClearancePause, ClearanceResume, ClearanceStart
    from services.closure.decide.book import Book
    from services.closure.policy import Policy
    from services.runtime.message import Lane, Message

ANNOUNCE_TIMER: Final = "clearance_announce"
START_TIMER: Final = "clearance_start"
BEGIN_TIMER: Final = "clearance_begin"
WAVE_TIMER: Final = "clearance_wave"
PROGRESS_TIMER: Final = "clearance_progress"
TIMERS: Final = frozenset({ANNOUNCE_TIMER, START_TIMER, BEGIN_TIMER, WAVE_TIMER, PROGRESS_TIMER})

MOST_REPORTED: Final = 1_000
"""So many wallets are named in one report."""

NOT_BEGUN: Final = "not_begun"
"""Where a wallet stands whose case has not begun."""

ANSWERED_WITHIN: Final = timedelta(minutes=15)
"""After the deadline, what a wallet has waited for longer, a silent bank's answer above all, is waited for no more."""

ANNOUNCED_LATE: Final = timedelta(minutes=10)
"""So long a command may take to get here: what was to be announced before that was announced by nobody."""


@dataclass(slots=True)
class Money:
    """What became of what wallets held in one currency, in minor units; see `schemas.closure.ClearedMoney`."""

    total_minor: int = 0
    paid_out_minor: int = 0
    fee_minor: int = 0
    waiting_minor: int = 0
    blocked_minor: int = 0
    moved_minor: int = 0


@dataclass(slots=True)
class Tally:
    """How many of a clearance's wallets stand where, and their money by currency.

    `lost` are wallets whose own closing, which the clearance had left them to, ended without closing them; `unasked`
    those that wait for a payout account although the deadline has passed. Both are pending; `pending_by` says where
    the cases of all that are pending stand. `unknown` are wallets that nobody knows; they are blocked.
    """

    cleared: int = 0
    paid: int = 0
    waiting: int = 0
    blocked: int = 0
    pending: int = 0
    lost: int = 0
    unasked: int = 0
    unknown: int = 0
    pending_by: Counter[str] = field(default_factory=Counter)
    money: dict[str, Money] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Return what every statement counts."""
        return {name: getattr(self, name) for name in ("cleared", "paid", "waiting", "blocked")}

    def amounts(self) -> list[dict[str, Any]]:
        """Return the money of each currency, as an event carries it."""
        names = [one.name for one in fields(Money)]
        return [
            {"currency": currency, **{name: getattr(money, name) for name in names}}
            for currency, money in sorted(self.money.items())
        ]


class Clearances:
    """The clearances of a batch, changed in memory, and what has to be recorded of them afterwards."""

    def __init__(self, book: Book, known: Iterable[Clearance]) -> None:
        self.book = book
        self.known = {one.clearance_id: one for one in known}
        self.changed: dict[UUID, Clearance] = {}
        self.named: dict[UUID, Sequence[str] | None] = {}
        """The wallets that new clearances name; None stands for all."""
        self.reports: list[tuple[UUID, UUID]] = []
        """Reports that were asked for, each with its clearance."""
        self.taken: list[tuple[UUID, str, UUID, bool]] = []
        """Wallets whose case is known: the clearance, the wallet, the case, and whether the clearance began it."""

    def change(self, clearance: Clearance) -> None:
        """Have a clearance recorded."""
        self.known[clearance.clearance_id] = self.changed[clearance.clearance_id] = clearance

    def say(self, lane: Lane, clearance: Clearance, type_: str, **extra: Any) -> None:
        """Make the next event of a clearance."""
        clearance.revision += 1
        clearance.event_type = type_
        clearance.occurred_at = self.book.now
        clearance.event_body = orjson.dumps(
            {
                "clearance_id": str(clearance.clearance_id),
                "revision": clearance.revision,
                "cause": clearance.cause,
                "dry_run": clearance.dry_run,
                "wallets": clearance.wallets,
                "occurred_at": self.book.now_text,
                **extra,
            }
        )
        self.change(clearance)
        self.publish(lane, clearance)

    def publish(self, lane: Lane, clearance: Clearance) -> None:
        """Publish the latest event of a clearance, again for whoever asks again."""
        id_ = clearance.clearance_id
        self.book.publish(lane, str(id_), id_, clearance)


# --- Commands ---


def decide_start(desk: Clearances, message: Message, command: ClearanceStart) -> None:
    """Decide a `clearance.start`: a new clearance, a repeat, or another content under a known id."""
    book = desk.book
    content_hash = book.hash_content(message.type, command)
    known = desk.known.get(command.clearance_id)
    if known is not None:
        if known.content_hash != content_hash:
            book.refuse(message, Refusal("duplicate_id_conflict", "clearance_id"))
        elif known.revision:
            desk.publish(message.lane, known)
        return
    refusal = check_times(command, book.policy, book.now)
    if refusal is not None:
        book.refuse(message, refusal)
        return
    clearance = Clearance(
        clearance_id=command.clearance_id,
        content_hash=content_hash,
        cause=command.cause,
        dry_run=command.dry_run,
        announce_at=command.announce_at,
        starts_at=command.starts_at,
        deadline=command.deadline,
        rate_per_s=command.rate_per_s,
        correlation_id=message.correlation_id,
        traceparent=message.traceparent,
    )
    desk.named[clearance.clearance_id] = None if command.subjects == "all" else list(dict.fromkeys(command.subjects))
    desk.change(clearance)
    if clearance.dry_run:
        book.set_timer(message.lane, START_TIMER, clearance.clearance_id, book.now)
    else:
        book.set_timer(message.lane, ANNOUNCE_TIMER, clearance.clearance_id, max(clearance.announce_at, book.now))


def check_times(command: ClearanceStart, policy: Policy, now: datetime) -> Refusal | None:
    """Return why a clearance cannot have these times; None if it can. A dry run is announced to nobody."""
    if command.starts_at < command.announce_at:
        return Refusal("times_invalid", "starts_at", "it starts no earlier than it is announced")
    if command.deadline <= command.starts_at:
        return Refusal("times_invalid", "deadline", "the deadline comes after the start")
    if command.deadline <= now:
        return Refusal("times_invalid", "deadline", "the deadline has passed")
    if command.dry_run:
        return None
    if command.announce_at < now - ANNOUNCED_LATE:
        return Refusal("times_invalid", "announce_at", "people cannot be told at a time that has passed")
    notice = _notice_of(policy, command.cause)
    if command.starts_at < command.announce_at + notice:
        least = f"people are told at least {notice} before it starts, by the policy (clearance.notice_s)"
        return Refusal("times_invalid", "starts_at", least)
    return None


def _notice_of(policy: Policy, cause: str) -> timedelta:
    """Return how long before a clearance starts people are told at least."""
    return timedelta(seconds=next((told for name, told in policy.clearance.notice_s.items() if name == cause), 0))


def decide_pause(desk: Clearances, message: Message, command: ClearancePause, tally: Tally | None) -> None:
    """Decide a `clearance.pause`: no more cases are begun, and nobody is reminded or drained by the deadline."""
    clearance = _find(desk, message, command)
    if clearance is None:
        return
    if clearance.paused:
        desk.publish(message.lane, clearance)
        return
    clearance.paused = True
    desk.book.clear_timers(clearance.clearance_id, (BEGIN_TIMER, WAVE_TIMER))
    say_progress(desk, message.lane, clearance, tally)


def decide_resume(desk: Clearances, message: Message, command: ClearanceResume, tally: Tally | None) -> None:
    """Decide a `clearance.resume`: cases begin again, at the rate from now on; one that is not paused just goes on."""
    clearance = _find(desk, message, command)
    if clearance is None:
        return
    if not clearance.paused:
        if clearance.revision:
            desk.publish(message.lane, clearance)
        return
    clearance.paused = False
    if clearance.status == ClearanceStatus.RUNNING:
        _go_on(desk, message.lane, clearance)
    say_progress(desk, message.lane, clearance, tally)


def _find(desk: Clearances, message: Message, command: ClearancePause | ClearanceResume) -> Clearance | None:
    clearance = desk.known.get(command.clearance_id)
    if clearance is None:
        desk.book.refuse(message, Refusal("clearance_unknown", "clearance_id"))
    elif clearance.dry_run or clearance.status == ClearanceStatus.FINISHED:
        what = "a dry run" if clearance.dry_run else clearance.status
        desk.book.refuse(message, Refusal("state_conflict", detail=f"the clearance is {what}"))
    else:
        return clearance
    return None


# --- Announced, and reported ---


def announce(desk: Clearances, lane: Lane, clearance: Clearance, named: Sequence[str] | None, wallets: int) -> None:
    """Tell those whose wallets will be ended; `wallets` is how many there are now.

    Where they are told late, because the service did not run, it starts later, unless the deadline is too near.
    """
    if clearance.status != ClearanceStatus.PLANNED:
        return
    clearance.status = ClearanceStatus.ANNOUNCED
    now = desk.book.now
    after_notice = now + _notice_of(desk.book.policy, clearance.cause)
    if clearance.announce_at + ANNOUNCED_LATE < now and clearance.starts_at < after_notice < clearance.deadline:
        clearance.starts_at = after_notice
    clearance.wallets = wallets
    desk.say(
        lane,
        clearance,
        "clearance.announced",
        subjects="all" if named is None else named,
        starts_at=as_text(clearance.starts_at),
        deadline=as_text(clearance.deadline),
    )
    desk.book.set_timer(lane, START_TIMER, clearance.clearance_id, max(clearance.starts_at, desk.book.now))


def ask_reports(desk: Clearances, lane: Lane, clearance: Clearance, named: Sequence[str] | None) -> None:
    """Ask the transfer service how the wallets stand; what they hold by that is what has to be accounted for."""
    if clearance.status not in {ClearanceStatus.PLANNED, ClearanceStatus.ANNOUNCED}:
        return
    clearance.status = ClearanceStatus.REPORTING
    clearance.asked_at = desk.book.now
    desk.change(clearance)
    id_ = str(clearance.clearance_id)
    for number, start in enumerate(range(0, 1 if named is None else len(named), MOST_REPORTED)):
        report_id = desk.book.rules.reported_to(clearance.clearance_id, number)
        desk.reports.append((report_id, clearance.clearance_id))
        body = {
            "report_id": str(report_id),
            "subjects": "all" if named is None else named[start : start + MOST_REPORTED],
        }
        report = f"{id_}.report.{number}"
        desk.book.send(lane, "transfer.commands", "accounts.report", report, body, id_, clearance)


def begin_running(desk: Clearances, lane: Lane, clearance: Clearance, wallets: int) -> None:
    """Begin with the cases, now that it is known how every wallet stands."""
    if clearance.status != ClearanceStatus.REPORTING:
        return
    clearance.status = ClearanceStatus.RUNNING
    clearance.wallets = wallets
    clearance.wave_at = _next_wave(clearance, desk.book.policy, desk.book.now)
    desk.change(clearance)
    desk.book.set_timer(lane, PROGRESS_TIMER, clearance.clearance_id, desk.book.now)
    if not clearance.dry_run and not clearance.paused:
        _go_on(desk, lane, clearance)


def _go_on(desk: Clearances, lane: Lane, clearance: Clearance) -> None:
    clearance.rate_from, clearance.rate_begun = desk.book.now, clearance.begun
    desk.change(clearance)
    _begin_next(desk, lane, clearance)
    if clearance.wave_at is not None:
        desk.book.set_timer(lane, WAVE_TIMER, clearance.clearance_id, clearance.wave_at)


# --- Cases ---


def begun_now(clearance: Clearance, policy: Policy, now: datetime) -> int:
    """Return how many cases may begin now."""
    if clearance.paused or clearance.status != ClearanceStatus.RUNNING or clearance.rate_from is None:
        return 0
    elapsed_s = (now - clearance.rate_from).total_seconds()
    may_have_begun = clearance.rate_begun + int(elapsed_s * clearance.rate_per_s)
    return max(0, min(may_have_begun - clearance.begun, policy.clearance.begun_at_once))


def begin_cases(
    desk: Clearances,
    lane: Lane,
    clearance: Clearance,
    wallets: Sequence[ClearedWallet],
    closed: Mapping[str, UUID],
    *,
    is_last: bool,
) -> None:
    """Begin the cases of the next wallets; `closed` are those that their holders' own cases have closed meanwhile.

    A wallet that is in a case already is left to that. Cases that could not begin in time, because the service did
    not run, are not made up for: the rate is never exceeded.
    """
    for wallet in wallets:
        own_id = desk.book.rules.cleared_by(clearance.clearance_id, wallet.account_id)
        other = desk.book.open_case_of(wallet.account_id)
        if other is not None:
            case_id = other.case_id
        elif wallet.account_id in closed:
            case_id = closed[wallet.account_id]
        else:
            case_id = own_id
            _begin_case(desk.book, lane, clearance, wallet, own_id)
        desk.taken.append((clearance.clearance_id, wallet.account_id, case_id, case_id == own_id))
    clearance.begun += len(wallets)
    # Those that are begun after all lie behind it.
    clearance.last_account = max((clearance.last_account, *(one.account_id for one in wallets)))
    desk.change(clearance)
    now = desk.book.now
    if clearance.rate_from is not None and now - clearance.rate_from > timedelta(seconds=1):
        clearance.rate_from, clearance.rate_begun = now, clearance.begun
    if not is_last:
        _begin_next(desk, lane, clearance)


def _begin_next(desk: Clearances, lane: Lane, clearance: Clearance) -> None:
    rate = clearance.rate_per_s
    count = min(desk.book.policy.clearance.begun_at_once, rate)
    after_s = (clearance.begun - clearance.rate_begun + count) / rate
    due_at = (clearance.rate_from or desk.book.now) + timedelta(seconds=after_s)
    desk.book.set_timer(lane, BEGIN_TIMER, clearance.clearance_id, due_at)


def _begin_case(book: Book, lane: Lane, clearance: Clearance, wallet: ClearedWallet, case_id: UUID) -> None:
    case = Case(
        case_id=case_id,
        content_hash=clearance.content_hash,
        subject=wallet.account_id,
        received_at=book.now,
        customer_id=wallet.customer_id,
        clearance_id=clearance.clearance_id,
        correlation_id=clearance.correlation_id,
        traceparent=clearance.traceparent,
        expires_at=clearance.deadline,
        currency=wallet.currency,
        start_minor=wallet.posted_minor,
        balance_minor=wallet.posted_minor,
    )
    book.enter(case, Status.RECEIVED)
    why = {"clearance_id": str(clearance.clearance_id), "cause": clearance.cause}
    book.say(lane, case, "closure.received", **why, deadline=as_text(clearance.deadline))
    cases.check_obligations(book, lane, case)


# --- Reminders, and the deadline ---


def _next_wave(clearance: Clearance, policy: Policy, after: datetime) -> datetime:
    """Return when those without a payout account are reminded next; at the deadline, they are drained."""
    moments = [clearance.deadline - timedelta(seconds=before_s) for before_s in policy.clearance.remind_before_s]
    return min((one for one in moments if after < one < clearance.deadline), default=clearance.deadline)


def is_wave_due(clearance: Clearance, now: datetime) -> bool:
    """Tell whether those without a payout account are spoken to now."""
    is_on = clearance.status == ClearanceStatus.RUNNING and not clearance.paused
    return is_on and clearance.wave_at is not None and clearance.wave_at <= now


def speak_to(desk: Clearances, lane: Lane, clearance: Clearance, wanting: Sequence[UUID], *, is_last: bool) -> None:
    """Remind the next of those without a payout account, or after the deadline drain their wallets."""
    book = desk.book
    is_over = clearance.deadline <= book.now
    found = [case for case_id in wanting if (case := book.cases.get(case_id)) is not None]
    for case in found:
        if is_over and case.status == Status.ACCOUNT_WANTED:
            drain(book, lane, case)
        elif _wants_account(case) and not (is_over and _has_heard_since(case, clearance.deadline)):
            payout = {"payout_minor": case.balance_minor, "currency": case.currency}
            deadline = None if is_over else as_text(clearance.deadline)
            book.say(lane, case, "closure.payout_account_required", **payout, deadline=deadline)
    desk.change(clearance)
    if not is_last:
        clearance.wave_after = max(case.subject for case in found)
        due_at = book.now + timedelta(seconds=len(found) / clearance.rate_per_s)
        book.set_timer(lane, WAVE_TIMER, clearance.clearance_id, due_at)
        return
    clearance.wave_after = ""
    if is_over and clearance.wave_at == clearance.deadline:
        clearance.wave_at = None
        return
    clearance.wave_at = _next_wave(clearance, book.policy, book.now)
    book.set_timer(lane, WAVE_TIMER, clearance.clearance_id, clearance.wave_at)


def _wants_account(case: Case) -> bool:
    """Whether its payout waits for an account: none was named, or the bank refused it."""
    if case.status == Status.PAYOUT_STOPPED:
        return case.refusal is not None and case.refusal not in FOR_A_WHILE
    return case.status == Status.ACCOUNT_WANTED


def _has_heard_since(case: Case, deadline: datetime) -> bool:
    return case.occurred_at is not None and case.occurred_at >= deadline


# --- How far it is ---


def say_progress(desk: Clearances, lane: Lane, clearance: Clearance, tally: Tally | None) -> None:
    """Say how far a clearance is; before its wallets are known, all that it counts are pending."""
    known = Tally(pending=clearance.wallets) if tally is None else tally
    said = {**known.counts(), "pending": known.pending, "paused": clearance.paused, "money": known.amounts()}
    desk.say(lane, clearance, "clearance.progress", **said)


def is_done(clearance: Clearance, tally: Tally, now: datetime) -> bool:
    """Tell whether nothing of a clearance is pending any more, and nobody may still say where their money goes.

    From the deadline on nobody may once those who wait have been told that it has passed.
    """
    return not tally.pending and (not tally.waiting or (clearance.deadline <= now and clearance.wave_at is None))


def look(
    desk: Clearances,
    lane: Lane,
    clearance: Clearance,
    tally: Tally,
    blockers: Sequence[dict[str, Any]] = (),
    *,
    took_s: float = 0,
) -> None:
    """Say how far a clearance is where that has changed, and end one that is done.

    `blockers` are what then stays. What took `took_s` to add up is added up again after many times as long: meanwhile
    nobody else gets at the clearance.
    """
    book = desk.book
    if clearance.status != ClearanceStatus.RUNNING:
        return
    if is_done(clearance, tally, book.now):
        finish(desk, lane, clearance, tally, blockers)
        return
    due_at = book.now + timedelta(seconds=max(book.policy.clearance.progress_every_s, took_s * _TIMES_AS_LONG))
    if book.now < clearance.deadline < due_at:
        due_at = clearance.deadline
    book.set_timer(lane, PROGRESS_TIMER, clearance.clearance_id, due_at)
    if not clearance.paused:
        if tally.lost and not any(key.kind == BEGIN_TIMER for key in book.timers):
            _look_for_lost(desk, lane, clearance, tally)
        if tally.unasked and clearance.wave_at is None:
            clearance.wave_at = clearance.deadline
            desk.change(clearance)
            book.set_timer(lane, WAVE_TIMER, clearance.clearance_id, clearance.deadline)
    if _has_changed(clearance, tally):
        say_progress(desk, lane, clearance, tally)


def _look_for_lost(desk: Clearances, lane: Lane, clearance: Clearance, tally: Tally) -> None:
    """Begin the cases of those whose own closing came to nothing, once every other case has begun."""
    if clearance.begun >= clearance.wallets - tally.unknown:
        clearance.rate_from, clearance.rate_begun = desk.book.now, clearance.begun
        desk.change(clearance)
        _begin_next(desk, lane, clearance)


_TIMES_AS_LONG: Final = 20


def _has_changed(clearance: Clearance, tally: Tally) -> bool:
    if clearance.event_type != "clearance.progress":
        return True
    before = orjson.loads(clearance.event_body)
    now = {**tally.counts(), "pending": tally.pending, "money": tally.amounts()}
    return any(before[name] != value for name, value in now.items())


def finish(
    desk: Clearances, lane: Lane, clearance: Clearance, tally: Tally, blockers: Sequence[dict[str, Any]] = ()
) -> None:
    """Make the final statement of a clearance."""
    if clearance.status != ClearanceStatus.RUNNING:
        return
    clearance.status = ClearanceStatus.FINISHED
    desk.book.clear_timers(clearance.clearance_id, TIMERS)
    extra = {"blockers": list(blockers)} if blockers else {}
    desk.say(lane, clearance, "clearance.finished", **tally.counts(), money=tally.amounts(), **extra)


def add_up(rows: Iterable[Mapping[str, Any]]) -> Tally:
    """Return how a clearance stands, from the sums of its wallets by currency and outcome.

    What was there and was neither paid out nor taken as a fee is waiting, blocked, or was moved by the holder.
    """
    tally = Tally()
    counts: Counter[str] = Counter()
    for row in rows:
        outcome = row["outcome"]
        counts[outcome] += row["wallets"]
        if outcome in _PENDING:
            tally.pending_by[row.get("stands") or NOT_BEGUN] += row["wallets"]
        if row["currency"] is None:
            # It holds nothing, being nobody's.
            continue
        one = tally.money.setdefault(row["currency"], Money())
        one.total_minor += row["total_minor"]
        one.paid_out_minor += row["paid_minor"]
        one.fee_minor += row["fee_minor"]
        rest_minor = row["total_minor"] - row["paid_minor"] - row["fee_minor"]
        if outcome in {"cleared", "paid"}:
            one.moved_minor += rest_minor
        elif outcome == "blocked":
            one.blocked_minor += rest_minor
        elif outcome == "waiting":
            one.waiting_minor += row["held_minor"]
            one.moved_minor += rest_minor - row["held_minor"]
        else:
            one.waiting_minor += rest_minor
    tally.lost, tally.unasked, tally.unknown = counts["lost"], counts["unasked"], counts["unknown"]
    tally.cleared, tally.paid = counts["cleared"], counts["paid"]
    tally.waiting = counts["waiting"] + counts["unanswered"]
    tally.blocked = counts["blocked"] + tally.unknown
    tally.pending = sum(counts[name] for name in _PENDING)
    return tally


_PENDING: Final = ("pending", "lost", "unasked")
