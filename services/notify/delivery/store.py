"""Takes messages for a gateway and records what became of them: one statement a step, whatever their number."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

from services.notify.decide import report_timer
from services.notify.model import Status
from services.runtime import timers
from services.runtime.database import columns_of, execute_rows, load_queries
from services.runtime.message import Effects, Lane

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime, timedelta

    from services.notify.policy import Ladder
    from services.runtime.database import Connection

_QUERIES: Final = load_queries(Path(__file__).with_name("queries.sql"))


class Taken(NamedTuple):
    """A message given to a gateway, noted as its attempt of that number; nothing in it is decrypted yet."""

    delivery_id: UUID
    number: int
    customer_id: str
    expires_at: datetime
    sealed: bytes | None
    notification_id: str | None
    is_marketing: bool
    contacts: bytes | None
    wrapped_key: bytes | None
    locale: str
    reach: str


class Turn(NamedTuple):
    """What a gateway is given, and how many messages were put off because their number may not get them yet."""

    taken: list[Taken]
    put_off: int


class Out(NamedTuple):
    """A message and where it is; the gateway is the one of its last attempt."""

    delivery_id: UUID
    number: int
    gateway: str | None
    state: str
    expires_at: datetime


class Ending(NamedTuple):
    """What is known of an attempt."""

    delivery_id: UUID
    number: int
    outcome: str
    provider_message_id: str | None = None
    code: str | None = None
    why: str | None = None


class Move(NamedTuple):
    """How a message goes on."""

    delivery_id: UUID
    state: str
    due_at: datetime


class Advance(NamedTuple):
    """What became of the notices in a message."""

    delivery_id: UUID
    status: str
    why: str | None = None


class Early(NamedTuple):
    """A receipt, by the gateway's own id."""

    gateway: str
    provider_message_id: str
    outcome: str
    code: str | None


async def fill_allowance(connection: Connection, gateway: str, rate_per_s: float, now: datetime) -> int:
    """Lock a gateway's bucket until the transaction ends; return how many messages it may be given now."""
    # What a gateway may get in a second may come at once.
    most = max(1.0, rate_per_s)
    return int(await connection.fetchval(_QUERIES.fill_allowance, gateway, most, rate_per_s, now))


async def draw_allowance(connection: Connection, gateway: str, count: int) -> None:
    """Take messages out of a gateway's bucket."""
    await connection.execute(_QUERIES.draw_allowance, gateway, float(count))


async def take(
    connection: Connection,
    gateway: str,
    channel: str,
    now: datetime,
    *,
    answered_by: datetime,
    limit: int,
    ladder: Ladder,
    left_to_others: timedelta,
    last_priority: int,
) -> Turn:
    """Give a gateway the most urgent messages that are due, each noted as an attempt."""
    rows = await connection.fetch(
        _QUERIES.take_deliveries,
        gateway,
        channel,
        now,
        answered_by,
        limit,
        ladder.a_minute,
        ladder.an_hour,
        ladder.a_day,
        left_to_others,
        last_priority,
    )
    return Turn([Taken(*row[1:]) for row in rows if row[1] is not None], rows[0][0])


async def lock(connection: Connection, ids: Collection[UUID]) -> dict[UUID, Out]:
    """Lock messages and what stands in for them, in the order of their ids; those that ended are not among them."""
    rows = await connection.fetch(_QUERIES.lock_deliveries, list(ids))
    return {row[0]: Out(*row) for row in rows}


async def take_overdue(connection: Connection, now: datetime, *, until: datetime, limit: int) -> list[Out]:
    """Return messages that are due to be looked after, and put them off until then."""
    return [Out(*row) for row in await connection.fetch(_QUERIES.take_overdue, now, until, limit)]


async def find_expired(connection: Connection, now: datetime, limit: int) -> list[UUID]:
    """Return messages that did not leave in time; they are not locked yet."""
    return [row[0] for row in await connection.fetch(_QUERIES.find_expired, now, limit)]


async def take_early_receipts(connection: Connection, sent: Sequence[tuple[str, str]]) -> list[Early]:
    """Return, and forget, the receipts that came before the attempts with these gateways and provider's ids."""
    if not sent:
        return []
    rows = await connection.fetch(_QUERIES.take_early_receipts, *columns_of(sent))
    return [Early(*row[:4]) for row in rows]


async def keep_receipts(connection: Connection, receipts: Sequence[Early], now: datetime) -> set[tuple[str, str]]:
    """Keep receipts whose attempts are not recorded yet; return which were not kept before, by gateway and its id."""
    if not receipts:
        return set()
    rows = await connection.fetch(_QUERIES.keep_receipts, *columns_of(receipts), now)
    return {(row[0], row[1]) for row in rows}


async def load_early_receipts(connection: Connection, names: Sequence[tuple[str, str]]) -> list[tuple[Early, datetime]]:
    """Return receipts that were kept, by gateways and provider's ids; each with when it came."""
    rows = await connection.fetch(_QUERIES.load_early_receipts, *columns_of(names))
    return [(Early(*row[:4]), row[4]) for row in rows]


async def mark_dead(connection: Connection, channel: str, dead: Sequence[tuple[str, bytes | None]]) -> None:
    """Use these customers' addresses of a channel no more, where their contacts are still those given."""
    await connection.execute(_QUERIES.mark_dead, channel, *columns_of(sorted(dict(dead).items())))


async def find_attempts(
    connection: Connection, receipts: Sequence[tuple[Early, tuple[UUID, int] | None]]
) -> dict[int, tuple[UUID, int]]:
    """Return the attempts that receipts are about, by place: named by our reference, or else by the provider's id."""
    by_id = [(place, one.gateway, one.provider_message_id) for place, (one, ours) in enumerate(receipts) if not ours]
    by_reference = [(place, one.gateway, *ours) for place, (one, ours) in enumerate(receipts) if ours]
    columns = [*_columns(by_id, 3), *_columns(by_reference, 4)]
    rows = await connection.fetch(_QUERIES.find_attempts, *columns)
    return {row[0]: (row[1], row[2]) for row in rows}


def _columns(rows: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    return columns_of(rows) if rows else [[] for _ in range(width)]


async def record(
    connection: Connection,
    now: datetime,
    *,
    endings: Sequence[Ending] = (),
    moves: Sequence[Move] = (),
    finished: Collection[UUID] = (),
    advances: Sequence[Advance] = (),
) -> None:
    """Record what became of attempts, of messages, which are locked, and of notices, whose lanes publish it."""
    if endings:
        await connection.execute(_QUERIES.end_attempts, *columns_of(endings), now)
    await execute_rows(connection, _QUERIES.move_deliveries, moves)
    if finished:
        await connection.execute(_QUERIES.forget_deliveries, list(finished))
    if advances:
        rows = await connection.fetch(_QUERIES.advance_notices, *columns_of(advances), now)
        rows += await _tell_stand_ins(connection, advances, now)
        reports = [report_timer(Lane(row[1], row[2]), row[0], row[3], now) for row in rows]
        await timers.record(connection, Effects(timers_set=reports))


async def _tell_stand_ins(connection: Connection, advances: Sequence[Advance], now: datetime) -> list[Any]:
    """Let go of what stands in for messages that have arrived, and send what does for those that failed."""
    failed = [one.delivery_id for one in advances if one.status in (Status.FAILED, Status.SUPPRESSED)]
    if failed:
        await connection.execute(_QUERIES.send_stand_ins, failed, now)
    arrived = [one.delivery_id for one in advances if one.status == Status.DELIVERED]
    return await connection.fetch(_QUERIES.end_stand_ins, arrived, now) if arrived else []
