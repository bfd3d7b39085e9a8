"""The collector of a running system: it knows the groups of its services, and which of them a person has paused."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from local.settings import runtime_settings
from ops.errors import UserError
from ops.lag.collector import Collector
from ops.lag.expected import expected_groups
from ops.pausing import load_pauses, paused_groups

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ops.running import Running


def make_collector(running: Running, *, only: str = "") -> Collector:
    """Return a collector that reads the pauses anew with each look, which blocks and is of no event loop."""
    known: dict[str, str] = {}

    def paused() -> Mapping[str, str]:
        # Lag is known without the database, too.
        with suppress(UserError):
            found = asyncio.run(load_pauses(running))
            known.clear()
            known.update(paused_groups(running.topic_prefix, found))
        return known

    settings = runtime_settings(running.kafka, running.database)
    return Collector(settings, expected_groups(running.topic_prefix), only=only, paused=paused)
