"""A folder for as long as it is needed."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a new folder that is gone at the end, also when the process is told to stop while it goes."""
    path = Path(tempfile.mkdtemp(prefix="sluice-"))
    try:
        yield path
    finally:
        try:
            shutil.rmtree(path)
        except KeyboardInterrupt:
            shutil.rmtree(path)
            raise
