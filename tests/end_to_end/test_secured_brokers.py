"""A cluster as production has it: TLS and a user, topics that somebody else made, and nothing but settings changes."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import os
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import orjson
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from local.daemon import free_port
from local.kafka import SecureListener, start_kafka
from local.topics import create_topics
from local.up import started
from schemas.envelope import encode_headers
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USER, PASSWORD = "sluice", "correct-horse-battery"
JAAS = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'


def _certificate() -> tuple[str, str]:
    """Return a certificate for 127.0.0.1 that vouches for itself, and its key, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


def _in_one_line(pem: str) -> str:
    return r"\n".join(pem.strip().splitlines())


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The settings that reach a secured broker, whose topics are made."""
    directory = tmp_path_factory.mktemp("secured")
    certificate, key = _certificate()
    (directory / "ca.pem").write_text(certificate)
    listener = SecureListener(
        free_port(),
        {
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.secure.plain.sasl.jaas.config": JAAS,
            "listener.name.secure.ssl.keystore.type": "PEM",
            "listener.name.secure.ssl.keystore.certificate.chain": _in_one_line(certificate),
            "listener.name.secure.ssl.keystore.key": _in_one_line(key),
        },
    )
    with start_kafka(directory / "kafka", secure=listener) as kafka:
        create_topics({"bootstrap.servers": kafka.bootstrap}, "", 3)
        yield {
            "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{listener.port}",
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_MECHANISM": "PLAIN",
            "KAFKA_SASL_USERNAME": USER,
            "KAFKA_SASL_PASSWORD": PASSWORD,
            "KAFKA_SSL_CAFILE": str(directory / "ca.pem"),
            "SLUICE_CREATE_TOPICS": "false",
        }


def _options(cluster: dict[str, str]) -> dict[str, Any]:
    return {
        "bootstrap.servers": cluster["KAFKA_BOOTSTRAP_SERVERS"],
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": USER,
        "sasl.password": PASSWORD,
        "ssl.ca.location": cluster["KAFKA_SSL_CAFILE"],
    }


def _publish(options: dict[str, Any], wallet: str) -> str:
    producer = Producer({**options, "partitioner": "murmur2_random"})
    transfer_id = str(uuid.uuid4())
    top_up = {"transfer_id": transfer_id, "kind": "top_up", "payer": "bank:AB:1", "payee": wallet, "amount_minor": 500}
    payout = {"transfer_id": str(uuid.uuid4()), "kind": "withdrawal", "payer": wallet, "payee": "bank:AB:2"}
    for type_, data in (
        ("account.open", {"account_id": wallet, "customer_id": "c", "currency": "CNY"}),
        ("transfer.request", {**top_up, "currency": "CNY"}),
        ("transfer.request", {**payout, "amount_minor": 100, "currency": "CNY"}),
    ):
        headers: Any = encode_headers(
            type_, id=str(uuid.uuid4()), source="test", time="2026-01-01T00:00:00Z", subject=""
        )
        producer.produce("transfer.commands", key=wallet, value=orjson.dumps(data), headers=headers)
    assert producer.flush(30) == 0
    return payout["transfer_id"]


def _settled_by_insight(endpoints: dict[str, Any]) -> bool:
    (address,) = [one["health"] for one in endpoints["services"] if one["name"] == "insight"]
    with urlopen(f"{address}/outcomes") as answer:
        minutes = orjson.loads(answer.read())["minutes"]
    return {"settled"} == {one["outcome"] for minute in minutes for one in minute["outcomes"]}


def test_a_withdrawal_goes_to_the_bank_and_back_over_tls(cluster: dict[str, str], tmp_path: Path) -> None:
    with started(tmp_path / "home", insights=1, environment=cluster) as endpoints:
        assert endpoints["kafka"] == cluster["KAFKA_BOOTSTRAP_SERVERS"]
        assert endpoints["engines"]["kafka_pid"] is None
        options = _options(cluster)
        transfer_id = _publish(options, "wallet:secure")
        consumer = Consumer({**options, "group.id": str(uuid.uuid4())})
        consumer.assign([TopicPartition("transfer.events", number, 0) for number in range(3)])

        def is_settled() -> bool:
            message = consumer.poll(0.2)
            event = orjson.loads(message.value() or b"{}") if message and not message.error() else {}
            return event.get("transfer_id") == transfer_id and event["status"] == "settled"

        wait_for(is_settled, deadline_s=30, what="the withdrawal's settlement")
        consumer.close()
        wait_for(lambda: _settled_by_insight(endpoints), deadline_s=30, what="insight counts it")
        shown = subprocess.run(
            [sys.executable, "-m", "ops.cli", "offsets", "show", "--json"],
            env=os.environ | cluster | {"DATABASE_URL": endpoints["database"]},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert shown.returncode == 0, shown.stderr
        assert all(row["gap"] is None for row in json.loads(shown.stdout))
        log = (tmp_path / "home" / "logs" / "transfer.log").read_text()
        assert PASSWORD not in log
