"""Watches an application of faust: whether it counts, moves on and has not ended, and what the clock says."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaException

from services.insight.streams import assigned
from services.insight.topics import GROUP, READ
from services.runtime.liveness import Hopeless, Progress, Stalled
from services.runtime.topics import Place, TopicMissing, Topics

if TYPE_CHECKING:
    import faust

    from services.insight.streams import Streams
    from services.runtime.pausing import Pause, Pausing
    from services.runtime.settings import RuntimeSettings

_LOOK_EVERY_S: Final = 0.5
_ANSWER_WITHIN_S: Final = 10.0
_READ_AGAIN_AFTER_S: Final = 5.0
_NO_PARTITIONS: Final = "no partitions are assigned"


class Watch:
    """Raises what a new process has to mend, because faust and the client that it stands on may hang and say nothing.

    Progress is what the group has committed, not where its client stands: when partitions are given, faust may drop
    records that it has read, and go on behind them. These are read again.
    """

    def __init__(self, app: faust.App, streams: Streams, settings: RuntimeSettings, pausing: Pausing) -> None:
        self._app = app
        self._streams = streams
        self._pausing = pausing
        self._prefix = settings.topic_prefix
        self._topics = Topics(settings, GROUP)
        self._every_s = settings.watch_interval_s
        self._timeout_s = settings.stall_timeout_s
        self._progress = Progress(settings.stall_timeout_s)
        self._passed_over = Progress(_READ_AGAIN_AFTER_S)
        self._assigned_at = self._looked_at = time.monotonic()

    @property
    def pause(self) -> Pause | None:
        """The pause that keeps this worker from counting anything."""
        return self._pausing.pause

    def reasons_not_ready(self) -> list[str]:
        """Return why nothing is counted just now; nothing when it is."""
        if self._app.rebalancing or not assigned(self._app):
            return [_NO_PARTITIONS]
        return ["the tables are being rebuilt"] if self._app.in_recovery else []

    async def run(self) -> None:
        """Look until something is wrong; Hopeless or Stalled says what."""
        while True:
            if self._app.crashed or self._app.should_stop:
                raise Hopeless("the application has ended by itself") from self._app.crash_reason
            why = self.reasons_not_ready()
            self._look_for_partitions(why)
            if not why and self.pause is None:
                await self._streams.look_at_clock()
                await self._look_for_progress()
            else:
                self._excuse()
            await asyncio.sleep(_LOOK_EVERY_S)

    def _look_for_partitions(self, why: list[str]) -> None:
        now_s = time.monotonic()
        if _NO_PARTITIONS not in why:
            self._assigned_at = now_s
        elif now_s - self._assigned_at > self._timeout_s:
            raise Hopeless(f"{_NO_PARTITIONS} for {self._timeout_s:g} s")

    async def _look_for_progress(self) -> None:
        if time.monotonic() - self._looked_at < self._every_s:
            return
        self._looked_at = time.monotonic()
        ours = [Place(topic, number) for topic in READ for number in self._streams.partitions_of(topic)]
        try:
            logs, committed = await self._topics.logs(ours), await self._topics.committed(self._prefix + GROUP, ours)
        except (KafkaException, TopicMissing):
            # Brokers that do not answer us do not answer faust either.
            self._excuse()
            return
        at = {place: max(log.start, committed.get(place, 0)) for place, log in logs.items()}
        ends, now_s = {place: log.end for place, log in logs.items()}, time.monotonic()
        if stalled := self._progress.observe(now_s, at, ends):
            raise Stalled(", ".join(f"partition {place.partition} of {place.topic}" for place in stalled))
        if self._passed_over.observe(now_s, at, ends):
            # What was counted already is known by its place, and not counted again.
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                await self._app.consumer.perform_seek()
            self._passed_over.excuse()

    def _excuse(self) -> None:
        self._progress.excuse()
        self._passed_over.excuse()
