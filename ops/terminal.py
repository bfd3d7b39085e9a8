"""The terminal that people read, wide where nobody looks at its edges, and the JSON that programs read."""

from __future__ import annotations

import json
from dataclasses import asdict, is_dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.padding import Padding
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderResult
    from rich.table import Column, Table

_PIPED_WIDTH: Final = 200
_LEAST_FOLDED: Final = 16
_UNBOUNDED: Final = 10_000
_GAP: Final = 2
_WRITTEN_OUT: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}

Json = Annotated[bool, typer.Option("--json", help="Print JSON, amounts in minor units.")]
"""The option that every command has whose output a program may read."""


class _Console(Console):
    """Writes out a terminal's control characters: texts may come from anybody, and are shown, not obeyed."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(text.translate(_WRITTEN_OUT), **options)


def terminal() -> Console:
    """Return a console of the terminal's width, or a wide one when the output goes to a file or a pipe."""
    found = _Console(highlight=False, soft_wrap=False)
    return found if found.is_terminal else _Console(highlight=False, width=_PIPED_WIDTH)


class Fitted:
    """A table where its words fit beside one another, else its rows one below the other: ids stay whole.

    Columns that fold (`overflow="fold"`) may break anywhere: texts that nobody copies.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = self._table.columns
        sizes = [_size(column, console, options) for column in columns]
        excess = sum(size.maximum for size in sizes) + _GAP * (len(sizes) - 1) - options.max_width
        for column, size in sorted(zip(columns, sizes, strict=True), key=lambda each: each[0].overflow != "fold"):
            taken = min(max(excess, 0), size.maximum - size.minimum)
            column.width, excess = size.maximum - taken, excess - taken
        if excess <= 0:
            yield self._table
            return
        names = [str(column.header) for column in columns]
        for cells in zip(*(column.cells for column in columns), strict=True):
            texts = [console.render_str(str(cell)) for cell in cells]
            first, *others = [(name, text) for name, text in zip(names, texts, strict=True) if text]
            yield first[1]
            said = [Text.assemble((f"{name} ", "dim"), text) for name, text in others]
            yield Padding(Text(" · ").join(said), (0, 0, 0, _GAP))


def _size(column: Column, console: Console, options: ConsoleOptions) -> Measurement:
    """Return the width of a column's longest word, or of as much as a text may be folded to, and that of its texts."""
    texts = [console.render_str(str(cell)) for cell in (column.header, *column.cells)]
    sizes = [Measurement.get(console, options.update(width=_UNBOUNDED), text) for text in texts]
    most = max(size.maximum for size in sizes)
    least = most if column.no_wrap else max(size.minimum for size in sizes)
    return Measurement(min(_LEAST_FOLDED, most) if column.overflow == "fold" else least, most)


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print a value as JSON at once, without an indent on one line."""
    print(plain_json(value, indent=indent), flush=True)  # noqa: T201 - the command's output


def plain_json(value: Any, *, indent: int | None = 2) -> str:
    """Return a value as JSON text: moments in UTC, dataclasses by their fields, what JSON does not know as text."""
    return json.dumps(value, default=_plain, indent=indent, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else str(value)
