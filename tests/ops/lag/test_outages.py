"""Whoever asks the brokers again and again lives through their restarts, and is not busy while they are away."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import psutil
import pytest
from confluent_kafka import Consumer, TopicPartition

from local.kafka import start_kafka
from local.topics import create_topics

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

OUTAGES = 4
MOST_BUSY = 25.0

LOOKS = """
import sys, time
from ops.lag.collector import Collector
from ops.lag.looking import look
collector = Collector({"bootstrap.servers": sys.argv[1]}, {})
while True:
    look(collector)
    time.sleep(1)
"""
ASKS = """
import asyncio, sys
from contextlib import suppress
from confluent_kafka import KafkaException
from local.settings import runtime_settings
from services.runtime.topics import Place, TopicMissing, Topics
async def ask():
    topics, place = Topics(runtime_settings(sys.argv[1], "postgresql://unused"), "test"), Place("transfer.events", 0)
    while True:
        with suppress(KafkaException, TopicMissing):
            await topics.logs([place])
            await topics.committed("asked", [place])
        await asyncio.sleep(0.3)
asyncio.run(ask())
"""


@pytest.mark.soak
def test_brokers_that_go_and_come_back_end_nobody_and_keep_nobody_busy(tmp_path: Path) -> None:
    with ExitStack() as stack:
        broker = stack.enter_context(start_kafka(tmp_path, heap="256m"))
        create_topics({"bootstrap.servers": broker.bootstrap}, "", 1)
        member = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "asked", "log_level": 0})
        member.commit(offsets=[TopicPartition("transfer.events", 0, 0)], asynchronous=False)
        member.close()
        clients = []
        for script in (LOOKS, ASKS, ASKS, ASKS):
            words = [sys.executable, "-c", script, broker.bootstrap]
            clients.append(stack.enter_context(subprocess.Popen(words, stderr=subprocess.DEVNULL)))
            stack.callback(clients[-1].kill)
        for _ in range(OUTAGES):
            assert max(busy(clients)) < MOST_BUSY
            broker.kill()
            assert max(busy(clients)) < MOST_BUSY
            broker.restart()
        assert max(busy(clients)) < MOST_BUSY
        assert [client.poll() for client in clients] == [None] * len(clients)


def busy(clients: Sequence[subprocess.Popen[bytes]]) -> list[float]:
    """Return the share of a core, in per cent, that each has used while this watched it."""
    return [psutil.Process(client.pid).cpu_percent(2) for client in clients]
