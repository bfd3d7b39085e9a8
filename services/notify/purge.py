"""Removes events with their notices, broadcasts and numbers that are kept no longer, slice by slice."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.notify.decide import TEXTED_NUMBERS_KEPT
from services.runtime.database import load_queries

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from services.notify.policy import Erasing
    from services.runtime.database import Connection

    _Purging = Callable[[Connection, datetime, int], Awaitable[int]]

_QUERIES: Final = load_queries(Path(__file__).with_name("purge.sql"))
_SLICE: Final = 500


async def purge_some(policy: Erasing, connection: Connection, now: datetime, limit: int = _SLICE) -> bool:
    """Remove one slice of everything that is kept no longer; return whether there may be more.

    Events go with their notices, which are counted out as they go: what remains adds up at every moment.
    """
    before = now - timedelta(days=policy.accounting_kept_days)
    # Each has a transaction of its own: it takes its locks in the order in which everybody does.
    return any(
        [
            await _slice(connection, _purge_notices, before, limit),
            await _slice(connection, _purge_announcements, before, limit),
            await _slice(connection, _purge_erased, before, limit),
            await _slice(connection, _purge_texted_numbers, now - TEXTED_NUMBERS_KEPT, limit),
        ]
    )


async def _slice(connection: Connection, purge: _Purging, before: datetime, limit: int) -> bool:
    async with connection.transaction():
        is_alone = await connection.fetchval(_QUERIES.claim)
        return bool(is_alone and await purge(connection, before, limit) == limit)


async def _purge_announcements(connection: Connection, before: datetime, limit: int) -> int:
    events = [row[0] for row in await connection.fetch(_QUERIES.choose_announcements, before, limit)]
    if events:
        for query in (_QUERIES.lock_broadcasts, _QUERIES.lock_counts, _QUERIES.purge_announcements):
            await connection.execute(query, events)
    return len(events)


async def _purge_texted_numbers(connection: Connection, before: datetime, limit: int) -> int:
    return int(await connection.fetchval(_QUERIES.purge_texted_numbers, before, limit))


async def _purge_notices(connection: Connection, before: datetime, limit: int) -> int:
    chosen = await connection.fetch(_QUERIES.choose_notices, before, limit)
    if not chosen:
        return 0
    notices, customers = [row[0] for row in chosen], sorted({row[1] for row in chosen})
    await connection.execute(_QUERIES.lock_customers, customers)
    for query in (_QUERIES.lock_inboxes, _QUERIES.lock_attempts, _QUERIES.lock_notices):
        await connection.execute(query, notices)
    left_by = [row[0] for row in await connection.fetch(_QUERIES.purge_notices, notices)]
    await connection.execute(_QUERIES.purge_attempts, left_by)
    await connection.execute(_QUERIES.purge_customers, customers, before)
    return len(chosen)


async def _purge_erased(connection: Connection, before: datetime, limit: int) -> int:
    customers = sorted(row[0] for row in await connection.fetch(_QUERIES.choose_erased, before, limit))
    if customers:
        await connection.execute(_QUERIES.lock_customers, customers)
        await connection.execute(_QUERIES.forget_erased, customers)
        await connection.execute(_QUERIES.purge_customers, customers, before)
    return len(customers)
