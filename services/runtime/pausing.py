"""A person's word that a service shall take nothing for now: a row of its schema, which outlives every worker."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from services.runtime import metrics
from services.runtime.database import TRANSIENT
from services.runtime.offsets import QUERIES

if TYPE_CHECKING:
    from datetime import datetime

    from services.runtime.database import Connection, Pool

_LOG = structlog.stdlib.get_logger(__name__)

_LOOK_EVERY_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Pause:
    """Who paused a service, why, and since when."""

    who: str
    why: str
    since: datetime

    def __str__(self) -> str:
        """Say it in one sentence's part."""
        return f"paused by {self.who}: {self.why}"


async def load_pause(connection: Connection) -> Pause | None:
    """Return the service's pause; None where it runs."""
    row = await connection.fetchrow(QUERIES.load_pause)
    return None if row is None else Pause(**row)


async def begin_pause(connection: Connection, who: str, why: str) -> bool:
    """Pause the service; return False where it is paused already, which stays as it is."""
    return await connection.fetchval(QUERIES.begin_pause, who, why) is not None


async def end_pause(connection: Connection) -> Pause | None:
    """Let the service go on; return the pause that this ends, None where there was none."""
    row = await connection.fetchrow(QUERIES.end_pause)
    return None if row is None else Pause(**row)


class Pausing:
    """Whether a person has paused this worker's service, as it was read last."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._goes_on = asyncio.Event()
        self.pause: Pause | None = None

    async def look(self) -> None:
        """Read it; raises what the database raises."""
        async with self._pool.acquire() as connection:
            found = await load_pause(connection)
        if found != self.pause:
            _LOG.warning("paused" if found else "resumed", who=found.who if found else None)
        self.pause = found
        metrics.PAUSED.set(found is not None)
        if found is None:
            self._goes_on.set()
        else:
            self._goes_on.clear()

    async def follow(self) -> None:
        """Read it twice a second; while the database does not answer, what was read last holds."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            with contextlib.suppress(*TRANSIENT):
                await self.look()

    async def wait_until_over(self) -> None:
        """Return as soon as nobody keeps the service from going on."""
        await self._goes_on.wait()
