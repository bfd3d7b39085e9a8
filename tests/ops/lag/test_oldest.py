"""What is remembered of records is exactly what reading them again would say."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from ops.lag.oldest import Runs

if TYPE_CHECKING:
    from collections.abc import Mapping

RECORDS = st.dictionaries(st.integers(0, 60), st.integers(0, 5).map(float), min_size=1)
"""When the record at each offset was written: there are holes, and neighbours of one moment."""


def truth(records: Mapping[int, float], offset: int) -> float | None:
    offsets = sorted(records)
    place = bisect_left(offsets, offset)
    return records[offsets[place]] if place < len(offsets) else None


@given(RECORDS, st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), max_size=6), st.integers(0, 60))
def test_runs_say_what_reading_says_and_know_every_record_that_was_read(
    records: Mapping[int, float], reads: list[tuple[int, int]], forgotten: int
) -> None:
    runs, read = Runs(), set()
    for start, count in reads:
        first = start
        for offset in [offset for offset in sorted(records) if offset >= start][:count]:
            runs.add(first, offset, records[offset])
            read.add(offset)
            first = offset + 1
    for offset in range(62):
        assert runs.at(offset) in (None, truth(records, offset))
    assert all(runs.at(offset) is not None for offset in read)
    runs.forget_before(forgotten)
    assert all(runs.at(offset) is not None for offset in read if offset >= forgotten)
