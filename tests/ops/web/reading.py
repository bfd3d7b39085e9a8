"""Finds English words in a page that should have none: what stands there as text, codes and others' words aside."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Final

_VOID: Final = frozenset({"input", "br", "meta", "link", "polyline", "polygon"})
_UNREAD: Final = frozenset({"script", "style", "pre", "code"})
_READ: Final = ("aria-label", "placeholder", "title", "alt", "data-label")
_NAMES: Final = frozenset({"Sluice", "Kafka", "English", "PostgreSQL", "UUID", "JSON", "UTF-8", "CloudEvent"})
"""What is called the same in every language."""

_WORD: Final = re.compile(r"[A-Za-z][A-Za-z']*[A-Za-z]")
_UPPER: Final = re.compile(r"[A-Z]{2,6}")
"""Codes of currencies and banks, and settings."""

_COMMAND: Final = re.compile(r"`[^`]*`")


def english_in(page: str) -> list[str]:
    """Return the English that a reader of a Chinese page would meet, a piece of text each.

    Not counted are elements that say `translate="no"` (codes, ids, and what a person wrote), raw data (`pre`), names,
    commands in backticks, and in a sentence whatever has a digit or a mark within, such as an account's number.
    """
    reader = _Reader()
    reader.feed(page)
    return [text for text in reader.texts if _has_english(text)]


def _has_english(text: str) -> bool:
    pieces = re.split(r"[\s，。；：、（）“”！？]+", _COMMAND.sub(" ", text))
    return any(_is_english(piece.strip("().,;!?…→–·\"'")) for piece in pieces)


def _is_english(piece: str) -> bool:
    return _WORD.fullmatch(piece) is not None and piece not in _NAMES and _UPPER.fullmatch(piece) is None


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._open: list[tuple[str, bool]] = []

    @property
    def _is_unread(self) -> bool:
        return bool(self._open) and self._open[-1][1]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what an element says, unless it is not to be translated."""
        said = dict(attrs)
        is_unread = self._is_unread or tag in _UNREAD or said.get("translate") == "no"
        if not is_unread:
            self.texts += [text for name in _READ if (text := said.get(name))]
        if tag not in _VOID:
            self._open.append((tag, is_unread))

    def handle_endtag(self, tag: str) -> None:
        """Go back to what stands around an element."""
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        """Note a piece of text."""
        if not self._is_unread and data.strip():
            self.texts.append(" ".join(data.split()))
