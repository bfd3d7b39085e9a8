"""Fixtures of the runtime's tests: a world of topics and a database for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
import stamina

from services.runtime.log import configure_logging
from tests.runtime.world import World, make_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(scope="session", autouse=True)
def logging_as_in_production() -> None:
    """Log as a worker does: rendering tracebacks with their locals takes seconds, and shows personal data."""
    configure_logging("info", "json")
    stamina.instrumentation.set_on_retry_hooks(())


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
