"""The verdict on a position, case by case."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ops.lag.model import Position, Row, Sample, Verdict
from ops.lag.verdict import Limits, is_certain, judge
from ops.web.saying import said_in
from services.notify.model import Locale

AT = 1_000_000.0
HERE = Position("billing", "transfer.events", 0)
LIMITS = Limits()


def sample(ago: float, committed: int | None, end: int, waits: float | None, **more: Any) -> Sample:
    """A sample `ago` seconds old, at which the oldest record had waited so long; the log starts at 100."""
    given = {"start": 100, "owner": "one@127.0.0.1", "members": 1} | more
    at = AT - ago
    return Sample(at, committed, end=end, oldest_at=None if waits is None else at - waits, **given)


def judged(*seen: Sample) -> Row:
    return judge(HERE, seen, LIMITS)


CASES = {
    "nothing to do": ([sample(0, 500, 500, None)], Verdict.OK, ""),
    "nothing to do for hours": ([sample(60, 500, 500, None), sample(0, 500, 500, None)], Verdict.OK, ""),
    "only a transaction's marks are left": ([sample(0, 499, 500, None)], Verdict.OK, ""),
    "its record cannot be read": (
        [sample(2, 490, 500, None, is_unread=True), sample(0, 495, 505, None, is_unread=True)],
        Verdict.OK,
        "its oldest record cannot be read",
    ),
    "stands still before what cannot be read": (
        [sample(12, 200, 900, None, is_unread=True), sample(0, 200, 900, None, is_unread=True)],
        Verdict.STALLED,
        "at least 12 s; its oldest record cannot be read",
    ),
    "nobody is there to read what cannot be read": (
        [sample(0, 200, 900, None, is_unread=True, members=0, owner=None)],
        Verdict.STOPPED,
        "no member in the group; its oldest record cannot be read",
    ),
    "little waits": ([sample(2, 490, 500, 1), sample(0, 495, 505, 1)], Verdict.OK, ""),
    "catches up": ([sample(10, 200, 900, 60), sample(0, 600, 950, 50)], Verdict.BEHIND, "50 s"),
    "keeps its distance": ([sample(10, 200, 900, 60), sample(0, 300, 1000, 60.5)], Verdict.BEHIND, "60 s"),
    "gets less than comes": ([sample(10, 200, 900, 60), sample(0, 210, 1000, 69)], Verdict.FALLING_BEHIND, "grows"),
    "seen once, behind": ([sample(0, 200, 900, 60)], Verdict.BEHIND, "60 s"),
    "stands still": (
        [sample(12, 200, 900, 3), sample(0, 200, 950, 15)],
        Verdict.STALLED,
        "committed for at least 12 s",
    ),
    "stands still, not for long": ([sample(5, 200, 900, 3), sample(0, 200, 950, 8)], Verdict.OK, ""),
    "stands still with new work": ([sample(30, 500, 500, None), sample(0, 500, 505, 3)], Verdict.OK, ""),
    "stood still where it was idle": (
        [sample(30, 500, 500, None), sample(14, 500, 505, 1), sample(0, 500, 505, 15)],
        Verdict.STALLED,
        "at least 14 s",
    ),
    "never committed": (
        [sample(13, None, 900, 400), sample(0, None, 900, 413)],
        Verdict.STALLED,
        "has never committed",
    ),
    "nobody has the partition": (
        [sample(13, 200, 900, 400, owner=None), sample(0, 200, 900, 413, owner=None)],
        Verdict.STALLED,
        "no member of the group has the partition",
    ),
    "paused, and stands still": (
        [
            sample(60, 200, 900, 400, paused="paused by somebody: why"),
            sample(0, 200, 900, 460, paused="paused by one: x"),
        ],
        Verdict.BEHIND,
        "paused by one: x; its oldest record has waited for",
    ),
    "paused, and nothing to do": (
        [sample(0, 500, 500, None, paused="paused by one: x")],
        Verdict.OK,
        "paused by one: x",
    ),
    "paused, without workers": (
        [sample(0, 200, 900, 60, members=0, owner=None, paused="paused by one: x")],
        Verdict.STOPPED,
        "no member in the group",
    ),
    "no member": ([sample(0, 200, 900, 60, members=0, owner=None)], Verdict.STOPPED, "no member in the group; its"),
    "no member that ever committed": ([sample(0, None, 900, 60, members=0, owner=None)], Verdict.STOPPED, "no member"),
    "no member, no work": ([sample(0, 900, 900, None, members=0, owner=None)], Verdict.OK, "nothing to do"),
    "no member of ours, no work": (
        [sample(0, 900, 900, None, members=0, owner=None, is_expected=True)],
        Verdict.STOPPED,
        "no member in the group, though nothing waits",
    ),
    "ended a moment ago, and had moved until then": (
        [
            sample(20, 200, 900, 5),
            sample(5, 500, 950, 5),
            sample(0, 600, 990, 6, members=0, owner=None),
        ],
        Verdict.STOPPED,
        "no member in the group; its",
    ),
    "ended a moment ago, ours, with nothing to do": (
        [sample(5, 500, 500, None), sample(0, 600, 600, None, members=0, owner=None, is_expected=True)],
        Verdict.STOPPED,
        "though nothing waits",
    ),
    "moved without members until a moment ago": (
        [
            sample(30, 200, 900, 5, members=0, owner=None),
            sample(13, 500, 950, 5, members=0, owner=None),
            sample(0, 500, 990, 18, members=0, owner=None),
        ],
        Verdict.STOPPED,
        "no member in the group; its",
    ),
    "moves without members, as assigned by hand": (
        [sample(5, 200, 900, 60, members=0, owner=None), sample(0, 700, 900, 20, members=0, owner=None)],
        Verdict.BEHIND,
        "20 s",
    ),
    "was killed at its work": (
        [
            sample(30, 200, 900, 1),
            sample(13, 800, 900, 1, members=0, owner=None),
            sample(0, 800, 950, 14, members=0, owner=None),
        ],
        Verdict.STOPPED,
        "no member in the group",
    ),
    "stands still before records of the future": (
        [sample(12, 200, 900, -3_600), sample(0, 200, 950, -3_588)],
        Verdict.STALLED,
        "committed for at least 12 s",
    ),
    "never committed while retention takes records": (
        [sample(13, None, 900, 5), sample(0, None, 950, 5, start=150)],
        Verdict.STALLED,
        "has never committed",
    ),
    "overtaken": ([sample(0, 40, 900, 60)], Verdict.GAP, "60 records before 100 are gone"),
    "overtaken, nothing left": ([sample(0, 40, 100, None)], Verdict.GAP, "60 records before 100 are gone"),
    "beyond the end": ([sample(0, 901, 900, None)], Verdict.GAP, "beyond the log's end at 900"),
    "retention comes": (
        [sample(10, 200, 900, 3_000, retention_s=3_600), sample(0, 300, 950, 3_000, retention_s=3_600)],
        Verdict.BEHIND,
        "retention will take its oldest record in 10 min",
    ),
    "retention comes before it has caught up": (
        [sample(10, 200, 90_000, 1_000, retention_s=3_600), sample(0, 210, 90_000, 1_000, retention_s=3_600)],
        Verdict.BEHIND,
        "retention will take its oldest record in 43 min",
    ),
    "retention is far": (
        [sample(10, 200, 900, 1_000, retention_s=3_600), sample(0, 300, 900, 1_000, retention_s=3_600)],
        Verdict.BEHIND,
        "its oldest record has waited for 17 min",
    ),
    "retention by size comes": (
        [sample(10, 200, 1_000, 30, kept=1_000), sample(0, 210, 1_110, 40, kept=1_000)],
        Verdict.FALLING_BEHIND,
        "retention by size may take its oldest record when 100 more have come, in 10 s",
    ),
    "retention by size comes to who is seen once": (
        [sample(0, 200, 1_100, 5, kept=1_000)],
        Verdict.OK,
        "retention by size may take its oldest record when 100 more have come",
    ),
    "retention by size is there": (
        [sample(0, 200, 1_200, 60, kept=1_000)],
        Verdict.BEHIND,
        "retention by size may take its oldest record at any moment",
    ),
    "retention by time and by size come": (
        [sample(0, 200, 1_100, 3_300, kept=1_000, retention_s=3_600)],
        Verdict.BEHIND,
        "in 5 min; retention by size may take its oldest record when 100 more have come",
    ),
    "retention by size is far": ([sample(0, 200, 900, 5, kept=1_000)], Verdict.OK, ""),
}


@pytest.mark.parametrize("name", CASES)
def test_verdict_and_why(name: str) -> None:
    seen, verdict, why = CASES[name]
    row = judged(*seen)
    assert row.verdict is verdict
    assert (why in row.why) if why else row.why == ""


@pytest.mark.parametrize("name", CASES)
def test_every_why_is_told_in_chinese(name: str) -> None:
    seen, _, _ = CASES[name]
    said = said_in(Locale.CHINESE, judged(*seen).why)
    assert said is not None
    # What a person wrote stays as it is.
    assert not re.search(r"[a-z]{2,}", re.sub("^已由 .* 暂停：[^；]*", "", said)), said


def test_what_a_person_wrote_may_have_any_marks() -> None:
    why = "paused by li: one; two; its oldest record has waited for 3 h"
    assert said_in(Locale.CHINESE, why) == "已由 li 暂停：one; two；最早的一条已等待 3 小时"
    assert said_in(Locale.CHINESE, "somebody else's words") is None
    assert said_in(Locale.ENGLISH, why) == why


def test_figures_of_a_backlog() -> None:
    row = judged(sample(10, 200, 900, 60), sample(0, 600, 950, 50))
    assert (row.lag, row.lag_seconds, row.rate_in, row.rate_out) == (350, 50.0, 5.0, 40.0)
    assert row.eta_seconds == 10.0


def test_what_retention_takes_was_not_handled() -> None:
    row = judged(sample(10, None, 900, 60), sample(0, None, 950, 50, start=500))
    assert (row.lag, row.rate_out, row.eta_seconds) == (450, 0.0, None)


def test_a_backlog_that_does_not_get_smaller_has_no_end() -> None:
    assert judged(sample(10, 200, 900, 60), sample(0, 210, 1000, 69)).eta_seconds is None


def test_a_group_that_never_committed_counts_from_the_log_s_start() -> None:
    assert judged(sample(0, None, 900, 400)).lag == 800


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([sample(0, 500, 500, None)], True),
        ([sample(0, 200, 900, 60)], False),
        ([sample(2, 200, 900, 60), sample(0, 200, 900, 62)], False),
        ([sample(2, 200, 900, 60), sample(0, 300, 900, 62)], True),
        ([sample(12, 200, 900, 60), sample(0, 200, 900, 72)], True),
        ([sample(0, 200, 900, 60, members=0)], True),
        ([sample(2, 100, 900, 60), sample(0, 200, 900, 60, members=0)], True),
        ([sample(0, 40, 900, 60)], True),
    ],
)
def test_looks_again_only_where_that_could_change_something(seen: list[Sample], *, expected: bool) -> None:
    assert is_certain(seen, LIMITS) is expected
