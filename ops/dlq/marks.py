"""What became of each dead letter: replayed, set aside, or nothing yet; it stands in the database beside the acts."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ops.errors import UserError
from services.runtime.database import execute_rows, load_queries
from services.runtime.topics import Place

if TYPE_CHECKING:
    import uuid
    from collections.abc import Collection, Mapping, Sequence

    from ops.dlq.letters import Letter
    from services.runtime.database import Connection
    from services.runtime.topics import Log

_SQL: Final = load_queries(Path(__file__).with_suffix(".sql"))

LetterPlace = tuple[str, int, int]
"""A dead letter's place for ever: its topic's id, partition and offset."""


class Busy(UserError):
    """Somebody else replays or discards at this moment."""


class State(StrEnum):
    """What became of a dead letter; `REPLAYING` is one whose replay was cut off before it was known to be written."""

    WAITING = "waiting"
    REPLAYING = "replaying"
    REPLAYED = "replayed"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Mark:
    """What became of a letter; `target` is where its replay is written, `target_end` where that ended before."""

    state: State
    target: Place | None = None
    target_end: int | None = None
    age: timedelta = timedelta()
    """How long ago that was noted, when it was read."""


async def alone(connection: Connection) -> None:
    """Have nobody else replay or discard while the connection lasts; raises Busy."""
    if not await connection.fetchval(_SQL.try_lock):
        raise Busy("Somebody replays or discards dead letters at this moment: wait until that is done.")


async def load_marks(connection: Connection, letters: Collection[Letter]) -> dict[LetterPlace, Mark]:
    """Return what became of these letters, and of others between them; those that wait have none."""
    if not letters:
        return {}
    # By where they stand, which are few places: whatever else was marked there is marked, too.
    offsets: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    for letter in letters:
        offsets[letter.topic_id, letter.partition].append(letter.offset)
    spans = [(*place, min(of_place), max(of_place)) for place, of_place in offsets.items()]
    rows = await connection.fetch(_SQL.load_marks, *map(list, zip(*spans, strict=True)))
    return {
        (row["topic_id"], row["partition"], row["record_offset"]): Mark(
            State(row["state"]),
            None if row["target"] is None else Place(row["target"], row["target_partition"]),
            row["target_end"],
            row["age"],
        )
        for row in rows
    }


async def record_marks(connection: Connection, marks: Mapping[Letter, Mark], act_id: uuid.UUID) -> None:
    """Note what is being done to letters, whatever was noted before."""
    rows = [
        (
            *letter.place,
            letter.id,
            mark.state,
            act_id,
            None if mark.target is None else mark.target.topic,
            None if mark.target is None else mark.target.partition,
            mark.target_end,
        )
        for letter, mark in marks.items()
    ]
    await execute_rows(connection, _SQL.record_marks, rows)


async def forget_gone(connection: Connection, logs: Mapping[Place, Log]) -> None:
    """Forget what became of letters that are gone, by the logs of all dead-letter topics: none can come back.

    What was done in the last week stays: brokers may be put back to an earlier state.
    """
    starts = [(log.topic_id, place.partition, log.start) for place, log in logs.items()]
    await execute_rows(connection, _SQL.forget_gone, starts)


async def finish_replays(connection: Connection, places: Sequence[LetterPlace]) -> None:
    """Note that these replays are written."""
    await execute_rows(connection, _SQL.finish_replays, places)


async def forget_replays(connection: Connection, places: Sequence[LetterPlace]) -> None:
    """Note that these replays were never written: their letters wait again."""
    await execute_rows(connection, _SQL.forget_replays, places)
