"""How much a gateway is given: less when it fails or is slow, and gradually more again when it is well."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from services.notify.gateways.gateway import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.notify.gateways.gateway import Answer
    from services.notify.policy import Failover

_LEAST: Final = 1 / 64
_BAD: Final = frozenset((Outcome.TECHNICAL, Outcome.UNKNOWN, Outcome.TEMPORARY))


@dataclass(slots=True)
class Health:
    """A gateway's weight, between almost nothing and 1: its share of a full batch, and how long it rests after one."""

    policy: Failover
    weight: float = 1.0
    _next_gain_s: float = 0.0

    def limit(self, batch_size: int) -> int:
        """Return how many messages it is given at once."""
        return max(1, math.floor(batch_size * self.weight))

    def rest_s(self) -> float:
        """Return how long it is given nothing after a call."""
        return min(self.policy.rest_at_most_s, self.policy.rest_s * (1 / self.weight - 1))

    def note(self, answers: Sequence[Answer], took_s: float, now_s: float) -> None:
        """Take note of a call: of `took_s` seconds, at the monotonic time `now_s`."""
        bad = sum(answer.outcome in _BAD for answer in answers)
        if bad >= self.policy.bad_share * len(answers) or took_s > self.policy.slow_after_s:
            self.weight = max(_LEAST, self.weight / 2)
            self._next_gain_s = now_s + self.policy.gain_every_s
        elif self.weight < 1 and now_s >= self._next_gain_s:
            self.weight = min(1.0, self.weight * 2)
            self._next_gain_s = now_s + self.policy.gain_every_s
