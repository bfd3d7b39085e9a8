"""Runs `sluice` in the test's own process: a new one for each command would take most of the time."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING, NamedTuple

import pytest

from ops.cli import main

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Done(NamedTuple):
    """What a command printed, and how it ended."""

    returncode: int
    stdout: str
    stderr: str


def run(environment: Mapping[str, str], words: Sequence[str]) -> Done:
    """Run a command in an environment of its own; in an asynchronous test, beside its event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run(environment, words)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_run, environment, words).result()


def _run(environment: Mapping[str, str], words: Sequence[str]) -> Done:
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(StringIO()) as stdout,
        redirect_stderr(StringIO()) as stderr,
    ):
        for name, value in {"COLUMNS": "200", **environment}.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["sluice", *words])
        try:
            main()
        except SystemExit as ended:
            return Done(int(ended.code or 0), stdout.getvalue(), stderr.getvalue())
    return Done(0, stdout.getvalue(), stderr.getvalue())
