"""Questions to the brokers: what keeps them from answering is one sentence."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException

from ops.errors import UserError
from services.runtime.topics import TopicMissing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.running import Running


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
