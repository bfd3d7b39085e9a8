"""What a service is to the runtime: the topics it reads, who handles them, and where its tables are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from services.runtime.database import Connection
from services.runtime.message import Batch, Effects

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

    from pydantic import BaseModel

    from services.runtime.clock import Clock
    from services.runtime.database import Pool
    from services.runtime.settings import RuntimeSettings

Handler = Callable[[Connection, Batch, datetime], Awaitable[Effects]]
"""Loads, decides and records one batch in the runtime's transaction; never commits, publishes or retries.

It may return while it is still recording: whoever calls it waits for `Effects.recording` before using the connection.
"""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a worker lends to what runs beside its consumer; `stopping` is set when the worker is told to stop."""

    settings: RuntimeSettings
    pool: Pool
    clock: Clock
    stopping: asyncio.Event


Companion = Callable[[Surroundings], Awaitable[None]]
"""Runs beside the consumer until `stopping` is set; what it raises ends the worker, which is then started again."""


def only(types: Mapping[str, type[BaseModel]], names: Collection[str]) -> Mapping[str, type[BaseModel] | None]:
    """Return a topic's types with the models of these alone: all others are passed over."""
    return {name: model if name in names else None for name, model in types.items()}


@dataclass(frozen=True, slots=True)
class Subscription:
    """Topics handled together; with several, they are co-partitioned and partition n of each is one lane.

    `group` names the lanes. `topics` maps each logical topic to its message types and their models; types without one
    are passed over.
    Timers set in the group's lanes come back to the same handler. What a subscription that `leads` has been told for a
    moment is handled, by whichever worker, before another decides anything.
    """

    group: str
    topics: Mapping[str, Mapping[str, type[BaseModel] | None]]
    handler: Handler
    tombstones: bool = False
    leads: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """A service: of what is read at once its subscriptions are handled in the order given, each in a transaction.

    Messages to `follow_up_topics` are published only after all others of the batch are acknowledged.
    `companions` run beside the consumer, with `companion_connections` more to the database among them.
    """

    name: str
    schema: str
    subscriptions: tuple[Subscription, ...]
    follow_up_topics: frozenset[str]
    migrations: Path
    companions: tuple[Companion, ...] = ()
    companion_connections: int = 0
