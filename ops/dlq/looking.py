"""Finds dead letters with what became of each, and shows them without personal data."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import orjson

from ops.acts import SCHEMA
from ops.database import connect
from ops.dlq.letters import Letter, age_of, read_letters, text_of
from ops.dlq.marks import load_marks
from ops.dlq.selection import state_of
from services.runtime.log import mask, mask_text

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Mapping, Sequence

    from ops.dlq.marks import LetterPlace, Mark, State
    from ops.dlq.selection import Selection
    from ops.running import Running

_AT_ONCE: Final = 2_000


@dataclass(frozen=True, slots=True)
class Listed:
    """The first of the letters that are asked for, without their values, and how many there are of which kind."""

    first: Sequence[tuple[Letter, State]]
    """Each with what became of it."""
    counts: Mapping[tuple[State, str], int]
    """By what became of them, and why they are dead letters."""

    def of(self, states: Collection[State]) -> int:
        """Return how many of these states there are."""
        return sum(count for (state, _), count in self.counts.items() if state in states)


def read_selected(running: Running, selection: Selection) -> list[Letter]:
    """Return the letters that are asked for, the oldest first; raises NoSuchLetter for an id that is not there."""
    letters = sorted(_selected(running, selection), key=age_of)
    selection.check_found(letters)
    return letters


async def find(running: Running, selection: Selection) -> tuple[list[Letter], dict[LetterPlace, Mark]]:
    """Return the letters that are asked for, the oldest first, and what became of those that wait no more."""
    letters = await asyncio.to_thread(read_selected, running, selection)
    async with connect(running, SCHEMA) as connection:
        return letters, await load_marks(connection, letters)


async def first_letters(
    running: Running, selection: Selection, states: Collection[State], most: int, *, oldest: bool = False
) -> Listed:
    """Return the newest letters of some states, or the oldest, so many; and count all, keeping no other."""
    first: list[tuple[Letter, State]] = []
    counts: Counter[tuple[State, str]] = Counter()
    async with connect(running, SCHEMA) as connection:
        with closing(_selected(running, selection, values=False)) as found:
            while part := await _next_of(found):
                marks = await load_marks(connection, part)
                stand = [(letter, state_of(letter, marks)) for letter in part]
                counts.update((state, letter.reason) for letter, state in stand)
                first += [each for each in stand if each[1] in states]
                if len(first) > most + _AT_ONCE:
                    first = _ordered(first, most, oldest=oldest)
    return Listed(_ordered(first, most, oldest=oldest), counts)


async def _next_of(found: Generator[Letter]) -> list[Letter]:
    reading = asyncio.create_task(asyncio.to_thread(list, islice(found, _AT_ONCE)))
    try:
        return await asyncio.shield(reading)
    finally:
        # Whoever is told to stop waits for it, too: what is being read cannot be closed.
        await asyncio.wait([reading])


def _ordered(letters: list[tuple[Letter, State]], most: int, *, oldest: bool) -> list[tuple[Letter, State]]:
    return sorted(letters, key=lambda each: age_of(each[0]), reverse=not oldest)[:most]


def _selected(running: Running, selection: Selection, *, values: bool = True) -> Generator[Letter]:
    found = read_letters(running, selection.topics(), selection.spans(), values=values)
    return (letter for letter in found if selection.wants(letter))


def shown(letter: Letter, state: State, *, values: bool) -> dict[str, Any]:
    """Return what people and programs read of a letter; with `values` what was sent, too, personal data masked."""
    said: dict[str, Any] = {
        "id": letter.id,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "at": letter.at,
        "state": state,
        "reason": letter.reason,
        "detail": mask_text(letter.detail),
        "service": letter.service,
        "of": letter.original_text,
        "key": None if letter.key is None else mask_text(text_of(letter.key)),
    }
    return said | {"value": _masked(letter.value)} if values else said


def _masked(value: bytes | None) -> Any:
    """Return a JSON value without personal data; of what is no JSON nobody knows where these are."""
    try:
        masked = mask(None, "", {"value": orjson.loads(value or b"null")})["value"]
        orjson.dumps(masked)
    except orjson.JSONDecodeError:
        return f"{len(value or b'')} bytes that are no JSON"
    except (RecursionError, orjson.JSONEncodeError):
        return f"{len(value or b'')} bytes of JSON that is nested too deeply to be shown"
    return masked
