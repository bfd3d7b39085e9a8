"""How far each partition is consumed, kept in the service's own schema and moved only by the lane's owner."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from services.runtime.database import load_queries
from services.runtime.message import Lane
from services.runtime.topics import Place

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from uuid import UUID

    from asyncpg import Record

    from services.runtime.database import Connection
    from services.runtime.topics import Log

QUERIES = load_queries(Path(__file__).with_name("queries.sql"))

GapKind = Literal["retention", "recreated", "beyond_end"]


class Fenced(Exception):
    """Another session owns a lane now, or moved an offset on: what this one holds in hand is void."""


class NoGap(Exception):
    """The partition has no gap that could be accepted."""


class Gap(NamedTuple):
    """Why a partition can't go on by itself; `size` in records, None where nobody can know."""

    kind: GapKind
    size: int | None


class Stored(NamedTuple):
    """How far a partition was consumed, and the gap found in it, if any."""

    topic_id: str
    next_offset: int
    gap_kind: GapKind | None = None
    gap_log_end: int | None = None
    is_gap_accepted: bool = False


class Move(NamedTuple):
    """A partition's offset before and after a batch."""

    place: Place
    expected: int
    next_offset: int


class OutboxKey(NamedTuple):
    """What names an outbox row: the batch, counted within its lane."""

    lane: Lane
    batch_number: int


class Placement(NamedTuple):
    """Where each partition goes on, and those that can't."""

    starts: Mapping[Place, int]
    gaps: Mapping[Place, Gap]


async def claim_lanes(connection: Connection, owner: UUID, lanes: Collection[Lane]) -> dict[Lane, int]:
    """Make `owner` the owner of the lanes; waits for the transaction in which an old owner holds one.

    Returns the number of each lane's latest batch.
    """
    return _numbers(await connection.fetch(QUERIES.claim_lanes, owner, *lane_columns(lanes)))


async def hold_lanes(connection: Connection, owner: UUID, lanes: Collection[Lane]) -> None:
    """Keep the lanes for this transaction; Fenced when another session owns one."""
    if await connection.fetchval(QUERIES.hold_lanes, owner, *lane_columns(lanes)) != len(lanes):
        raise Fenced


async def advance(
    connection: Connection,
    owner: UUID,
    lanes: Mapping[Lane, int],
    moves: Sequence[Move],
    published: Sequence[OutboxKey],
) -> dict[Lane, int]:
    """Fence a batch, move its offsets on, forget what is published; return the batch's number in each lane.

    `lanes` has the number of each lane's batch before. Raises Fenced when a lane has another owner, or a lane or an
    offset is not where this session left it.
    """
    rows = await connection.fetch(
        QUERIES.advance,
        owner,
        *lane_columns(lanes),
        *_columns([(*move.place, move.expected, move.next_offset) for move in moves], 4),
        *key_columns(published),
        list(lanes.values()),
    )
    if len(rows) != len(lanes) or rows[0]["moved"] != len(moves):
        raise Fenced
    return _numbers(rows)


def _numbers(rows: Sequence[Record]) -> dict[Lane, int]:
    return {Lane(row["lane_group"], row["partition"]): row["batch_number"] for row in rows}


async def place(connection: Connection, logs: Mapping[Place, Log]) -> Placement:
    """Find where each partition goes on: where it was left, past an accepted gap, at its log's start if new.

    A gap that is not accepted is recorded and stops its partition. Call it while holding the lanes.
    """
    stored = await _load(connection, list(logs))
    starts: dict[Place, int] = {}
    gaps: dict[Place, Gap] = {}
    for where, log in logs.items():
        found = await _place_one(connection, where, log, stored.get(where))
        if isinstance(found, Gap):
            gaps[where] = found
        else:
            starts[where] = found
    return Placement(starts, gaps)


async def _place_one(connection: Connection, where: Place, log: Log, stored: Stored | None) -> int | Gap:
    if stored is None:
        await connection.execute(QUERIES.start_offset, *where, log.topic_id, log.start)
        return log.start
    if stored.is_gap_accepted:
        stored = Stored(log.topic_id, resume_offset(stored, log))
        await connection.execute(QUERIES.close_gap, *where, stored.topic_id, stored.next_offset)
    gap = find_gap(stored, log)
    if gap is None:
        return stored.next_offset
    if stored.gap_kind is None:
        await connection.execute(QUERIES.record_gap, *where, gap.kind, gap.size, log.start, log.end)
    return gap


