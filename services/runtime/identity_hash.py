"""Keyed hashes of what identifies people: equal for spellings of the same, and of no use without the key."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID


def fold(text: str) -> str:
    """Return a text as names and numbers are compared: width, case, spaces and punctuation make no difference."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(character for character in folded if character.isalnum() or _tells_apart(character))


_TELLING: Final = frozenset({"Mn", "Mc", "Co", "Cn"})
"""Vowels of many scripts, and rare Chinese characters: newer than the tables of this Python, or of a font's own."""

_VARIANTS: Final = re.compile("[\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""They choose between two drawings of one character."""


def _tells_apart(character: str) -> bool:
    return unicodedata.category(character) in _TELLING and _VARIANTS.fullmatch(character) is None


@dataclass(frozen=True, slots=True)
class KeyedHashes:
    """Hashes under one key of 32 bytes; those of different kinds never meet."""

    key: bytes = field(repr=False)

    def name(self, name: str) -> bytes:
        """Return the hash of a holder's name, 32 bytes."""
        return hashlib.blake2b(fold(name).encode(), key=self.key, digest_size=32).digest()

    def id_number(self, text: str) -> bytes:
        """Return the hash of an ID number in its one form, 32 bytes."""
        return self._hash(text, b"id-number")

    def phone(self, text: str) -> bytes:
        """Return the hash of a phone number in its one form, 32 bytes."""
        return self._hash(text, b"phone")

    def content(self, content: bytes) -> bytes:
        """Return the hash of what a command says, 16 bytes."""
        return hashlib.blake2b(content, key=self.key, digest_size=16, person=b"content").digest()

    def own_id(self, *parts: object) -> UUID:
        """Return an id of our own for what these parts name: always the same, foreseen by nobody without the key.

        Publishers choose their ids freely, and must not be able to choose this one beforehand.
        """
        named = "\n".join(map(str, parts)).encode()
        digest = hashlib.blake2b(named, key=self.key, digest_size=16, person=b"own-id").digest()
        return UUID(bytes=digest, version=5)

    def _hash(self, text: str, kind: bytes) -> bytes:
        return hashlib.blake2b(text.encode(), key=self.key, digest_size=32, person=kind).digest()
