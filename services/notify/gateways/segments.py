"""How a text is cut into SMS: which alphabet it needs, and how many segments an operator bills for it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from aiosmpplib.codec import GSM_BASIC_ENCODE_MAP, GSM_EXTENDED_ENCODE_MAP

if TYPE_CHECKING:
    from collections.abc import Callable


class Alphabet(StrEnum):
    """How the characters of a text are written; the whole text is in one."""

    GSM_7 = "gsm7"
    """The default alphabet: a septet a character, two for those of its extension table."""
    UCS_2 = "ucs2"
    """Everything else: two octets a character, four beyond the basic plane (emoji, rare ideographs)."""


class Segments(NamedTuple):
    """A text as it is sent: one part an SMS."""

    alphabet: Alphabet
    parts: tuple[str, ...]


_ALONE: Final = {Alphabet.GSM_7: 160, Alphabet.UCS_2: 70}
_JOINED: Final = {Alphabet.GSM_7: 153, Alphabet.UCS_2: 67}
"""Six octets of each part say where it belongs."""


def alphabet_of(text: str) -> Alphabet:
    """Return the shorter alphabet that has every character of a text."""
    if all(char in GSM_BASIC_ENCODE_MAP or char in GSM_EXTENDED_ENCODE_MAP for char in text):
        return Alphabet.GSM_7
    return Alphabet.UCS_2


def split_text(text: str) -> Segments:
    """Cut a text into segments; no character is cut in two, so that a part may be a place short.

    Up to 160 septets or 70 UCS-2 characters are one segment; longer texts have 153 or 67 in each, beside the header
    that joins them. Source: 3GPP TS 23.038, 6.2.1 and 6.2.3 (alphabets); TS 23.040, 9.2.3.24.1 (concatenation).
    """
    alphabet = alphabet_of(text)
    width = _septets if alphabet is Alphabet.GSM_7 else _code_units
    if sum(map(width, text)) <= _ALONE[alphabet]:
        return Segments(alphabet, (text,))
    return Segments(alphabet, _cut(text, width, _JOINED[alphabet]))


def count_segments(text: str) -> int:
    """Return how many SMS a text takes; an empty one takes one."""
    return len(split_text(text).parts)


def _cut(text: str, width: Callable[[str], int], room: int) -> tuple[str, ...]:
    parts: list[str] = []
    start = used = 0
    for place, char in enumerate(text):
        if used + width(char) > room:
            parts.append(text[start:place])
            start, used = place, 0
        used += width(char)
    return (*parts, text[start:])


def _septets(char: str) -> int:
    return 1 if char in GSM_BASIC_ENCODE_MAP else 2


def _code_units(char: str) -> int:
    return 1 if ord(char) <= 0xFFFF else 2
