"""The topics of the contract: what keys them, how long they keep, and what their brokers must be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

DEAD_LETTER_SUFFIX: Final = ".dlq"
_DEAD_LETTERS_KEPT: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic; `retention` None keeps everything, or with `compact` the latest value of each key."""

    name: str
    key: str
    retention: timedelta | None
    compact: bool = False
    config: Mapping[str, str] = field(default_factory=dict)


_LIVE: Final = (
    Topic("transfer.commands", "the wallet debited, else credited; for others the original's", timedelta(days=7)),
    Topic("transfer.events", "as the command", timedelta(days=30)),
    Topic("account.states", "wallet", None, compact=True),
    Topic("rail.instructions", "as the command", timedelta(days=7)),
    Topic("rail.results", "the instruction's key", timedelta(days=7)),
    Topic("maintenance.commands", "window id", timedelta(days=7)),
    Topic("maintenance.events", "window id", timedelta(days=400)),
    Topic("closure.commands", "the subject, wallet:… or loan:…; a clearance's id", timedelta(days=7)),
    Topic("closure.events", "as the command", timedelta(days=30)),
    Topic("erasure.events", "customer id", timedelta(days=30)),
    Topic("customer.profiles", "customer id", None, compact=True, config={"max.compaction.lag.ms": "86400000"}),
    Topic("obligation.positions", "obligation id", None, compact=True),
    Topic("notify.commands", "customer id, or the notification's", timedelta(days=7)),
    Topic("notify.events", "customer id", timedelta(days=30)),
    Topic("notify.receipts", "provider message id", timedelta(days=7)),
    Topic("risk.events", "customer id", timedelta(days=30)),
)

TOPICS: Final = (
    *_LIVE,
    *(Topic(f"{topic.name}{DEAD_LETTER_SUFFIX}", topic.key, _DEAD_LETTERS_KEPT) for topic in _LIVE),
)
"""Every topic, each with the topic of its dead letters."""
