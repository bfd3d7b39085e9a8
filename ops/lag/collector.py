"""Asks the brokers where every consumer group stands: a few requests for all, one a group for what it committed."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from sys import intern
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]
from confluent_kafka.admin._listoffsets import OffsetSpec

from ops.lag.model import Position, Row, Sample
from ops.lag.oldest import Log, OldestRecords, Place, Spot
from ops.lag.verdict import Limits, is_certain, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from concurrent.futures import Future

    from confluent_kafka.admin import MemberDescription  # type: ignore[attr-defined]

_LIST_TIMEOUT_S: Final = 5.0
_REQUEST_TIMEOUT_S: Final = 10.0
_ANSWER_TIMEOUT_S: Final = 15.0
_SILENT: Final = (KafkaError._TIMED_OUT, KafkaError._TRANSPORT)  # noqa: SLF001 - the client's own names
_AT_ONCE: Final = 100
_REMEMBERED_S: Final = 60.0
_SPACED_S: Final = 4.0
_CONFIG_FOR_S: Final = 300.0
_NO_TOPIC: Final = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_EXCEPTION})
"""What brokers say of a topic that is not there, and of what can be the name of none."""


@dataclass(frozen=True, slots=True)
class _Group:
    """What a group is: which member has which partition, and where it committed what."""

    members: int
    owners: Mapping[Place, str]
    committed: Mapping[Place, int]


class _Topic(NamedTuple):
    """A topic as it is now: one that was made again has another id."""

    topic_id: str
    partitions: int


class _Retention(NamedTuple):
    """For how long a topic keeps records, and how many bytes of a partition; None for what does not bound them."""

    seconds: float | None
    size: int | None


class Collector:
    """Looks at every group again and again; what it saw in the last minute is what rates and verdicts are made of.

    `options` are how the client of Kafka connects. `expected` are the topics on the wire by group of those that should
    always have a member; `paused` says why groups stand still that a person has paused. Groups whose names do not
    contain `only` are not asked about.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        expected: Mapping[str, Collection[str]],
        limits: Limits | None = None,
        *,
        only: str = "",
        paused: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._options: dict[str, Any] = {**options, "log_level": 0}
        self._admin = AdminClient(self._options)
        self._oldest = OldestRecords(self._options)
        self._only = only
        self._expected = {name: topics for name, topics in expected.items() if only in name}
        self._limits = limits or Limits()
        self._paused = paused
        self._seen: dict[Position, list[Sample]] = {}
        self._groups_seen: dict[str, _Group] = {}
        self._all_answered = False
        self._topic_ids: dict[str, str] = {}
        self._retention: dict[str, _Retention] = {}
        self._starts: dict[Log, int] = {}
        self._left: dict[Log, int] = {}
        self._retention_read_at = float("-inf")
        self.looked_at = float("-inf")
        """The moment that the newest ages are told for, in seconds since 1970."""

    def collect(self) -> list[Row]:
        """Look once, and return a row a position, by group, topic and partition; KafkaException without an answer."""
        self._all_answered = False
        try:
            samples = self._look()
        finally:
            if not self._all_answered:
                # A client that has lost a broker twice may connect to it without a pause, a core's worth, until it is
                # back.
                self._admin = AdminClient(self._options)
        for position in self._seen.keys() - samples.keys():
            # A partition that has no leader for a moment keeps its history.
            if self.looked_at - self._seen[position][-1].at > _REMEMBERED_S:
                del self._seen[position]
        for position, sample in samples.items():
            seen = self._seen.setdefault(position, [])
            if len(seen) > 1 and seen[-1].at - seen[-2].at < _SPACED_S:
                # Who looks often keeps no more of the past.
                seen.pop()
            seen.append(sample)
            while sample.at - seen[0].at > _REMEMBERED_S:
                del seen[0]
        return [judge(position, self._seen[position], self._limits) for position in sorted(samples)]

    def is_certain(self, rows: Iterable[Row]) -> bool:
        """Tell whether another look could hardly change the verdicts of rows that it returned last."""
        return self._all_answered and all(
            is_certain(self._seen[Position(row.group, row.topic, row.partition)], self._limits) for row in rows
        )

    def _look(self) -> dict[Position, Sample]:
        groups = self._groups()
        # Before the logs' ends, so that nothing seems to be committed beyond them.
        self.looked_at = at = time.time()
        topics = self._topics({topic for name, group in groups.items() for topic in self._topics_of(name, group)})
        self._forget_what_was_made_again(topics)
        positions = [
            Position(name, topic, partition)
            for name, group in groups.items()
            for topic in self._topics_of(name, group) & topics.keys()
            # A topic's other partitions too: they may have been added, or nobody may have them.
            for partition in range(topics[topic].partitions)
        ]
        places = {(position.topic, position.partition) for position in positions}
        starts, ends = self._offsets(places, OffsetSpec.earliest()), self._offsets(places, OffsetSpec.latest())
        self._note_starts(topics, starts, ends)
        retention = self._retention_of({topic for topic, _ in places})
        paused, samples = self._paused(), {}
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
                    retention_s=retention[position.topic].seconds if position.topic in retention else None,
                    is_expected=position.group in self._expected,
                    paused=paused.get(position.group),
                )
        return self._with_ages(samples, topics)

    def _with_ages(self, samples: Mapping[Position, Sample], topics: Mapping[str, _Topic]) -> dict[Position, Sample]:
        spots = {
            position: Spot(Log(topics[position.topic].topic_id, position.topic, position.partition), sample.next_offset)
            for position, sample in samples.items()
            if sample.next_offset < sample.end
        }
        written = self._oldest.timestamps(set(spots.values()))
        read = {position: spot.log for position, spot in spots.items() if spot in written}
        kept = {log: self._kept(log) for log in set(read.values())}
        unread = {position for position, spot in spots.items() if spot.log in self._oldest.unread}
        return {
            position: replace(sample, oldest_at=written[spots[position]], kept=kept[read[position]])
            if position in read
            else replace(sample, is_unread=position in unread)
            for position, sample in samples.items()
        }

    def _note_starts(
        self, topics: Mapping[str, _Topic], starts: Mapping[Place, int], ends: Mapping[Place, int]
    ) -> None:
        """Remember how many records each log had left when its start moved last."""
        logs = {Log(topics[topic].topic_id, topic, partition): (topic, partition) for topic, partition in starts}
        self._left = {log: left for log, left in self._left.items() if log in logs}
        for log, place in logs.items():
            if starts[place] > self._starts.get(log, starts[place]) and place in ends:
                self._left[log] = ends[place] - starts[place]
        self._starts = {log: starts[place] for log, place in logs.items()}

    def _kept(self, log: Log) -> int | None:
        """Return how many of its newest records a log keeps by its retention's size, at least; None for all.

        No client tells how large a log is. As if nothing were compressed it keeps what the size allows; when its start
        was seen to move it had so many left, whatever moved it.
        """
        size = self._retention[log.topic].size if log.topic in self._retention else None
        each = self._oldest.record_bytes(log)
        return None if size is None or each is None else max(int(size / each), self._left.get(log, 0))

    def _topics_of(self, name: str, group: _Group) -> set[str]:
        """Return what a group reads: what it committed, what its members have, and what we know it should read.

        Without faust's changelogs: a member has them to rebuild its tables, and never commits in them.
        """
        seen = {topic for topic, _ in group.committed.keys() | group.owners.keys()}
        changelogs = {topic for topic in seen if topic.startswith(f"{name}-") and topic.endswith("-changelog")}
        return (seen - changelogs) | set(self._expected.get(name, ()))

    def _topics(self, names: Collection[str]) -> dict[str, _Topic]:
        """Return those of the topics that exist; a group may have committed in one that was deleted since."""
        found = {}
        futures = self._admin.describe_topics(TopicCollection(sorted(names)), request_timeout=_REQUEST_TIMEOUT_S)
        for name, future in futures.items():
            try:
                topic = future.result(_ANSWER_TIMEOUT_S)
            except KafkaException as error:
                if error.args[0].code() not in _NO_TOPIC:
                    raise
            else:
                found[name] = _Topic(str(topic.topic_id), len(topic.partitions))
        return found

    def _forget_what_was_made_again(self, topics: Mapping[str, _Topic]) -> None:
        anew = {name for name, topic in topics.items() if self._topic_ids.get(name, topic.topic_id) != topic.topic_id}
        if anew:
            self._seen = {position: seen for position, seen in self._seen.items() if position.topic not in anew}
            self._retention_read_at = float("-inf")
        seen = {position.topic for position in self._seen}
        self._topic_ids = {name: id_ for name, id_ in self._topic_ids.items() if name in seen}
        self._topic_ids |= {name: topic.topic_id for name, topic in topics.items()}

    def _groups(self) -> dict[str, _Group]:
        listed = self._admin.list_consumer_groups(request_timeout=_LIST_TIMEOUT_S).result(_ANSWER_TIMEOUT_S)
        if not listed.valid and (silent := [error for error in listed.errors if error.code() in _SILENT]):
            # Whatever is asked next would not be answered either, a time limit each.
            raise KafkaException(silent[0])
        names = {found.group_id for found in listed.valid}
        if not names and not self._groups_seen and any(_is_of_the_client(error) for error in listed.errors):
            # Nobody has answered, which is not that there is no group.
            raise KafkaException(listed.errors[0])
        if listed.errors:
            # A broker that is away does not name the groups that it coordinates.
            names |= self._groups_seen.keys()
        names = {name for name in names if self._only in name}
        members, gone = self._members(sorted(names))
        names -= gone
        # Only of whose coordinator has just answered: an answer from one that no longer is it ends the process
        # (librdkafka 5040).
        committed = self._committed(sorted(members))
        self._all_answered = not listed.errors and names == committed.keys()
        found = {name: seen for name, seen in self._groups_seen.items() if name in names}
        # Of one whose coordinator is away, what was known a moment ago is told, or nothing.
        found |= {name: _Group(*members[name], of_group) for name, of_group in committed.items()}
        self._groups_seen = found
        absent = set() if listed.errors else self._expected.keys() - names
        return {name: _Group(0, {}, {}) for name in absent} | found

    def _members(self, names: list[str]) -> tuple[dict[str, tuple[int, Mapping[Place, str]]], set[str]]:
        """Return how many members each group has and which has which partition, and the groups that are gone."""
        found: dict[str, tuple[int, Mapping[Place, str]]] = {}
        gone: set[str] = set()
        futures = self._admin.describe_consumer_groups(names, request_timeout=_REQUEST_TIMEOUT_S) if names else {}
        for name, future in futures.items():
            try:
                members = future.result(_ANSWER_TIMEOUT_S).members
            except KafkaException as error:
                if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                    gone.add(name)
            else:
                # One text for all that are the same: it stays in what was seen.
                named = [(intern(f"{each.client_id}@{each.host.removeprefix('/')}"), each) for each in members]
                owners = {place: owner for owner, member in named for place in _places_of(member)}
                found[name] = (len(members), owners)
        return found, gone

    def _committed(self, names: Sequence[str]) -> dict[str, Mapping[Place, int]]:
        found: dict[str, Mapping[Place, int]] = {}
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

    def _retention_of(self, topics: Collection[str]) -> Mapping[str, _Retention]:
        """Return what bounds the records of each topic; nothing those that are compacted alone."""
        now = time.monotonic()
        if now - self._retention_read_at > _CONFIG_FOR_S:
            self._retention, self._retention_read_at = {}, now
        if unknown := set(topics) - self._retention.keys():
            resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in sorted(unknown)]
            futures = self._admin.describe_configs(resources, request_timeout=_REQUEST_TIMEOUT_S)
            for resource, future in futures.items():
                with suppress(KafkaException):
                    self._retention[resource.name] = _retention(future.result(_ANSWER_TIMEOUT_S))
        return self._retention


def _retention(config: Mapping[str, Any]) -> _Retention:
    if "delete" not in config["cleanup.policy"].value:
        return _Retention(None, None)
    kept_ms, size = (int(config[name].value) for name in ("retention.ms", "retention.bytes"))
    return _Retention(None if kept_ms < 0 else kept_ms / 1000, None if size < 0 else size)


def _is_of_the_client(error: KafkaError) -> bool:
    """Tell whether no broker said this: none was reached, or not in time."""
    return error.code() < 0


def _places_of(member: MemberDescription) -> Iterable[Place]:
    """Return the partitions that a member has: what its group's leader has written, which may be anything."""
    for place in member.assignment.topic_partitions:
        try:
            topic = place.topic
        except UnicodeDecodeError:
            continue
        if topic:
            yield topic, place.partition


def batched(names: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    """Return the names in parts of at most so many."""
    return (names[first : first + size] for first in range(0, len(names), size))
