"""Hears what PostgreSQL notifies, for as long as a worker runs, whatever becomes of the connection meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from services.runtime.database import TRANSIENT

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.runtime.database import Connection, Pool

_AGAIN_AFTER_S: Final = 0.2


async def listen(
    pool: Pool, channel: str, stopping: asyncio.Event, hear: Callable[..., Any], *, begin: Callable[[], None]
) -> None:
    """Hear a channel until told to stop; `begin` is called whenever it may have missed something before."""
    while not stopping.is_set():
        with suppress(*TRANSIENT):
            async with pool.acquire() as connection:
                await _listen_on(connection, channel, stopping, hear, begin)
        await wait_for(stopping, within_s=_AGAIN_AFTER_S)


async def _listen_on(
    connection: Connection, channel: str, stopping: asyncio.Event, hear: Callable[..., Any], begin: Callable[[], None]
) -> None:
    lost = asyncio.Event()
    connection.add_termination_listener(lambda _connection: lost.set())
    await connection.add_listener(channel, hear)
    begin()
    await wait_for(stopping, lost)
    if not lost.is_set():
        await connection.remove_listener(channel, hear)


async def wait_for(*events: asyncio.Event, within_s: float | None = None) -> None:
    """Return when one of the events is set, or after so long."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
