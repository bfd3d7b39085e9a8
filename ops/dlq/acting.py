"""Replays dead letters or sets them aside, each once, with who and why in the log of acts; tried first without."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from local.settings import runtime_settings
from ops.acts import SCHEMA, record_act
from ops.brokers import NoAnswer, asking
from ops.counts import count_text
from ops.database import connect
from ops.dlq.letters import UNSAID, Letter, logs_of, names_of
from ops.dlq.looking import read_selected
from ops.dlq.marks import Mark, State, alone, forget_gone, load_marks, record_marks
from ops.dlq.repairs import read_repairs
from ops.dlq.replaying import Record, Replayer, written_once
from ops.dlq.selection import state_of
from ops.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from ops.dlq.selection import Selection
    from ops.running import Running
    from services.runtime.database import Connection


class Act(NamedTuple):
    """Who acts, and why."""

    who: str
    why: str


Naming: TypeAlias = "Callable[[], Act]"
"""Says who acts, and why, once it is known that there is something to do; UserError where nobody says."""


class NotWhole(UserError):
    """A dead letter lost a part of its record, or where it came from: there is nothing to replay."""

    exit_code = 1


class How(NamedTuple):
    """How letters are replayed: mended by a file, at most so many a second, and also those that were before."""

    repaired: Path | None = None
    per_second: float = 100
    forced: bool = False


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """What a replay writes, and of how many letters it does nothing, because they were replayed or set aside before."""

    records: Sequence[Record]
    done: int

    @property
    def letters(self) -> Sequence[Letter]:
        """The letters that are replayed; several may be of one record."""
        return [letter for record in self.records for letter in record.letters]

    @property
    def targets(self) -> Mapping[str, int]:
        """How many letters go to which topic."""
        return targets_of(self.letters)


def targets_of(letters: Sequence[Letter]) -> Mapping[str, int]:
    """Return how many letters go to which topic when they are replayed."""
    return dict(sorted(Counter(letter.original[0] for letter in letters).items()))


async def replay_letters(
    running: Running,
    selection: Selection,
    how: How,
    act: Naming | None,
    tell: Callable[[ReplayPlan], None] = lambda _plan: None,
) -> ReplayPlan:
    """Write letters to where they came from, having told the plan; without `act` only plan. Raises Busy or NotWhole."""
    letters = await asyncio.to_thread(read_selected, running, selection)
    mended = None if how.repaired is None else read_repairs(how.repaired, letters)
    if mended is not None:
        letters = [record.letter for record in mended]
    async with connect(running, SCHEMA) as connection:
        await alone(connection)
        marks = await load_marks(connection, letters)
        replayer = Replayer(running, connection)
        cut_off = {letter: marks[letter.place] for letter in letters if state_of(letter, marks) is State.REPLAYING}
        undone = set(cut_off) if act is None else await replayer.settle(cut_off)
        waiting = [letter for letter in letters if state_of(letter, marks) is State.WAITING or letter in undone]
        ready = letters if how.forced else waiting
        plan = ReplayPlan(_records(ready, mended), len(letters) - len(ready))
        await replayer.check(plan.records)
        tell(plan)
        if act is None or not plan.records:
            return plan
        who, why = act()
        async with connection.transaction():
            detail = {"letters": [said for record in plan.records for said in _digests(record)], "forced": how.forced}
            about = _about(plan.letters)
            act_id = await record_act(connection, who=who, what="dlq replay", about=about, why=why, detail=detail)
        await replayer.replay(plan.records, act_id, how.per_second)
        await _forget_gone(running, connection)
        return plan


async def discard_letters(running: Running, selection: Selection, act: Naming | None) -> tuple[int, Sequence[Letter]]:
    """Set letters aside; without `act` only say which. Returns how many were asked for, and those that waited."""
    letters = await asyncio.to_thread(read_selected, running, selection)
    async with connect(running, SCHEMA) as connection:
        await alone(connection)
        marks = await load_marks(connection, letters)
        waiting = [letter for letter in letters if state_of(letter, marks) is State.WAITING]
        if act is None or not waiting:
            return len(letters), waiting
        who, why = act()
        async with connection.transaction():
            detail = {"letters": [letter.id for letter in waiting]}
            about = _about(waiting)
            act_id = await record_act(connection, who=who, what="dlq discard", about=about, why=why, detail=detail)
            await record_marks(connection, {letter: Mark(State.DISCARDED) for letter in waiting}, act_id)
        await _forget_gone(running, connection)
        return len(letters), waiting


async def _forget_gone(running: Running, connection: Connection) -> None:
    # Where the brokers do not say what is gone, nothing is forgotten: what was asked for is done.
    with suppress(NoAnswer):
        with asking(running):
            logs = await logs_of(runtime_settings(running.kafka, running.database), names_of(None))
        await forget_gone(connection, logs)


def _records(ready: Sequence[Letter], mended: Sequence[Record] | None) -> list[Record]:
    """Return what is to be written: mended records, or those that are whole as they were; raises NotWhole."""
    if mended is not None:
        are_ready = set(ready)
        return written_once(record for record in mended if record.letter in are_ready)
    for letter in ready:
        if letter.original[0] == UNSAID:
            raise NotWhole(f"{letter.id} does not say where it came from. `sluice dlq discard` sets it aside.")
        if letter.cut:
            raise NotWhole(
                f"{letter.id} was too large to be kept whole: its publisher must send it again. "
                "`sluice dlq discard` sets it aside."
            )
    return written_once(Record(letter, letter.value, letter.headers) for letter in ready)


def _digests(record: Record) -> list[dict[str, str]]:
    """Return which letters it is and a hash of what is written: the log holds no personal data."""
    digest = hashlib.sha256(record.value or b"").hexdigest()
    return [{"id": letter.id, "sha256": digest} for letter in record.letters]


def _about(letters: Sequence[Letter]) -> str:
    return letters[0].id if len(letters) == 1 else count_text(len(letters), "dead letter")
