"""Loads and records broadcasts: one function a query."""

from __future__ import annotations

from datetime import timedelta
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.notify.broadcast.model import Broadcast, Counts, State
from services.notify.model import Announcement
from services.notify.store import wake_dispatchers, wake_readers
from services.runtime.database import columns_of, copy_rows, execute_rows, load_queries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime
    from uuid import UUID

    from services.runtime.database import Connection
    from services.runtime.message import Cause, Lane

_QUERIES: Final = load_queries(Path(__file__).with_name("queries.sql"))
_BANK_USED_WITHIN: Final = timedelta(days=90)


async def load_hashes(connection: Connection, ids: Sequence[str]) -> dict[str, bytes]:
    """Return a hash of what was asked for, of the broadcasts that are known."""
    return {row[0]: row[1] for row in await connection.fetch(_QUERIES.load_hashes, list(ids))}


async def insert(
    connection: Connection,
    broadcasts: Sequence[Broadcast],
    targets: Sequence[tuple[str, str]],
    wallets: Sequence[tuple[str, str]],
    causes: Mapping[str, Cause],
) -> None:
    """Keep new broadcasts, with the people listed for them, by themselves or by their wallets."""
    broadcasts = sorted(broadcasts, key=attrgetter("notification_id"))
    await copy_rows(connection, "broadcast", Broadcast._fields, broadcasts)
    await execute_rows(connection, _QUERIES.insert_targets, targets)
    await execute_rows(connection, _QUERIES.insert_holders, wallets)
    announced = [
        Announcement(
            one.notification_id, one.template, 0, one.created_at, one.content_hash, *causes[one.notification_id]
        )
        for one in broadcasts
    ]
    await copy_rows(connection, "announcement", Announcement._fields, announced)


async def lock(connection: Connection, notification_id: str) -> Broadcast | None:
    """Lock a broadcast; None where there is none."""
    row = await connection.fetchrow(_QUERIES.lock_broadcast, notification_id)
    return None if row is None else Broadcast(*row)


async def lock_all(connection: Connection, ids: Sequence[str]) -> list[str]:
    """Lock broadcasts, before anybody or anything that they concern; return those that there are."""
    return [row[0] for row in await connection.fetch(_QUERIES.lock_broadcasts, list(ids))]


async def set_states(connection: Connection, ids: Sequence[str], state: State, now: datetime) -> list[str]:
    """Pause, resume or cancel broadcasts; return those that this changed."""
    return [row[0] for row in await connection.fetch(_QUERIES.set_states, list(ids), state, now)]


async def lock_about(connection: Connection, abouts: Sequence[str]) -> None:
    """Have these windows and clearances alone, and lock the broadcasts about them that are not over."""
    await connection.execute(_QUERIES.lock_abouts, list(abouts))
    await connection.execute(_QUERIES.lock_about, list(abouts))


async def cancel_outdated(connection: Connection, abouts: Sequence[str], now: datetime) -> None:
    """Cancel the broadcasts about these, locked or new, of which there is one of a higher revision.

    Nothing more is taken of them; what waits ends when each goes on.
    """
    if abouts:
        await connection.execute(_QUERIES.cancel_outdated, list(abouts), now)


async def apply_states(connection: Connection, ids: Sequence[str], now: datetime) -> None:
    """Do to what waits of broadcasts what their states ask for."""
    await connection.execute(_QUERIES.apply_states, list(ids), now)
    await wake_dispatchers(connection)


async def count_queued(connection: Connection, notification_id: str, most: int, now: datetime) -> int:
    """Return how many messages of a broadcast a gateway could take now, at most `most`."""
    return int(await connection.fetchval(_QUERIES.count_queued, notification_id, most, now))


