"""The process of `ops.lag.apart`: looks each time that it is asked to, until nobody is there to ask."""

from __future__ import annotations

import signal
import sys
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

import structlog
from confluent_kafka import KafkaError, KafkaException

from ops.lag.collector import Collector
from services.runtime.log import configure_logging

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ops.lag.model import Row

_LOG = structlog.stdlib.get_logger(__name__)


def main() -> None:
    """Serve the connection whose number is the only argument."""
    # Who is told to stop by Ctrl-C ends this process, too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    configure_logging("info", "json")
    try:
        _serve(Connection(int(sys.argv[1])))
    except (EOFError, ConnectionError):
        return


def _serve(connection: Connection) -> None:
    options, expected = connection.recv()
    paused: Mapping[str, str] = {}
    collector = Collector(options, expected, paused=lambda: paused)
    while True:
        paused = connection.recv()
        connection.send(look(collector))


def look(collector: Collector) -> tuple[float, list[Row]] | str:
    """Return what a look finds, and the moment that it is told for, or why it finds nothing."""
    try:
        rows = collector.collect()
    except (KafkaException, TimeoutError) as error:
        return f"the brokers do not answer ({_said(error)})"
    except Exception as error:  # noqa: BLE001 - it is told, and ends no watch
        _LOG.error("lag_look_broken", exc_info=error)
        return f"a look is broken ({type(error).__name__})"
    return collector.looked_at, rows


def _said(error: Exception) -> str:
    found = error.args[0] if isinstance(error, KafkaException) else None
    return found.name() if isinstance(found, KafkaError) else type(error).__name__


if __name__ == "__main__":
    main()
