"""The real engines of a test run, and for each test a database and topics of its own."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import pytest_asyncio

from local.engines import Engines, start_engines
from local.setup import SCHEMAS
from local.topics import create_topics
from services.runtime.database import migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

PARTITIONS = 3


def pytest_configure() -> None:
    """Have every broker of the run compile its code once and quickly: none lives long enough to win it back."""
    os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """One Kafka and one PostgreSQL for the whole run; without them the tests fail, they do not skip."""
    directory = tmp_path_factory.mktemp("engines")
    bootstrap, dsn = os.environ.get("KAFKA_BOOTSTRAP_SERVERS") or None, os.environ.get("DATABASE_URL") or None
    with start_engines(directory, bootstrap, dsn) as started:
        yield started


@pytest.fixture(scope="session")
def kafka(engines: Engines) -> str:
    """Where Kafka's clients connect."""
    return engines.bootstrap


@pytest.fixture(scope="session")
def postgres_dsn(engines: Engines) -> str:
    """How PostgreSQL's clients connect, to its maintenance database."""
    return engines.dsn


def with_database(dsn: str, name: str) -> str:
    """Return a DSN that names another database of the same server."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def template(postgres_dsn: str) -> AsyncIterator[str]:
    """The name of a database with all migrations applied, from which each test's is copied."""
    name = f"template_{uuid.uuid4().hex[:8]}"
    await _execute(postgres_dsn, f'create database "{name}"')
    for schema, folders in SCHEMAS.items():
        await migrate(with_database(postgres_dsn, name), schema, folders)
    yield name
    await _execute(postgres_dsn, f'drop database "{name}" with (force)')


@pytest.fixture
async def database(postgres_dsn: str, template: str) -> AsyncIterator[str]:
    """The DSN of a migrated database of the test's own."""
    name = f"test_{uuid.uuid4().hex[:8]}"
    await _execute(postgres_dsn, f'create database "{name}" template "{template}"')
    yield with_database(postgres_dsn, name)
    await _execute(postgres_dsn, f'drop database "{name}" with (force)')


@pytest.fixture
def topic_prefix(kafka: str) -> str:
    """The prefix of a set of topics of the test's own, three partitions each."""
    prefix = f"t{uuid.uuid4().hex[:8]}."
    create_topics({"bootstrap.servers": kafka}, prefix, PARTITIONS)
    return prefix


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
