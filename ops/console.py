"""The terminal that people read; wide where nobody looks at its edges."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

_PIPED_WIDTH = 200

Json = Annotated[bool, typer.Option("--json", help="Print JSON, amounts in minor units.")]
"""The option that every command has whose output a program may read."""


def console() -> Console:
    """Return a console of the terminal's width, or a wide one when the output goes to a file or a pipe."""
    found = Console(highlight=False, soft_wrap=False)
    return found if found.is_terminal else Console(highlight=False, width=_PIPED_WIDTH)
