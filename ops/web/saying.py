"""Says in the visitor's language what commands and the lag say in English, where the project itself has worded it."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final

from ops.web.words import words_of
from services.notify.model import Locale

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME: Final = re.compile(r"\\\{(\w+)\\\}")
_DURATION: Final = re.compile(r"(\d+) (\w+)")


def said_in(language: Locale, text: str) -> str | None:
    """Return a text in a language; None where somebody else has worded it, or a part of it."""
    if language is Locale.ENGLISH or not text:
        return text
    # From the end: what a person wrote stands before the last part, and may have such marks itself.
    first, _, last = text.rpartition("; ")
    if first and (end := _sentence_in(language, last)) is not None and (begin := said_in(language, first)) is not None:
        return f"{begin}；{end}"
    return _sentence_in(language, text)


def _sentence_in(language: Locale, text: str) -> str | None:
    theirs = words_of(language)["sentences"]
    for name, pattern in _patterns():
        if (found := pattern.fullmatch(text)) is not None:
            given = found.groupdict()
            figures = {key: _wait_in(language, text) if key == "wait" else text for key, text in given.items()}
            sentence: str = theirs[name].format(**figures)
            return sentence
    return None


def _wait_in(language: Locale, text: str) -> str:
    units: dict[str, str] = words_of(language)["units"]
    text = "1 hour" if text == "hour" else text
    return _DURATION.sub(lambda one: f"{one[1]} {units.get(one[2], one[2])}", text)


@cache
def _patterns() -> Sequence[tuple[str, re.Pattern[str]]]:
    """Return the English sentences as what recognises them, those with the fewest free places first."""
    english: dict[str, str] = words_of(Locale.ENGLISH)["sentences"]
    ordered = sorted(english.items(), key=lambda each: (each[1].count("{"), -len(each[1])))
    return [(name, re.compile(_NAME.sub(r"(?P<\1>.+?)", re.escape(text)), re.DOTALL)) for name, text in ordered]
