"""Connections for people: short, read what they are asked, and see one service's schema."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import asyncpg

from ops.errors import UserError
from services.runtime.database import TRANSIENT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ops.running import Running
    from services.runtime.database import Connection

CANNOT_CONNECT: Final[tuple[type[Exception], ...]] = (
    *TRANSIENT,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    ValueError,
)
"""What keeps a connection from being made; the driver raises ValueError for an address that it cannot read."""

_CONNECTED_WITHIN_S: Final = 5.0

_LOST: Final[tuple[type[Exception], ...]] = (*TRANSIENT, asyncpg.InterfaceError)
_LEAVE_WITHIN_S: Final = 2.0
_NO_TABLES: Final = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.InvalidSchemaNameError)


class Unreachable(UserError):
    """The database does not answer, or not this; the text says why and what to do."""


@asynccontextmanager
async def connect(running: Running, schema: str) -> AsyncIterator[Connection]:
    """Connect to a service's schema; raises Unreachable in one sentence, also for what goes wrong meanwhile."""
    try:
        connection = await asyncpg.connect(
            running.database,
            timeout=_CONNECTED_WITHIN_S,
            server_settings={"search_path": schema, "application_name": "sluice"},
        )
    except CANNOT_CONNECT as error:
        raise Unreachable(why_not_connected(error)) from error
    try:
        yield connection
    except _NO_TABLES as error:
        raise Unreachable("The database lacks tables of Sluice: `sluice migrate` brings them up to date.") from error
    except _LOST as error:
        raise Unreachable(f"The database of the running system went away: {_said(error)}.") from error
    finally:
        await _close(connection)


async def _close(connection: Connection) -> None:
    """Close a connection; one whose server is frozen, or gone without a word, is dropped."""
    try:
        async with asyncio.timeout(_LEAVE_WITHIN_S):
            await connection.close()
    except _LOST:
        connection.terminate()


def why_not_connected(error: Exception) -> str:
    """Return one sentence about why a connection could not be made, without any part of its address' password."""
    if isinstance(error, ValueError):
        return "The setting DATABASE_URL is wrong: it must be like postgresql://user:password@host:5432/name."
    if isinstance(error, asyncpg.PostgresError) and not isinstance(error, TRANSIENT):
        return f"The database that DATABASE_URL names refuses: {_said(error)}."
    said = "nothing came in time" if isinstance(error, TimeoutError) else _said(error)
    return f"The database that DATABASE_URL names does not answer: {said}. See whether it runs, and its log."


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
