"""Removes cases, applications to come back, answers and clearances that are kept no longer, slice by slice."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from services.runtime.database import load_queries

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from services.closure.policy import Policy
    from services.runtime.database import Connection

    _Purging = Callable[[Connection, Policy, datetime, int], Awaitable[int]]

_QUERIES: Final = load_queries(Path(__file__).with_name("purge.sql"))
_SLICE: Final = 500


async def purge_some(policy: Policy, connection: Connection, now: datetime, limit: int = _SLICE) -> bool:
    """Remove one slice of everything that is kept no longer; return whether there may be more."""
    # Each has a transaction of its own: it takes its locks in the order in which everybody does.
    return any(
        [
            await _slice(connection, purge, policy, now, limit)
            for purge in (_purge_cases, _purge_refused, _purge_answers, _purge_clearance)
        ]
    )


async def _slice(connection: Connection, purge: _Purging, policy: Policy, now: datetime, limit: int) -> bool:
    async with connection.transaction():
        is_alone = await connection.fetchval(_QUERIES.claim)
        return bool(is_alone and await purge(connection, policy, now, limit) == limit)


async def _purge_cases(connection: Connection, policy: Policy, now: datetime, limit: int) -> int:
    wallets, loans = (now - timedelta(days=policy.kept_days(*what)) for what in (("closing",), ("closing", "loans")))
    chosen = await connection.fetch(_QUERIES.choose_cases, wallets, loans, limit)
    if chosen:
        ids = [row[0] for row in chosen]
        await _lock(connection, chosen)
        await connection.execute(_QUERIES.lock_cases, ids)
        await connection.execute(_QUERIES.lock_reopenings, ids)
        sorted_ = await connection.fetch(_QUERIES.sort_cases, ids, wallets, loans)
        over = [case_id for case_id, is_over in sorted_ if is_over]
        await connection.execute(_QUERIES.shorten_cases, [case_id for case_id, is_over in sorted_ if not is_over])
        await connection.execute(_QUERIES.purge_steps, [row[0] for row in sorted_])
        await connection.execute(_QUERIES.purge_reopenings, over)
        await connection.execute(_QUERIES.purge_cases, over)
    return len(chosen)


async def _purge_refused(connection: Connection, policy: Policy, now: datetime, limit: int) -> int:
    chosen = await connection.fetch(_QUERIES.choose_refused, now - timedelta(days=policy.kept_days("closing")), limit)
    if chosen:
        await _lock(connection, chosen)
        await connection.execute(_QUERIES.purge_refused, [row[0] for row in chosen])
    return len(chosen)


async def _lock(connection: Connection, chosen: Sequence[Any]) -> None:
    """Lock whom these are of, whose ids stand in the second column."""
    await connection.execute(_QUERIES.lock_customers, sorted({row[1] for row in chosen if row[1] is not None}))


async def _purge_answers(connection: Connection, policy: Policy, now: datetime, limit: int) -> int:
    before = now - timedelta(days=policy.keeping.answers_days)
    return int(await connection.fetchval(_QUERIES.purge_answers, before, limit))


async def _purge_clearance(connection: Connection, policy: Policy, now: datetime, limit: int) -> int:
    before = now - timedelta(days=policy.kept_days("closing"))
    clearance_id = await connection.fetchval(_QUERIES.lock_clearance, before)
    if clearance_id is None:
        return 0
    if removed := int(await connection.fetchval(_QUERIES.purge_wallets, clearance_id, limit)):
        return removed
    await connection.execute(_QUERIES.purge_reports, clearance_id)
    await connection.execute(_QUERIES.purge_clearance, clearance_id)
    return 0
