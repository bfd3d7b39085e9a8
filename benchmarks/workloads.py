"""The messages of each workload, and the clients that publish and await them, which are not the service's own."""

from __future__ import annotations

import math
import random
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from schemas.envelope import encode_headers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SOURCE = "benchmark"
REFERENCE = "benchmark"
FINAL = frozenset({b"sluice.transfer.settled.v1", b"sluice.transfer.failed.v1"})


@dataclass(frozen=True, slots=True)
class Workload:
    """How many transfers, between how many wallets, and how much of them one payer makes."""

    name: str
    transfers: int
    wallets: int = 10_000
    hot_share: float = 0.0
    preloaded_transfers: int = 0
    warm_up_transfers: int = 0
    workers: int = 1


def transfers(workload: Workload, seed: int = 1) -> Iterator[tuple[str, str, bytes]]:
    """Yield (transfer id, key, body) of each transfer of a workload."""
    pick = random.Random(seed)
    for _ in range(workload.transfers):
        payer = 0 if pick.random() < workload.hot_share else pick.randrange(workload.wallets)
        payee = (payer + 1 + pick.randrange(workload.wallets - 1)) % workload.wallets
        id_ = str(uuid.UUID(int=pick.getrandbits(128), version=4))
        body = {
            "transfer_id": id_,
            "kind": "p2p",
            "payer": f"wallet:{payer}",
            "payee": f"wallet:{payee}",
            "amount_minor": 1 + pick.randrange(1000),
            "currency": "CNY",
            "reference": REFERENCE,
        }
        yield id_, f"wallet:{payer}", orjson.dumps(body)


def openings(wallets: int) -> Iterator[tuple[str, str, bytes]]:
    """Yield (command id, key, body) that open a workload's wallets, able to spend."""
    for number in range(wallets):
        body = {
            "account_id": f"wallet:{number}",
            "customer_id": f"customer-{number}",
            "currency": "CNY",
            "overdraft_limit_minor": 10**12,
            "tier": "unlimited",
        }
        yield f"open-{number}", f"wallet:{number}", orjson.dumps(body)


def publish(
    bootstrap: str, topic: str, type_: str, messages: Iterable[tuple[str, str, bytes]], rate: float | None = None
) -> dict[str, float]:
    """Publish messages, at `rate` a second or as fast as can be; return when each was handed over, by id."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 5 if rate is None else 0,
            "acks": "all",
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    handed_over: dict[str, float] = {}
    started = time.perf_counter()
    for number, (id_, key, body) in enumerate(messages):
        if rate is not None:
            _pace(producer, started + number / rate)
        headers: Any = encode_headers(type_, id=id_, source=SOURCE, time="2026-01-01T00:00:00Z", subject=id_)
        handed_over[id_] = time.perf_counter()
        _produce(producer, topic, key, body, headers)
    producer.flush()
    return handed_over


def _pace(producer: Producer, moment: float) -> None:
    producer.poll(0)
    # Not by polling until then: the client takes less than a millisecond for no time at all, and would spin.
    if (left := moment - time.perf_counter()) > 0:
        time.sleep(left)


def _produce(producer: Producer, topic: str, key: str, body: bytes, headers: Any) -> None:
    while True:
        try:
            producer.produce(topic, key=key, value=body, headers=headers)
        except BufferError:
            producer.poll(0.1)
        else:
            producer.poll(0)
            return


class Watcher:
    """An outside consumer that notes when the final event of each transfer arrives."""

    def __init__(self, bootstrap: str, topic: str, partitions: int, fetch_bytes: int = 200_000) -> None:
        # Many small answers would cost the broker as much processor time as the rest of its work; of a backlog
        # they would tell nothing.
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"benchmark-{uuid.uuid4()}",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 50,
                "fetch.min.bytes": fetch_bytes,
                "queued.max.messages.kbytes": 65536,
            }
        )
        self._consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
        self.arrived: dict[str, float] = {}

    def wait_for(self, count: int, timeout_s: float, look_every_s: float = 0.05) -> float:
        """Wait until `count` transfers have ended; return the wall-clock time of the last.

        Looking seldom leaves the processors to what is measured, looking often gives exact times of arrival.
        Raises TimeoutError, with how many had ended, when nothing arrives for `timeout_s`.
        """
        heard = time.monotonic()
        while len(self.arrived) < count:
            # A call returns only when it has all that it asked for, or its time is over.
            messages = self._consumer.consume(math.ceil(100_000 * look_every_s), look_every_s)
            now = time.perf_counter()
            for message in messages:
                headers: dict[str, Any] = dict(message.headers() or ())
                if headers.get("ce_type") in FINAL:
                    heard = time.monotonic()
                    self.arrived[headers["ce_subject"].decode()] = now
            if time.monotonic() - heard > timeout_s:
                text = f"only {len(self.arrived)} of {count} transfers ended"
                raise TimeoutError(text)
        return time.time()

    def close(self) -> None:
        """Leave."""
        self._consumer.close()
