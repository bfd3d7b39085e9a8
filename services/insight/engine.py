"""The application of faust: how it reaches the brokers, and what of it is switched off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import faust

from services.insight.topics import GROUP
from services.runtime.kafka import ssl_context

if TYPE_CHECKING:
    from faust.types.auth import CredentialsT

    from services.runtime.settings import RuntimeSettings

_FOR_EVER_S: Final = 20 * 86_400.0
"""As long as the client's number of milliseconds allows."""


class _Counts(faust.Table[tuple[Any, ...], list[int]]):
    """A table whose keys begin with their partition; faust asks the record in hand, of which there may be many."""

    def partition_for_key(self, key: Any) -> int:
        partition: int = key[0]
        return partition


def table_of_counts(app: faust.App, name: str, partitions: int) -> Any:
    """Return a table that may be written for many records at once."""
    return app.tables.add(_Counts(app, name=name, beacon=app.tables.beacon, partitions=partitions))


class _App(faust.App):
    def _create_directories(self) -> None:
        """Make no folders: what is known is in memory, and comes from the changelogs."""


def make_app(settings: RuntimeSettings) -> faust.App:
    """Return the application, with no streams yet: one record at a time, and no pages of its own."""
    return _App(
        f"{settings.topic_prefix}{GROUP}",
        broker=[f"kafka://{place}" for place in settings.kafka_bootstrap_servers.split(",")],
        broker_credentials=_credentials(settings),
        broker_client_id=GROUP,
        broker_session_timeout=6.0,
        broker_heartbeat_interval=2.0,
        broker_rebalance_timeout=20.0,
        broker_request_timeout=30.0,
        broker_commit_interval=1.0,
        # A paused worker stays in its group, and nobody complains of it; one that hangs is found by our own watch.
        broker_max_poll_interval=_FOR_EVER_S,
        broker_commit_livelock_soft_timeout=_FOR_EVER_S,
        stream_processing_timeout=_FOR_EVER_S,
        consumer_auto_offset_reset="earliest",
        producer_compression_type=None if settings.kafka_compression == "none" else settings.kafka_compression,
        producer_linger=0.005,
        store="memory://",
        stream_wait_empty=False,
        topic_disable_leader=True,
        web_enabled=False,
        autodiscover=False,
    )


def _credentials(settings: RuntimeSettings) -> CredentialsT | None:
    context = ssl_context(settings)
    if settings.kafka_security_protocol.startswith("SASL"):
        password = settings.kafka_sasl_password
        return faust.SASLCredentials(
            username=settings.kafka_sasl_username,
            password=None if password is None else password.get_secret_value(),
            ssl_context=context,
            mechanism=settings.kafka_sasl_mechanism,
        )
    return None if context is None else faust.SSLCredentials(context)
