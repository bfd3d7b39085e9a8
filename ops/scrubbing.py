"""`sluice scrub`: clears what erasures leave in the database's files: dead rows, and logs that may be written again."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg
from rich.table import Table

from ops.console import Json, console, print_json
from ops.database import connect
from ops.errors import UserError
from ops.running import find_running
from services.runtime.database import load_queries

if TYPE_CHECKING:
    from ops.running import Running
    from services.runtime.database import Connection

_QUERIES: Final = load_queries(Path(__file__).with_name("scrubbing.sql"))
_PATIENCE_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.2


class NotScrubbed(UserError):
    """Something is left, or may be; the text says what is missing."""


def scrub(*, as_json: Json = False) -> None:
    """Rewrite the tables that have keys, and have no log of the database kept or used again: after erasures."""
    done = asyncio.run(_scrub(find_running()))
    if as_json:
        print_json(done)
        return
    table = Table("table", box=None, pad_edge=False)
    for name in ("bytes before", "after"):
        table.add_column(name, justify="right")
    for row in done["tables"]:
        table.add_row(row["table"], f"{row['before']:,}", f"{row['after']:,}")
    console().print(table)
    console().print(f"  {done['segments']:,} segments of the database's log were cleared.")


async def _scrub(running: Running) -> dict[str, Any]:
    async with connect(running, "pg_catalog") as connection:
        await _let_others_end(connection)
        try:
            return {"tables": await _rewrite(connection), "segments": await _clear_log(connection)}
        except asyncpg.LockNotAvailableError as error:
            raise NotScrubbed(f"Somebody uses a table for longer than {_PATIENCE_S:.0f} s: try again later.") from error
        except asyncpg.InsufficientPrivilegeError as error:
            raise NotScrubbed(
                f"Something may be left: {error}. Run it as a superuser, or do by hand what docs/operations.md says of "
                "erasures."
            ) from error


async def _let_others_end(connection: Connection) -> None:
    """Wait for those who may still see rows as they were: for them the database would keep these rows."""
    first = await connection.fetchval(_QUERIES.read_next)
    deadline = time.monotonic() + _PATIENCE_S
    while await connection.fetchval(_QUERIES.count_older, first):
        if time.monotonic() > deadline:
            raise NotScrubbed(f"A transaction has been open for longer than {_PATIENCE_S:.0f} s: end it, try again.")
        await asyncio.sleep(_LOOK_EVERY_S)


async def _rewrite(connection: Connection) -> list[dict[str, Any]]:
    await connection.execute(_QUERIES.limit_waiting)
    rewritten = []
    for table, statement in await connection.fetch(_QUERIES.list_tables):
        before = await connection.fetchval(_QUERIES.measure_table, table)
        await connection.execute(statement)
        after = await connection.fetchval(_QUERIES.measure_table, table)
        rewritten.append({"table": table, "before": before, "after": after})
    return rewritten


async def _clear_log(connection: Connection) -> int:
    """Go on to a new segment of the log, and have those before deleted and not renamed for use again; return how many.

    Segments that were renamed before lie ahead with what they had: they are passed, each filled with zeros.
    """
    await connection.execute(_QUERIES.stop_recycling)
    try:
        await connection.execute(_QUERIES.take_settings)
        ahead: int = await connection.fetchval(_QUERIES.count_ahead)
        for _ in range(ahead + 1):
            await connection.execute(_QUERIES.write_something)
            await connection.execute(_QUERIES.leave_segment)
        await connection.execute(_QUERIES.make_checkpoint)
        return ahead + 1
    finally:
        await connection.execute(_QUERIES.go_on_recycling)
        await connection.execute(_QUERIES.take_settings)
