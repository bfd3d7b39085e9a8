"""A worker that serves inboxes, people's tokens, and a reader of streams."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from services.notify.inbox.desk import CONNECTIONS, open_inbox
from services.notify.inbox.tokens import issue
from services.notify.public import serve_public
from services.notify.sealed import Keys
from services.runtime.clock import RealClock
from services.runtime.database import create_pool
from tests.notify.test_notices import MASTER_KEY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import ClientResponse, ClientSession

_DEADLINE_S = 10


def token_of(customer_id: str, lasts: timedelta = timedelta(hours=1)) -> str:
    return issue(MASTER_KEY, customer_id, datetime.now(UTC) + lasts)


def as_reader(customer_id: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token_of(customer_id)}"}


@asynccontextmanager
async def worker(dsn: str) -> AsyncIterator[str]:
    """Serve as one worker does, with as many connections as it says it needs; yields the address."""
    pool = await create_pool(dsn, "notify", "inbox", size=CONNECTIONS)
    inbox, stopping = open_inbox(Keys(MASTER_KEY), pool, RealClock()), asyncio.Event()
    async with serve_public("127.0.0.1", 0, inbox.routes) as address:
        living = asyncio.create_task(inbox.live.run(stopping))
        try:
            yield address
        finally:
            stopping.set()
            await living
    await pool.close()


class Event(NamedTuple):
    """A server-sent event."""

    name: str
    id: int | None
    data: Any


class Follower:
    """Reads a stream as a browser does: what begins with a colon is a comment."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response
        self.unread: int | None = None

    async def next(self) -> Event:
        """Return the next event within a deadline; EOFError when the stream has ended."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(_DEADLINE_S):
            while line := await self.response.content.readline():
                if line == b"\n":
                    if "data" in fields:
                        return self._noted(fields)
                    continue
                name, _, value = line.decode().rstrip("\n").partition(": ")
                fields[name] = value
        raise EOFError

    async def messages(self, wanted: int) -> list[int]:
        """Return the numbers of the next messages, whatever else is said between them."""
        numbers: list[int] = []
        while len(numbers) < wanted:
            event = await self.next()
            if event.name == "message":
                assert event.id == event.data["number"]
                numbers.append(event.data["number"])
        return numbers

    def _noted(self, fields: dict[str, str]) -> Event:
        event = Event(fields["event"], int(fields["id"]) if "id" in fields else None, orjson.loads(fields["data"]))
        if event.name == "unread":
            self.unread = event.data["unread"]
        return event

    async def counts(self, unread: int) -> bool:
        """Read on until so many messages are unread."""
        while self.unread != unread:
            await self.next()
        return True


@asynccontextmanager
async def follow(client: ClientSession, customer_id: str, address: str = "", **headers: str) -> AsyncIterator[Follower]:
    """Follow an inbox while the context lasts."""
    url = f"{address}/inbox/live"
    said = as_reader(customer_id) | {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.get(url, headers=said) as response:
        assert response.status == 200, await response.text()
        yield Follower(response)
