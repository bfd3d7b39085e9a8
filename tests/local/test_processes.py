"""Keeping a process running, with small programs in place of the services."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from local.processes import Keeper, Misconfigured, Slot
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ANNOUNCE = "import json, os, sys, time; print(json.dumps({'service': 'toy', 'pid': os.getpid()}), flush=True); "


def slot_of(program: str, folder: Path) -> Slot:
    return Slot("toy", [sys.executable, "-c", program], os.environ, folder / "toy.log")


@asynccontextmanager
async def kept(slot: Slot, told: list[str]) -> AsyncIterator[asyncio.Task[None]]:
    keeper = Keeper(slot, lambda: None, told.append)
    running = asyncio.create_task(keeper.run())
    try:
        yield running
    finally:
        await keeper.stop(0.5)
        await asyncio.wait([running], timeout=10)
        assert running.done()


async def test_a_process_that_keeps_ending_is_started_later_each_time(tmp_path: Path) -> None:
    told: list[str] = []
    async with kept(slot_of("raise SystemExit(7)", tmp_path), told):

        async def has_waited_long() -> bool:
            return len(told) >= 4

        await wait_until(has_waited_long, deadline_s=20)
    delays = [line.rpartition("in ")[2] for line in told[:4]]
    assert delays == ["0.2 s", "0.4 s", "0.8 s", "1.6 s"]
    assert "exit code 7" in told[0]


async def test_a_process_that_is_misconfigured_is_not_started_again(tmp_path: Path) -> None:
    program = "import sys; sys.stderr.write('The setting X is wrong.\\n'); sys.exit(2)"
    async with kept(slot_of(program, tmp_path), []) as running:
        with pytest.raises(Misconfigured, match="The setting X is wrong"):
            await running


async def test_lines_of_any_length_reach_the_log_which_is_bounded(tmp_path: Path) -> None:
    program = (
        ANNOUNCE
        + "sys.stderr.write('x' * 45_000_000); sys.stderr.flush(); sys.stderr.write('\\nthe end\\n'); time.sleep(60)"
    )
    slot = slot_of(program, tmp_path)
    async with kept(slot, []):

        async def is_written() -> bool:
            return slot.quote() == "the end"

        await wait_until(is_written, deadline_s=30)
        assert slot.is_up
    sizes = [entry.stat().st_size for entry in os.scandir(tmp_path)]
    assert len(sizes) == 3
    assert sum(sizes) < 31_000_000


async def test_a_process_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    slot = slot_of(
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + ANNOUNCE + "time.sleep(60)", tmp_path
    )
    told: list[str] = []
    async with kept(slot, told):

        async def is_up() -> bool:
            return slot.is_up

        await wait_until(is_up)
    assert slot.process is not None
    assert slot.process.returncode == -9
    assert told == ["toy did not stop within 0.5 s and is killed"]


async def test_a_log_that_cannot_be_written_is_said_once_and_is_written_again(tmp_path: Path) -> None:
    program = ANNOUNCE + "[(sys.stderr.write('a line\\n'), sys.stderr.flush(), time.sleep(0.02)) for _ in range(3000)]"
    slot = slot_of(program, tmp_path)
    slot.log.symlink_to("/dev/full")
    told: list[str] = []
    async with kept(slot, told):

        async def is_told() -> bool:
            return bool(told)

        await wait_until(is_told)
        slot.log.unlink()

        async def is_written() -> bool:
            return slot.log.exists() and "a line" in slot.log.read_text()

        await wait_until(is_written)
    (said,) = told
    assert "No space left on device" in said
