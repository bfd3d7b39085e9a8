"""Removes what a service keeps no longer, slice by slice, beside its consumer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

import structlog

from services.runtime.database import TRANSIENT, Connection
from services.runtime.log import error_fields

if TYPE_CHECKING:
    from services.runtime.service import Surroundings

CONNECTIONS: Final = 1

_LOOK_EVERY_S: Final = 60.0
_SHARE: Final = 10

_LOG = structlog.stdlib.get_logger(__name__)

PurgeSome = Callable[[Connection, datetime], Awaitable[bool]]
"""Removes one slice, if no other worker does; returns whether there may be more."""


@dataclass(frozen=True, slots=True)
class Purge:
    """Runs beside the consumer; of all workers one works at a time, and rests between slices."""

    purge_some: PurgeSome

    async def run(self, around: Surroundings) -> None:
        """Work until told to stop."""
        while not around.stopping.is_set():
            began_s, is_more = time.monotonic(), False
            try:
                async with around.pool.acquire() as connection:
                    is_more = await self.purge_some(connection, around.clock.now())
            except TRANSIENT as error:
                _LOG.warning("purge_retried", **error_fields(error))
            # However much there is to remove, that is a small part of all work.
            rest_s = _SHARE * (time.monotonic() - began_s) if is_more else _LOOK_EVERY_S
            with suppress(TimeoutError):
                await asyncio.wait_for(around.stopping.wait(), rest_s)
