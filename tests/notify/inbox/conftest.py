"""Workers that serve inboxes on the test's database, and a client of one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest_asyncio
from aiohttp import ClientSession

from tests.notify.inbox.readers import worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest_asyncio.fixture
async def workers(notifier_dsn: str) -> AsyncIterator[tuple[str, str]]:
    """The addresses of two workers on one database."""
    async with worker(notifier_dsn) as first, worker(notifier_dsn) as second:
        yield first, second


@pytest_asyncio.fixture
async def client(workers: tuple[str, str]) -> AsyncIterator[ClientSession]:
    """A client of the first worker."""
    async with ClientSession(workers[0]) as session:
        yield session
