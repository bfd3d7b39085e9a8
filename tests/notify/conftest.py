"""For each test of the notifier a database of its own, with its tables."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import asyncpg
import pytest_asyncio

from services.notify.app import MIGRATIONS
from services.runtime.app import MIGRATIONS as RUNTIME_MIGRATIONS
from services.runtime.database import create_pool, migrate
from tests.conftest import with_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.runtime.database import Pool


@pytest_asyncio.fixture
async def notifier_dsn(postgres_dsn: str) -> AsyncIterator[str]:
    """How an empty notifier's database is connected to."""
    name = f"notify_{uuid.uuid4().hex[:8]}"
    server = await asyncpg.connect(postgres_dsn)
    try:
        await server.execute(f'create database "{name}"')
        dsn = with_database(postgres_dsn, name)
        await migrate(dsn, "notify", [RUNTIME_MIGRATIONS, MIGRATIONS])
        yield dsn
    finally:
        await server.execute(f'drop database if exists "{name}" with (force)')
        await server.close()


@pytest_asyncio.fixture
async def pool(notifier_dsn: str) -> AsyncIterator[Pool]:
    """Connections to an empty notifier's database."""
    made = await create_pool(notifier_dsn, "notify", "test", size=3)
    yield made
    await made.close()
