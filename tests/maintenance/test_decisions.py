"""The rules of the maintenance service, as tables: what stands, what is said, what follows."""

from __future__ import annotations

import itertools
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from schemas.envelope import short_type
from schemas.fields import as_text
from schemas.registry import MODELS
from services.maintenance.decide import STEPS, Book, answer_key, catch_up, decide_command
from services.maintenance.model import Answer, AnswerKey, Window
from services.maintenance.policy import Policy
from services.runtime.message import Lane, Message, Timer

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
LANE = Lane("window", 0)
ID = "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f509"


class World:
    """What a database would hold, and a service that decides by it."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self.now = NOW
        self.windows: dict[uuid.UUID, Window] = {}
        self.answers: dict[AnswerKey, Answer] = {}
        self.timers: dict[tuple[str, str], Timer] = {}
        self.said: list[tuple[str, str, dict[str, Any]]] = []
        self.survey: dict[Any, Any] = {}
        self._offsets = itertools.count()

    def tell(self, type_: str, command_id: str | None = None, **data: Any) -> list[tuple[str, dict[str, Any]]]:
        """Give a command, after what is due, and return what it is answered with: types and bodies."""
        model = MODELS[type_].model_validate_json(orjson.dumps(data))
        id_ = command_id or str(uuid.uuid4())
        message = Message(LANE, "maintenance.commands", next(self._offsets), ID.encode(), type_, id_, "test", model)
        return self._run(self._due(), [message])

    def wait_until(self, moment: datetime) -> list[str]:
        """Let time pass, timer by timer, and return the types of what is said."""
        said = []
        while True:
            coming = [timer for timer in self.timers.values() if timer.kind in STEPS and timer.due_at <= moment]
            if not coming:
                self.now = moment
                return said
            self.now = max(self.now, min(timer.due_at for timer in coming))
            said += [type_ for type_, _ in self._run(self._due(), [])]

    def sleep_until(self, moment: datetime) -> list[str]:
        """Let time pass while nobody works, then come back."""
        self.now = moment
        return [type_ for type_, _ in self._run(self._due(), [])]

    def status(self) -> str:
        return self.windows[uuid.UUID(ID)].status

    def _due(self) -> list[Timer]:
        return [timer for timer in self.timers.values() if timer.kind in STEPS and timer.due_at <= self.now]

    def _run(self, due: list[Timer], messages: list[Message]) -> list[tuple[str, dict[str, Any]]]:
        book = Book(self.windows, self.answers, self.policy, self.now)
        catch_up(book, due)
        before = len(book.outgoing)
        for message in messages:
            decide_command(book, message)
        for key, timer in book.timers.items():
            self.timers.pop(key, None)
            if timer is not None:
                self.timers[key] = timer
        self.survey |= book.survey_answers
        said = []
        for outgoing in book.outgoing:
            headers = dict(outgoing.headers)
            type_ = short_type((headers["ce_type"] or b"").decode())
            # Whatever is published is what the contract says.
            MODELS[type_].model_validate_json(outgoing.value or b"")
            said.append((type_, orjson.loads(outgoing.value or b"")))
            self.said.append((type_, (headers["ce_id"] or b"").decode(), said[-1][1]))
        return said[before:] if messages else said


def plan(starts_in: timedelta = 10 * DAY, lasts: timedelta = 2 * HOUR, **more: Any) -> dict[str, Any]:
    return {
        "window_id": ID,
        "title": "Upgrade",
        "reason": "Upgrade of the ledger",
        "starts_at": as_text(NOW + starts_in),
        "ends_at": as_text(NOW + starts_in + lasts),
        "functions": ["transfer"],
        "treatment": "hold",
        **more,
    }


def planned(**more: Any) -> World:
    world = World()
    world.tell("window.schedule", **plan(**more))
    return world


def started(**more: Any) -> World:
    world = planned(**more)
    world.wait_until(NOW + 10 * DAY + HOUR)
    return world


# --- A window's life ---


def test_a_window_is_announced_ahead_starts_ends_and_is_asked_about() -> None:
    world = World()
    assert [type_ for type_, _ in world.tell("window.schedule", **plan())] == ["window.scheduled"]
    assert world.wait_until(NOW + 20 * DAY) == [
        "window.reminder",
        "window.reminder",
        "window.reminder",
        "window.started",
        "window.ended",
        "survey.requested",
    ]
    assert [body.get("before") for type_, _, body in world.said if type_ == "window.reminder"] == ["7d", "1d", "1h"]
    assert [body["revision"] for _, _, body in world.said] == list(range(1, 8))
    assert not [timer for timer in world.timers.values() if timer.kind in STEPS]


def test_each_step_comes_when_it_is_due() -> None:
    world = planned()
    world.wait_until(NOW + 20 * DAY)
    start = NOW + 10 * DAY
    due = [start - 7 * DAY, start - DAY, start - HOUR, start, start + 2 * HOUR, start + 3 * HOUR]
    assert [body["occurred_at"] for _, _, body in world.said[1:]] == list(map(as_text, due))


def test_after_a_time_down_every_step_comes_in_order() -> None:
    world = planned()
    assert world.sleep_until(NOW + 10 * DAY + HOUR) == ["window.reminder"] * 3 + ["window.started"]
    world = planned()
    assert world.sleep_until(NOW + 20 * DAY) == ["window.reminder"] * 3 + ["window.started", "window.ended"]
    # The question comes an hour after people could use it again.
    assert world.wait_until(NOW + 21 * DAY) == ["survey.requested"]


def test_what_is_due_comes_before_a_command() -> None:
    world = planned(ends="confirmed")
    world.now = NOW + 10 * DAY + 3 * HOUR
    said = world.tell("window.end", window_id=ID)
    assert [type_ for type_, _ in said] == ["window.ended"]
    assert [type_ for type_, _, _ in world.said][-3:] == ["window.started", "window.overrun", "window.ended"]


def test_reminders_that_there_is_no_time_for_are_skipped_and_said() -> None:
    world = World()
    ((_, body),) = world.tell("window.schedule", **plan(starts_in=3 * HOUR))
    assert body["skipped"] == ["7d", "1d"]
    assert world.wait_until(NOW + DAY).count("window.reminder") == 1


def test_an_emergency_starts_at_once() -> None:
    world = World()
    said = world.tell("window.schedule", **plan(starts_in=-timedelta(seconds=3)))
    assert [type_ for type_, _ in said] == ["window.scheduled", "window.started"]
    world = planned()
    ((type_, body),) = world.tell("window.start_now", window_id=ID)
    assert (type_, body["starts_at"]) == ("window.started", as_text(NOW))
    assert "window.reminder" not in world.wait_until(NOW + 20 * DAY)


def test_a_confirmed_window_overruns_until_somebody_ends_it() -> None:
    world = started(ends="confirmed")
    assert world.wait_until(NOW + 11 * DAY) == ["window.overrun", "window.escalated"]
    assert world.status() == "overrun"
    assert world.tell("window.end", window_id=ID)[0][0] == "window.ended"


def test_an_overrun_window_is_extended_and_may_overrun_again() -> None:
    world = started(ends="confirmed")
    world.wait_until(NOW + 10 * DAY + 2 * HOUR)
    later = NOW + 10 * DAY + 5 * HOUR
    ((type_, body),) = world.tell("window.extend", window_id=ID, ends_at=as_text(later), reason="Late")
    assert (type_, body["previous"]["ends_at"]) == ("window.extended", as_text(NOW + 10 * DAY + 2 * HOUR))
    assert world.status() == "extended"
    assert world.wait_until(later) == ["window.overrun"]


def test_a_move_says_the_old_times_and_reminds_anew() -> None:
    world = planned()
    world.wait_until(NOW + 4 * DAY)
    moved = {"starts_at": as_text(NOW + 14 * DAY), "ends_at": as_text(NOW + 14 * DAY + HOUR)}
    ((_, body),) = world.tell("window.reschedule", window_id=ID, **moved, reason="Later")
    assert body["previous"] == {"starts_at": as_text(NOW + 10 * DAY), "ends_at": as_text(NOW + 10 * DAY + 2 * HOUR)}
    assert body["change_reason"] == "Later"
    assert world.wait_until(NOW + 13 * DAY + HOUR) == ["window.reminder", "window.reminder"]


def test_a_started_window_that_moves_opens_until_then() -> None:
    world = started()
    moved = {"starts_at": as_text(NOW + 12 * DAY), "ends_at": as_text(NOW + 12 * DAY + HOUR)}
    assert world.tell("window.reschedule", window_id=ID, **moved)[0][0] == "window.rescheduled"
    assert world.status() == "scheduled"
    steps = ["window.reminder", "window.reminder", "window.started", "window.ended", "survey.requested"]
    assert world.wait_until(NOW + 13 * DAY) == steps


def test_a_started_window_that_only_gets_another_end_stays_closed() -> None:
    world = started()
    moved = {"starts_at": as_text(NOW + 9 * DAY), "ends_at": as_text(NOW + 11 * DAY)}
    ((_, body),) = world.tell("window.reschedule", window_id=ID, **moved)
    assert (body["starts_at"], world.status()) == (as_text(NOW + 10 * DAY), "extended")
    assert world.wait_until(NOW + 10 * DAY + 5 * HOUR) == []


# --- What is refused ---

REFUSED: list[tuple[dict[str, Any], str, str]] = [
    (plan(lasts=-HOUR), "times_invalid", "ends_at"),
    (plan(lasts=timedelta(0)), "times_invalid", "ends_at"),
    (plan(starts_in=-3 * HOUR), "times_invalid", "ends_at"),
    (plan(starts_in=-3 * HOUR, lasts=5 * HOUR), "times_invalid", "starts_at"),
    (plan(lasts=31 * DAY), "times_invalid", "ends_at"),
    (plan(functions=[]), "function_unknown", "functions"),
    (plan(functions=["transfer", "loans"]), "function_unknown", "functions"),
    (plan(scope={"banks": ["ICBC", "I-C"]}), "bank_unknown", "scope.banks"),
    (plan(scope={"currencies": ["yuan"]}), "currency_unknown", "scope.currencies"),
    (plan(alternatives=[{"kind": "card", "text": "x" * 1_900}] * 9), "plan_too_large", "None"),
    (plan(compensation={"kind": "coupon", "value": 5, "text": "t"}), "compensation_invalid", "compensation.currency"),
]


@pytest.mark.parametrize(("command", "code", "field"), REFUSED)
def test_a_plan_that_cannot_be_kept_is_refused_with_its_field(command: dict[str, Any], code: str, field: str) -> None:
    world = World()
    ((type_, body),) = world.tell("window.schedule", **command)
    assert (type_, body["reason"]["code"], str(body["reason"].get("field"))) == ("window.refused", code, field)
    assert not world.windows


def test_a_bank_that_the_policy_does_not_know_is_refused() -> None:
    world = World(Policy.model_validate({"planning": {"banks": ["ICBC"]}}))
    ((type_, body),) = world.tell("window.schedule", **plan(scope={"banks": ["CCB"]}))
    assert (type_, body["reason"]["code"]) == ("window.refused", "bank_unknown")


CONFLICTS: list[tuple[str, str, dict[str, Any]]] = [
    ("scheduled", "window.end", {}),
    ("scheduled", "window.extend", {"ends_at": as_text(NOW + 11 * DAY), "reason": "r"}),
    ("started", "window.cancel", {}),
    ("started", "window.start_now", {}),
    ("ended", "window.end", {}),
    ("ended", "window.cancel", {}),
    ("ended", "window.extend", {"ends_at": as_text(NOW + 30 * DAY), "reason": "r"}),
    ("ended", "window.reschedule", {"starts_at": as_text(NOW + 30 * DAY), "ends_at": as_text(NOW + 31 * DAY)}),
    ("cancelled", "window.start_now", {}),
    ("cancelled", "window.cancel", {}),
]


@pytest.mark.parametrize(("status", "type_", "data"), CONFLICTS)
def test_what_does_not_fit_the_window_is_refused(status: str, type_: str, data: dict[str, Any]) -> None:
    world = planned()
    if status == "cancelled":
        world.tell("window.cancel", window_id=ID)
    else:
        world.wait_until(NOW + {"scheduled": DAY, "started": 10 * DAY, "ended": 12 * DAY}[status])
    assert world.status() == status
    ((said, body),) = world.tell(type_, window_id=ID, **data)
    assert (said, body["reason"]["code"], world.status()) == ("window.refused", "state_conflict", status)


def test_an_end_that_is_not_later_is_no_extension() -> None:
    world = started()
    ((type_, body),) = world.tell("window.extend", window_id=ID, ends_at=as_text(NOW + 10 * DAY), reason="r")
    assert (type_, body["reason"]["code"], body["reason"]["field"]) == ("window.refused", "times_invalid", "ends_at")


def test_a_start_now_that_would_last_too_long_is_refused() -> None:
    world = planned(starts_in=100 * DAY)
    ((type_, body),) = world.tell("window.start_now", window_id=ID)
    assert (type_, body["reason"]["code"], world.status()) == ("window.refused", "times_invalid", "scheduled")


def test_a_reason_of_many_languages_is_refused_before_its_event_is_too_large() -> None:
    world = started()
    said = [{"locale": "en", "text": "x" * 1_900}] * 5
    change = {"ends_at": as_text(NOW + 11 * DAY), "reason": "r", "reason_in": said}
    ((type_, body),) = world.tell("window.extend", window_id=ID, **change)
    assert (type_, body["reason"]["code"]) == ("window.refused", "plan_too_large")


def test_a_command_about_no_window_is_refused() -> None:
    ((type_, body),) = World().tell("window.end", window_id=ID)
    assert (type_, body["reason"]["code"]) == ("window.refused", "window_unknown")


# --- Once ---


def test_a_plan_that_is_repeated_is_answered_with_the_latest_event() -> None:
    world = started()
    before = world.said[-1]
    assert [type_ for type_, _ in world.tell("window.schedule", **plan())] == ["window.started"]
    assert world.said[-1] == before
    ((type_, body),) = world.tell("window.schedule", **plan(title="Other"))
    assert (type_, body["reason"]["code"]) == ("window.refused", "duplicate_id_conflict")
    assert body["reason"]["field"] == "window_id"


def test_a_command_that_is_repeated_is_done_once_and_answered_again() -> None:
    world = started()
    extension = {"window_id": ID, "ends_at": as_text(NOW + 11 * DAY), "reason": "Late"}
    first = world.tell("window.extend", "command-1", **extension)
    world.wait_until(NOW + 12 * DAY)
    assert world.tell("window.extend", "command-1", **extension) == first
    ((type_, body),) = world.tell("window.extend", "command-1", **(extension | {"reason": "Other"}))
    assert (type_, body["reason"]["code"]) == ("window.refused", "duplicate_id_conflict")


def test_only_plans_are_remembered_by_their_window() -> None:
    schedule = MODELS["window.schedule"].model_validate_json(orjson.dumps(plan()))
    message = Message(LANE, "maintenance.commands", 0, None, "window.schedule", "id", "source", schedule)
    assert answer_key(message) is None
    assert answer_key(message._replace(type="window.end")) == AnswerKey("source", "id")


# --- Surveys and debts ---


def test_answers_count_while_people_are_asked() -> None:
    world = started()
    answer = {"window_id": ID, "customer_id": "c", "score": 4}
    assert world.tell("survey.answer", **answer)[0][0] == "window.refused"
    world.wait_until(NOW + 11 * DAY)
    assert world.tell("survey.answer", **answer) == []
    world.tell("survey.answer", **(answer | {"score": 2}))
    assert [given.score for given in world.survey.values()] == [2]
    world.wait_until(NOW + 30 * DAY)
    assert world.tell("survey.answer", **answer)[0][0] == "window.refused"


@pytest.mark.parametrize(("drill", "owes"), [(False, True), (True, False)])
def test_a_window_owes_what_it_promised_when_it_ends_unless_it_was_a_drill(*, drill: bool, owes: bool) -> None:
    promised = {"kind": "fee_waiver", "value": 1, "text": "The next one is free."}
    world = started(drill=drill, compensation=promised)
    world.wait_until(NOW + 12 * DAY)
    assert ("grant", ID) in world.timers if owes else ("grant", ID) not in world.timers
