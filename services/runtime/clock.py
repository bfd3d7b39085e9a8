"""The one clock that every timer, expiry and business day reads: real, or moved by the offset in a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol


class ClockError(ValueError):
    """The setting names no clock."""


class Clock(Protocol):
    """Tells the time that the services live in."""

    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""


class RealClock:
    """The machine's time."""

    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""
        return datetime.now(UTC)


@dataclass(slots=True)
class FileClock:
    """The machine's time moved by the seconds that a file holds; no file or an empty one moves nothing.

    The file is read at every question, so that one write moves every process that shares it.
    """

    path: Path
    _offset: timedelta = field(default=timedelta(0), init=False)

    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""
        self._offset = self._read()
        return datetime.now(UTC) + self._offset

    def _read(self) -> timedelta:
        try:
            return timedelta(seconds=float(self.path.read_text(encoding="ascii") or 0))
        except FileNotFoundError:
            return timedelta(0)
        except ValueError:
            # Somebody is writing it just now: the last good reading holds.
            return self._offset


def clock_from_setting(text: str) -> Clock:
    """Return the clock that `real` or `file:<path>` names; ClockError for anything else."""
    if text == "real":
        return RealClock()
    scheme, _, path = text.partition(":")
    if scheme != "file" or not path:
        raise ClockError("a clock is 'real' or 'file:<path>'")
    return FileClock(Path(path))
