"""The targets of the Makefile start what they say."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize(
    ("words", "runs"),
    [
        (["demo"], "sluice demo"),
        (["demo", "--keep"], "sluice demo --keep"),
        (["demo", "--no-print-directory"], "sluice demo"),
        (["up"], "sluice up"),
    ],
)
def test_make_starts_the_demo_or_everything_and_keeps_it_where_it_is_told_to(words: list[str], runs: str) -> None:
    # The tests may run under make themselves, which has its own flags and depth.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        ["make", "--dry-run", *words], cwd=FOLDER, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1].strip() == f".venv/bin/{runs}"
