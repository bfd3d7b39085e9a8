"""Makes messages of records, and sets aside those that are no message."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from schemas.envelope import PASSED_OVER, Malformed, decode
from services.runtime.dead_letters import Rejected
from services.runtime.message import Lane, Message
from services.runtime.unpacking import StillPacked

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from aiokafka import ConsumerRecord

    from services.runtime.service import Subscription
    from services.runtime.topics import Place

    Record: TypeAlias = ConsumerRecord[bytes | None, bytes | None]


@dataclass(frozen=True, slots=True)
class Taken:
    """Records taken from one partition in order, at least one, and what was made of those that are read."""

    subscription: Subscription
    place: Place
    records: Sequence[Record]
    messages: Sequence[Message]
    rejected: Sequence[Rejected]

    @property
    def lane(self) -> Lane:
        """The lane that the records belong to."""
        return Lane(self.subscription.group, self.place.partition)

    @property
    def next_offset(self) -> int:
        """Where the partition goes on after these records."""
        return int(self.records[-1].offset) + 1

    @property
    def value_bytes(self) -> int:
        """How much the records' values weigh on the wire."""
        return sum(max(0, record.serialized_value_size) for record in self.records)

    def with_messages(self, messages: Sequence[Message]) -> Taken:
        """Return the same records with other messages made of them."""
        return replace(self, messages=messages)

    def split(self, count: int) -> tuple[Taken, Taken]:
        """Return the first `count` records and the others; neither may be none."""
        start = self.records[count].offset
        return (
            Taken(
                self.subscription,
                self.place,
                self.records[:count],
                [message for message in self.messages if message.offset < start],
                [rejected for rejected in self.rejected if rejected.offset < start],
            ),
            Taken(
                self.subscription,
                self.place,
                self.records[count:],
                [message for message in self.messages if message.offset >= start],
                [rejected for rejected in self.rejected if rejected.offset >= start],
            ),
        )


def take(subscription: Subscription, place: Place, records: Sequence[Record]) -> Taken:
    """Decode records of one partition; what is malformed or unknown is set aside with the reason."""
    models = subscription.topics[place.topic]
    lane = Lane(subscription.group, place.partition)
    messages: list[Message] = []
    rejected: list[Rejected] = []
    for record in records:
        if isinstance(record, StillPacked):
            rejected.append(reject(place, record, "malformed", record.why))
            continue
        value = record.value
        if value is None and subscription.tombstones:
            messages.append(_tombstone(lane, place, record))
            continue
        found = decode(record.headers, value, models)
        if found is PASSED_OVER:
            continue
        if isinstance(found, Malformed):
            rejected.append(reject(place, record, found.reason, found.detail))
            continue
        messages.append(
            Message(
                lane,
                place.topic,
                record.offset,
                record.key,
                found.type,
                found.id,
                found.source,
                found.data,
                found.correlation_id or found.id,
                found.traceparent,
            )
        )
    return Taken(subscription, place, records, messages, rejected)


def reject(place: Place, record: Record, reason: str, detail: str) -> Rejected:
    """Return a record with the reason why it can't be handled."""
    return Rejected(
        place.topic, place.partition, record.offset, record.key, record.value, record.headers, reason, detail
    )


def _tombstone(lane: Lane, place: Place, record: Record) -> Message:
    id_ = f"{place.topic}/{place.partition}/{record.offset}"
    return Message(
        lane=lane,
        topic=place.topic,
        offset=record.offset,
        key=record.key,
        type=f"{place.topic}.tombstone",
        id=id_,
        source="kafka",
        data=None,
        correlation_id=id_,
    )
