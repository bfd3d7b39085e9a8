"""Things to do later: rows with a due time and a lane, taken by the lane's owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.runtime.message import Lane, Timer, TimerKey
from services.runtime.offsets import QUERIES, lane_columns

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from services.runtime.database import Connection
    from services.runtime.message import Effects

_FAILURE_LENGTH = 1_000


async def load_next(connection: Connection, lanes: Collection[Lane], limit: int, now: datetime) -> list[Timer]:
    """Return the lanes' first timers that are due, then the next that is not, in the order in which they are due."""
    rows = await connection.fetch(QUERIES.next_timers, *lane_columns(lanes), limit, now)
    return [
        Timer(Lane(row["lane_group"], row["partition"]), row["kind"], row["subject"], row["due_at"]) for row in rows
    ]


async def take(connection: Connection, due: Sequence[Timer]) -> list[Timer]:
    """Remove the timers and return those that were still there unchanged, in the order given."""
    kinds = [timer.kind for timer in due]
    subjects = [timer.subject for timer in due]
    rows = await connection.fetch(QUERIES.take_timers, kinds, subjects, [timer.due_at for timer in due])
    taken = {(row["kind"], row["subject"]) for row in rows}
    return [timer for timer in due if (timer.kind, timer.subject) in taken]


async def record(connection: Connection, effects: Effects) -> None:
    """Clear timers, then set timers; of several settings of one timer the last counts."""
    if effects.timers_cleared:
        # In one order everywhere, like the settings below.
        kinds, subjects = zip(*sorted(set(effects.timers_cleared)), strict=True)
        await connection.execute(QUERIES.clear_timers, kinds, subjects)
    if effects.timers_set:
        last = {TimerKey(timer.kind, timer.subject): timer for timer in effects.timers_set}
        # In one order everywhere, so that two lanes that move the same timers do not deadlock.
        timers = [last[key] for key in sorted(last)]
        await connection.execute(
            QUERIES.set_timers,
            [timer.kind for timer in timers],
            [timer.subject for timer in timers],
            *lane_columns([timer.lane for timer in timers]),
            [timer.due_at for timer in timers],
        )


async def park(connection: Connection, timer: Timer, failure: str, now: datetime) -> None:
    """Put a timer aside with the reason why its handling fails."""
    await connection.execute(
        QUERIES.park_timer, timer.kind, timer.subject, timer.due_at, now, failure[:_FAILURE_LENGTH]
    )


async def count_parked(connection: Connection) -> int:
    """Return how many timers of the service wait for a person."""
    return int(await connection.fetchval(QUERIES.count_parked_timers))
