"""What some topics say is taken before others: whether it is handled, whichever worker handles it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaException

from services.runtime.database import TRANSIENT
from services.runtime.offsets import load_behind
from services.runtime.topics import TopicMissing, places_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from services.runtime.database import Pool
    from services.runtime.message import Lane
    from services.runtime.service import Subscription
    from services.runtime.topics import Place, Topics

_UNREACHABLE: tuple[type[Exception], ...] = (KafkaException, TopicMissing, *TRANSIENT)
_LOOK_EVERY_S: Final = 0.3
_WAIT_S: Final = 0.05
_FRESH_FOR_S: Final = 1.5
"""With a batch under way, what was said two seconds ago is handled before anything that follows it is decided."""


class Lead:
    """Compares leading topics with what all workers together have handled of them.

    A partition that is stopped by a gap is not waited for: that is for a person, and readiness says so.
    """

    def __init__(self, topics: Topics, pool: Pool, leading: Collection[Subscription]) -> None:
        self.names = frozenset(topic for subscription in leading for topic in subscription.topics)
        self._groups = frozenset(subscription.group for subscription in leading)
        self._topics = topics
        self._pool = pool
        self._places: Sequence[Place] = ()
        self._handled_until_s = float("-inf")

    @property
    def is_fresh(self) -> bool:
        """Whether everything that was said until a moment ago is handled."""
        return not self.names or time.monotonic() - self._handled_until_s < _FRESH_FOR_S

    def is_among(self, lanes: Collection[Lane]) -> bool:
        """Tell whether all of these lanes lead."""
        return all(lane.group in self._groups for lane in lanes)

    async def follow(self) -> None:
        """Look again and again, for as long as a session lasts; what cannot be looked at counts as not handled."""
        self._places = ()
        while self.names:
            # The watch says what is wrong with Kafka or the database.
            with contextlib.suppress(*_UNREACHABLE):
                await self._look()
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _look(self) -> None:
        asked_at_s = time.monotonic()
        # Numbers of partitions do not change within a session.
        self._places = self._places or places_of(await self._topics.partition_counts(self.names))
        logs = await self._topics.logs(self._places)
        while True:
            async with self._pool.acquire() as connection:
                behind = await load_behind(connection, logs)
            if not behind:
                self._handled_until_s = asked_at_s
                return
            if time.monotonic() - asked_at_s > _FRESH_FOR_S:
                return
            await asyncio.sleep(_WAIT_S)
