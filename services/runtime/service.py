"""What a service is to the runtime: the topics it reads, who handles them, and where its tables are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from services.runtime.database import Connection
from services.runtime.message import Batch, Effects

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import BaseModel

Handler = Callable[[Connection, Batch, datetime], Awaitable[Effects]]
"""Loads, decides and records one batch in the runtime's transaction; never commits, publishes or retries.

It may return while it is still recording: whoever calls it waits for `Effects.recording` before using the connection.
"""


@dataclass(frozen=True, slots=True)
class Subscription:
    """Topics handled together; with several, they are co-partitioned and partition n of each is one lane.

    `group` names the lanes. `topics` maps each logical topic to its message types and their models.
    Timers set in the group's lanes come back to the same handler.
    """

    group: str
    topics: Mapping[str, Mapping[str, type[BaseModel]]]
    handler: Handler
    tombstones: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """A service: within a batch its subscriptions are handled in the order given.

    Messages to `follow_up_topics` are published only after all others of the batch are acknowledged.
    """

    name: str
    schema: str
    subscriptions: tuple[Subscription, ...]
    follow_up_topics: frozenset[str]
    migrations: Path
