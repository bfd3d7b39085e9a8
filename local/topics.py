"""Creates the topics of the contract, or makes sure that somebody else has."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from ops.errors import UserError
from schemas.topics import TOPICS, Topic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka.admin._metadata import TopicMetadata

LARGEST_MESSAGE_BYTES: Final = 1024 * 1024
"""A dead letter carries a record of 256 KiB and its headers; this leaves room."""

_TIMEOUT_S: Final = 30
_ANSWER_WITHIN_S: Final = 10
_LOOK_EVERY_S: Final = 0.05


class TopicError(UserError):
    """Topics are missing, or are not as the contract wants them; the text says which, and what to do."""


def create_topics(
    admin_options: Mapping[str, str | bool], prefix: str, partitions: int, *, replication_factor: int = 1
) -> None:
    """Create the topics that are missing, and wait until they can be used; all must have the same partition count.

    Raises TopicError.
    """
    admin = _admin(admin_options)
    present = _partition_counts(admin)
    _check_counts(present, prefix, partitions)
    missing = [topic for topic in TOPICS if prefix + topic.name not in present]
    new = [NewTopic(prefix + topic.name, partitions, replication_factor, config=config_of(topic)) for topic in missing]
    for name, future in (admin.create_topics(new, operation_timeout=_TIMEOUT_S) if new else {}).items():
        try:
            future.result(_TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise TopicError(f"The topic {name} could not be created: {error.args[0].str()}.") from error
    # Somebody else may have created them meanwhile, and otherwise.
    _check_counts(_wait_for_leaders(admin, {prefix + topic.name for topic in TOPICS}), prefix, partitions)


def require_topics(admin_options: Mapping[str, str | bool], prefix: str) -> None:
    """Make sure that every topic is there; raises TopicError naming those that are not."""
    present = _partition_counts(_admin(admin_options))
    if missing := sorted(prefix + topic.name for topic in TOPICS if prefix + topic.name not in present):
        raise TopicError(
            f"These topics are missing: {', '.join(missing)}. Create them, or let SLUICE_CREATE_TOPICS=true do so."
        )


def config_of(topic: Topic) -> dict[str, str]:
    """Return what the brokers are told about a topic."""
    retention = -1 if topic.retention is None else int(topic.retention.total_seconds() * 1000)
    return {
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(LARGEST_MESSAGE_BYTES),
        "cleanup.policy": "compact" if topic.compact else "delete",
        **({} if topic.compact else {"retention.ms": str(retention)}),
        **topic.config,
    }


def _admin(options: Mapping[str, str | bool]) -> AdminClient:
    # Its own log would come in pages; what fails is raised.
    return AdminClient({**options, "log_level": 0})


def _partition_counts(admin: AdminClient) -> dict[str, int]:
    return {name: len(topic.partitions) for name, topic in _topics(admin).items()}


def _wait_for_leaders(admin: AdminClient, names: set[str]) -> dict[str, int]:
    deadline = time.monotonic() + _TIMEOUT_S
    while missing := names - {name for name, topic in _topics(admin).items() if _has_leaders(topic)}:
        if time.monotonic() > deadline:
            raise TopicError(f"These topics have no leader after {_TIMEOUT_S} s: {', '.join(sorted(missing))}.")
        time.sleep(_LOOK_EVERY_S)
    return _partition_counts(admin)


def _has_leaders(topic: TopicMetadata) -> bool:
    return bool(topic.partitions) and all(partition.leader >= 0 for partition in topic.partitions.values())


def _topics(admin: AdminClient) -> Mapping[str, TopicMetadata]:
    try:
        topics: Mapping[str, TopicMetadata] = admin.list_topics(timeout=_ANSWER_WITHIN_S).topics
    except KafkaException as error:
        raise TopicError(
            f"Kafka does not answer within {_ANSWER_WITHIN_S} s: look at KAFKA_BOOTSTRAP_SERVERS and the other KAFKA_ "
            f"settings ({error.args[0].name()})."
        ) from error
    return topics


def _check_counts(present: Mapping[str, int], prefix: str, partitions: int) -> None:
    for topic in TOPICS:
        count = present.get(prefix + topic.name, partitions)
        if count != partitions:
            raise TopicError(
                f"The topic {prefix}{topic.name} has {count} partitions and SLUICE_PARTITIONS says {partitions}: "
                "a partition count is changed only by a drain; set SLUICE_PARTITIONS to what the topics have."
            )
