"""Searches files for texts and keys byte by byte, however they are spelled, escaped, encoded or packed."""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING, Final

import cramjam

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_CODECS: Final = {1: cramjam.gzip, 2: cramjam.snappy, 3: cramjam.lz4, 4: cramjam.zstd}
_BATCH: Final = struct.Struct(">qiibIh")
_BATCH_HEADER_BYTES: Final = 61
_LENGTH_FROM: Final = 12
_MAGIC: Final = 2


def spellings_of_phone(phone: str) -> list[str]:
    """Return how people and programs write a mobile number of China; all but the first lack the country."""
    local = phone.removeprefix("+86")
    parts = (local[:3], local[3:7], local[7:])
    return [local, " ".join(parts), "-".join(parts)]


def encodings_of_text(text: str) -> set[bytes]:
    """Return a text as files may have it: in UTF-8 and UTF-16, escaped, in hexadecimal and in base64."""
    plain = text.encode()
    escaped = {text.encode("unicode_escape"), text.encode("unicode_escape").upper().replace(b"\\U", b"\\u")}
    return {plain, text.encode("utf-16-le"), text.encode("utf-16-be"), *escaped, *encodings_of_bytes(plain)}


def encodings_of_bytes(plain: bytes) -> set[bytes]:
    """Return bytes as they are, in hexadecimal, and in base64 wherever they stand in what is encoded."""
    encoded = {plain, plain.hex().encode(), plain.hex().upper().encode()}
    for before in range(3):
        whole = base64.b64encode(bytes(before) + plain)
        # The characters at both ends have bits of the neighbours.
        cut = whole[(before * 8 + 5) // 6 : len(whole) - 4 if whole.endswith(b"=") else len(whole)]
        encoded |= {cut, cut.translate(bytes.maketrans(b"+/", b"-_"))}
    return encoded


def find(folder: Path, wanted: Mapping[str, Iterable[bytes]]) -> dict[str, set[str]]:
    """Return what of `wanted` is in the files below a folder, each name with the files that have it."""
    found: dict[str, set[str]] = {}
    for path, content in _contents(folder):
        for name, needles in wanted.items():
            if any(needle in content for needle in needles):
                found.setdefault(name, set()).add(str(path.relative_to(folder)))
    return found


def _contents(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in sorted(folder.rglob("*")):
        try:
            content = path.read_bytes().strip(b"\0") if path.is_file() and not path.is_symlink() else b""
        except FileNotFoundError:
            # Deleted meanwhile: it is not kept.
            continue
        if content:
            yield path, content
        if ".log" in path.suffixes and content:
            yield path, b"\n".join(unpacked(path.read_bytes()))


def unpacked(log: bytes) -> Iterator[bytes]:
    """Yield the records of a broker's log segment that are packed there, unpacked, batch by batch."""
    place = 0
    while place + _BATCH_HEADER_BYTES <= len(log):
        _, length, _, magic, _, attributes = _BATCH.unpack_from(log, place)
        if magic != _MAGIC or length <= 0:
            return
        codec = _CODECS.get(attributes & 7)
        if codec is not None:
            yield bytes(codec.decompress(log[place + _BATCH_HEADER_BYTES : place + _LENGTH_FROM + length]))
        place += _LENGTH_FROM + length
