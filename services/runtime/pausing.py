"""A person's word that a service shall take nothing for now: a row of its schema, which outlives every worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.runtime.offsets import QUERIES

if TYPE_CHECKING:
    from datetime import datetime

    from services.runtime.database import Connection


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
