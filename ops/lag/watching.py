"""Looks at the lag over and over in a thread of its own, and keeps the newest answer for whoever asks."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import structlog

from ops.lag.apart import LookFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.lag.model import Row

_LOG = structlog.stdlib.get_logger(__name__)


class Looks(Protocol):
    """What is looked by, such as a CollectorApart."""

    looked_at: float

    def collect(self) -> list[Row]:
        """Look once; raises LookFailed."""

    def close(self) -> None:
        """Let go of what it holds."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look has found: at `at` (seconds since 1970), in so many seconds."""

    at: float
    took_s: float
    rows: Sequence[Row]


class Watch:
    """As a context manager it looks every `interval_s`; whatever a look fails of, the next one is made."""

    def __init__(self, collector: Looks, interval_s: float) -> None:
        self._collector = collector
        self._interval_s = interval_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lag", daemon=True)
        self.newest: Looked | None = None
        """None until the first look has ended; an old one says that the brokers do not answer."""
        self.problem = ""
        """Why the last look failed; empty where it did not."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stopping.set()
        self._collector.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            started = time.monotonic()
            self._look(started)
            self._stopping.wait(max(0.0, self._interval_s - (time.monotonic() - started)))

    def _look(self, started: float) -> None:
        try:
            rows = self._collector.collect()
        except LookFailed as error:
            self.problem = str(error)
            if not self._stopping.is_set():
                _LOG.warning("lag_not_read", why=self.problem)
        except Exception as error:  # noqa: BLE001 - a mistake is told here and by healthz, and ends no watch
            self.problem = f"a look is broken ({type(error).__name__})"
            _LOG.error("lag_look_broken", exc_info=error)
        else:
            self.problem = ""
            self.newest = Looked(self._collector.looked_at, time.monotonic() - started, rows)
