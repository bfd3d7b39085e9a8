"""Fixtures of the runtime's tests: a world of topics and a database for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest_asyncio

from tests.runtime.world import World, make_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest_asyncio.fixture
async def world(kafka: str, postgres_dsn: str) -> AsyncIterator[World]:
    """Surroundings of the toy service with its topics in place."""
    made = await make_world(kafka, postgres_dsn)
    made.create_topics()
    try:
        yield made
    finally:
        await made.close()
        made.pool.terminate()
