"""The lag of every group as Prometheus reads it: written straight as text, because there may be 10,000 positions."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

from ops.lag.model import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ops.lag.model import Row
    from ops.lag.watching import Looked

_OF_A_POSITION: Final[Mapping[str, tuple[str, Callable[[Row], float]]]] = {
    "sluice_group_lag_records": ("Records that a group has not processed.", lambda row: row.lag),
    "sluice_group_lag_seconds": (
        "Age of the oldest record that a group has not processed.",
        lambda row: row.lag_seconds,
    ),
    "sluice_group_verdict": (
        "; ".join(f"{verdict.rank} {verdict}" for verdict in Verdict) + ".",
        lambda row: row.verdict.rank,
    ),
}
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
LAG_NAMES: Final = frozenset((*_OF_A_POSITION, *_OF_A_LOOK))
"""Every metric that is written here."""

_ESCAPED: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def lag_text(looked: Looked | None) -> str:
    """Return the newest look in the text format; without one the figures of a look are NaN and there is no other."""
    return "".join(_lines(looked))


def _lines(looked: Looked | None) -> Iterator[str]:
    rows = [] if looked is None else [(_labels(row), row) for row in looked.rows]
    for name, (about, value) in _OF_A_POSITION.items():
        yield from _head(name, about)
        yield from (f"{name}{labels} {value(row):.16g}\n" for labels, row in rows)
    for name, (about, figure) in _OF_A_LOOK.items():
        yield from _head(name, about)
        found = math.nan if looked is None else figure(looked)
        yield f"{name} {'NaN' if math.isnan(found) else format(found, '.16g')}\n"


def _head(name: str, about: str) -> Iterator[str]:
    yield f"# HELP {name} {about}\n# TYPE {name} gauge\n"


def _labels(row: Row) -> str:
    group, topic = row.group.translate(_ESCAPED), row.topic.translate(_ESCAPED)
    return f'{{group="{group}",topic="{topic}",partition="{row.partition}"}}'
