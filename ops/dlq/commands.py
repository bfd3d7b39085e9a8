"""`sluice dlq`: look at dead letters, replay them once, mended where they must be, or set them aside."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
import typer
from rich.markup import escape
from rich.table import Table

from ops.acts import SCHEMA, Who, Why, given_reason, operator, record_act
from ops.console import Json, console, print_json
from ops.database import connect
from ops.dlq.letters import Letter, read_letters, text_of
from ops.dlq.marks import Mark, State, alone, load_marks, record_marks
from ops.dlq.repairs import read_repairs, write_repairs
from ops.dlq.replaying import Record, Replayer
from ops.dlq.selection import Ids, Key, Reason, Selection, Since, Topic, Until, state_of
from ops.errors import UserError
from ops.moments import moment_of, moment_text
from ops.running import find_running
from services.runtime.log import mask, mask_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ops.dlq.marks import LetterPlace
    from ops.running import Running

Yes = Annotated[bool, typer.Option("--yes", help="Do it; without this it only says what it would do.")]
States = Annotated[
    State | None, typer.Option("--state", help="Only those that wait, were replayed, or were discarded.")
]


class TooMuch(UserError):
    """Nothing in particular was asked for, where that would be everything."""


class NotWhole(UserError):
    """A dead letter lost a part of its record because it was too large: there is nothing to replay."""

    exit_code = 1


# --- Looking ---


def list_letters(
    topic: Annotated[str | None, typer.Argument(help="Such as transfer.commands; every topic without it.")] = None,
    reason: Reason = None,
    key: Key = None,
    since: Since = None,
    until: Until = None,
    state: States = None,
    limit: Annotated[int, typer.Option(help="The newest only.", min=1, max=100_000)] = 20,
    *,
    values: Annotated[bool, typer.Option("--values", help="Show what was sent too, personal data masked.")] = False,
    as_json: Json = False,
) -> None:
    """Print dead letters, the newest first, and how many there are by reason and by what became of them."""
    selection = _selection(None, topic, reason, key, since, until)
    running = find_running()
    letters, marks = asyncio.run(_find(running, selection))
    found = [letter for letter in letters if state in {None, state_of(letter, marks)}]
    newest = found[::-1][:limit]
    if as_json:
        print_json([_shown(letter, state_of(letter, marks), values=values) for letter in newest])
        return
    _print(newest, found, marks, values=values)


def show_letter(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="As `sluice dlq ls` lists it.")],
    *,
    as_json: Json = False,
) -> None:
    """Print one dead letter: why it is one, its headers, and what was sent, personal data masked."""
    selection = Selection(ids=frozenset({letter_id}))
    letters, marks = asyncio.run(_find(find_running(), selection))
    letter = letters[0]
    said = _shown(letter, state_of(letter, marks), values=True)
    said["headers"] = {name: mask_text(text_of(value or b"")) for name, value in letter.headers}
    if as_json:
        print_json(said)
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in said.items():
        if name == "headers":
            for header, text in value.items():
                table.add_row(f"header {escape(header)}", escape(text))
        else:
            text = (
                moment_text(value)
                if name == "at"
                else value
                if isinstance(value, str)
                else orjson.dumps(value).decode()
            )
            table.add_row(name, escape(text))
    console().print(table)


# --- Acting ---


def export(
    file: Annotated[Path, typer.Argument(help="Is made, readable by you alone.")],
    topic: Topic = None,
    reason: Reason = None,
    key: Key = None,
    since: Since = None,
    until: Until = None,
) -> None:
    """Write waiting dead letters to a file, a line of JSON each, to be mended and given to `sluice dlq replay`.

    The file holds what was sent as it was, personal data too: delete it afterwards.
    """
    selection = _selection(None, topic, reason, key, since, until)
    letters, marks = asyncio.run(_find(find_running(), selection))
    waiting = [letter for letter in letters if state_of(letter, marks) is State.WAITING]
    write_repairs(file, waiting)
    console().print(f"Wrote {_count(len(waiting))} to {file}. It holds personal data: delete it when you are done.")


def replay(
    ids: Ids = None,
    topic: Topic = None,
    reason: Reason = None,
    key: Key = None,
    since: Since = None,
    until: Until = None,
    repaired: Annotated[
        Path | None, typer.Option(help="Mended records, as `sluice dlq export` writes them; only these are replayed.")
    ] = None,
    rate: Annotated[float, typer.Option(help="At most so many a second.", min=0.1, max=100_000)] = 100,
    why: Why = "",
    who: Who = None,
    *,
    force: Annotated[bool, typer.Option("--force", help="Also those replayed or discarded before.")] = False,
    yes: Yes = False,
) -> None:
    """Write dead letters to the topics they came from, each once; its event id and key stay as they were."""
    selection = _selection(ids, topic, reason, key, since, until)
    if selection.is_everything and repaired is None:
        raise TooMuch("Say which: ids, or --topic, --reason, --key, --since, --until, or --repaired FILE.")
    running = find_running()
    asyncio.run(_replay(running, selection, repaired, rate, _Act(who, why), force=force, yes=yes))


def discard(
    ids: Ids = None,
    topic: Topic = None,
    reason: Reason = None,
    key: Key = None,
    since: Since = None,
    until: Until = None,
    why: Why = "",
    who: Who = None,
    *,
    yes: Yes = False,
) -> None:
    """Set dead letters aside: they are not replayed, and stay in their topic until its retention takes them."""
    selection = _selection(ids, topic, reason, key, since, until)
    if selection.is_everything:
        raise TooMuch("Say which: ids, or --topic, --reason, --key, --since or --until.")
    asyncio.run(_discard(find_running(), selection, _Act(who, why), yes=yes))


class _Act:
    """Who acts and why; both are only needed for what is done, not for what is tried."""

    def __init__(self, who: str | None, why: str) -> None:
        self._who, self._why = who, why

    def named(self) -> tuple[str, str]:
        return operator(self._who), given_reason(self._why)


async def _replay(
    running: Running,
    selection: Selection,
    repaired: Path | None,
    rate: float,
    act: _Act,
    *,
    force: bool,
    yes: bool,
) -> None:
    letters = await asyncio.to_thread(_read, running, selection)
    async with connect(running, SCHEMA) as connection:
        await alone(connection)
        marks = await load_marks(connection, {letter.topic_id for letter in letters})
        replayer = Replayer(running, connection)
        cut_off = {letter: marks[letter.place] for letter in letters if state_of(letter, marks) is State.REPLAYING}
        undone = await replayer.settle(cut_off) if yes else set(cut_off)
        ready = [letter for letter in letters if force or state_of(letter, marks) is State.WAITING or letter in undone]
        records = _records(ready, letters, repaired)
        out = console()
        _say_plan(records, letters, ready)
        if not records:
            return
        if not yes:
            out.print("Nothing was done: --yes does it.")
            return
        who, why = act.named()
        async with connection.transaction():
            detail = {"letters": [_digest(record) for record in records], "forced": force}
            about = _about([record.letter for record in records])
            act_id = await record_act(connection, who=who, what="dlq replay", about=about, why=why, detail=detail)
        await replayer.replay(records, act_id, rate, lambda _count: None)
        out.print(f"Replayed {_count(len(records))}.")


async def _discard(running: Running, selection: Selection, act: _Act, *, yes: bool) -> None:
    letters = await asyncio.to_thread(_read, running, selection)
    async with connect(running, SCHEMA) as connection:
        await alone(connection)
        marks = await load_marks(connection, {letter.topic_id for letter in letters})
        waiting = [letter for letter in letters if state_of(letter, marks) is State.WAITING]
        out = console()
        out.print(f"{_count(len(waiting))} of {len(letters):,} asked for wait and would be set aside.")
        if not waiting or not yes:
            out.print("Nothing was done" + (": --yes does it." if waiting else "."))
            return
        who, why = act.named()
        async with connection.transaction():
            detail = {"letters": [letter.id for letter in waiting]}
            act_id = await record_act(
                connection, who=who, what="dlq discard", about=_about(waiting), why=why, detail=detail
            )
            await record_marks(connection, {letter: Mark(State.DISCARDED) for letter in waiting}, act_id)
        out.print(f"Set aside {_count(len(waiting))}.")


def _records(ready: Sequence[Letter], letters: Sequence[Letter], repaired: Path | None) -> list[Record]:
    """Return what is to be written: mended records, or those that are whole as they were; raises NotWhole."""
    if repaired is not None:
        are_ready = set(ready)
        return [record for record in read_repairs(repaired, letters) if record.letter in are_ready]
    for letter in ready:
        if letter.cut:
            raise NotWhole(
                f"{letter.id} was too large to be kept whole: its publisher must send it again. "
                "`sluice dlq discard` sets it aside."
            )
    return [Record(letter, letter.value, letter.headers) for letter in ready]


def _say_plan(records: Sequence[Record], letters: Sequence[Letter], ready: Sequence[Letter]) -> None:
    out = console()
    places = Counter(record.letter.original[0] for record in records)
    for topic, count in sorted(places.items()):
        out.print(f"{_count(count)} to {topic}")
    if done := len(letters) - len(ready):
        out.print(f"{_count(done)} replayed or discarded before: left alone; --force replays them again.")
    if not records:
        out.print("There is nothing to replay.")


def _digest(record: Record) -> dict[str, str]:
    """Return which letter it is and a hash of what is written: the log holds no personal data."""
    return {"id": record.letter.id, "sha256": hashlib.sha256(record.value or b"").hexdigest()}


def _about(letters: Sequence[Letter]) -> str:
    return letters[0].id if len(letters) == 1 else f"{len(letters):,} dead letters"


def _count(number: int) -> str:
    return "1 dead letter" if number == 1 else f"{number:,} dead letters"


# --- Finding ---


def _selection(
    ids: list[str] | None, topic: str | None, why: str | None, key: str | None, since: str | None, until: str | None
) -> Selection:
    return Selection(
        topic,
        why,
        key,
        None if since is None else moment_of(since),
        None if until is None else moment_of(until),
        frozenset(ids or ()),
    )


def _read(running: Running, selection: Selection) -> list[Letter]:
    letters = read_letters(running, selection.topics(), selection.wants)
    selection.check_found(letters)
    return letters


async def _find(running: Running, selection: Selection) -> tuple[list[Letter], dict[LetterPlace, Mark]]:
    letters = await asyncio.to_thread(_read, running, selection)
    async with connect(running, SCHEMA) as connection:
        return letters, await load_marks(connection, {letter.topic_id for letter in letters})


# --- Words ---

_COLUMNS: Final = ("id", "when", "state", "reason", "key", "detail")


def _shown(letter: Letter, state: State, *, values: bool) -> dict[str, Any]:
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
        return mask(None, "", {"value": orjson.loads(value or b"null")})["value"]
    except orjson.JSONDecodeError:
        return f"{len(value or b'')} bytes that are no JSON"


def _print(
    newest: Sequence[Letter], found: Sequence[Letter], marks: Mapping[LetterPlace, Mark], *, values: bool
) -> None:
    out = console()
    if not newest:
        out.print("There are no dead letters.")
        return
    table = Table(box=None, pad_edge=False)
    for name in (*_COLUMNS, *(("value",) if values else ())):
        table.add_column(name, overflow="fold")
    for letter in newest:
        said = _shown(letter, state_of(letter, marks), values=values)
        texts = [moment_text(said["at"]) if name == "when" else said[name] or "" for name in _COLUMNS]
        texts += [orjson.dumps(said["value"]).decode()] if values else []
        table.add_row(*(escape(text) for text in texts))
    out.print(table)
    counts = Counter((state_of(letter, marks), letter.reason) for letter in found)
    says = ", ".join(f"{count:,} {state} ({why})" for (state, why), count in sorted(counts.items()))
    out.print(f"{len(newest):,} of {_count(len(found))}: {says}.")
