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
        self._of_positions = list(_texts(()))

    def of(self, looked: Looked | None) -> list[bytes]:
        """Return it in parts; before the first look the figures of a look are NaN and there is no other."""
        if looked is not self._looked:
            # A large page is not kept beside the next one.
            self._looked, self._of_positions = looked, []
            self._of_positions = list(_texts(() if looked is None else looked.rows))
        return [*self._of_positions, "".join(_of_a_look(looked)).encode()]


def _texts(rows: Sequence[Row]) -> Iterator[bytes]:
    """Yield the text of each metric that positions have."""
    for name, (about, value) in _OF_A_POSITION.items():
        lines = (f"{name}{{{_place(row)}}} {found:.16g}\n" for row in rows if (found := value(row)) is not None)
        yield "".join((_head(name, about), *lines)).encode()
    owned = (
        f'{_OWNER}{{{_place(row)},owner="{_escaped(row.owner[:_LONGEST_OWNER])}"}} 1\n'
        for row in rows
        if row.owner is not None
    )
    yield "".join((_head(_OWNER, "1 for the member of a group that has the partition."), *owned)).encode()


def _of_a_look(looked: Looked | None) -> Iterator[str]:
    for name, (about, figure) in _OF_A_LOOK.items():
        found = math.nan if looked is None else figure(looked)
        yield f"{_head(name, about)}{name} {'NaN' if math.isnan(found) else format(found, '.16g')}\n"


def _head(name: str, about: str) -> str:
    return f"# HELP {name} {about}\n# TYPE {name} gauge\n"


def _place(row: Row) -> str:
    return f'group="{_escaped(row.group)}",topic="{_escaped(row.topic)}",partition="{row.partition}"'


def _escaped(text: str) -> str:
    return text.translate(_ESCAPED)
