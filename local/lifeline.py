"""Keeps children from outliving whoever started them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_PDEATHSIG: Final = 1
# Loaded here: between fork and exec nothing may be.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent(number: signal.Signals = signal.SIGTERM) -> Callable[[], None]:
    """Return what a child runs before it becomes another program, to be signalled when this thread ends.

    The kernel watches the thread that starts the child, not the process. Only Linux can.
    """
    parent = os.getpid()

    def watch() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, number)
            if os.getppid() != parent:
                # It ended before the kernel was told to watch.
                os.kill(os.getpid(), signal.SIGKILL)

    return watch
