"""Lines over time as figures for inline SVG: points in a box of a given size, and what its edges stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_POINTS: Final = 180


@dataclass(frozen=True, slots=True)
class Chart:
    """A line: `points` for a polyline, the area below it, the largest value, and the first and last moment."""

    width: int
    height: int
    points: str
    area: str
    largest: float
    newest: float
    first_at: float
    last_at: float


def line(values: Sequence[tuple[float, float]], width: int, height: int) -> Chart | None:
    """Return the chart of values by moment, in order; None where there are not two to draw a line between."""
    if len(values) < 2:
        return None
    thinned = _thinned(values)
    first, last = thinned[0][0], thinned[-1][0]
    largest = max(value for _, value in thinned)
    # A line that is always 0 lies at the bottom.
    scale = (height - 2) / largest if largest > 0 else 0.0
    span = (last - first) or 1.0
    places = [((at - first) / span * width, height - 1 - value * scale) for at, value in thinned]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return Chart(width, height, points, f"0,{height} {points} {width},{height}", largest, values[-1][1], first, last)


def _thinned(values: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return no more points than can be seen apart: of each stretch the highest, so that no peak is lost."""
    size = -(-len(values) // _MOST_POINTS)
    parts = [values[start : start + size] for start in range(0, len(values), size)]
    return [(part[-1][0], max(value for _, value in part)) for part in parts]
