"""The topics of insight's own: what it tells itself by customer, and the changelogs from which its tables rebuild."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from services.runtime.kafka import admin_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.insight.policy import Policy
    from services.runtime.settings import RuntimeSettings

GROUP: Final = "sluice.insight"
NOTES: Final = f"{GROUP}-notes"
SUSPICIONS: Final = "suspicions"
OUTCOMES: Final = "outcomes"
DELIVERIES: Final = "deliveries"
READ: Final = ("erasure.events", "notify.events", "transfer.events")
"""What other services say and insight reads."""
WRITTEN: Final = "risk.events"

_TIMEOUT_S: Final = 10
_WAIT_S: Final = 60
_LOOK_EVERY_S: Final = 0.5
_DAY_MS: Final = "86400000"


class TopicsWrong(Exception):
    """A topic is missing, or has other partitions than it needs; the text says which and what to do."""


class Shape(NamedTuple):
    """How many partitions and replicas a topic has."""

    partitions: int
    replicas: int


def changelog_of(table: str) -> str:
    """Return the name that faust gives a table's changelog, without the prefix."""
    return f"{GROUP}-{table}-changelog"


def make_topics(settings: RuntimeSettings, policy: Policy) -> Mapping[str, Shape]:
    """Make insight's own topics where they are missing; return the shape of what others write.

    Waits a minute for those of others, then raises TopicsWrong.
    """
    admin = AdminClient({**admin_options(settings, GROUP), "log_level": 0})
    prefix, own = settings.topic_prefix, own_topics(policy)
    shapes = _wait_for(admin, prefix, (*READ, WRITTEN))
    for name, (like, config) in own.items():
        _make(admin, prefix + name, shapes[like], config)
    # Who joins the group before its clients can see a topic takes it for one without partitions.
    for name, found in _wait_for(admin, prefix, tuple(own)).items():
        wanted = shapes[own[name][0]].partitions
        if found.partitions != wanted:
            raise TopicsWrong(
                f"{prefix}{name} has {found.partitions} partitions and needs {wanted}: delete the topics whose names "
                f"begin with {prefix}{GROUP}-, and insight counts anew."
            )
    return shapes


def own_topics(policy: Policy) -> Mapping[str, tuple[str, Mapping[str, str]]]:
    """Return insight's own topics, each with whose partitions it has, and what its brokers must be told."""
    # Counts are rewritten with every record: only a short tail of their changelogs is not compacted.
    kept_ms = str(2 * policy.counts.minutes_kept * 60_000)
    counts = {"cleanup.policy": "compact,delete", "retention.ms": kept_ms, "segment.ms": "600000"}
    return {
        NOTES: ("transfer.events", {"cleanup.policy": "delete", "retention.ms": _DAY_MS}),
        changelog_of(SUSPICIONS): ("transfer.events", {"cleanup.policy": "compact", "segment.ms": "3600000"}),
        changelog_of(OUTCOMES): ("transfer.events", counts),
        changelog_of(DELIVERIES): ("notify.events", counts),
    }


def _wait_for(admin: AdminClient, prefix: str, names: Sequence[str]) -> Mapping[str, Shape]:
    deadline = time.monotonic() + _WAIT_S
    while True:
        found = {name: _shape_of(admin, prefix + name) for name in names}
        if all(found.values()):
            return {name: shape for name, shape in found.items() if shape is not None}
        if time.monotonic() > deadline:
            missing = ", ".join(name for name, shape in found.items() if shape is None)
            raise TopicsWrong(
                f"These topics are missing: {missing}. Create them with `sluice topics create`, then start again."
            )
        time.sleep(_LOOK_EVERY_S)


def _shape_of(admin: AdminClient, name: str) -> Shape | None:
    future = admin.describe_topics(TopicCollection([name]), request_timeout=_TIMEOUT_S)[name]
    try:
        partitions = future.result(_TIMEOUT_S).partitions
    except KafkaException as error:
        if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return None
        raise
    if any(partition.leader is None for partition in partitions):
        return None
    return Shape(len(partitions), len(partitions[0].replicas))


def _make(admin: AdminClient, name: str, shape: Shape, config: Mapping[str, str]) -> None:
    new = NewTopic(name, shape.partitions, shape.replicas, config=dict(config))
    try:
        admin.create_topics([new], operation_timeout=_TIMEOUT_S)[name].result(_TIMEOUT_S)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise
