"""An engine's process: started apart from the terminal, found again after a crash of whoever started it."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import psutil

from local.lifeline import die_with_parent
from ops.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_POLL_S: Final = 0.05
_LOWEST_PORT: Final = 10_000
_HIGHEST_PORT: Final = 32_000
_READY_WITHIN_S: Final = 60
_STOPS_WITHIN_S: Final = 30
_LINES_QUOTED: Final = 15


class EngineError(UserError):
    """An engine did not start or stop; the text says which, why, and where its log is."""


@dataclass(frozen=True, slots=True)
class Command:
    """How an engine is started; it runs in its own session, so that Ctrl-C reaches only the supervisor."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    directory: Path
    user: int | None = None
    group: int | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    """What has it stop in good order without waiting for its clients."""

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.directory / f"{self.name}.log"

    @property
    def pid_file(self) -> Path:
        """Where its process id and start time stand."""
        return self.directory / f"{self.name}.pid"


class Engine:
    """A running engine; as a context manager it stops at the end.

    Making one starts it and waits until it answers; a leftover of an earlier run is ended first. Raises EngineError
    with the log's last lines when it ends or is silent too long.
    """

    def __init__(self, command: Command, is_ready: Callable[[], bool]) -> None:
        self._command = command
        self._is_ready = is_ready
        self._process = _start(command, is_ready)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Tell whether the process still runs."""
        return self._process.poll() is None

    def stop(self) -> None:
        """Ask the process to end, without waiting for clients, and end it when it does not in time."""
        with suppress(ProcessLookupError):
            self._process.send_signal(self._command.stop_signal)
        try:
            self._process.wait(_STOPS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._command.pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Start again on the same port with the same data."""
        if self.is_alive():
            self.stop()
        self._process = _start(self._command, self._is_ready)

    def __enter__(self) -> Self:
        """Return the engine."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the engine."""
        self.stop()


def _start(command: Command, is_ready: Callable[[], bool]) -> subprocess.Popen[bytes]:
    command.directory.mkdir(parents=True, exist_ok=True)
    end_leftover(command)
    if command.log.exists():
        # Why the last one ended stands at its end.
        command.log.replace(command.log.with_suffix(".log.1"))
    with command.log.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command line
            command.arguments,
            env=dict(command.environment),
            cwd=command.directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=command.user,
            group=command.group,
            preexec_fn=die_with_parent(command.stop_signal),  # noqa: PLW1509 - one system call, nothing else
        )
    try:
        command.pid_file.write_text(f"{process.pid} {psutil.Process(process.pid).create_time()}\n")
        _wait_until_ready(command, process, is_ready)
    except BaseException:
        # Also when whoever waits is told to stop.
        process.kill()
        process.wait()
        raise
    return process


def _wait_until_ready(command: Command, process: subprocess.Popen[bytes], is_ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    while not is_ready():
        code = process.poll()
        if code is not None or time.monotonic() > deadline:
            state = "is silent" if code is None else f"ended with {code}"
            raise EngineError(f"{command.name} {state}; the end of {command.log}:\n{_tail(command.log)}")
        time.sleep(_POLL_S)


def end_leftover(command: Command) -> None:
    """End the engine that an earlier run left behind; a number that another process has by now is left alone."""
    try:
        number, started = command.pid_file.read_text().split()
        process = psutil.Process(int(number))
        if abs(process.create_time() - float(started)) < 1:
            process.send_signal(command.stop_signal)
            process.wait(20)
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        pass
    except psutil.TimeoutExpired:
        process.kill()
        process.wait(20)
    command.pid_file.unlink(missing_ok=True)


def _tail(path: Path) -> str:
    return "\n".join(path.read_text("utf-8", "replace").splitlines()[-_LINES_QUOTED:])


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on.

    It is below those that systems give to outgoing connections: one of these could take it before it is used.
    """
    while True:
        port = random.randint(_LOWEST_PORT, _HIGHEST_PORT)  # noqa: S311 - no secret
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def accepts(port: int) -> bool:
    """Tell whether somebody listens on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment with additions."""
    return dict(os.environ) | more
