"""`sluice cases` takes an id by itself, and refuses what could not be taken before it is sent."""

from __future__ import annotations

import pytest

from ops.cli import name_ids
from tests.ops.test_one_sentence import refusal

CASE = "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f509"
DECISION = ("cases", "approve", CASE, "--reviewer")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["cases"], ["cases"]),
        (["cases", CASE], ["cases", "--case", CASE]),
        (["cases", CASE, "--json"], ["cases", "--case", CASE, "--json"]),
        (["cases", "--json", CASE], ["cases", "--json", "--case", CASE]),
        (["cases", "--case", CASE], ["cases", "--case", CASE]),
        (["cases", "--clearance", CASE], ["cases", "--clearance", CASE]),
        (["cases", "nonsense"], ["cases", "--case", "nonsense"]),
        (["cases", "--status", "review"], ["cases", "--status", "review"]),
        (["cases", "approve", CASE], ["cases", "approve", CASE]),
        (["windows", CASE], ["windows", CASE]),
        ([], []),
    ],
)
def test_an_id_may_stand_alone(words: list[str], named: list[str]) -> None:
    assert name_ids(words) == named


@pytest.mark.parametrize(
    ("words", "says"),
    [((*DECISION, "", "--note", "x"), "--reviewer: "), ((*DECISION, "W", "--note", "x" * 3_000), "--note: ")],
)
def test_what_nobody_could_take_is_refused_before_it_is_sent(words: tuple[str, ...], says: str) -> None:
    assert refusal(words, kafka="127.0.0.1:1", database="postgresql://nobody/x").startswith(says)
