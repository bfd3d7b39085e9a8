"""How the two Kafka client libraries reach the brokers: their options, from the settings."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import SecretStr

    from services.runtime.settings import RuntimeSettings


def client_options(settings: RuntimeSettings, client_id: str) -> dict[str, object]:
    """Return the connection options that aiokafka's consumer and producer share."""
    return {
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "client_id": client_id,
        "security_protocol": settings.kafka_security_protocol,
        "ssl_context": _ssl_context(settings),
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


def _ssl_context(settings: RuntimeSettings) -> ssl.SSLContext | None:
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
