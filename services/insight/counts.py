"""Keeps counts by the minute in a table: each record once, each partition its own, and no more than is bounded."""

from __future__ import annotations

from collections import ChainMap, Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, MutableMapping
    from typing import TypeAlias

    What: TypeAlias = tuple[str, ...]
    Table: TypeAlias = MutableMapping[tuple[Any, ...], list[int]]

_MINUTE_S = 60


class Counted(NamedTuple):
    """How often something was in a minute."""

    minute: datetime
    what: What
    number: int


class MinuteCounts:
    """Counts what records are, by the minute that they speak of; the table's keys are partition, minute and what.

    Beside each count stands the offset of the last record in it, so one that is read again counts once. Each partition
    has counts of its own, because its changelog knows no other. The table is written by `save` alone, once for many
    records, because each entry is a record of the changelog.
    """

    def __init__(self, table: Table, minutes_kept: int) -> None:
        self._table = table
        self._kept_s = minutes_kept * _MINUTE_S
        self._unsaved: dict[tuple[Any, ...], list[int]] = {}
        self._found: dict[int, dict[int, set[What]]] = {}

    def count(self, partition: int, offset: int, at: datetime, what: What) -> bool:
        """Count a record; False where it was counted before, or its minute is kept no longer."""
        minutes, minute = self._minutes_of(partition), _minute_of(at)
        newest = max(minutes, default=minute)
        if minute <= newest - self._kept_s:
            return False
        key = (partition, minute, *what)
        count, last_offset = self._unsaved.get(key) or self._table.get(key) or (0, -1)
        if offset <= last_offset:
            return False
        self._unsaved[key] = [count + 1, offset]
        minutes.setdefault(minute, set()).add(what)
        if minute > newest:
            self._forget(partition, minute - self._kept_s)
        return True

    def save(self) -> None:
        """Write what was counted since; before anything that it was counted from is said to be read."""
        for key, found in self._unsaved.items():
            self._table[key] = found
        self._unsaved.clear()

    def has_room(self, partition: int, at: datetime, what: What, most: int) -> bool:
        """Tell whether something may be counted by itself in a minute: it is already, or few others are."""
        found = self._minutes_of(partition).get(_minute_of(at), set())
        return what in found or len(found) < most

    def _minutes_of(self, partition: int) -> dict[int, set[What]]:
        minutes = self._found.get(partition)
        if minutes is None:
            minutes = self._found[partition] = {}
            for found_in, minute, *what in ChainMap(self._unsaved, self._table):
                if found_in == partition:
                    minutes.setdefault(minute, set()).add(tuple(what))
        return minutes

    def _forget(self, partition: int, until: int) -> None:
        minutes = self._minutes_of(partition)
        for minute in [minute for minute in minutes if minute <= until]:
            for what in minutes.pop(minute):
                key = (partition, minute, *what)
                self._unsaved.pop(key, None)
                if key in self._table:
                    del self._table[key]

    def recent(self, partitions: Collection[int]) -> Iterator[Counted]:
        """Yield what these partitions count, added up, the newest minute first."""
        sums: Counter[tuple[int, What]] = Counter()
        for (partition, minute, *parts), (count, _) in ChainMap(self._unsaved, self._table).items():
            if partition in partitions:
                sums[minute, tuple(parts)] += count
        oldest = max((minute for minute, _ in sums), default=0) - self._kept_s
        for (minute, what), number in sorted(sums.items(), key=lambda one: (-one[0][0], one[0][1])):
            if minute > oldest:
                yield Counted(datetime.fromtimestamp(minute, UTC), what, number)

    def look_again(self) -> None:
        """Take note that the table has been read anew: partitions have moved."""
        self._found.clear()


def _minute_of(at: datetime) -> int:
    return int(at.timestamp()) // _MINUTE_S * _MINUTE_S
