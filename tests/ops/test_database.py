"""A connection for people: one whose server stands still is left within seconds."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import pytest

from ops import database
from ops.database import connect
from ops.running import Running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Relay:
    """Passes bytes on between clients and a server, until it is frozen: then it keeps connections, and says nothing."""

    def __init__(self, host: str, port: int) -> None:
        self._server = host, port
        self.frozen = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to_there = await asyncio.open_connection(*self._server)
        with suppress(ConnectionError):
            await asyncio.gather(self._pass(reader, to_there), self._pass(there, writer))
        for each in (writer, to_there):
            each.close()

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            if not self.frozen:
                target.write(data)
                await target.drain()
        target.close()


@asynccontextmanager
async def relayed(dsn: str) -> AsyncIterator[tuple[str, Relay]]:
    """Yield the way to a database that can be frozen, and what freezes it."""
    parts = urlsplit(dsn)
    relay = Relay(parts.hostname or "", parts.port or 5432)
    async with await asyncio.start_server(relay.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        user = parts.netloc.rpartition("@")[0]
        yield urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{port}")), relay


async def test_a_database_that_stands_still_in_the_middle_is_left(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_LEAVE_WITHIN_S", 0.2)

    async def ask(running: Running, relay: Relay) -> None:
        async with asyncio.timeout(0.2), connect(running, "ops") as connection:
            relay.frozen = True
            await connection.fetch("select 1")

    async with relayed(postgres_dsn) as (dsn, relay), asyncio.timeout(15):
        with pytest.raises(TimeoutError):
            await ask(Running("", dsn, "", "real"), relay)
