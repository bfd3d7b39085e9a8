"""Clearances decided: times, repeats, pause, the rate, reminders, the deadline and the sums; nothing but decisions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4, uuid5

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.closure import ClearanceFinished, ClearancePause, ClearanceResume, ClearanceStart
from schemas.fields import as_text
from services.closure.decide import clearance as decide
from services.closure.decide.book import Book, Facts, Rules
from services.closure.model import Case, Clearance, ClearanceStatus, ClearedWallet, Customer, Position, Status, Wallet
from services.closure.policy import Policy
from services.runtime.identity_hash import KeyedHashes
from services.runtime.message import Lane, Message, Outgoing, TimerKey, identity_of

LANE = Lane("case", 0)
NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
ID = UUID(int=7)
RULES = Rules(Policy(), KeyedHashes(b"k" * 32))
DEADLINE = NOW + timedelta(days=10)


def book_of(now: datetime = NOW, **facts: Any) -> Book:
    return Book(Facts(**facts), RULES, now)


def command(**more: Any) -> ClearanceStart:
    said = {
        "clearance_id": str(ID),
        "cause": "regulation",
        "subjects": "all",
        "announce_at": as_text(NOW),
        "starts_at": as_text(NOW + timedelta(hours=1)),
        "deadline": as_text(DEADLINE),
        "rate_per_s": 50,
    }
    return ClearanceStart.model_validate_json(orjson.dumps({**said, **more}))


def message(type_: str, data: Any, id_: str = "m1") -> Message:
    return Message(LANE, "closure.commands", 0, b"k", type_, id_, "test", data)


def running(**more: Any) -> Clearance:
    plan: dict[str, Any] = {
        "clearance_id": ID,
        "content_hash": b"",
        "cause": "regulation",
        "dry_run": False,
        "announce_at": NOW,
        "starts_at": NOW,
        "deadline": DEADLINE,
        "rate_per_s": 50,
        "status": ClearanceStatus.RUNNING,
        "wallets": 100,
        "revision": 1,
        "event_type": "clearance.announced",
        "event_body": b"{}",
        "rate_from": NOW,
    }
    return Clearance(**(plan | more))


def said(book: Book) -> list[str]:
    return [identity_of(one)[0] for one in book.outgoing]


def body(one: Outgoing) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(one.value or b"{}")
    return found


# --- Commands ---


@pytest.mark.parametrize(
    ("times", "field"),
    [
        ({"starts_at": as_text(NOW - timedelta(seconds=1))}, "starts_at"),
        ({"deadline": as_text(NOW + timedelta(hours=1))}, "deadline"),
        (
            {
                "announce_at": as_text(NOW - timedelta(days=3)),
                "starts_at": as_text(NOW - timedelta(days=2)),
                "deadline": as_text(NOW),
            },
            "deadline",
        ),
    ],
)
def test_times_that_make_no_sense_are_refused(times: dict[str, str], field: str) -> None:
    desk = decide.Clearances(book_of(), ())
    start = command(**times)
    decide.decide_start(desk, message("clearance.start", start), start)
    assert said(desk.book) == ["closure.command_refused"]
    reason = body(desk.book.outgoing[0])["reason"]
    assert (reason["code"], reason["field"]) == ("times_invalid", field)
    assert not desk.changed
    assert not desk.book.timers


def ask_to_start(policy: Policy, **more: Any) -> list[str]:
    """Return the fields that a start is refused for."""
    book = Book(Facts(), Rules(policy, KeyedHashes(b"k" * 32)), NOW)
    start = command(**more)
    decide.decide_start(decide.Clearances(book, ()), message("clearance.start", start), start)
    return [body(one)["reason"]["field"] for one in book.outgoing]


@pytest.mark.parametrize(
    ("announced_ago", "more", "fields"),
    [
        (timedelta(minutes=30), {}, ["announce_at"]),
        (timedelta(minutes=30), {"dry_run": True}, []),
        (timedelta(minutes=9), {}, []),
        (timedelta(0), {}, []),
    ],
)
def test_nobody_is_told_at_a_time_that_has_passed(
    announced_ago: timedelta, more: dict[str, Any], fields: list[str]
) -> None:
    at = as_text(NOW - announced_ago)
    assert ask_to_start(Policy(), announce_at=at, starts_at=at, **more) == fields


@pytest.mark.parametrize(
    ("cause", "more", "fields"),
    [
        ("termination", {}, ["starts_at"]),
        ("termination", {"dry_run": True}, []),
        ("termination", {"starts_at": as_text(NOW + timedelta(days=1))}, []),
        ("regulation", {}, []),
    ],
)
def test_people_are_told_as_long_before_as_the_policy_says(cause: str, more: dict[str, Any], fields: list[str]) -> None:
    policy = Policy.model_validate({"clearance": {"notice_s": {"termination": 86_400}}})
    assert ask_to_start(policy, cause=cause, **more) == fields


@pytest.mark.parametrize(
    ("late", "notice_s", "starts_at"),
    [
        (timedelta(minutes=9), 3_600, NOW),
        (timedelta(minutes=11), 0, NOW + timedelta(minutes=11)),
        (timedelta(minutes=11), 3_600, NOW + timedelta(minutes=71)),
        (timedelta(minutes=11), 20 * 86_400, NOW),
    ],
)
def test_who_is_told_late_is_not_told_of_a_start_that_has_passed(
    late: timedelta, notice_s: int, starts_at: datetime
) -> None:
    policy = Policy.model_validate({"clearance": {"notice_s": {"regulation": notice_s}}})
    book = Book(Facts(), Rules(policy, KeyedHashes(b"k" * 32)), NOW + late)
    one = running(status=ClearanceStatus.PLANNED, revision=0)
    desk = decide.Clearances(book, (one,))
    decide.announce(desk, LANE, one, None, 3)
    assert body(book.outgoing[0])["starts_at"] == as_text(starts_at)
    timer = book.timers[TimerKey(decide.START_TIMER, str(ID))]
    assert timer is not None
    assert timer.due_at == max(starts_at, book.now)


def test_a_start_is_remembered_by_its_id_and_content() -> None:
    start = command()
    desk = decide.Clearances(book_of(), ())
    decide.decide_start(desk, message("clearance.start", start), start)
    assert desk.book.timers[TimerKey(decide.ANNOUNCE_TIMER, str(ID))]
    decide.announce(desk, LANE, desk.known[ID], None, 3)
    decide.decide_start(desk, message("clearance.start", start, "m2"), start)
    assert said(desk.book) == ["clearance.announced", "clearance.announced"]
    assert desk.book.outgoing[0] == desk.book.outgoing[1]
    other = command(rate_per_s=51)
    decide.decide_start(desk, message("clearance.start", other, "m3"), other)
    assert body(desk.book.outgoing[-1])["reason"]["code"] == "duplicate_id_conflict"


def test_a_dry_run_is_reported_at_once_and_announced_to_nobody() -> None:
    start = command(dry_run=True)
    desk = decide.Clearances(book_of(), ())
    decide.decide_start(desk, message("clearance.start", start), start)
    assert set(desk.book.timers) == {TimerKey(decide.START_TIMER, str(ID))}
    decide.ask_reports(desk, LANE, desk.known[ID], None)
    decide.begin_running(desk, LANE, desk.known[ID], 2)
    assert {key.kind for key in desk.book.timers} == {decide.START_TIMER, decide.PROGRESS_TIMER}
    assert said(desk.book) == ["accounts.report"]


@pytest.mark.parametrize(
    ("known", "code"),
    [
        (None, "clearance_unknown"),
        ({"dry_run": True}, "state_conflict"),
        ({"status": ClearanceStatus.FINISHED}, "state_conflict"),
    ],
)
@pytest.mark.parametrize("type_", ["clearance.pause", "clearance.resume"])
def test_what_cannot_be_paused_or_resumed(known: dict[str, Any] | None, code: str, type_: str) -> None:
    desk = decide.Clearances(book_of(), () if known is None else (running(**known),))
    if type_ == "clearance.pause":
        decide.decide_pause(
            desk, message(type_, ClearancePause(clearance_id=ID)), ClearancePause(clearance_id=ID), None
        )
    else:
        resume = ClearanceResume(clearance_id=ID)
        decide.decide_resume(desk, message(type_, resume), resume, None)
    assert body(desk.book.outgoing[0])["reason"]["code"] == code


def test_a_pause_stops_what_begins_and_a_resume_counts_from_itself() -> None:
    paused = running(begun=40, rate_from=NOW - timedelta(hours=1), wave_at=DEADLINE)
    desk = decide.Clearances(book_of(), (paused,))
    pause, resume = ClearancePause(clearance_id=ID), ClearanceResume(clearance_id=ID)
    decide.decide_pause(desk, message("clearance.pause", pause), pause, None)
    assert desk.book.timers[TimerKey(decide.BEGIN_TIMER, str(ID))] is None
    assert desk.book.timers[TimerKey(decide.WAVE_TIMER, str(ID))] is None
    assert decide.begun_now(paused, RULES.policy, NOW) == 0
    decide.decide_resume(desk, message("clearance.resume", resume), resume, None)
    assert decide.begun_now(paused, RULES.policy, NOW) == 0
    assert decide.begun_now(paused, RULES.policy, NOW + timedelta(seconds=1)) == 50
    assert [body(one)["paused"] for one in desk.book.outgoing] == [True, False]


@pytest.mark.parametrize("paused", [True, False])
def test_what_is_as_it_is_asked_to_be_says_so_again(*, paused: bool) -> None:
    one = running(paused=paused)
    desk = decide.Clearances(book_of(), (one,))
    if paused:
        pause = ClearancePause(clearance_id=ID)
        decide.decide_pause(desk, message("clearance.pause", pause), pause, None)
    else:
        resume = ClearanceResume(clearance_id=ID)
        decide.decide_resume(desk, message("clearance.resume", resume), resume, None)
    assert (said(desk.book), one.revision, desk.changed) == (["clearance.announced"], 1, {})


def test_named_wallets_are_asked_about_a_thousand_at_a_time() -> None:
    desk = decide.Clearances(book_of(), (running(status=ClearanceStatus.ANNOUNCED),))
    named = [f"wallet:{number}" for number in range(2_500)]
    decide.ask_reports(desk, LANE, desk.known[ID], named)
    asked = [body(one) for one in desk.book.outgoing]
    assert [len(one["subjects"]) for one in asked] == [1_000, 1_000, 500]
    assert [one for said in asked for one in said["subjects"]] == named
    assert len({one["report_id"] for one in asked}) == 3


# --- The rate ---


@settings(deadline=None, max_examples=40)
@given(rate=st.integers(1, 10_000), waits=st.lists(st.floats(0, 5), min_size=1, max_size=20))
def test_the_rate_is_never_exceeded(rate: int, waits: list[float]) -> None:
    one, now, began = running(rate_per_s=rate), NOW, list[tuple[datetime, int]]()
    for wait in waits:
        now += timedelta(seconds=wait)
        count = decide.begun_now(one, RULES.policy, now)
        wallets = [ClearedWallet(f"wallet:{one.begun + number:09d}", "c", "CNY", 0) for number in range(count)]
        desk = decide.Clearances(book_of(now, customers={"c": Customer("c")}), (one,))
        decide.begin_cases(desk, LANE, one, wallets, {}, is_last=False)
        began.append((now, count))
        timer = desk.book.timers[TimerKey(decide.BEGIN_TIMER, str(ID))]
        assert timer is not None
        assert count <= RULES.policy.clearance.begun_at_once
    elapsed = (now - NOW).total_seconds()
    assert sum(count for _, count in began) <= elapsed * rate
    assert one.begun == sum(count for _, count in began)


# --- Cases ---


def begin(wallet: ClearedWallet, now: datetime = NOW, closed: dict[str, UUID] | None = None, **facts: Any) -> Any:
    facts = {"customers": {wallet.customer_id: Customer(wallet.customer_id)}} | facts
    desk = decide.Clearances(book_of(now, **facts), (running(),))
    decide.begin_cases(desk, LANE, desk.known[ID], [wallet], closed or {}, is_last=True)
    return desk


def owed(customer_id: str) -> dict[str, Position]:
    return {"l": Position("l", customer_id, None, "loan", 1, 0, 0, "CNY", "settled")}


@pytest.mark.parametrize(
    ("posted_minor", "now", "facts", "status"),
    [
        (0, NOW, {}, Status.DRAINING),
        (5, NOW, {}, Status.ACCOUNT_WANTED),
        (5, DEADLINE, {}, Status.DRAINING),
        (-5, NOW, {}, Status.OBLIGATIONS),
        (5, NOW, {"positions": owed("c")}, Status.OBLIGATIONS),
        (5, NOW, {"positions": owed("another")}, Status.ACCOUNT_WANTED),
    ],
)
def test_how_a_case_begins(posted_minor: int, now: datetime, facts: dict[str, Any], status: Status) -> None:
    desk = begin(ClearedWallet("wallet:a", "c", "CNY", posted_minor), now, **facts)
    (case,) = desk.book.changed.values()
    assert case.case_id == RULES.cleared_by(ID, "wallet:a")
    assert (case.status, case.start_minor, case.clearance_id) == (status, posted_minor, ID)
    assert desk.taken == [(ID, "wallet:a", case.case_id, True)]
    assert body(desk.book.outgoing[0])["cause"] == "regulation"


def test_a_wallet_that_is_in_a_case_is_left_to_that() -> None:
    mine = Case(UUID(int=3), b"", "wallet:a", NOW, "c", status=Status.REVIEW, step_count=3)
    facts = {"cases": {mine.case_id: mine}, "wallets": {"wallet:a": Wallet("wallet:a", "c", "CNY", "open", 1)}}
    desk = begin(ClearedWallet("wallet:a", "c", "CNY", 5), **facts)
    assert desk.taken == [(ID, "wallet:a", mine.case_id, False)]
    assert not desk.book.outgoing


def test_a_wallet_that_was_closed_meanwhile_is_counted_by_what_closed_it() -> None:
    desk = begin(ClearedWallet("wallet:a", "c", "CNY", 5), closed={"wallet:a": UUID(int=4)})
    assert desk.taken == [(ID, "wallet:a", UUID(int=4), False)]
    assert not desk.book.outgoing


def test_nobody_can_foresee_the_ids_of_its_cases_and_reports() -> None:
    ours = [RULES.cleared_by(ID, "wallet:a"), RULES.reported_to(ID, 0)]
    others = Rules(Policy(), KeyedHashes(b"o" * 32))
    assert ours == [RULES.cleared_by(ID, "wallet:a"), RULES.reported_to(ID, 0)]
    foreseen = [others.cleared_by(ID, "wallet:a"), others.reported_to(ID, 0), uuid5(ID, "wallet:a"), ID]
    elsewhere = [RULES.cleared_by(uuid4(), "wallet:a"), RULES.cleared_by(ID, "wallet:b"), RULES.reported_to(ID, 1)]
    assert len({*ours, *foreseen, *elsewhere}) == 9


def test_what_begins_after_all_does_not_begin_the_others_again() -> None:
    desk = decide.Clearances(book_of(customers={"c": Customer("c")}), (running(last_account="wallet:z", begun=100),))
    decide.begin_cases(desk, LANE, desk.known[ID], [ClearedWallet("wallet:a", "c", "CNY", 0)], {}, is_last=True)
    assert desk.known[ID].last_account == "wallet:z"


# --- Reminders, and the deadline ---


def wanting(count: int) -> dict[UUID, Case]:
    found = [
        Case(uuid5(ID, f"{number}"), b"", f"wallet:{number}", NOW, f"c{number}", ID, status=Status.ACCOUNT_WANTED)
        for number in range(count)
    ]
    for one in found:
        one.step_count, one.balance_minor, one.currency = 3, 7, "CNY"
    return {one.case_id: one for one in found}


def test_reminders_that_lie_ahead_and_then_the_deadline() -> None:
    one = running(status=ClearanceStatus.REPORTING)
    desk = decide.Clearances(book_of(), (one,))
    decide.begin_running(desk, LANE, one, 3)
    waves = []
    while one.wave_at is not None:
        waves.append(one.wave_at)
        facts = wanting(2)
        desk = decide.Clearances(book_of(one.wave_at, cases=facts), (one,))
        decide.speak_to(desk, LANE, one, list(facts), is_last=True)
        is_over = waves[-1] == DEADLINE
        first = ["closure.draining", "account.close"] if is_over else ["closure.payout_account_required"]
        assert said(desk.book) == 2 * first
    assert waves == [DEADLINE - timedelta(seconds=s) for s in (604_800, 259_200, 86_400)] + [DEADLINE]


@pytest.mark.parametrize(
    ("refusal", "now", "heard_at", "says"),
    [
        ("rail_rejected", NOW, NOW, [as_text(DEADLINE)]),
        ("payout_account_missing", NOW, NOW, [as_text(DEADLINE)]),
        ("rail_rejected", DEADLINE, NOW, [None]),
        ("rail_rejected", DEADLINE, DEADLINE, []),
        ("maintenance", NOW, NOW, []),
        (None, NOW, NOW, []),
    ],
)
def test_whose_bank_refused_the_payout_is_reminded_too(
    refusal: str | None, now: datetime, heard_at: datetime, says: list[str | None]
) -> None:
    facts = wanting(1)
    (case,) = facts.values()
    case.status, case.refusal, case.occurred_at = Status.PAYOUT_STOPPED, refusal, heard_at
    desk = decide.Clearances(book_of(now, cases=facts), (running(wave_at=now),))
    decide.speak_to(desk, LANE, desk.known[ID], list(facts), is_last=True)
    assert [body(one).get("deadline") for one in desk.book.outgoing] == says


def test_nobody_is_left_untold_that_the_deadline_has_passed() -> None:
    one = running(wave_at=DEADLINE)
    desk = decide.Clearances(book_of(DEADLINE), (one,))
    decide.look(desk, LANE, one, decide.Tally(cleared=99, waiting=1))
    assert one.status == ClearanceStatus.RUNNING


def test_a_reminder_goes_on_where_it_was_at_the_rate() -> None:
    one, facts = running(wave_at=NOW), wanting(3)
    desk = decide.Clearances(book_of(cases=facts), (one,))
    decide.speak_to(desk, LANE, one, list(facts), is_last=False)
    assert one.wave_after == "wallet:2"
    timer = desk.book.timers[TimerKey(decide.WAVE_TIMER, str(ID))]
    assert timer is not None
    assert timer.due_at == NOW + timedelta(seconds=3 / 50)


# --- The statement ---

_OUTCOMES = ("cleared", "paid", "waiting", "unanswered", "blocked", "lost", "unasked", "pending")
_AMOUNT = st.integers(-(10**9), 10**9)
_ROW = st.fixed_dictionaries(
    {
        "currency": st.sampled_from(("CNY", "USD")),
        "outcome": st.sampled_from(_OUTCOMES),
        "wallets": st.integers(1, 1_000),
        "total_minor": _AMOUNT,
        "paid_minor": st.integers(0, 10**9),
        "fee_minor": st.integers(0, 10**6),
        "held_minor": _AMOUNT,
    }
)


@settings(deadline=None)
@given(st.lists(_ROW, max_size=20))
def test_every_unit_and_every_wallet_is_somewhere(rows: list[dict[str, Any]]) -> None:
    tally = decide.add_up(rows)
    assert sum(tally.counts().values()) + tally.pending == sum(row["wallets"] for row in rows)
    for money in tally.amounts():
        currency, total = money.pop("currency"), money.pop("total_minor")
        assert total == sum(money.values()) == sum(row["total_minor"] for row in rows if row["currency"] == currency)


def test_wallets_that_nobody_knows_are_blocked_and_hold_nothing() -> None:
    row = {"currency": None, "outcome": "unknown", "wallets": 2, "total_minor": 0, "paid_minor": 0, "fee_minor": 0}
    tally = decide.add_up([row])
    assert (tally.blocked, tally.unknown, tally.pending, tally.amounts()) == (2, 2, 0, [])


@pytest.mark.parametrize(
    ("tally", "now", "is_finished"),
    [
        (decide.Tally(cleared=100), NOW, True),
        (decide.Tally(cleared=99, pending=1), DEADLINE, False),
        (decide.Tally(cleared=99, waiting=1), NOW, False),
        (decide.Tally(cleared=99, waiting=1), DEADLINE, True),
        (decide.Tally(paid=90, blocked=10), NOW, True),
    ],
)
def test_when_it_is_finished(tally: decide.Tally, now: datetime, *, is_finished: bool) -> None:
    one = running()
    desk = decide.Clearances(book_of(now), (one,))
    decide.look(desk, LANE, one, tally)
    assert (one.status == ClearanceStatus.FINISHED) == is_finished
    if is_finished:
        ClearanceFinished.model_validate_json(one.event_body)
    assert (desk.book.timers[TimerKey(decide.PROGRESS_TIMER, str(ID))] is None) == is_finished


def test_progress_is_said_only_when_it_changes() -> None:
    one = running()
    for tally, events in ((decide.Tally(pending=3), 1), (decide.Tally(pending=3), 0), (decide.Tally(pending=2), 1)):
        desk = decide.Clearances(book_of(), (one,))
        decide.look(desk, LANE, one, tally)
        assert len(desk.book.outgoing) == events


@pytest.mark.parametrize(
    ("took_s", "now", "after"),
    [
        (0.1, NOW, timedelta(seconds=10)),
        (6, NOW, timedelta(minutes=2)),
        (6, DEADLINE - timedelta(minutes=1), timedelta(minutes=1)),
        (6, DEADLINE, timedelta(minutes=2)),
    ],
)
def test_what_takes_long_to_add_up_is_added_up_seldom(took_s: float, now: datetime, after: timedelta) -> None:
    desk = decide.Clearances(book_of(now), (running(),))
    decide.look(desk, LANE, desk.known[ID], decide.Tally(pending=3), took_s=took_s)
    timer = desk.book.timers[TimerKey(decide.PROGRESS_TIMER, str(ID))]
    assert timer is not None
    assert timer.due_at - now == after


def test_whoever_is_left_over_is_taken_up_again() -> None:
    one = running(begun=100)
    desk = decide.Clearances(book_of(DEADLINE), (one,))
    decide.look(desk, LANE, one, decide.Tally(pending=2, lost=1, unasked=1))
    assert desk.book.timers[TimerKey(decide.BEGIN_TIMER, str(ID))]
    assert desk.book.timers[TimerKey(decide.WAVE_TIMER, str(ID))]
    assert one.wave_at == DEADLINE
