"""Writes files that only their owner reads, never half."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write_privately(path: Path, text: str) -> None:
    """Write a file of mode 0600 in one step: a reader sees what was there before, or all of the text."""
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.unlink(missing_ok=True)
    half.touch(mode=0o600)
    half.write_text(text, "utf-8")
    half.replace(path)
