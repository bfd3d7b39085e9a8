"""Asks the brokers where every consumer group stands: a few requests for all, one a group for what it committed."""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]
from confluent_kafka.admin._listoffsets import OffsetSpec

from ops.lag.model import Position, Row, Sample
from ops.lag.oldest import OldestRecords, Spot
from ops.lag.verdict import Limits, is_certain, judge
from services.runtime.kafka import admin_options

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from concurrent.futures import Future

    from services.runtime.settings import RuntimeSettings

_REQUEST_TIMEOUT_S: Final = 10.0
_ANSWER_TIMEOUT_S: Final = 15.0
_AT_ONCE: Final = 100
_REMEMBERED_S: Final = 60.0
_CONFIG_FOR_S: Final = 300.0

Place = tuple[str, int]
"""A partition, by the topic's name on the wire."""


@dataclass(frozen=True, slots=True)
class _Group:
    """What a group is: which member has which partition, and where it committed what."""

    members: int
    owners: Mapping[Place, str]
    committed: Mapping[Place, int]


class Collector:
    """Looks at every group again and again; what it saw in the last minute is what rates and verdicts are made of.

    `expected` are the topics on the wire by group of those that should always have a member.
    """

    def __init__(
        self, settings: RuntimeSettings, expected: Mapping[str, Collection[str]], limits: Limits | None = None
    ) -> None:
        options: dict[str, Any] = {**admin_options(settings, "sluice.lag"), "log_level": 0}
        self._admin = AdminClient(options)
        self._oldest = OldestRecords(options)
        self._expected = expected
        self._limits = limits or Limits()
        self._seen: dict[Position, deque[Sample]] = {}
        self._retention: dict[str, float | None] = {}
        self._retention_read_at = float("-inf")
        self.looked_at = float("-inf")
        """The moment that the newest ages are told for, in seconds since 1970."""

    def collect(self) -> list[Row]:
        """Look once, and return a row a position, by group, topic and partition; KafkaException without an answer."""
        samples = self._look()
        for position in self._seen.keys() - samples.keys():
            del self._seen[position]
        for position, sample in samples.items():
            seen = self._seen.setdefault(position, deque())
            seen.append(sample)
            while sample.at - seen[0].at > _REMEMBERED_S:
                seen.popleft()
        return [judge(position, list(self._seen[position]), self._limits) for position in sorted(samples)]

    @property
    def is_certain(self) -> bool:
        """Whether another look could hardly change a verdict."""
        return all(is_certain(list(seen), self._limits) for seen in self._seen.values())

    def _look(self) -> dict[Position, Sample]:
        groups = self._groups()
        # Before the logs' ends, so that nothing seems to be committed beyond them.
        self.looked_at = at = time.time()
        counts = {
            name: len(topic.partitions)
            for name, topic in self._admin.list_topics(timeout=_ANSWER_TIMEOUT_S).topics.items()
        }
        positions = [
            Position(name, *place) for name, group in groups.items() for place in self._places_of(name, group, counts)
        ]
        places = {(position.topic, position.partition) for position in positions}
        starts, ends = self._offsets(places, OffsetSpec.earliest()), self._offsets(places, OffsetSpec.latest())
        retention = self._retention_of({topic for topic, _ in places})
        samples = {}
        for position in positions:
            place, group = (position.topic, position.partition), groups[position.group]
            if place in starts and place in ends:
                samples[position] = Sample(
                    at=at,
                    committed=group.committed.get(place),
                    start=starts[place],
                    end=ends[place],
                    owner=group.owners.get(place),
                    members=group.members,
                    retention_s=retention.get(position.topic),
                    is_expected=position.group in self._expected,
                )
        return self._with_ages(samples)

    def _with_ages(self, samples: Mapping[Position, Sample]) -> dict[Position, Sample]:
        spots = {
            position: Spot(position.topic, position.partition, sample.next_offset)
            for position, sample in samples.items()
            if sample.next_offset < sample.end
        }
        written = self._oldest.timestamps(set(spots.values()))
        ages = {position: written[spot] for position, spot in spots.items() if spot in written}
        return {
            position: replace(sample, oldest_at=ages[position]) if position in ages else sample
            for position, sample in samples.items()
        }

    def _places_of(self, name: str, group: _Group, counts: Mapping[str, int]) -> Iterable[Place]:
        """Return what a group reads: what it committed, what its members have, and what we know it should read."""
        places = group.committed.keys() | group.owners.keys()
        topics = {topic for topic, _ in places} | set(self._expected.get(name, ()))
        # A topic's other partitions too: they may have been added, or nobody may have them.
        return {(topic, partition) for topic in topics for partition in range(counts.get(topic, 0))}

    def _groups(self) -> dict[str, _Group]:
        listed = self._admin.list_consumer_groups(request_timeout=_REQUEST_TIMEOUT_S).result(_ANSWER_TIMEOUT_S)
        names = sorted({found.group_id for found in listed.valid})
        committed = self._committed(names)
        groups = {}
        for name, (members, owners) in self._members(names).items():
            groups[name] = _Group(members, owners, committed.get(name, {}))
        return {name: _Group(0, {}, {}) for name in self._expected} | groups

    def _members(self, names: list[str]) -> dict[str, tuple[int, dict[Place, str]]]:
        """Return how many members each group has, and which of them has which partition."""
        found = {}
        futures = self._admin.describe_consumer_groups(names, request_timeout=_REQUEST_TIMEOUT_S) if names else {}
        for name, future in futures.items():
            # A group that ended meanwhile has no description any more.
            with suppress(KafkaException):
                members = future.result(_ANSWER_TIMEOUT_S).members
                owners = {
                    (place.topic, place.partition): f"{member.client_id}@{member.host.removeprefix('/')}"
                    for member in members
                    for place in member.assignment.topic_partitions
                }
                found[name] = (len(members), owners)
        return found

    def _committed(self, names: Sequence[str]) -> dict[str, dict[Place, int]]:
        found = {}
        # The client asks about one group a call; some at once, so that nobody waits for each.
        for part in batched(names, _AT_ONCE):
            futures: dict[str, Future[Any]] = {}
            for name in part:
                asked = [ConsumerGroupTopicPartitions(name)]
                futures |= self._admin.list_consumer_group_offsets(asked, request_timeout=_REQUEST_TIMEOUT_S)
            for name, future in futures.items():
                with suppress(KafkaException):
                    places = future.result(_ANSWER_TIMEOUT_S).topic_partitions
                    found[name] = {(each.topic, each.partition): each.offset for each in places if each.offset >= 0}
        return found

    def _offsets(self, places: Collection[Place], spec: OffsetSpec) -> dict[Place, int]:
        asked = {TopicPartition(*place): place for place in places}
        if not asked:
            return {}
        futures = self._admin.list_offsets(
            dict.fromkeys(asked, spec),
            isolation_level=IsolationLevel.READ_UNCOMMITTED,
            request_timeout=_REQUEST_TIMEOUT_S,
        )
        found = {}
        for partition, future in futures.items():
            # A partition without a leader just now: its positions are missing this time.
            with suppress(KafkaException):
                found[asked[partition]] = future.result(_ANSWER_TIMEOUT_S).offset
        return found

    def _retention_of(self, topics: Collection[str]) -> Mapping[str, float | None]:
        """Return for how long each topic keeps records, in seconds; None for ever, or until they are compacted."""
        now = time.monotonic()
        if now - self._retention_read_at > _CONFIG_FOR_S:
            self._retention, self._retention_read_at = {}, now
        if unknown := set(topics) - self._retention.keys():
            resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in sorted(unknown)]
            futures = self._admin.describe_configs(resources, request_timeout=_REQUEST_TIMEOUT_S)
            for resource, future in futures.items():
                with suppress(KafkaException):
                    self._retention[resource.name] = _retention_s(future.result(_ANSWER_TIMEOUT_S))
        return self._retention


def _retention_s(config: Mapping[str, Any]) -> float | None:
    kept_ms = int(config["retention.ms"].value)
    return None if kept_ms < 0 or "delete" not in config["cleanup.policy"].value else kept_ms / 1000


def batched(names: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    """Return the names in parts of at most so many."""
    return (names[first : first + size] for first in range(0, len(names), size))
