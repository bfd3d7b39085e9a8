"""How long it takes to see the lag of many groups, and what the exporter weighs while it is scraped.

A real `sluice monitor` looks at groups of one topic, each at offsets of its own, which then all go on by a little:

    python -m benchmarks.lag [--groups 1000] [--records 200000 2000000] [--partitions 10]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from local.engines import start_engines
from ops.lag.collector import batched

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_ALLOWED: Final = {"first_look_s": 15.0, "next_look_s": 5.0, "look_after_all_moved_s": 5.0, "most_memory_mb": 200.0}
_WITHIN_S: Final = 180
_FULL_AFTER_S: Final = 70
_VALUE: Final = b"x" * 200


def fill(brokers: str, records: int, partitions: int) -> str:
    """Make a topic with so many records in record batches of some hundreds; return its name."""
    topic = f"bench-lag-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": brokers})
    options = {"message.timestamp.type": "LogAppendTime"}
    admin.create_topics([NewTopic(topic, partitions, 1, config=options)])[topic].result(30)
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 5, "queue.buffering.max.messages": 200_000})
    for number in range(records):
        while True:
            try:
                producer.produce(topic, _VALUE, partition=number % partitions)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    if producer.flush(60):
        raise SystemExit("The brokers did not take the records.")
    return topic


def commit(brokers: str, topic: str, offsets: Mapping[str, Sequence[int]]) -> None:
    """Have groups stand at these offsets, one for each partition."""
    admin = AdminClient({"bootstrap.servers": brokers})
    for part in batched(list(offsets), 100):
        asked = [
            ConsumerGroupTopicPartitions(
                group, [TopicPartition(topic, number, offset) for number, offset in enumerate(offsets[group])]
            )
            for group in part
        ]
        for future in [next(iter(admin.alter_consumer_group_offsets([each]).values())) for each in asked]:
            future.result(30)


@contextmanager
def monitored(brokers: str) -> Iterator[tuple[str, psutil.Process]]:
    """Run `sluice monitor` while the context lasts; yield its page and its process."""
    environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": brokers, "DATABASE_URL": "postgresql://127.0.0.1:1/none"}
    command = [sys.executable, "-m", "ops.cli", "monitor", "--port", "0", "--every", "1"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            # It may say on its output what it cannot read: the address is what it says first.
            said = json.loads(process.stdout.readline()) if process.stdout else {}
            yield f"{said['http']}/metrics", psutil.Process(process.pid)
        finally:
            process.terminate()


class Scrapes:
    """Scrapes as Prometheus does, and remembers the most memory that was seen and how long it took."""

    def __init__(self, page: str, process: psutil.Process) -> None:
        self._page = page
        self._process = process
        self.most_memory_mb = 0.0
        self.longest_s = 0.0
        self.largest_mb = 0.0

    def scrape(self) -> dict[str, float]:
        """Return the figures without labels."""
        started = time.monotonic()
        with urllib.request.urlopen(self._page, timeout=60) as answer:  # noqa: S310 - the monitor's own page
            text = answer.read()
        self.longest_s = max(self.longest_s, time.monotonic() - started)
        self.largest_mb = max(self.largest_mb, len(text) / 1e6)
        self.most_memory_mb = max(self.most_memory_mb, self._memory_mb())
        lines = [line for line in text.decode().splitlines() if not line.startswith("#") and "{" not in line]
        return {name: float(value) for name, value in (line.split() for line in lines)}

    def _memory_mb(self) -> float:
        """Return what is resident of the monitor and of the process that looks for it; what they share counts twice."""
        of_all = (self._process, *self._process.children(recursive=True))
        return float(sum(each.memory_info().rss for each in of_all)) / 1e6

    def next_look_s(self, after: float) -> tuple[float, float]:
        """Return when the first look that began after a moment began, and how long it took."""
        deadline = time.monotonic() + _WITHIN_S
        while time.monotonic() < deadline:
            found = self.scrape()
            at = time.time() - found["sluice_lag_look_age_seconds"]
            if at > after:
                return at, found["sluice_lag_look_seconds"]
            time.sleep(0.5)
        raise SystemExit(f"There was no look within {_WITHIN_S} s.")

    def hold_until(self, moment: float) -> None:
        """Scrape on until a moment of the monotonic clock."""
        while time.monotonic() < moment:
            self.scrape()
            time.sleep(1)


def measure(brokers: str, groups: int, records: int, partitions: int) -> dict[str, Any]:
    """Return what the looks took, and what the exporter weighed."""
    topic, chance = fill(brokers, records, partitions), random.Random(7)
    each = records // partitions
    places = {f"{topic}-{number}": [chance.randrange(each) for _ in range(partitions)] for number in range(groups)}
    commit(brokers, topic, places)
    with monitored(brokers) as (page, process):
        started, scrapes = time.monotonic(), Scrapes(page, process)
        at, first = scrapes.next_look_s(0)
        # A scrape takes a while itself; the next look begins when this one has ended.
        _, following = scrapes.next_look_s(at + first)
        commit(brokers, topic, {name: [min(each, at + 37) for at in offsets] for name, offsets in places.items()})
        _, moved = scrapes.next_look_s(time.time())
        # What it remembers of the past is all there after a minute.
        scrapes.hold_until(started + _FULL_AFTER_S)
    found = {
        "first_look_s": first,
        "next_look_s": following,
        "look_after_all_moved_s": moved,
        "most_memory_mb": scrapes.most_memory_mb,
        "longest_scrape_s": scrapes.longest_s,
        "page_mb": scrapes.largest_mb,
    }
    # The groups go with what they committed, and that with the topic.
    admin = AdminClient({"bootstrap.servers": brokers})
    admin.delete_topics([topic])[topic].result(30)
    return {"records": records, **{name: round(value, 2) for name, value in found.items()}}


def main() -> None:
    """Measure each number of records; exit 1 where more was taken than is allowed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=1_000)
    parser.add_argument("--records", type=int, nargs="+", default=[200_000, 2_000_000])
    parser.add_argument("--partitions", type=int, default=10)
    said = parser.parse_args()
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    is_well = True
    with (
        tempfile.TemporaryDirectory() as folder,
        start_engines(Path(folder), given, "postgresql://127.0.0.1:1/none") as engines,
    ):
        for records in said.records:
            found = measure(engines.bootstrap, said.groups, records, said.partitions)
            is_well &= all(found[name] < allowed for name, allowed in _ALLOWED.items())
            print(json.dumps({"groups": said.groups, **found, "allowed": _ALLOWED}), flush=True)  # noqa: T201
    sys.exit(0 if is_well else 1)


if __name__ == "__main__":
    main()
