"""Says in the visitor's language what commands and the lag say in English, where the project itself has worded it."""

from __future__ import annotations

import re
from functools import cache
from string import Formatter
from typing import TYPE_CHECKING, Final, NamedTuple

from ops.web.words import word_for, words_of
from services.notify.model import Locale

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NAME: Final = re.compile(r"\\\{(\w+)\\\}")
_DURATION: Final = re.compile(r"(\d+) (\w+)")
_WITHIN: Final = "detail"
"""The place of a sentence within another, which may be somebody else's."""
_OWN_WITHIN: Final = "check"
"""The place of a sentence within another that has to be one of ours."""
_SHAPES: Final = {
    "figure": r"-?[\d,]+",
    "most": r"[\d,]+",
    "stood": r"[^\s/]+/\d+/\d+",
    "party": r"[a-z]+:\S+",
    "payee": r"[a-z]+:\S+",
    "moment": r"\d{4}-\d\d-\d\d(?: \d\d:\d\d:\d\d)?",
    "until": r"\d{4}-\d\d-\d\d(?: \d\d:\d\d:\d\d)?",
    "option": r"--[a-z-]+",
    "field": r"[\w.-]+|the value",
    "choices": r"'[^']+'(?:(?:, | or )'[^']+')*",
}
"""What alone stands in some places, so that no other sentence is taken for this one."""

_LONGEST: Final = 2_000
"""Characters of a text that may be ours; what is longer somebody else has written, and would take long to look at."""
_DEEPEST: Final = 12
"""So many sentences of ours stand behind or within one another at most."""


class Part(NamedTuple):
    """A piece of what is said; what `is_given`, such as an id or somebody's own words, is in no language of ours."""

    text: str
    is_given: bool


def said_in(language: Locale, text: str) -> str | None:
    """Return a text in a language; None where somebody else has worded it, or a part of it."""
    parts = parts_in(language, text)
    return None if parts is None else "".join(part.text for part in parts)


def parts_in(language: Locale, text: str, deepest: int = _DEEPEST) -> list[Part] | None:
    """Return a text in a language, piece by piece; None where somebody else has worded it, or a part of it."""
    if language is Locale.ENGLISH or not text:
        return [Part(text, is_given=False)]
    if not deepest or len(text) > _LONGEST:
        return None
    # From the end: what a person wrote stands before the last part, and may have such marks itself.
    first, _, last = text.rpartition("; ")
    if first and (end := _sentence_in(language, last, deepest - 1)) is not None:
        begin = parts_in(language, first, deepest - 1)
        if begin is not None:
            return [*begin, Part("；", is_given=False), *end]
    return _sentence_in(language, text, deepest - 1)


def _sentence_in(language: Locale, text: str, deepest: int) -> list[Part] | None:
    theirs = words_of(language)["sentences"]
    for name, pattern in _patterns():
        if (found := pattern.fullmatch(text)) is not None:
            given = {key: _given_in(language, key, text, deepest) for key, text in found.groupdict().items()}
            if None not in given.values():
                return _filled(theirs[name], given)
    return None


def _filled(sentence: str, given: Mapping[str, list[Part] | None]) -> list[Part]:
    """Return a sentence with what stands in its places."""
    parts: list[Part] = []
    for words, name, _, _ in Formatter().parse(sentence):
        parts += [Part(words, is_given=False)] if words else []
        parts += (given[name] or []) if name else []
    return parts


def _given_in(language: Locale, name: str, text: str, deepest: int) -> list[Part] | None:
    """Return what stands in a place, None where that is not ours to say.

    A place is named for the kind of codes that stand there, if any do.
    """
    if name == "wait":
        return [Part(wait_in(language, text), is_given=False)]
    if name in {_WITHIN, _OWN_WITHIN}:
        within = parts_in(language, text, deepest)
        return [Part(text, is_given=True)] if within is None and name == _WITHIN else within
    if not _is_kind(name):
        return [Part(text, is_given=True)]
    codes = [(code, word_for(language, code, name)) for code in text.split(", ")]
    parts = [Part(code if word is None else word, is_given=word is None) for code, word in codes]
    return [each for part in parts for each in (Part("、", is_given=False), part)][1:]


def wait_in(language: Locale, text: str) -> str:
    """Return a span of time, as `ops/lag/verdict.py` says it, in a language."""
    units: dict[str, str] = words_of(language)["units"]
    text = "1 hour" if text == "hour" else text
    return _DURATION.sub(lambda one: f"{one[1]} {units.get(one[2], one[2])}", text)


def _is_kind(name: str) -> bool:
    return isinstance(words_of(Locale.ENGLISH).get(name), dict)


@cache
def _patterns() -> Sequence[tuple[str, re.Pattern[str]]]:
    """Return the English sentences as what recognises them, those with the fewest free places first."""
    english: dict[str, str] = words_of(Locale.ENGLISH)["sentences"]
    ordered = sorted(english.items(), key=lambda each: (each[1].count("{"), -len(each[1])))
    return [(name, re.compile(_NAME.sub(_place, re.escape(text)), re.DOTALL)) for name, text in ordered]


def _place(found: re.Match[str]) -> str:
    name = found[1]
    if _is_kind(name):
        codes = "|".join(map(re.escape, words_of(Locale.ENGLISH)[name]))
        return f"(?P<{name}>(?:{codes})(?:, (?:{codes}))*)"
    return f"(?P<{name}>{_SHAPES.get(name, '.+?')})"
