"""How values are printed for programs: as JSON."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any


def print_json(value: Any) -> None:
    """Print a value as JSON; moments in UTC, what JSON has no word for as text."""
    print(json.dumps(value, default=_plain, indent=2, ensure_ascii=False))  # noqa: T201 - the command's output


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else str(value)
