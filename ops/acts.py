"""`sluice acts`: the log of what people on call did, to what, and why; it is only ever added to."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.markup import escape
from rich.table import Column, Table

from ops.database import connect
from ops.errors import UserError
from ops.moments import moment_text
from ops.running import find_running
from ops.terminal import Fitted, Json, print_json, terminal
from services.runtime.database import load_queries

if TYPE_CHECKING:
    from ops.running import Running
    from services.runtime.database import Connection

SCHEMA: Final = "ops"
MIGRATIONS: Final = Path(__file__).with_name("migrations")

_SQL: Final = load_queries(Path(__file__).with_suffix(".sql"))

Why = Annotated[str, typer.Option("--why", help="Why; it stands in the log of acts.")]
Who = Annotated[str | None, typer.Option("--who", help="Who does it; without it SLUICE_OPERATOR, or the login name.")]

Yes = Annotated[bool, typer.Option("--yes", help="Do it; without this it only says what it would do.")]


class Unnamed(UserError):
    """Nobody says who acts, or why."""


def operator(who: str | None) -> str:
    """Return who acts: as the option says, else the environment, else the login; raises Unnamed."""
    try:
        found = who or os.environ.get("SLUICE_OPERATOR") or getpass.getuser()
    except (KeyError, OSError):
        found = ""
    if not found.strip():
        raise Unnamed("Say who you are with --who, or set SLUICE_OPERATOR: it stands in the log of acts.")
    return found.strip()


def given_reason(why: str) -> str:
    """Return why somebody acts; raises Unnamed where it is blank."""
    if not why.strip():
        raise Unnamed("--why is empty: say why; it stands in the log of acts.")
    return why.strip()


async def record_act(
    connection: Connection, *, who: str, what: str, about: str, why: str, detail: dict[str, Any] | None = None
) -> uuid.UUID:
    """Note an act, in the caller's transaction where there is one; return its id."""
    act_id = uuid.uuid4()
    # Not by orjson: what somebody asked for may have a figure beyond 64 bits, and is put down before it is refused.
    await connection.execute(_SQL.record_act, act_id, who, what, about, why, json.dumps(detail or {}))
    return act_id


async def note_act(
    running: Running, *, who: str, what: str, about: str, why: str, detail: dict[str, Any] | None = None
) -> None:
    """Put an act down by itself, before it is asked for of somebody else; raises Unreachable."""
    async with connect(running, SCHEMA) as connection:
        await record_act(connection, who=who, what=what, about=about, why=why, detail=detail)


def show(
    limit: Annotated[int, typer.Option(help="The newest only.", min=1, max=10_000)] = 30, *, as_json: Json = False
) -> None:
    """Print what people on call did, the newest first."""
    acts = asyncio.run(newest_acts(find_running(), limit))
    if as_json:
        print_json(acts)
        return
    out = terminal()
    if not acts:
        out.print("Nobody has done anything yet.")
        return
    table = Table("when", "who", "what", "about", Column("why", overflow="fold"), box=None, pad_edge=False)
    for act in acts:
        table.add_row(moment_text(act["at"]), *(escape(act[name]) for name in ("who", "what", "about", "why")))
    out.print(Fitted(table))


async def newest_acts(running: Running, limit: int, what: str | None = None) -> list[dict[str, Any]]:
    """Return what people did, the newest first; only acts of one kind where it is named."""
    async with connect(running, SCHEMA) as connection:
        rows = await connection.fetch(_SQL.list_acts, limit, what)
    return [{**row, "detail": json.loads(row["detail"])} for row in rows]
