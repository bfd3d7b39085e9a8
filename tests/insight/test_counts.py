"""Counts by the minute: each record once, each partition by itself, and no more than is kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from services.insight.counts import MinuteCounts

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
KEPT = 3


def minutes(number: float) -> datetime:
    return NOON + timedelta(minutes=number)


def numbers(counts: MinuteCounts, *partitions: int) -> dict[tuple[datetime, str], int]:
    return {(one.minute, one.what[0]): one.number for one in counts.recent(partitions)}


def test_a_record_counts_once_in_its_minute_and_partitions_add_up() -> None:
    table: dict[Any, list[int]] = {}
    counts = MinuteCounts(table, KEPT)
    assert [counts.count(0, offset, minutes(0.5), ("a",)) for offset in (7, 8, 7, 8)] == [True, True, False, False]
    assert counts.count(1, 7, minutes(0.9), ("a",))
    assert counts.count(0, 9, minutes(1), ("b",))
    assert numbers(counts, 0, 1) == {(NOON, "a"): 3, (minutes(1), "b"): 1}
    # Another worker's partitions are another worker's.
    assert numbers(counts, 1) == {(NOON, "a"): 1}
    # The same from what a changelog brought back.
    counts.save()
    again = MinuteCounts(dict(table), KEPT)
    assert not again.count(0, 9, minutes(1), ("b",))
    assert numbers(again, 0, 1) == numbers(counts, 0, 1)


def test_only_so_many_minutes_are_kept() -> None:
    table: dict[Any, list[int]] = {}
    counts = MinuteCounts(table, KEPT)
    for number in range(10):
        assert counts.count(0, number, minutes(number), ("a",))
        counts.save()
    assert {key[1] for key in table} == {int(minutes(number).timestamp()) for number in (7, 8, 9)}
    assert not counts.count(0, 10, minutes(6), ("a",))
    # A partition that nothing happens in is behind, and not shown.
    assert counts.count(1, 0, minutes(2), ("a",))
    assert list(numbers(counts, 0, 1)) == [(minutes(9), "a"), (minutes(8), "a"), (minutes(7), "a")]


def test_only_so_much_is_told_apart_in_a_minute() -> None:
    counts = MinuteCounts({}, KEPT)
    for offset, word in enumerate("ab"):
        assert counts.has_room(0, NOON, (word,), most=2)
        counts.count(0, offset, NOON, (word,))
    assert not counts.has_room(0, NOON, ("c",), most=2)
    assert counts.has_room(0, NOON, ("a",), most=2)
    assert counts.has_room(0, minutes(1), ("c",), most=2)
    assert counts.has_room(1, NOON, ("c",), most=2)
    counts.look_again()
    assert not counts.has_room(0, NOON, ("c",), most=2)