async def expect(connection: Connection, broadcast: Broadcast, now: datetime) -> int:
    """Count, and note, how many people a broadcast will reach."""
    kind, values, id_ = broadcast.audience_kind, broadcast.audience_values, broadcast.notification_id
    if kind == "customers":
        expected = await connection.fetchval(_QUERIES.expect_listed, id_)
    elif kind == "bank":
        expected = await connection.fetchval(_QUERIES.expect_bank, values, _bank_used_since(now), broadcast.currencies)
    elif kind == "holders":
        expected = await connection.fetchval(_QUERIES.expect_holders, values, broadcast.currencies)
    else:
        expected = await connection.fetchval(_QUERIES.expect_customers, kind, values)
    await connection.execute(_QUERIES.note_expected, id_, expected)
    return int(expected)


def _bank_used_since(now: datetime) -> date:
    return (now - _BANK_USED_WITHIN).date()


async def choose(connection: Connection, broadcast: Broadcast, count: int, now: datetime) -> list[tuple[str, bool]]:
    """Return the next people of a broadcast's audience, in the order of their ids, and whether they are locked."""
    kind, values, currencies = broadcast.audience_kind, broadcast.audience_values, broadcast.currencies
    after = broadcast.reached
    if kind == "customers":
        rows = await connection.fetch(_QUERIES.choose_listed, after, count, broadcast.notification_id)
    elif kind == "bank":
        since = _bank_used_since(now)
        rows = await connection.fetch(_QUERIES.choose_bank, after, count, values, since, currencies)
    elif kind == "holders":
        rows = await connection.fetch(_QUERIES.choose_holders, after, count, values, currencies)
    else:
        rows = await connection.fetch(_QUERIES.choose_customers, after, count, kind, values)
    return [(row[0], row[1]) for row in rows]


async def announce(
    connection: Connection, broadcast: Broadcast, chosen: Sequence[tuple[str, bool]], lane: Lane, now: datetime
) -> int:
    """Make the notices of a chunk, as it was chosen; return how many there are."""
    customers, are_locked = columns_of(chosen)
    row = await connection.fetchrow(
        _QUERIES.announce,
        broadcast.notification_id,
        customers,
        broadcast.template,
        broadcast.category,
        broadcast.channels,
        now,
        lane.group,
        lane.partition,
        broadcast.expires_at,
        are_locked,
    )
    accepted, queued, put_in = row or (0, 0, 0)
    if queued:
        await wake_dispatchers(connection)
    if put_in:
        await wake_readers(connection)
    return int(accepted)


async def move_on(
    connection: Connection, notification_id: str, reached: str, accepted: int, resolved_at: datetime | None
) -> None:
    """Note how far a broadcast has got, and when it was resolved for the last, if it was."""
    await connection.execute(_QUERIES.move_on, notification_id, reached, resolved_at, accepted)


async def note_progress(connection: Connection, notification_id: str, now: datetime, *, is_over: bool) -> None:
    """Note when a broadcast's progress was last published, and whether that was the last time."""
    await connection.execute(_QUERIES.note_progress, notification_id, now, is_over)


async def close(connection: Connection, notification_id: str) -> None:
    """Forget what a broadcast that is over, and locked, needs no more: its list, and words that nobody has."""
    await connection.execute(_QUERIES.forget_targets, notification_id)
    await connection.execute(_QUERIES.forget_texts, [notification_id])


async def forget_words(connection: Connection, told: Sequence[UUID]) -> None:
    """Forget the words of broadcasts to lists, told by these notices, that are in nobody's inbox any more.

    What was said to a list may be about its people; what was said to everybody is about nobody.
    """
    listed = [row[0] for row in await connection.fetch(_QUERIES.lock_told, list(told))]
    await connection.execute(_QUERIES.forget_texts, listed)


async def load_counts(connection: Connection, notification_id: str) -> Counts | None:
    """Return where a broadcast's notices stood when they were last counted."""
    row = await connection.fetchrow(_QUERIES.load_counts, notification_id)
    return None if row is None else Counts(*row)


async def count_all(connection: Connection, now: datetime) -> None:
    """Count where the notices of every broadcast that is not over stand."""
    await connection.execute(_QUERIES.count_broadcasts, now)


async def load_texts(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    """Return what people read of broadcasts."""
    return {row[0]: row[1] for row in await connection.fetch(_QUERIES.load_texts, list(ids))}
