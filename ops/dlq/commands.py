"""`sluice dlq`: look at dead letters, replay them once, mended where they must be, or set them aside."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
import typer
from rich.markup import escape
from rich.table import Column, Table

from ops.acts import Who, Why, Yes, given_reason, operator
from ops.counts import count_text
from ops.dlq.acting import Act, How, ReplayPlan, discard_letters, replay_letters
from ops.dlq.letters import text_of
from ops.dlq.looking import Listed, find, first_letters, read_selected, shown
from ops.dlq.marks import State
from ops.dlq.repairs import write_repairs
from ops.dlq.selection import Ids, Key, Reason, Selection, Since, Topic, Until, state_of
from ops.errors import UserError
from ops.moments import moment_of, moment_text
from ops.running import find_running
from ops.terminal import Fitted, Json, print_json, terminal
from services.runtime.log import mask_text

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ops.dlq.acting import Naming
    from ops.running import Running

States = Annotated[
    State | None, typer.Option("--state", help="Only those that wait, were replayed, or were discarded.")
]


class TooMuch(UserError):
    """Nothing in particular was asked for, where that would be everything."""


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
    states = set(State) if state is None else {state}
    listed = asyncio.run(first_letters(running, selection, states, limit))
    said = _said(running, listed) if values else [shown(*each, values=False) for each in listed.first]
    if as_json:
        print_json(said)
    else:
        _print(listed, said, states)


def _said(running: Running, listed: Listed) -> list[dict[str, Any]]:
    """Return what is shown of the letters that are listed, with what was sent, which has to be read again."""
    if not listed.first:
        return []
    selection = Selection(ids=frozenset(letter.id for letter, _ in listed.first))
    letters = {letter.id: letter for letter in read_selected(running, selection)}
    return [shown(letters[letter.id], state, values=True) for letter, state in listed.first]


def show_letter(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="As `sluice dlq ls` lists it.")],
    *,
    as_json: Json = False,
) -> None:
    """Print one dead letter: why it is one, its headers, and what was sent, personal data masked."""
    selection = Selection(ids=frozenset({letter_id}))
    letters, marks = asyncio.run(find(find_running(), selection))
    letter = letters[0]
    said = shown(letter, state_of(letter, marks), values=True)
    said["headers"] = {name: mask_text(text_of(value or b"")) for name, value in letter.headers}
    if as_json:
        print_json(said)
        return
    table = Table("name", Column("value", overflow="fold"), box=None, pad_edge=False, show_header=False)
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
    terminal().print(table)


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
    letters, marks = asyncio.run(find(find_running(), selection))
    waiting = [letter for letter in letters if state_of(letter, marks) is State.WAITING]
    write_repairs(file, waiting)
    terminal().print(f"Wrote {_count(len(waiting))} to {file}. It holds personal data: delete it when you are done.")


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
    how = How(repaired, rate, force)
    plan = asyncio.run(replay_letters(running, selection, how, _act(who, why) if yes else None, _say_plan))
    if plan.records:
        terminal().print(f"Replayed {_count(len(plan.letters))}." if yes else "Nothing was done: --yes does it.")


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
    asked, waiting = asyncio.run(discard_letters(find_running(), selection, _act(who, why) if yes else None))
    out = terminal()
    out.print(f"{_count(len(waiting))} of {asked:,} asked for wait and would be set aside.")
    if not waiting or not yes:
        out.print("Nothing was done" + (": --yes does it." if waiting else "."))
        return
    out.print(f"Set aside {_count(len(waiting))}.")


def _act(who: str | None, why: str) -> Naming:
    """Return who acts and why; both are only needed for what is done, not for what is tried."""
    return lambda: Act(operator(who), given_reason(why))


def _say_plan(plan: ReplayPlan) -> None:
    out = terminal()
    for topic, count in plan.targets.items():
        out.print(f"{_count(count)} to {topic}")
    if len(plan.records) < len(plan.letters):
        out.print(f"What several services could not read is written once: {len(plan.records):,} in all.")
    if plan.done:
        out.print(f"{_count(plan.done)} replayed or discarded before: left alone; --force replays them again.")
    if not plan.records:
        out.print("There is nothing to replay.")


def _count(number: int) -> str:
    return count_text(number, "dead letter")


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


# --- Words ---

_COLUMNS: Final = ("id", "when", "state", "reason", "key", "detail")
_LONGEST_KEY: Final = 100


def _print(listed: Listed, letters: Sequence[Mapping[str, Any]], states: Collection[State]) -> None:
    out = terminal()
    if not letters:
        out.print("There are no dead letters.")
        return
    table = Table(box=None, pad_edge=False)
    values = "value" in letters[0]
    for name in (*_COLUMNS, *(("value",) if values else ())):
        table.add_column(name, overflow="fold" if name in {"key", "detail", "value"} else "ellipsis")
    for said in letters:
        row = {**said, "when": moment_text(said["at"]), "key": _short(said["key"])}
        texts = [row[name] or "" for name in _COLUMNS]
        texts += [orjson.dumps(said["value"]).decode()] if values else []
        table.add_row(*(escape(text) for text in texts))
    out.print(Fitted(table))
    counts = sorted((key, count) for key, count in listed.counts.items() if key[0] in states)
    says = ", ".join(f"{count:,} {state} ({why})" for (state, why), count in counts)
    out.print(f"{len(listed.first):,} of {_count(listed.of(states))}: {escape(says)}.")


def _short(key: str | None) -> str | None:
    """Return a key for a table: it may have a million characters, and `show` has them all."""
    return key if key is None or len(key) <= _LONGEST_KEY else key[: _LONGEST_KEY - 1] + "…"
