"""Bounds what the client unpacks: it unpacks a record batch in one go, and a megabyte of one may hold gigabytes."""

from __future__ import annotations

import mmap
import struct
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import cramjam
from aiokafka import ConsumerRecord
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# A header takes 2 bytes at least, and in memory 70: in a large batch they may not be many for what it weighs. Those of
# ordinary messages take 20 bytes and more, beside keys and values.
_LARGE_BYTES: Final = 1_000_000
_BYTES_A_HEADER: Final = 16
_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES: Final = 16
_LENGTH: Final = struct.Struct(">I")


class CannotUnpack(Exception):
    """A record batch that ends before `next_offset` cannot be unpacked; the text says why, nothing of its content."""

    def __init__(self, why: str, next_offset: int) -> None:
        super().__init__(why)
        self.next_offset = next_offset


class TooMuchAtOnce(Exception):
    """One reading of the client would unpack several large batches; each can be read by itself."""


@dataclass
class StillPacked(ConsumerRecord[bytes | None, bytes | None]):
    """What stands for the records of a batch that cannot be unpacked, at the offset of their last."""

    why: str


def still_packed(topic: str, partition: int, first_offset: int, error: CannotUnpack) -> StillPacked:
    """Return what stands for a batch's records, of which `first_offset` was the first to be handled."""
    last_offset = error.next_offset - 1
    why = f"the records {first_offset} to {last_offset} cannot be unpacked: {error}"
    return StillPacked(topic, partition, last_offset, 0, 0, None, None, None, -1, -1, (), why)


def bound_unpacking(max_bytes: int) -> Room:
    """Have this process's clients unpack batches of at most so many bytes, and raise CannotUnpack for others.

    Returns where they are unpacked: call its `begin_reading` before each call of the client.
    """
    room = Room(max_bytes)
    # The client has no setting for it: these are the names by which it reads batches and unpacks them.
    setattr(fetcher, "MemoryRecords", partial(_Batches, room))  # noqa: B010 - the module does not say that it has it
    for batch_class in (DefaultRecordBatch, LegacyRecordBatch):
        for name, decompress_into in _CODECS.items():
            setattr(sys.modules[batch_class.__module__], f"{name}_decode", partial(room.unpack, name, decompress_into))
    return room


class Room:
    """Where every batch is unpacked, and the one in hand; only what is used of the room takes memory."""

    def __init__(self, max_bytes: int) -> None:
        self._memory = memoryview(mmap.mmap(-1, max_bytes))
        self._unpacked_bytes = 0
        self.batch: Any = None

    def begin_reading(self) -> None:
        """Let two batches of the largest size be unpacked from now on."""
        self._unpacked_bytes = 0

    def unpack(self, name: str, decompress_into: Callable[[bytes, memoryview], int], packed: bytes) -> bytes:
        """Return what a batch unpacks to; CannotUnpack or TooMuchAtOnce where that is too much."""
        try:
            length = decompress_into(packed, self._memory)
        except cramjam.DecompressionError as error:
            why = f"{len(packed)} bytes of {name} do not unpack into {len(self._memory)}: {error}"
            raise CannotUnpack(why, self.batch.next_offset) from None
        unpacked = bytes(self._memory[:length])
        if length > _LARGE_BYTES and isinstance(self.batch, DefaultRecordBatch):
            count = _count_headers(unpacked)
            if count * _BYTES_A_HEADER > length:
                raise CannotUnpack(f"{len(packed)} bytes of {name} hold {count} headers", self.batch.next_offset)
        self._unpacked_bytes += length
        if self._unpacked_bytes > 2 * len(self._memory):
            raise TooMuchAtOnce
        return unpacked


class _Batches:
    """The record batches of a fetch; each is unpacked, if at all, before the next is asked for."""

    def __init__(self, room: Room, fetched: bytes) -> None:
        self._room = room
        self._records = MemoryRecords(fetched)
        self.has_next = self._records.has_next
        self.size_in_bytes = self._records.size_in_bytes

    def next_batch(self) -> Any:
        self._room.batch = batch = self._records.next_batch()
        return batch


def _count_headers(records: Any) -> int:
    """Return how many headers a batch's records say that they have."""
    count = position = 0
    while position < len(records):
        length, start = decode_varint(records, position)
        # Behind a byte of attributes: time, offset, key, value, the number of headers.
        _, at = decode_varint(records, start + 1)
        _, at = decode_varint(records, at)
        for _ in ("key", "value"):
            size, at = decode_varint(records, at)
            at += max(0, size)
        headers, _ = decode_varint(records, at)
        count += headers
        position = start + max(0, length)
    return count


def _decompress_snappy_into(packed: bytes, memory: memoryview) -> int:
    length = 0
    for block in _snappy_blocks(packed):
        length += cramjam.snappy.decompress_raw_into(block, memory[length:])
    return length


def _snappy_blocks(packed: bytes) -> Iterator[bytes]:
    """Cut up what the Java client writes: blocks, each behind its length."""
    if not packed.startswith(_XERIAL):
        yield packed
        return
    start = _XERIAL_HEADER_BYTES
    while start + _LENGTH.size <= len(packed):
        (length,) = _LENGTH.unpack_from(packed, start)
        start += _LENGTH.size
        yield packed[start : start + length]
        start += length


_CODECS: Final[Mapping[str, Callable[[bytes, memoryview], int]]] = {
    "gzip": cramjam.gzip.decompress_into,
    "snappy": _decompress_snappy_into,
    "lz4": cramjam.lz4.decompress_into,
    "zstd": cramjam.zstd.decompress_into,
}
