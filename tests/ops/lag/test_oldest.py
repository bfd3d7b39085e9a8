"""What is remembered of records is exactly what reading them again would say."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError
from hypothesis import given
from hypothesis import strategies as st

from ops.lag import oldest
from ops.lag.oldest import Log, OldestRecords, Runs, Spot

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

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


LOG = Log("id", "topic", 0)


@dataclass
class Said:
    """What a client gives: a record of a moment, or an error in its place."""

    at_ms: int = 0
    code: int | None = None

    def topic(self) -> str:
        return LOG.topic

    def partition(self) -> int:
        return LOG.partition

    def offset(self) -> int:
        return 3

    def timestamp(self) -> tuple[int, int]:
        return 1, self.at_ms

    def error(self) -> KafkaError | None:
        return None if self.code is None else KafkaError(self.code)

    def key(self) -> None:
        return None

    value = headers = key


def reading(monkeypatch: pytest.MonkeyPatch, said: Said) -> OldestRecords:
    """Return what reads from a client that says one thing."""

    class Client:
        def __init__(self, _options: object) -> None:
            pass

        def consume(self, _count: int, _wait_s: float) -> list[Said]:
            return [said]

        def get_watermark_offsets(self, _place: object, **_options: bool) -> tuple[int, int]:
            return 0, 3

        def __getattr__(self, _name: str) -> Any:
            return lambda *_: None

    monkeypatch.setattr(oldest, "Consumer", Client)
    return OldestRecords({})


def test_a_record_of_1970_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reading(monkeypatch, Said(at_ms=0)).timestamps([Spot(LOG, 3)]) == {Spot(LOG, 3): 0.0}


def test_what_the_brokers_refuse_to_give_is_not_taken_for_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    records = reading(monkeypatch, Said(code=KafkaError.TOPIC_AUTHORIZATION_FAILED))
    assert (records.timestamps([Spot(LOG, 3)]), records.unread) == ({}, {LOG})
    records = reading(monkeypatch, Said(code=KafkaError._PARTITION_EOF))
    assert (records.timestamps([Spot(LOG, 3)]), records.unread) == ({}, set())
