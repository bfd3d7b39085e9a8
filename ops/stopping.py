"""Ends a command in order that is told to stop, by Ctrl-C or SIGTERM."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


class ToldToStop(KeyboardInterrupt):
    """The process was sent a signal: whoever is passed on the way out tidies up."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def ending_in_order(says: str) -> Iterator[None]:
    """Have both signals leave the body by an exception, say a sentence, and exit as the shell calls it: 130 or 143.

    Impatience meanwhile would only leave things behind: what comes after the first signal changes nothing.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, _tell_to_stop) for number in numbers}
    try:
        yield
    except ToldToStop as told:
        sys.stderr.write(f"{says}\n")
        sys.exit(128 + told.number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell_to_stop(number: int, _frame: FrameType | None) -> None:
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise ToldToStop(number)
