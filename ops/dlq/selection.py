"""Which dead letters a command is about: by id, or by topic, reason, time and key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ops.dlq.letters import Letter, names_of
from ops.dlq.marks import Mark, State
from ops.errors import UserError
from services.runtime.topics import Place

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from ops.dlq.letters import Span

Topic = Annotated[str | None, typer.Option(help="Such as transfer.commands.")]
Reason = Annotated[str | None, typer.Option(help="Such as malformed, unknown_type or unexpected.")]
Key = Annotated[str | None, typer.Option(help="The record's whole key, such as wallet:6222020000000001.")]
Since = Annotated[
    str | None, typer.Option(help="Rejected at or after: 2026-11-23T08:30, as clocks in Shanghai show it.")
]
Until = Annotated[str | None, typer.Option(help="Rejected before that time.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="As `sluice dlq ls` lists them.")]

_ID_PARTS: Final = 3


class NoSuchLetter(UserError):
    """There is no such dead letter, or an id is none; the text says which."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Selection:
    """What is asked for; every part that is given must hold."""

    topic: str | None = None
    reason: str | None = None
    key: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    ids: frozenset[str] = field(default_factory=frozenset)

    @property
    def is_everything(self) -> bool:
        """Whether nothing is asked for in particular."""
        return self == Selection()

    def topics(self) -> Sequence[str]:
        """Return the dead-letter topics to read; raises NoSuchTopic, or NoSuchLetter for an id that is none."""
        if not self.ids:
            return names_of(self.topic)
        return sorted({name for each in self.ids for name in names_of(_topic_of(each))})

    def spans(self) -> Mapping[Place, Span] | None:
        """Return where the letters with these ids stand; None where none are named, and every letter is looked at."""
        if not self.ids:
            return None
        offsets: dict[Place, list[int]] = {}
        for each in self.ids:
            topic, partition, offset = each.split("/")
            offsets.setdefault(Place(topic, int(partition)), []).append(int(offset))
        return {place: (min(of_place), max(of_place) + 1) for place, of_place in offsets.items()}

    def wants(self, letter: Letter) -> bool:
        """Tell whether a letter is asked for."""
        return (
            (not self.ids or letter.id in self.ids)
            and (self.topic is None or letter.topic in names_of(self.topic))
            and (self.reason is None or letter.reason == self.reason)
            and (self.key is None or (letter.key or b"") == self.key.encode())
            and (self.since is None or letter.at >= self.since)
            and (self.until is None or letter.at < self.until)
        )

    def check_found(self, letters: Collection[Letter]) -> None:
        """Raise NoSuchLetter for an id that was not found."""
        if missing := sorted(self.ids - {letter.id for letter in letters}):
            raise NoSuchLetter(f"There is no dead letter {missing[0]}: `sluice dlq ls` lists those there are.")


def _topic_of(letter_id: str) -> str:
    parts = letter_id.split("/")
    if len(parts) != _ID_PARTS or not all(part.isdecimal() for part in parts[1:]):
        raise NoSuchLetter(f"{letter_id!r} is no dead letter's id: write it like transfer.commands.dlq/0/17.")
    return parts[0]


def state_of(letter: Letter, marks: Mapping[tuple[str, int, int], Mark]) -> State:
    """Return what became of a letter."""
    mark = marks.get(letter.place)
    return State.WAITING if mark is None else mark.state
