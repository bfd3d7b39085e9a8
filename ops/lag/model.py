"""The nouns of lag: where a group stands in a partition, what was seen of it at one moment, and the verdict on it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Position(NamedTuple):
    """A group in one partition of a topic, by the topic's name on the wire."""

    group: str
    topic: str
    partition: int


class Verdict(StrEnum):
    """What is to be made of a position, the worst last."""

    OK = "ok"
    BEHIND = "behind"
    FALLING_BEHIND = "falling behind"
    STALLED = "stalled"
    STOPPED = "stopped"
    GAP = "gap"

    @property
    def rank(self) -> int:
        """How bad it is: the larger, the sooner somebody should look."""
        return list(Verdict).index(self)


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen of a position at `at` (seconds since 1970).

    `committed` is None where the group has committed nothing there; `start` and `end` are the log's. `oldest_at` is the
    timestamp of the oldest record that was not processed, None where there is none; `is_unread` says that the brokers
    refused to give it, so that nothing is known but that there is something. `owner` is the member that the
    partition is assigned to, `members` counts those of the whole group. `retention_s` is how long the topic keeps
    records, None for ever; `kept` how many of the newest records it keeps whatever comes, None where no size bounds
    them. `is_expected` says that a group which has no member should have some. `paused` says why a person has it stand
    still.
    """

    at: float
    committed: int | None
    start: int
    end: int
    oldest_at: float | None = None
    is_unread: bool = False
    owner: str | None = None
    members: int = 0
    retention_s: float | None = None
    kept: int | None = None
    is_expected: bool = False
    paused: str | None = None

    @property
    def next_offset(self) -> int:
        """The offset that the group goes on at: where it never committed or was overtaken, the log's start."""
        return self.start if self.committed is None else min(max(self.committed, self.start), self.end)

    @property
    def lag(self) -> int:
        """Records not yet processed; none where all that is left are marks of transactions."""
        return 0 if self.oldest_at is None and not self.is_unread else self.end - self.next_offset

    @property
    def lag_seconds(self) -> float:
        """The age of the oldest record not yet processed, as far as it is known."""
        return 0.0 if self.oldest_at is None else max(0.0, self.at - self.oldest_at)


@dataclass(frozen=True, slots=True)
class Row:
    """A position's lag as people and programs read it; rates are records a second, None before two looks."""

    group: str
    topic: str
    partition: int
    lag: int
    lag_seconds: float
    rate_in: float | None
    rate_out: float | None
    eta_seconds: float | None
    owner: str | None
    verdict: Verdict
    why: str
