"""What the lag was over the last hour, so many points as a page can draw, no peak left out; kept in memory alone."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.lag.watching import Looked

SPAN_S: Final = 3_600.0
_SPACED_S: Final = SPAN_S / 180
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
        for stretch, rows in found.items():
            if stretch in self._points or len(self._points) < _MOST_GROUPS:
                lags, waits, rates = zip(*rows, strict=True)
                _add(self._points.setdefault(stretch, deque()), Point(looked.at, sum(lags), max(waits), sum(rates)))
        self._forget(looked.at - SPAN_S)

    def _forget(self, until: float) -> None:
        # A group that was not seen for a moment keeps what it has.
        for stretch, points in list(self._points.items()):
            while points and points[0].at < until:
                points.popleft()
            if not points:
                del self._points[stretch]

    def of(self, group: str, topic: str) -> Sequence[Point]:
        """Return the points of a group in a topic, the oldest first."""
        return list(self._points.get(Stretch(group, topic), ()))


def _add(points: deque[Point], point: Point) -> None:
    """Add the newest point; the one before is the highest of its stretch of time until that is over."""
    if len(points) > 2 and points[-2].at - points[-3].at < _SPACED_S:
        last, highest = points.pop(), points.pop()
        waits, rates = max(last.lag_seconds, highest.lag_seconds), max(last.rate_out, highest.rate_out)
        points.append(Point(last.at, max(last.lag, highest.lag), waits, rates))
    points.append(point)
