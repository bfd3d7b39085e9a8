"""The terminal that people read, wide where nobody looks at its edges, and the JSON that programs read."""

from __future__ import annotations

import json
from dataclasses import asdict, is_dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any

import typer
from rich.console import Console

_PIPED_WIDTH = 200

Json = Annotated[bool, typer.Option("--json", help="Print JSON, amounts in minor units.")]
"""The option that every command has whose output a program may read."""


def terminal() -> Console:
    """Return a console of the terminal's width, or a wide one when the output goes to a file or a pipe."""
    found = Console(highlight=False, soft_wrap=False)
    return found if found.is_terminal else Console(highlight=False, width=_PIPED_WIDTH)


def print_json(value: Any) -> None:
    """Print a value as JSON: moments in UTC, what JSON does not know as text."""
    print(plain_json(value))  # noqa: T201 - the command's output


def plain_json(value: Any) -> str:
    """Return a value as JSON text: moments in UTC, dataclasses by their fields, what JSON does not know as text."""
    return json.dumps(value, default=_plain, indent=2, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else str(value)
