"""The collector of a running system: it knows the groups of its services, and which of them a person has paused."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from local.settings import runtime_settings
from ops.errors import UserError
from ops.lag.apart import CollectorApart
from ops.lag.collector import Collector
from ops.lag.expected import expected_groups
from ops.pausing import load_pauses, paused_groups
from services.runtime.kafka import admin_options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ops.running import Running
    from services.runtime.pausing import Pause

_READ_WITHIN_S: Final = 2.0


def make_collector(running: Running, *, only: str = "") -> Collector:
    """Return a collector that reads the pauses anew with each look, which blocks and is of no event loop."""
    expected = expected_groups(running.topic_prefix)
    return Collector(_options(running), expected, only=only, paused=_pauses_of(running))


def make_collector_apart(running: Running, *, paused: Callable[[], Mapping[str, str]] | None = None) -> CollectorApart:
    """Return the same in a process of its own, for those who serve; `paused` is given by who knows it already."""
    expected = expected_groups(running.topic_prefix)
    return CollectorApart(_options(running), expected, paused=paused or _pauses_of(running))


def _options(running: Running) -> dict[str, str | bool]:
    return admin_options(runtime_settings(running.kafka, running.database), "sluice.lag")


def _pauses_of(running: Running) -> Callable[[], Mapping[str, str]]:
    known: dict[str, str] = {}

    async def read() -> Mapping[str, Pause]:
        async with asyncio.timeout(_READ_WITHIN_S):
            return await load_pauses(running)

    def paused() -> Mapping[str, str]:
        # Lag is known without the database, too, and as soon.
        with suppress(UserError, TimeoutError):
            found = asyncio.run(read())
            known.clear()
            known.update(paused_groups(running.topic_prefix, found))
        return known

    return paused
