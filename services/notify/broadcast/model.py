"""The nouns of broadcasts: what is said, to whom, and how far it has got."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime


class State(StrEnum):
    """How a broadcast stands, until it is over."""

    RUNNING = "running"
    PAUSED = "paused"
    CANCELLED = "cancelled"


class Broadcast(NamedTuple):
    """A broadcast: `texts` are what is read, by language, while anybody can; `audience_values` are of one kind.

    `reached` is the last customer whom it was resolved for, of about as many as `expected`; `resolved_at` is when it
    was for the last. It `is_over` once nothing of it is on its way and that was published. `about` is the window or the
    clearance whose `revision` it tells.
    """

    notification_id: str
    content_hash: bytes
    template: str
    category: str
    channels: list[str]
    audience_kind: str
    audience_values: list[str]
    currencies: list[str]
    about: str | None
    revision: int | None
    texts: str | None
    not_before: datetime
    expires_at: datetime
    state: str
    reached: str
    expected: int
    resolved_at: datetime | None
    progress_at: datetime | None
    is_over: bool
    created_at: datetime


class Counts(NamedTuple):
    """Where a broadcast's notices stand, as of a moment; `out` are the messages that gateways may still speak of.

    `is_whole` is whether every notice that was made since is counted. The last two are what the broadcast follows from.
    """

    accepted: int
    delivered: int
    sent: int
    failed: int
    suppressed: int
    pending: int
    out: int
    counted_at: datetime
    is_whole: bool
    correlation_id: str | None = None
    traceparent: str | None = None
