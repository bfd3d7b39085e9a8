"""Connections for people: short, read what they are asked, and see one service's schema."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg

from ops.errors import UserError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ops.running import Running
    from services.runtime.database import Connection


class Unreachable(UserError):
    """The database does not answer; the text says why and what to do."""


@asynccontextmanager
async def connect(running: Running, schema: str) -> AsyncIterator[Connection]:
    """Connect to a service's schema; raises Unreachable in one sentence."""
    try:
        connection = await asyncpg.connect(
            running.database, timeout=10, server_settings={"search_path": schema, "application_name": "sluice"}
        )
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        why = str(error) or type(error).__name__
        raise Unreachable(f"The database of the running system does not answer: {why}.") from error
    try:
        yield connection
    finally:
        await connection.close()
