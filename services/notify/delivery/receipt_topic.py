"""Puts what gateways say by themselves on `notify.receipts`, so that it is kept before the gateway is thanked."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Final

import orjson
from aiokafka.errors import KafkaError

from schemas.envelope import encode_headers
from schemas.fields import as_text
from services.notify.gateways.gateway import Outcome
from services.notify.gateways.quoting import kept_code
from services.runtime.kafka import close_producer, make_producer
from services.runtime.message import Lane, Outgoing
from services.runtime.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka import AIOKafkaProducer

    from services.notify.gateways.gateway import Receipt
    from services.runtime.settings import RuntimeSettings

TOPIC: Final = "notify.receipts"
SOURCE: Final = "sluice/notify/gateways"

_TYPES: Final = {
    Outcome.DELIVERED: "message.delivered",
    Outcome.TEMPORARY: "message.expired",
    Outcome.PERMANENT: "message.failed",
}
"""A receipt of anything else says nothing of an end."""
_NO_LANE: Final = Lane("", 0)


class NotKept(Exception):
    """The brokers did not take receipts: whoever brought them has to bring them again."""


class ReceiptTopic:
    """Publishes receipts; made anew whenever the brokers did not take some."""

    def __init__(self, settings: RuntimeSettings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._publisher: Publisher | None = None
        self._lock = asyncio.Lock()

    async def keep(self, receipts: Sequence[Receipt]) -> None:
        """Return once the brokers have the receipts; NotKept when they may not have them all."""
        outgoing = [_message(receipt) for receipt in receipts if receipt.outcome in _TYPES]
        if not outgoing:
            return
        publisher = await self._get_publisher()
        try:
            await publisher.publish(outgoing)
        except (TimeoutError, KafkaError, OSError) as error:
            await self._drop(publisher)
            raise NotKept(type(error).__name__) from error

    async def close(self) -> None:
        """Give the connection back."""
        if self._producer is not None:
            producer, self._producer, self._publisher = self._producer, None, None
            await close_producer(producer)

    async def _get_publisher(self) -> Publisher:
        async with self._lock:
            if self._publisher is None:
                self._publisher = await self._start()
            return self._publisher

    async def _start(self) -> Publisher:
        settings = self._settings
        producer = make_producer(settings, "sluice.notify.receipts")
        try:
            async with asyncio.timeout(settings.publish_timeout_s):
                await producer.start()
        except (TimeoutError, KafkaError, OSError) as error:
            await close_producer(producer)
            raise NotKept(type(error).__name__) from error
        self._producer = producer
        return Publisher(producer, settings.topic_prefix, (), settings.publish_timeout_s)

    async def _drop(self, publisher: Publisher) -> None:
        async with self._lock:
            if self._publisher is publisher:
                await self.close()


def _message(receipt: Receipt) -> Outgoing:
    body = {
        "provider": receipt.provider,
        "provider_message_id": receipt.provider_message_id,
        "client_reference": receipt.reference,
        "code": kept_code(receipt.code),
        "at": as_text(receipt.at),
    }
    value = orjson.dumps({name: said for name, said in body.items() if said is not None})
    type_ = _TYPES[receipt.outcome]
    # The same receipt again is the same message.
    id_ = hashlib.sha256(type_.encode() + b"\n" + value).hexdigest()[:32]
    headers = encode_headers(
        type_, id=id_, source=SOURCE, time=as_text(receipt.at), subject=receipt.provider_message_id
    )
    return Outgoing(_NO_LANE, TOPIC, receipt.provider_message_id.encode(), value, headers)
