"""The lag of every group as Prometheus reads it: written straight as text, because there may be 10,000 positions."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

from ops.lag.model import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ops.lag.model import Row
    from ops.lag.watching import Looked

_OF_A_POSITION: Final[Mapping[str, tuple[str, Callable[[Row], float | None]]]] = {
    "sluice_group_lag_records": ("Records that a group has not processed.", lambda row: row.lag),
    "sluice_group_lag_seconds": (
        "Age of the oldest record that a group has not processed.",
        lambda row: row.lag_seconds,
    ),
    "sluice_group_rate_in": ("Records a second that come into what a group reads.", lambda row: row.rate_in),
    "sluice_group_rate_out": ("Records a second that a group commits.", lambda row: row.rate_out),
    "sluice_group_eta_seconds": (
        "In how long a group has caught up at these rates; missing where its backlog does not get smaller.",
        lambda row: row.eta_seconds,
    ),
    "sluice_group_verdict": (
        "; ".join(f"{verdict.rank} {verdict}" for verdict in Verdict) + ".",
        lambda row: row.verdict.rank,
    ),
}
_OWNER: Final = "sluice_group_owner_info"
_LONGEST_OWNER: Final = 100
_OF_A_LOOK: Final[Mapping[str, tuple[str, Callable[[Looked], float]]]] = {
    "sluice_lag_look_age_seconds": (
        "How long ago the brokers last told all of this; NaN before the first time.",
        lambda looked: max(0.0, time.time() - looked.at),
    ),
    "sluice_lag_look_seconds": (
        "How long the last look took; NaN before the first time.",
        lambda looked: looked.took_s,
    ),
}
LAG_NAMES: Final = frozenset((*_OF_A_POSITION, _OWNER, *_OF_A_LOOK))
"""Every metric that is written here."""

_ESCAPED: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class LagText:
    """The newest look in the text format; however many ask, what it says of positions is written once."""

    def __init__(self) -> None:
        self._looked: Looked | None = None
        self._of_positions = _text_of(())

    def of(self, looked: Looked | None) -> tuple[bytes, bytes]:
        """Return it in two parts; before the first look the figures of a look are NaN and there is no other."""
        if looked is not self._looked:
            self._looked, self._of_positions = looked, _text_of(() if looked is None else looked.rows)
        return self._of_positions, "".join(_of_a_look(looked)).encode()


def _text_of(rows: Sequence[Row]) -> bytes:
    written = bytearray()
    places = [_place(row) for row in rows]
    for name, (about, value) in _OF_A_POSITION.items():
        written += _head(name, about)
        for place, row in zip(places, rows, strict=True):
            if (found := value(row)) is not None:
                written += f"{name}{{{place}}} {found:.16g}\n".encode()
    written += _head(_OWNER, "1 for the member of a group that has the partition.")
    for place, row in zip(places, rows, strict=True):
        if row.owner is not None:
            written += f'{_OWNER}{{{place},owner="{_escaped(row.owner[:_LONGEST_OWNER])}"}} 1\n'.encode()
    return bytes(written)


def _of_a_look(looked: Looked | None) -> Iterator[str]:
    for name, (about, figure) in _OF_A_LOOK.items():
        found = math.nan if looked is None else figure(looked)
        yield f"{_head(name, about).decode()}{name} {'NaN' if math.isnan(found) else format(found, '.16g')}\n"


def _head(name: str, about: str) -> bytes:
    return f"# HELP {name} {about}\n# TYPE {name} gauge\n".encode()


def _place(row: Row) -> str:
    return f'group="{_escaped(row.group)}",topic="{_escaped(row.topic)}",partition="{row.partition}"'


def _escaped(text: str) -> str:
    return text.translate(_ESCAPED)
