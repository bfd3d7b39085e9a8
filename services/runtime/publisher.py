"""Publishing in order and by the batch: record batches are built here, not by the client per message."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from functools import lru_cache
from itertools import zip_longest
from struct import unpack_from
from typing import TYPE_CHECKING

from aiokafka import TopicPartition

from services.runtime.idle import let_others_run
from services.runtime.metrics import PUBLISHED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence

    from aiokafka import AIOKafkaProducer
    from aiokafka.producer.message_accumulator import BatchBuilder
    from aiokafka.structs import RecordMetadata

    from services.runtime.message import Outgoing

_REMEMBERED_KEYS = 65_536
_LONGEST_REMEMBERED = 256
# Messages sorted or put into record batches in one go, a millisecond's work: the batch in hand goes on as soon as the
# database has answered it.
_SLICE = 64
_WORD = 0xFFFFFFFF


@lru_cache(maxsize=_REMEMBERED_KEYS)
def murmur2(key: bytes) -> int:
    """Return the Java client's hash of a key without its sign; modulo the partitions it is the key's."""
    length = len(key)
    mixed = 0x9747B28C ^ length
    for word in unpack_from(f"<{length >> 2}I", key):
        scrambled = word * 0x5BD1E995 & _WORD
        mixed = (mixed * 0x5BD1E995 ^ (scrambled ^ scrambled >> 24) * 0x5BD1E995) & _WORD
    if rest := key[length & ~3 :]:
        mixed = (mixed ^ int.from_bytes(rest, "little")) * 0x5BD1E995 & _WORD
    mixed = (mixed ^ mixed >> 13) * 0x5BD1E995 & _WORD
    return (mixed ^ mixed >> 15) & 0x7FFFFFFF


def _hash_of(key: bytes) -> int:
    return murmur2(key) if len(key) <= _LONGEST_REMEMBERED else murmur2.__wrapped__(key)


class Publisher:
    """Publishes what batches leave; messages of one lane and topic partition keep their order."""

    def __init__(
        self, producer: AIOKafkaProducer, prefix: str, follow_up_topics: Collection[str], timeout_s: float
    ) -> None:
        self._producer = producer
        self._prefix = prefix
        self._follow_up_topics = frozenset(follow_up_topics)
        self._timeout_s = timeout_s
        self._partition_counts: dict[str, int] = {}

    async def publish(self, outgoing: Sequence[Outgoing]) -> None:
        """Publish and wait until the brokers have all; follow-up topics wait for the others' acknowledgement.

        Raises TimeoutError or KafkaError when a message may be missing; the producer is then of no more use.
        """
        follow_ups = [message for message in outgoing if message.topic in self._follow_up_topics]
        others = [message for message in outgoing if message.topic not in self._follow_up_topics]
        async with asyncio.timeout(self._timeout_s):
            await self._publish_all(others)
            await self._publish_all(follow_ups)
        PUBLISHED.inc(len(outgoing))

    async def _publish_all(self, outgoing: Sequence[Outgoing]) -> None:
        if outgoing:
            by_partition = await self._by_partition(outgoing)
            await self._send({place: await self._build(messages) for place, messages in by_partition.items()})

    async def _by_partition(self, outgoing: Iterable[Outgoing]) -> Mapping[TopicPartition, list[Outgoing]]:
        by_partition: defaultdict[tuple[str, int], list[Outgoing]] = defaultdict(list)
        for number, message in enumerate(outgoing, 1):
            if number % _SLICE == 0:
                await let_others_run()
            topic, key = message.topic, message.key
            count = self._partition_counts.get(topic) or await self._count_partitions(topic)
            partition = (message.lane.partition if key is None else _hash_of(key)) % count
            by_partition[topic, partition].append(message)
        return {
            TopicPartition(self._prefix + topic, number): by_partition[topic, number] for topic, number in by_partition
        }

    async def _count_partitions(self, topic: str) -> int:
        count = len(await self._producer.partitions_for(self._prefix + topic))
        self._partition_counts[topic] = count
        return count

    async def _build(self, messages: Iterable[Outgoing]) -> list[BatchBuilder]:
        builder = self._producer.create_batch()
        builders = [builder]
        now_ms = int(time.time() * 1_000)
        for number, (_, _, key, value, headers) in enumerate(messages, 1):
            if number % _SLICE == 0:
                await let_others_run()
            if builder.append(timestamp=now_ms, key=key, value=value, headers=headers) is None:
                builder = self._producer.create_batch()
                builders.append(builder)
                # An empty batch takes a message of any size.
                builder.append(timestamp=now_ms, key=key, value=value, headers=headers)
        return builders

    async def _send(self, batches: Mapping[TopicPartition, list[BatchBuilder]]) -> None:
        acknowledgements: list[Awaitable[RecordMetadata]] = []
        for layer in zip_longest(*batches.values()):
            for (topic, partition), builder in zip(batches, layer, strict=True):
                if builder is not None:
                    # Closed, it is sent at once. A partition's second waits here until the first is sent.
                    builder.close()
                    acknowledgements.append(await self._producer.send_batch(builder, topic, partition=partition))
        await asyncio.gather(*acknowledgements)
