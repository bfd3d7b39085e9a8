"""The embedded broker as those who run it see it."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from local.daemon import EngineError
from local.kafka import start_kafka

if TYPE_CHECKING:
    from pathlib import Path

TOPIC = "kept"


def write(bootstrap: str, value: str) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    producer.produce(TOPIC, value.encode())
    assert producer.flush(20) == 0


def read(bootstrap: str, count: int) -> list[str]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(TOPIC, 0, 0)])
        return [message.value().decode() for message in consumer.consume(count, 20)]
    finally:
        consumer.close()


def test_records_outlive_a_stop_and_a_leftover_is_replaced(tmp_path: Path) -> None:
    with start_kafka(tmp_path) as first:
        port = int(first.bootstrap.partition(":")[2])
        admin = AdminClient({"bootstrap.servers": first.bootstrap})
        admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(20)
        write(first.bootstrap, "before")
        assert os.getsid(first.pid) != os.getsid(0), "Ctrl-C in the terminal would end the broker at once"
        # As after a crash of whoever started it: the broker still runs, and only the files tell of it.
        with start_kafka(tmp_path, port=port) as second:
            assert not first.is_alive()
            assert second.bootstrap == first.bootstrap
            write(second.bootstrap, "after")
            assert read(second.bootstrap, 2) == ["before", "after"]
            listening = psutil.Process(second.pid).net_connections("tcp")
            addresses = {entry.laddr.ip.removeprefix("::ffff:") for entry in listening if entry.status == "LISTEN"}
            assert addresses == {"127.0.0.1"}
    assert not second.is_alive()


def test_a_broker_that_can_not_start_quotes_its_log(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(EngineError, match=r"(?s)kafka ended with 1; the end of .*kafka\.log.*in use"):
            start_kafka(tmp_path, port=port)
