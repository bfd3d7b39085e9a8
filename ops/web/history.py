"""What the lag was over the last hour, a point a look, so that pages can draw it; kept in memory alone."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.lag.watching import Looked

SPAN_S: Final = 3_600.0
_MOST_GROUPS: Final = 300


class Point(NamedTuple):
    """A group in one topic at a moment: records not handled, the wait of the oldest, and records handled a second."""

    at: float
    lag: int
    lag_seconds: float
    rate_out: float


@dataclass(frozen=True, slots=True)
class Stretch:
    """A group in one topic."""

    group: str
    topic: str


class History:
    """The points of the last hour; of more groups than a page can draw, those that came first."""

    def __init__(self) -> None:
        self._points: dict[Stretch, deque[Point]] = {}
        self._newest = float("-inf")

    def note(self, looked: Looked) -> None:
        """Add what a look found; one that is known already changes nothing."""
        if looked.at <= self._newest:
            return
        self._newest = looked.at
        found: defaultdict[Stretch, list[tuple[int, float, float]]] = defaultdict(list)
        for row in looked.rows:
            found[Stretch(row.group, row.topic)].append((row.lag, row.lag_seconds, row.rate_out or 0.0))
        for stretch in self._points.keys() - found.keys():
            del self._points[stretch]
        for stretch, rows in found.items():
            if stretch not in self._points and len(self._points) >= _MOST_GROUPS:
                continue
            lags, waits, rates = zip(*rows, strict=True)
            points = self._points.setdefault(stretch, deque())
            points.append(Point(looked.at, sum(lags), max(waits), sum(rates)))
            while looked.at - points[0].at > SPAN_S:
                points.popleft()

    def of(self, group: str, topic: str) -> Sequence[Point]:
        """Return the points of a group in a topic, the oldest first."""
        return list(self._points.get(Stretch(group, topic), ()))
