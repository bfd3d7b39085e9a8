"""Keeps processes running: each slot's is started again when it ends, later each time, 5 seconds at most."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING, Any, Final

from local.lifeline import die_with_parent
from ops.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_FIRST_DELAY_S: Final = 0.2
_LAST_DELAY_S: Final = 5.0
_RAN_WELL_S: Final = 20.0
_LOG_BYTES: Final = 10_000_000
_CHUNK_BYTES: Final = 65_536
_QUOTED_BYTES: Final = 1_000
_MISCONFIGURED: Final = 2


class Misconfigured(UserError):
    """A process says that a person must mend its settings; the text is what it said."""

    exit_code = 2


@dataclass(slots=True)
class Slot:
    """A place for one process; `announced` is what its latest process said of itself once it was up."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    process: asyncio.subprocess.Process | None = None
    announced: dict[str, Any] | None = None
    last_words: bytes = b""

    @property
    def is_up(self) -> bool:
        """Whether the present process has announced itself."""
        if self.process is None or self.process.returncode is not None or self.announced is None:
            return False
        return bool(self.announced["pid"] == self.process.pid)

    def quote(self) -> str:
        """Return the last line that the process logged; empty when it said nothing."""
        lines = self.last_words.decode("utf-8", "replace").splitlines()
        return lines[-1] if lines else ""


class _Log(RotatingFileHandler):
    """A log that says once that it cannot be written, and is written again when it can."""

    terminator = ""

    def __init__(self, path: Path, tell: Callable[[str], None]) -> None:
        super().__init__(path, maxBytes=_LOG_BYTES, backupCount=2, delay=True)
        # There for who looks, also before anything is said.
        with suppress(OSError):
            path.touch()
        self._tell = tell
        self._is_failing = False

    def flush(self) -> None:
        """Note that it can be written."""
        super().flush()
        if self.stream is not None:
            self._is_failing = False

    def handleError(self, _record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Let go of what could not be written, so that it does not pile up in memory."""
        if not self._is_failing:
            self._is_failing = True
            self._tell(f"{self.baseFilename} cannot be written: {sys.exc_info()[1]}; what it misses is lost")
        stream, self.stream = self.stream, None
        with suppress(OSError):
            if stream is not None:
                stream.close()


class Keeper:
    """Runs a slot's processes one after the other until told to stop."""

    def __init__(self, slot: Slot, on_change: Callable[[], None], tell: Callable[[str], None]) -> None:
        self._slot = slot
        self._on_change = on_change
        self._tell = tell
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Keep the slot filled; raises Misconfigured when starting again cannot help."""
        delay_s = _FIRST_DELAY_S
        while not self._stopping.is_set():
            started = time.monotonic()
            code = await self._run_once()
            if self._stopping.is_set():
                return
            if code == _MISCONFIGURED:
                raise Misconfigured(self._slot.quote() or f"{self._slot.name} is misconfigured.")
            if time.monotonic() - started > _RAN_WELL_S:
                delay_s = _FIRST_DELAY_S
            self._tell(f"{self._slot.name} ended ({_how(code)}); it is started again in {delay_s:g} s")
            with suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._stopping.wait()
            delay_s = min(delay_s * 2, _LAST_DELAY_S)

    async def _run_once(self) -> int:
        slot = self._slot
        slot.process = await asyncio.create_subprocess_exec(
            *slot.command,
            env=dict(slot.environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # Ctrl-C in the terminal reaches the supervisor alone, which knows the order.
            start_new_session=True,
            # What is killed loses nothing, and what hangs must not stay.
            preexec_fn=die_with_parent(signal.SIGKILL),
        )
        if self._stopping.is_set():
            slot.process.terminate()
        async with asyncio.TaskGroup() as reading:
            reading.create_task(self._listen(slot.process.stdout))
            reading.create_task(self._write_log(slot.process.stderr))
        return await slot.process.wait()

    async def _listen(self, output: asyncio.StreamReader | None) -> None:
        while output is not None and (line := await output.readline()):
            with suppress(json.JSONDecodeError):
                said = json.loads(line)
                if isinstance(said, dict) and "service" in said and "pid" in said:
                    self._slot.announced = said
                    self._on_change()

    async def _write_log(self, output: asyncio.StreamReader | None) -> None:
        handler = _Log(self._slot.log, self._tell)
        try:
            # Not by lines: one may be longer than what a reader holds.
            while output is not None and (chunk := await output.read(_CHUNK_BYTES)):
                self._slot.last_words = (self._slot.last_words + chunk)[-_QUOTED_BYTES:]
                text = chunk.decode("utf-8", "replace")
                handler.emit(logging.LogRecord("", logging.INFO, "", 0, text, None, None))
        finally:
            handler.close()

    async def stop(self, timeout_s: float) -> None:
        """Ask the present process to end, and end it when it does not in time."""
        self._stopping.set()
        process = self._slot.process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(timeout_s):
                await process.wait()
        except TimeoutError:
            self._tell(f"{self._slot.name} did not stop within {timeout_s:g} s and is killed")
            with suppress(ProcessLookupError):
                process.kill()


def _how(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
