"""What the pages say, in Chinese and in English, and which of them somebody reads."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Final

from services.notify.model import Locale

_FOLDER: Final = Path(__file__).with_name("words")
LANGUAGES: Final = {Locale.CHINESE: "中文", Locale.ENGLISH: "English"}
"""The languages by what their readers call them."""


@cache
def words_of(language: Locale) -> dict[str, Any]:
    """Return every text of a language, by page and name, and what codes mean, by the kind of code."""
    return _read(str(language)) | codes_in(language)


@cache
def codes_in(language: Locale) -> dict[str, dict[str, str]]:
    """Return what codes mean, by the kind of code."""
    return {
        kind: {code: _word(language, code, said) for code, said in codes.items()}
        for kind, codes in _read("codes").items()
    }


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((_FOLDER / f"{name}.toml").read_text("utf-8"))


def _word(language: Locale, code: str, said: str | list[str]) -> str:
    chinese, english = (said, code) if isinstance(said, str) else said
    return chinese if language is Locale.CHINESE else english


def word_for(language: Locale, code: str, *kinds: str) -> str | None:
    """Return what a code means: by the first of these kinds that knows it; None where none does."""
    words = words_of(language)
    return next((words[kind][code] for kind in kinds if code in words[kind]), None)


def language_named(name: str | None) -> Locale | None:
    """Return the language of a name such as `zh`, `zh-CN` or `en-GB`; None for another."""
    match (name or "").strip().lower().partition("-")[0]:
        case "zh":
            return Locale.CHINESE
        case "en":
            return Locale.ENGLISH
        case _:
            return None


def preferred(accepted: str) -> Locale:
    """Return the language that a browser's `Accept-Language` wants most of those there are; Chinese for neither."""
    wanted: list[tuple[float, Locale]] = []
    for part in accepted.split(",")[:20]:
        name, _, quality = part.partition(";q=")
        if (language := language_named(name)) is not None and (weight := _weight(quality)) > 0:
            wanted.append((weight, language))
    # The first of those that are wanted alike.
    return max(wanted, key=lambda each: each[0])[1] if wanted else Locale.CHINESE


def _weight(text: str) -> float:
    try:
        return float(text) if text else 1.0
    except ValueError:
        return 0.0
