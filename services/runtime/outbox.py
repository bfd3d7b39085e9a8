"""What a batch publishes, kept with its other effects until the brokers have it, one row a lane."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import cramjam
import msgspec

from services.runtime.message import Lane, Outgoing
from services.runtime.offsets import QUERIES, OutboxKey, key_columns, lane_columns

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from services.runtime.database import Connection


class ForeignLane(Exception):
    """A handler wants to publish for a lane that its batch does not hold; the text names the lane."""


class Row(NamedTuple):
    """One batch of one lane, in the order in which it must be published."""

    key: OutboxKey
    outgoing: Sequence[Outgoing]


_Packed = tuple[str, bytes | None, bytes | None, list[tuple[str, bytes | None]]]

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[_Packed])


def pack(outgoing: Iterable[Outgoing]) -> bytes:
    """Return the messages of one lane as one compressed text."""
    encoded = _ENCODER.encode([(topic, key, value, headers) for _, topic, key, value, headers in outgoing])
    return bytes(cramjam.lz4.compress_block(encoded))


def unpack(lane: Lane, payload: bytes) -> list[Outgoing]:
    """Return the messages that `pack` was given."""
    packed = _DECODER.decode(bytes(cramjam.lz4.decompress_block(payload)))
    return [Outgoing(lane, *message) for message in packed]


async def pack_rows(numbers: Mapping[Lane, int], outgoing: Sequence[Outgoing]) -> dict[OutboxKey, bytes]:
    """Return the rows that keep the messages of a batch that has these numbers in its lanes, others running meanwhile.

    Raises ForeignLane for a message of another lane.
    """
    by_lane: defaultdict[Lane, list[Outgoing]] = defaultdict(list)
    for message in outgoing:
        by_lane[message.lane].append(message)
    if foreign := by_lane.keys() - numbers.keys():
        raise ForeignLane(f"the batch does not hold {sorted(foreign)}")
    rows = {}
    for lane, messages in by_lane.items():
        await asyncio.sleep(0)
        rows[OutboxKey(lane, numbers[lane])] = pack(messages)
    return rows


async def record(connection: Connection, rows: Mapping[OutboxKey, bytes]) -> list[OutboxKey]:
    """Keep the rows of a batch; return their keys."""
    keys = list(rows)
    if keys:
        await connection.execute(QUERIES.record_outbox, *key_columns(keys), list(rows.values()))
    return keys


async def load(connection: Connection, lanes: Collection[Lane]) -> list[list[Row]]:
    """Return what the lanes' rows hold, in rounds: the oldest row of each lane, then the second oldest, …."""
    rounds: list[list[Row]] = []
    depth: defaultdict[Lane, int] = defaultdict(int)
    for row in await connection.fetch(QUERIES.load_outbox, *lane_columns(lanes)):
        lane = Lane(row["lane_group"], row["partition"])
        if depth[lane] == len(rounds):
            rounds.append([])
        rounds[depth[lane]].append(Row(OutboxKey(lane, row["batch_number"]), unpack(lane, row["payload"])))
        depth[lane] += 1
    return rounds


async def forget(connection: Connection, keys: Collection[OutboxKey]) -> None:
    """Delete rows whose messages the brokers have."""
    await connection.execute(QUERIES.forget_outbox, *key_columns(keys))
