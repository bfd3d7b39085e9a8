"""The embedded database server as those who run it see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from local.daemon import EngineError
from local.postgres import Postgres, start_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Postgres]:
    with start_postgres(tmp_path / "postgres") as started:
        yield started


async def run(dsn: str, statement: str) -> Any:
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_what_was_committed_outlives_a_crash(server: Postgres) -> None:
    dsn = server.dsn
    await run(dsn, "create table kept (v int)")
    await run(dsn, "insert into kept values (7)")
    server.kill()
    assert not server.is_alive()
    server.restart()
    assert server.dsn == dsn
    assert await run(dsn, "select v from kept") == 7


async def test_a_leftover_of_a_crashed_run_is_replaced(server: Postgres, tmp_path: Path) -> None:
    with start_postgres(tmp_path / "postgres") as second:
        assert not server.is_alive()
        assert urlsplit(second.dsn).password == urlsplit(server.dsn).password
        assert await run(second.dsn, "select 1") == 1


async def test_it_is_durable_and_lets_in_only_who_knows_the_password(server: Postgres) -> None:
    for name in ("fsync", "synchronous_commit", "full_page_writes"):
        assert await run(server.dsn, f"show {name}") == "on"
    assert await run(server.dsn, "show listen_addresses") == "127.0.0.1"
    password = urlsplit(server.dsn).password
    assert password
    with pytest.raises(asyncpg.InvalidPasswordError):
        await run(server.dsn.replace(password, "guess"), "select 1")


async def test_a_cluster_interrupted_in_the_making_is_made_anew(tmp_path: Path) -> None:
    half = tmp_path / "postgres" / "data.part"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with start_postgres(tmp_path / "postgres") as server:
        assert await run(server.dsn, "select 1") == 1


def test_a_server_that_can_not_start_quotes_its_log(server: Postgres, tmp_path: Path) -> None:
    port = urlsplit(server.dsn).port
    with pytest.raises(EngineError, match=r"(?s)postgres ended with 1; the end of .*postgres\.log.*in use"):
        start_postgres(tmp_path / "another", port=port)
