"""Rewrites the tables that held keys which were destroyed, so that the files do not have them either."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from services.runtime.database import TRANSIENT
from services.runtime.log import error_fields
from services.runtime.offsets import QUERIES

if TYPE_CHECKING:
    from services.runtime.database import Connection
    from services.runtime.service import Surroundings

CONNECTIONS: Final = 1

_LOOK_EVERY_S: Final = 2.0
_SHARE: Final = 50
"""Of all time, the tables are locked for one part of so many at most."""
_AGAIN_AFTER_S: Final = 10.0
_PATIENCE_S: Final = 5.0
_LOOK_AGAIN_S: Final = 0.05
_LONGEST_S: Final = 3_600.0
_OUTBOX: Final = "outbox"

_LOG = structlog.stdlib.get_logger(__name__)


class ScrubRefused(Exception):
    """The role of the service may not rewrite a table; the text says which."""


_PASSING: Final[tuple[type[Exception], ...]] = (ScrubRefused, *TRANSIENT)


async def keep_scrubbed(around: Surroundings) -> None:
    """Rewrite what held destroyed keys, soon after they were, until told to stop; of all workers one at a time."""
    while not around.stopping.is_set():
        try:
            async with around.pool.acquire() as connection:
                # However large the tables are and however much is erased, others have them nearly all the time.
                rest_s = max(_LOOK_EVERY_S, _SHARE * await scrub(connection))
        except _PASSING as error:
            _LOG.warning("scrub_retried", **error_fields(error))
            rest_s = _AGAIN_AFTER_S
        with suppress(TimeoutError):
            await asyncio.wait_for(around.stopping.wait(), rest_s)


async def scrub(connection: Connection) -> float:
    """Rewrite the tables whose keys were destroyed, with what was on its way, and leave the log that has them.

    Returns for how many seconds that took, 0 where there was nothing to do or another is at it. The connection has to
    be reset before it is used for anything else.

    Raises:
        ScrubRefused: We may not.
        TimeoutError: Somebody sees what was there before for too long.
    """
    if not await connection.fetch(QUERIES.load_destroyed_keys):
        return 0.0
    if not await connection.fetchval(QUERIES.claim_scrubbing):
        return 0.0
    return await _scrub_alone(connection)


async def _scrub_alone(connection: Connection) -> float:
    # Read again: whoever was at it before may have done it.
    destroyed = await connection.fetch(QUERIES.load_destroyed_keys)
    if not destroyed:
        return 0.0
    await connection.execute(QUERIES.be_patient)
    await _let_others_end(connection)
    tables = sorted({row["table_name"] for row in destroyed} | {_OUTBOX})
    began_s = time.monotonic()
    for statement, is_ours in await connection.fetch(QUERIES.list_rewrites, tables):
        if not is_ours:
            raise ScrubRefused(f"the role may not {statement}")
        await connection.execute(statement, timeout=_LONGEST_S)
    try:
        await connection.execute(QUERIES.leave_log_segment)
    except asyncpg.InsufficientPrivilegeError:
        # The segment is left when it is full, or as `archive_timeout` has it.
        _LOG.warning("log_segment_not_left")
    await connection.execute(QUERIES.forget_destroyed_keys, [row["number"] for row in destroyed])
    spent_s = time.monotonic() - began_s
    _LOG.info("scrubbed", tables=tables, seconds=round(spent_s, 3))
    return spent_s


async def _let_others_end(connection: Connection) -> None:
    """Wait for those who may still see rows as they were: for them a rewritten table would keep these rows.

    Raises:
        TimeoutError: Somebody takes longer.
    """
    first = await connection.fetchval(QUERIES.next_transaction)
    deadline_s = time.monotonic() + _PATIENCE_S
    while await connection.fetchval(QUERIES.count_older, first):
        if time.monotonic() > deadline_s:
            raise TimeoutError("a transaction has been open for long")
        await asyncio.sleep(_LOOK_AGAIN_S)
