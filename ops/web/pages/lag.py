"""The lag board, live, and what the lag of one group was over the last hour."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import StreamingResponse

from ops.lag.model import Verdict
from ops.lag.show import together
from ops.lag.verdict import duration
from ops.web.charts import Chart, line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from starlette.responses import Response

    from ops.lag.model import Row
    from ops.web.visit import Visit

_LOOK_EVERY_S: Final = 0.25
_HEARTBEAT_S: Final = 10.0
_STREAM_FOR_S: Final = 600.0
_OLD_AFTER_S: Final = 30.0
_MOST_LINES: Final = 200
_SMALL: Final = (120, 28)
_LARGE: Final = (640, 160)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the board: a group in a topic, what stands for all its partitions, and those that are not well."""

    row: Row
    partitions: int
    unwell: Sequence[Row]

    @property
    def done_in(self) -> str:
        """When it will have caught up, as people say it; empty where that is not known."""
        return duration(self.row.eta_seconds) if self.row.lag and self.row.eta_seconds is not None else ""


async def board(visit: Visit) -> Response:
    """Show every group, the worst first."""
    return visit.page("lag.html.j2", **_board(visit))


async def live(visit: Visit) -> Response:
    """Stream the board to the browser, once now and once each time that the brokers have been looked at."""
    return StreamingResponse(
        _stream(visit), media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )


async def group(visit: Visit) -> Response:
    """Show one group in one topic: each partition, and an hour of it as lines."""
    name, topic = visit.asked("group"), visit.asked("topic")
    looked = visit.site.watch.newest
    rows = [row for row in (() if looked is None else looked.rows) if (row.group, row.topic) == (name, topic)]
    points = visit.site.history.of(name, topic)
    return visit.page(
        "lag_group.html.j2",
        200 if rows else 404,
        group=name,
        topic=topic,
        rows=sorted(rows, key=_urgency),
        looked=looked,
        charts={
            "lag": line([(point.at, point.lag) for point in points], *_LARGE),
            "wait": line([(point.at, point.lag_seconds) for point in points], *_LARGE),
            "rate": line([(point.at, point.rate_out) for point in points], *_LARGE),
        },
        duration=duration,
    )


async def _stream(visit: Visit) -> AsyncIterator[str]:
    site, seen, told = visit.site, float("-inf"), time.monotonic()
    ends = told + _STREAM_FOR_S
    # The browser comes again by itself; whether it still may is asked anew then, and before each board.
    while time.monotonic() < ends and not site.stopping.is_set():
        looked = site.watch.newest
        if looked is not None and looked.at > seen and not visit.is_still_signed_in():
            return
        if looked is not None and looked.at > seen:
            seen, told = looked.at, time.monotonic()
            yield _drawn(visit, looked.at)
        elif time.monotonic() - told > _HEARTBEAT_S:
            told = time.monotonic()
            yield ": nothing new\n\n"
        await asyncio.sleep(_LOOK_EVERY_S)


def _drawn(visit: Visit, at: float) -> str:
    """Return the board as an event; drawn once a look and language, because many may follow it."""
    drawn = visit.site.boards.get(visit.language)
    if drawn is None or drawn[0] != at:
        drawn = (at, _event("board", visit.draw("lag_board.html.j2", **_board(visit))))
        visit.site.boards[visit.language] = drawn
    return drawn[1]


def _event(name: str, text: str) -> str:
    return f"event: {name}\n" + "".join(f"data: {each}\n" for each in text.splitlines()) + "\n"


def _board(visit: Visit) -> dict[str, Any]:
    looked = visit.site.watch.newest
    rows: Sequence[Row] = () if looked is None else looked.rows
    lines = [_line(list(found)) for _, found in groupby(rows, key=lambda row: (row.group, row.topic))]
    lines.sort(key=lambda each: _urgency(each.row))
    return {
        "looked": looked,
        "is_old": looked is not None and time.time() - looked.at > _OLD_AFTER_S,
        "lines": lines[:_MOST_LINES],
        "more": max(0, len(lines) - _MOST_LINES),
        "counts": _counts(lines),
        # Drawn for those that are shown alone.
        "spark_of": partial(_spark, visit),
    }


def _counts(lines: Sequence[Line]) -> dict[Verdict, int]:
    counts = Counter(each.row.verdict for each in lines)
    return {verdict: counts[verdict] for verdict in reversed(Verdict) if counts[verdict]}


def _line(rows: list[Row]) -> Line:
    unwell = sorted((row for row in rows if row.verdict is not Verdict.OK), key=_urgency)
    return Line(together(rows, unwell[0] if unwell else None), len(rows), unwell)


def _spark(visit: Visit, row: Row) -> Chart | None:
    points = visit.site.history.of(row.group, row.topic)
    return line([(point.at, point.lag_seconds) for point in points], *_SMALL)


def _urgency(row: Row) -> tuple[int, float, str, str, int]:
    """Return what rows are sorted by: the worst verdict first, then whoever waits longest."""
    return -row.verdict.rank, -row.lag_seconds, row.group, row.topic, row.partition
