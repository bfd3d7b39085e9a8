"""The brake: when so many messages fail unexpectedly that the deployment is at fault, not the messages."""

from __future__ import annotations

from dataclasses import dataclass, field


class Braked(Exception):
    """The consumer must stop rather than drain its topics into the dead letters; the text says why."""


@dataclass(frozen=True, slots=True)
class BrakePolicy:
    """How many unexpected failures are too many.

    `in_a_row` catches a deployment that fails everything before it has dead-lettered more than a handful;
    `share` of `of_at_least` messages catches one that fails some kind of message.
    Malformed and unknown messages are their senders' fault and never count.
    """

    in_a_row: int = 20
    share: float = 0.05
    of_at_least: int = 1_000


@dataclass(slots=True)
class Brake:
    """Counts what succeeded and failed of late; old counts fade by halves."""

    policy: BrakePolicy
    _in_a_row: int = field(default=0, init=False)
    _failed: float = field(default=0, init=False)
    _handled: float = field(default=0, init=False)

    def succeeded(self, count: int) -> None:
        """Count messages or timers that were handled."""
        if count:
            self._in_a_row = 0
            self._count(count, 0)

    def failed(self) -> None:
        """Count one that was not; Braked when it was one too many."""
        self._in_a_row += 1
        self._count(1, 1)
        if self._in_a_row >= self.policy.in_a_row:
            raise Braked(f"{self._in_a_row} messages in a row failed unexpectedly")
        if self._handled >= self.policy.of_at_least and self._failed >= self.policy.share * self._handled:
            share = self._failed / self._handled
            raise Braked(f"{share:.0%} of the last {self._handled:.0f} messages failed unexpectedly")

    def _count(self, handled: int, failed: int) -> None:
        self._handled += handled
        self._failed += failed
        # A full sample remains, and yesterday's successes do not hide today's failures.
        while self._handled >= 2 * self.policy.of_at_least:
            self._handled /= 2
            self._failed /= 2