def find_gap(stored: Stored, log: Log) -> Gap | None:
    """Return what keeps a partition from going on where it was left; a gap found before stays."""
    if stored.topic_id != log.topic_id:
        return Gap("recreated", None)
    if stored.next_offset < log.start:
        return Gap("retention", log.start - stored.next_offset)
    if stored.next_offset > log.end:
        return Gap("beyond_end", stored.next_offset - log.end)
    # The log grew past the place since: what is there now is not what this service has read before.
    return Gap(stored.gap_kind, None) if stored.gap_kind else None


def resume_offset(stored: Stored, log: Log) -> int:
    """Return where an accepted gap ends: for an offset beyond the log, the end as found; else the start."""
    if stored.gap_kind == "beyond_end" and stored.topic_id == log.topic_id and stored.gap_log_end is not None:
        return max(log.start, min(stored.gap_log_end, log.end))
    return log.start


async def load_accepted(connection: Connection, places: Collection[Place]) -> list[Place]:
    """Return those of the stopped partitions whose gap somebody has accepted."""
    return [where for where, stored in (await _load(connection, places)).items() if stored.is_gap_accepted]


async def load_next_offsets(connection: Connection, places: Collection[Place]) -> dict[Place, int]:
    """Return how far partitions are consumed by anybody; those with a gap or never consumed are missing."""
    stored = await _load(connection, places)
    return {where: found.next_offset for where, found in stored.items() if found.gap_kind is None}


async def load_behind(connection: Connection, logs: Mapping[Place, Log]) -> list[Place]:
    """Return the partitions whose logs hold more than anybody has handled, but none that a gap has stopped."""
    stored = await _load(connection, logs)
    behind = []
    for where, log in logs.items():
        known = stored.get(where)
        if log.end > max(log.start, known.next_offset if known else 0) and (known is None or known.gap_kind is None):
            behind.append(where)
    return behind


async def accept_gap(connection: Connection, topic: str, partition: int) -> GapKind:
    """Let a stopped partition go on past its gap, whose records stay unread; NoGap when it has none.

    `topic` is the logical name. The worker that owns the partition notices within seconds.
    """
    kind = await connection.fetchval(QUERIES.accept_gap, topic, partition)
    if kind is None:
        raise NoGap(f"partition {partition} of {topic} has no gap")
    return cast("GapKind", kind)


class Consumed(NamedTuple):
    """How far a partition was consumed, as people ask for it."""

    topic: str
    partition: int
    topic_id: str
    next_offset: int
    gap_kind: GapKind | None
    gap_size: int | None
    gap_found_at: datetime | None
    gap_accepted_at: datetime | None


async def load_all(connection: Connection) -> list[Consumed]:
    """Return every partition that the service ever consumed."""
    return [Consumed(*row) for row in await connection.fetch(QUERIES.all_offsets)]


async def _load(connection: Connection, places: Collection[Place]) -> dict[Place, Stored]:
    rows = await connection.fetch(QUERIES.load_offsets, *_columns(list(places), 2))
    return {Place(row["topic"], row["partition"]): _stored(row) for row in rows}


def _stored(row: Record) -> Stored:
    return Stored(
        row["topic_id"],
        row["next_offset"],
        row["gap_kind"],
        row["gap_log_end"],
        row["gap_accepted_at"] is not None,
    )


def lane_columns(lanes: Collection[Lane]) -> tuple[list[object], ...]:
    """Return groups and partition numbers, as `unnest` takes them."""
    return _columns(list(lanes), 2)


def key_columns(keys: Collection[OutboxKey]) -> tuple[list[object], ...]:
    """Return groups, partition numbers and batch numbers, as `unnest` takes them."""
    return _columns([(*key.lane, key.batch_number) for key in keys], 3)


def _columns(rows: Sequence[tuple[object, ...]], width: int) -> tuple[list[object], ...]:
    return tuple([row[column] for row in rows] for column in range(width))
