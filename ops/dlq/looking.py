"""Finds dead letters with what became of each, and shows them without personal data."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson

from ops.acts import SCHEMA
from ops.database import connect
from ops.dlq.letters import Letter, read_letters, text_of
from ops.dlq.marks import load_marks
from services.runtime.log import mask, mask_text

if TYPE_CHECKING:
    from ops.dlq.marks import LetterPlace, Mark, State
    from ops.dlq.selection import Selection
    from ops.running import Running


def read_selected(running: Running, selection: Selection) -> list[Letter]:
    """Return the letters that are asked for, the oldest first; raises NoSuchLetter for an id that is not there."""
    letters = read_letters(running, selection.topics(), selection.wants)
    selection.check_found(letters)
    return letters


async def find(running: Running, selection: Selection) -> tuple[list[Letter], dict[LetterPlace, Mark]]:
    """Return the letters that are asked for, the oldest first, and what became of those that wait no more."""
    letters = await asyncio.to_thread(read_selected, running, selection)
    async with connect(running, SCHEMA) as connection:
        return letters, await load_marks(connection, {letter.topic_id for letter in letters})


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
