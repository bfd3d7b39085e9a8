"""Questions to the brokers: what keeps them from answering is one sentence."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import ConfigResource, ResourceType  # type: ignore[attr-defined]

from ops.errors import UserError
from services.runtime.topics import TopicMissing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from confluent_kafka.admin import AdminClient

    from ops.running import Running


_LATER_S: Final = 3.0
"""So much later than the client's own time limit, so that its error comes first."""


class NoAnswer(UserError):
    """The brokers do not answer, or not this; the text says why and what to do."""


@contextmanager
def asking(running: Running) -> Iterator[None]:
    """Turn what Kafka's clients raise into NoAnswer."""
    try:
        yield
    except TopicMissing as error:
        raise NoAnswer(_why(running, error.__cause__, f"The {error}")) from error
    except (KafkaException, TimeoutError) as error:
        raise NoAnswer(_why(running, error, f"Kafka says {error}")) from error


def _why(running: Running, error: BaseException | None, otherwise: str) -> str:
    found = error.args[0] if isinstance(error, KafkaException) else None
    if found is None and isinstance(error, TimeoutError):
        return f"Kafka at {running.kafka} does not answer in time: see whether it runs."
    if not isinstance(found, KafkaError):
        return f"{otherwise}."
    if found.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        return f"A topic or partition is missing at {running.kafka} ({otherwise}): `sluice topics create` makes topics."
    return (
        f"Kafka at {running.kafka} does not answer just now ({found.name()}): see whether it runs and the KAFKA_ "
        "settings are right; it takes some seconds to come back after a crash."
    )


class Otherwise(NamedTuple):
    """A setting of a topic that is not what it should be."""

    topic: str
    name: str
    found: str
    wanted: str


class Unsaid(NamedTuple):
    """A topic that does not say how it is kept, and why."""

    topic: str
    error: KafkaError


def settings_otherwise(
    admin: AdminClient, wanted: Mapping[str, Mapping[str, str]], within_s: float
) -> Iterator[Otherwise | Unsaid]:
    """Yield what topics on the wire are told otherwise than they should be, and which of them do not say."""
    resources = {name: ConfigResource(ResourceType.TOPIC, name) for name in wanted}
    futures = admin.describe_configs(list(resources.values()), request_timeout=within_s) if resources else {}
    for name, resource in resources.items():
        try:
            config = futures[resource].result(within_s + _LATER_S)
        except KafkaException as error:
            yield Unsaid(name, error.args[0])
            continue
        for key, value in wanted[name].items():
            if config[key].value != value:
                yield Otherwise(name, key, config[key].value, value)


def count_members(admin: AdminClient, groups: list[str], within_s: float) -> Iterator[tuple[str, int | KafkaError]]:
    """Yield how many members each group has, none where it is not there, or why that is not known."""
    for name, future in admin.describe_consumer_groups(groups, request_timeout=within_s).items():
        try:
            yield name, len(future.result(within_s + _LATER_S).members)
        except KafkaException as error:
            yield name, 0 if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND else error.args[0]
