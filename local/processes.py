"""Keeps processes running: each slot's is started again when it ends, later each time, 5 seconds at most."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING, Any, Final

from local.lifeline import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_FIRST_DELAY_S: Final = 0.2
_LAST_DELAY_S: Final = 5.0
_RAN_WELL_S: Final = 20.0
_LOG_BYTES: Final = 10_000_000
_MISCONFIGURED: Final = 2


class Misconfigured(Exception):
    """A process says that a person must mend its settings; the text is what it said."""


@dataclass(slots=True)
class Slot:
    """A place for one process; `announced` is the JSON line that its present process said when it was up."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    process: asyncio.subprocess.Process | None = None
    announced: dict[str, Any] | None = None
    last_words: list[str] = field(default_factory=list)


class Keeper:
    """Runs a slot's processes one after the other until told to stop."""

    def __init__(self, slot: Slot, on_change: Callable[[], None], tell: Callable[[str], None]) -> None:
        self._slot = slot
        self._on_change = on_change
        self._tell = tell
        self._is_stopping = False

    async def run(self) -> None:
        """Keep the slot filled; raises Misconfigured when starting again cannot help."""
        delay_s = _FIRST_DELAY_S
        while not self._is_stopping:
            started = time.monotonic()
            code = await self._run_once()
            if self._is_stopping:
                return
            if code == _MISCONFIGURED:
                raise Misconfigured(" ".join(self._slot.last_words[-3:]) or f"{self._slot.name} is misconfigured")
            if time.monotonic() - started > _RAN_WELL_S:
                delay_s = _FIRST_DELAY_S
            self._tell(f"{self._slot.name} ended ({_how(code)}); it is started again in {delay_s:g} s")
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, _LAST_DELAY_S)

    async def _run_once(self) -> int:
        slot = self._slot
        slot.process = await asyncio.create_subprocess_exec(
            *slot.command,
            env=dict(slot.environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        if self._is_stopping:
            slot.process.terminate()
        async with asyncio.TaskGroup() as reading:
            reading.create_task(self._listen(slot.process.stdout))
            reading.create_task(self._write_log(slot.process.stderr))
        code = await slot.process.wait()
        slot.announced = None
        return code

    async def _listen(self, output: asyncio.StreamReader | None) -> None:
        while output is not None and (line := await output.readline()):
            with suppress(json.JSONDecodeError):
                self._slot.announced = json.loads(line)
                self._on_change()

    async def _write_log(self, output: asyncio.StreamReader | None) -> None:
        handler = RotatingFileHandler(self._slot.log, maxBytes=_LOG_BYTES, backupCount=2)
        try:
            while output is not None and (line := await output.readline()):
                text = line.decode("utf-8", "replace").rstrip("\n")
                self._slot.last_words = [*self._slot.last_words[-4:], text]
                handler.emit(logging.LogRecord("", logging.INFO, "", 0, text, None, None))
        finally:
            handler.close()

    async def stop(self, timeout_s: float) -> None:
        """Ask the present process to end, and end it when it does not in time."""
        self._is_stopping = True
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
