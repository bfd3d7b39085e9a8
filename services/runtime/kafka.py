"""How the two Kafka client libraries reach the brokers, and how a client that may hang is closed."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import structlog
from aiokafka import AIOKafkaProducer

from services.runtime.log import error_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pydantic import SecretStr

    from services.runtime.settings import RuntimeSettings

CLOSE_TIMEOUT_S = 5.0

_PRODUCER_OPTIONS = {"acks": "all", "enable_idempotence": True, "max_batch_size": 256 * 1024}
_CLOSING: set[asyncio.Task[None]] = set()

_LOG = structlog.stdlib.get_logger(__name__)


def client_options(settings: RuntimeSettings, client_id: str) -> dict[str, object]:
    """Return the connection options that aiokafka's consumer and producer share."""
    return {
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "client_id": client_id,
        "security_protocol": settings.kafka_security_protocol,
        "ssl_context": ssl_context(settings),
        "sasl_mechanism": settings.kafka_sasl_mechanism,
        "sasl_plain_username": settings.kafka_sasl_username,
        "sasl_plain_password": _text(settings.kafka_sasl_password),
        # Longer than a rebalance may take: a join is one request.
        "request_timeout_ms": 30_000,
        # How soon the group learns of a topic that was recreated, or has more partitions.
        "metadata_max_age_ms": 5_000,
    }


def admin_options(settings: RuntimeSettings, client_id: str) -> dict[str, str | bool]:
    """Return the connection options of confluent-kafka's admin client."""
    options: dict[str, str | bool | None] = {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "client.id": client_id,
        "security.protocol": settings.kafka_security_protocol,
        "ssl.ca.location": _path(settings.kafka_ssl_cafile),
        "ssl.certificate.location": _path(settings.kafka_ssl_certfile),
        "ssl.key.location": _path(settings.kafka_ssl_keyfile),
        "socket.keepalive.enable": True,
    }
    if settings.kafka_security_protocol.startswith("SASL"):
        options["sasl.mechanism"] = settings.kafka_sasl_mechanism
        options["sasl.username"] = settings.kafka_sasl_username
        options["sasl.password"] = _text(settings.kafka_sasl_password)
    if not settings.kafka_ssl_check_hostname:
        options["ssl.endpoint.identification.algorithm"] = "none"
    return {name: value for name, value in options.items() if value is not None}


def ssl_context(settings: RuntimeSettings) -> ssl.SSLContext | None:
    """Return how brokers are trusted, where the connection is encrypted."""
    if not settings.kafka_security_protocol.endswith("SSL"):
        return None
    context = ssl.create_default_context(cafile=_path(settings.kafka_ssl_cafile))
    context.check_hostname = settings.kafka_ssl_check_hostname
    if settings.kafka_ssl_certfile is not None:
        context.load_cert_chain(settings.kafka_ssl_certfile, settings.kafka_ssl_keyfile)
    return context


def _text(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _path(path: object) -> str | None:
    return None if path is None else str(path)


def make_producer(settings: RuntimeSettings, client_id: str) -> AIOKafkaProducer:
    """Return a producer that is not started yet: every message is acknowledged by all replicas, none twice."""
    compression = None if settings.kafka_compression == "none" else settings.kafka_compression
    return AIOKafkaProducer(**client_options(settings, client_id), **_PRODUCER_OPTIONS, compression_type=compression)


async def close_producer(producer: AIOKafkaProducer) -> None:
    """Stop a producer without waiting for what it has not sent: whoever sends keeps that until it is acknowledged."""
    # The sender would go on trying, and `stop` wait for it.
    sender = producer._sender.sender_task  # noqa: SLF001 - there is no public way to give up
    if sender is not None:
        sender.cancel()
    await stop_in_time(producer.stop)


async def stop_in_time(stop: Callable[[], Coroutine[None, None, None]]) -> None:
    """Stop a client; one that hangs ends in the background: cancelled, it would stay in the group."""
    task = asyncio.create_task(stop())
    _CLOSING.add(task)
    task.add_done_callback(_closed)
    await asyncio.wait([task], timeout=CLOSE_TIMEOUT_S)


def _closed(task: asyncio.Task[None]) -> None:
    _CLOSING.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        _LOG.warning("client_not_closed", **error_fields(error))
