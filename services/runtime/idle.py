"""How tasks of one batch make room for each other: by standing back, and by ending before the connection is needed."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

_Answer = TypeVar("_Answer")
_Made = TypeVar("_Made")

# A turn of the event loop in which only tasks like the caller looked around; others' work takes a millisecond or so.
_NOTHING_S: Final = 0.0002
_PATIENCE_S: Final = 0.05


async def let_others_run() -> None:
    """Let the tasks that are ready run, again and again until there are none that have much to do, for 50 ms at most.

    What publishes the last batch or decodes the next then stands back while one is decided, for which others wait.
    """
    began = now = time.perf_counter()
    while now - began < _PATIENCE_S:
        await asyncio.sleep(0)
        before, now = now, time.perf_counter()
        if now - before < _NOTHING_S:
            return


async def give_up(task: asyncio.Task[Any], because: type[BaseException]) -> None:
    """Wait, after an error, until a task leaves the connection alone; only a cancellation goes on to it."""
    if issubclass(because, asyncio.CancelledError):
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def make_beside(talk: Coroutine[Any, Any, _Answer], making: Coroutine[Any, Any, _Made]) -> tuple[_Answer, _Made]:
    """Make something beside a talk with the database; the connection is free again when this returns or raises."""
    task = asyncio.create_task(talk)
    try:
        made = await making
    except BaseException as error:
        await give_up(task, type(error))
        raise
    return await task, made
