"""Whether each partition moves on: a place with records to consume must not stand still for long."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.runtime.topics import Place


class Stalled(Exception):
    """A consumer stands still with work to do; the text names the partitions."""


class Orphaned(Exception):
    """The member has no partitions while some have work and nobody moves them on; the text names them."""


class Hopeless(Exception):
    """Rebuilding the consumer did not help: the process must end for its supervisor to start another."""


class _Sighting(NamedTuple):
    next_offset: int
    since_s: float


@dataclass(slots=True)
class Progress:
    """Remembers since when each partition has been where it is."""

    timeout_s: float
    _sightings: dict[Place, _Sighting] = field(default_factory=dict, init=False)

    def observe(self, now_s: float, next_offsets: Mapping[Place, int], ends: Mapping[Place, int]) -> list[Place]:
        """Return the partitions that stand still with work to do; `now_s` in seconds of a monotonic clock."""
        behind = {place: at for place, at in next_offsets.items() if at < ends.get(place, at)}
        self._sightings = {place: self._sighting(now_s, place, next_offset) for place, next_offset in behind.items()}
        return sorted(place for place, seen in self._sightings.items() if now_s - seen.since_s >= self.timeout_s)

    def _sighting(self, now_s: float, place: Place, next_offset: int) -> _Sighting:
        before = self._sightings.get(place)
        return before if before and before.next_offset == next_offset else _Sighting(next_offset, now_s)

    def excuse(self) -> None:
        """Forget what was seen: what keeps the consumer waiting is known and not its fault."""
        self._sightings = {}
