"""A collector in a process of its own, for those who serve: Kafka's client may end the process that it is in.

What asks a group's coordinator aborts where the broker goes away at the wrong moment (librdkafka, issue 4605). A look
is lost then; the next one starts another process, which knows nothing of the last minute.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Final

from local.lifeline import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from ops.lag.model import Row

_ANSWERS_WITHIN_S: Final = 120.0
_ENDS_WITHIN_S: Final = 5.0


class LookFailed(Exception):
    """A look found nothing; the text says why."""


class CollectorApart:
    """Looks as a Collector with the same arguments does; who is paused is told to it before each look."""

    def __init__(
        self,
        options: Mapping[str, Any],
        expected: Mapping[str, Collection[str]],
        *,
        paused: Callable[[], Mapping[str, str]],
    ) -> None:
        self._options = dict(options)
        self._expected = dict(expected)
        self._paused = paused
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self.looked_at = float("-inf")
        """The moment that the newest ages are told for, in seconds since 1970."""

    def collect(self) -> list[Row]:
        """Look once, and return a row a position; raises LookFailed. To be called in one thread alone."""
        try:
            connection = self._connection or self._begin()
            connection.send(dict(self._paused()))
            if connection.poll(_ANSWERS_WITHIN_S):
                answer = connection.recv()
            else:
                # What it says later would be taken for the answer to the next look.
                self._end()
                answer = "a look has not ended in time"
        except (OSError, EOFError):
            answer = f"the process that looks has ended ({self._end()})"
        if isinstance(answer, str):
            raise LookFailed(answer)
        self.looked_at, rows = answer
        return rows  # type: ignore[no-any-return]  # as `ops.lag.looking` sends them

    def close(self) -> None:
        """End the process; it has nothing to lose."""
        if self._process is not None:
            self._process.kill()

    def _begin(self) -> Connection:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                [sys.executable, "-m", "ops.lag.looking", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                # It asks by many threads, and each would keep memory of its own.
                env={**os.environ, "MALLOC_ARENA_MAX": "2"},
                preexec_fn=die_with_parent(signal.SIGKILL),  # noqa: PLW1509 - it calls the kernel, and nothing else
            )
        self._connection = connection = Connection(ours.detach())
        connection.send((self._options, self._expected))
        return connection

    def _end(self) -> str:
        """Return how the process has ended."""
        process, self._process = self._process, None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if process is None:
            return "it did not begin"
        with suppress(subprocess.TimeoutExpired):
            process.wait(_ENDS_WITHIN_S)
        process.kill()
        code = process.wait()
        return signal.Signals(-code).name if code < 0 else f"exit {code}"
