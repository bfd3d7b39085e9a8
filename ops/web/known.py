"""What the public page knows of windows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(slots=True)
class Known:
    """The windows as they were a moment ago: however many look, the database is asked once."""

    at: float = float("-inf")
    windows: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
