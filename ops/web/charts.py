"""Lines over time as figures for inline SVG: points in a box of a given size, and what its edges stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


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
    first, last = values[0][0], values[-1][0]
    largest = max(value for _, value in values)
    # A line that is always 0 lies at the bottom.
    scale = (height - 2) / largest if largest > 0 else 0.0
    span = (last - first) or 1.0
    places = [((at - first) / span * width, height - 1 - value * scale) for at, value in values]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return Chart(width, height, points, f"0,{height} {points} {width},{height}", largest, values[-1][1], first, last)
