"""`sluice windows` sends only what can be taken, and takes only what answers it."""

from __future__ import annotations

import uuid

import orjson
import pytest

from ops.commands import Command
from ops.maintenance import answer_in
from tests.ops.test_one_sentence import refusal

WINDOW, OTHER = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
END = Command("window.end", {"window_id": WINDOW}, frozenset({"window.ended"}), "Look again.")
PLAN = ("windows", "plan", "--reason", "Repair", "--from", "now", "--to", "2026-11-23T22:00")


@pytest.mark.parametrize(
    ("type_", "subject", "is_answer"),
    [
        ("window.ended", WINDOW, True),
        ("window.refused", WINDOW, True),
        ("window.refused", OTHER, False),
        ("window.ended", OTHER, False),
        ("window.reminder", WINDOW, False),
        ("window.extended", WINDOW, False),
        ("compensation.granted", WINDOW, False),
        ("survey.requested", WINDOW, False),
    ],
)
def test_only_what_answers_a_command_is_its_answer(type_: str, subject: str, *, is_answer: bool) -> None:
    headers = {"ce_type": f"sluice.{type_}.v1".encode(), "ce_subject": subject.encode()}
    said = answer_in(END, headers, orjson.dumps({"window_id": subject}))
    assert (said is not None) == is_answer


def test_a_record_that_is_no_event_is_no_answer() -> None:
    assert answer_in(END, {}, None) is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--title", "", "--function", "transfer"), "--title: "),
        (("--title", "x" * 400, "--function", "transfer"), "--title: "),
        (("--title", "Repair", "--function", ""), "--function: "),
        (("--title", "Repair", "--function", "transfer", "--bank", ""), "--bank: "),
        (("--title", "Repair", "--function", "transfer", "--waive-fees", "9" * 30), "--waive-fees: "),
        (("--title", "Repair", "--function", "transfer", "--alternative", f"{'k' * 200}=x"), "--alternative: "),
        (("--title", "Repair", "--function", "transfer", "--reason-zh", "修" * 3_000), "--reason-zh: "),
    ],
)
def test_what_nobody_could_take_is_refused_before_it_is_sent(words: tuple[str, ...], says: str) -> None:
    said = refusal([*PLAN, *words], kafka="127.0.0.1:1", database="postgresql://nobody/x")
    assert said.startswith(says)
