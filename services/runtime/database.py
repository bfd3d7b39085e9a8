"""PostgreSQL as the runtime uses it: connections, named queries, migrations and its passing errors."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import TypeAlias

    from asyncpg.pool import PoolConnectionProxy

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
else:
    # The driver's classes are generic for type checkers only.
    Connection = asyncpg.Connection
    Pool = asyncpg.Pool

TRANSIENT: tuple[type[Exception], ...] = (
    asyncpg.PostgresConnectionError,
    asyncpg.TransactionRollbackError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.TargetServerAttributeNotMatched,
    OSError,
    TimeoutError,
)
"""Errors of the engine or the way to it, never of the message at hand: roll back and try the same again."""

_MARKER = re.compile(r"^-- name: *(?P<name>\S*) *$", re.MULTILINE)
_QUERY_NAME = re.compile(r"[a-z][a-z0-9_]*")
_SCHEMA_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_MIGRATION_FILE = re.compile(r"\d{4}_[a-z0-9_]+\.sql")


class QueryError(Exception):
    """A file of named queries is not well formed, or a query is asked for that it does not hold."""


class MigrationError(Exception):
    """The schema's recorded migrations and the files given do not agree."""


class Queries:
    """The statements of one file, by name: `queries.load_accounts` or `queries["load_accounts"]`."""

    __slots__ = ("_path", "_texts")

    def __init__(self, texts: Mapping[str, str], path: Path) -> None:
        self._texts = dict(texts)
        self._path = path

    def __getitem__(self, name: str) -> str:
        """Return the text of one statement; QueryError when there is none of that name."""
        try:
            return self._texts[name]
        except KeyError:
            raise QueryError(f"{self._path} has no query named {name!r}") from None

    def __getattr__(self, name: str) -> str:
        """Return the text of one statement; AttributeError when there is none of that name."""
        try:
            return self._texts[name]
        except KeyError:
            raise AttributeError(f"{self._path} has no query named {name!r}") from None

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names in the order of the file."""
        return iter(self._texts)


def load_queries(path: Path) -> Queries:
    """Read a file of statements, each under a line `-- name: its_name`.

    Raises QueryError for a bad or repeated name, a name without a statement, a statement without a name.
    """
    head, *rest = _MARKER.split(path.read_text(encoding="utf-8"))
    if any(line.strip() and not line.startswith("--") for line in head.splitlines()):
        raise QueryError(f"{path} has a statement before its first '-- name:' line")
    texts: dict[str, str] = {}
    for name, body in zip(rest[::2], rest[1::2], strict=True):
        if not _QUERY_NAME.fullmatch(name):
            raise QueryError(f"{path} has a query named {name!r}; names are lower case words joined by _")
        if name in texts:
            raise QueryError(f"{path} has two queries named {name!r}")
        if not _holds_statement(body):
            raise QueryError(f"{path} has no statement under the name {name!r}")
        texts[name] = body.strip().removesuffix(";")
    return Queries(texts, path)


def _holds_statement(body: str) -> bool:
    return any(line.strip() and not line.lstrip().startswith("--") for line in body.splitlines())


async def create_pool(dsn: str, schema: str, application_name: str, *, size: int = 2) -> Pool:
    """Return a pool of at most `size` connections that see `schema` only; the first is made at once.

    A transaction left idle for 10 s, or not at its end after 60 s, is aborted, so that a frozen process can not keep
    a lane.
    """
    return await asyncpg.create_pool(
        dsn,
        min_size=1,
        max_size=size,
        timeout=10,
        command_timeout=60,
        statement_cache_size=512,
        # Cached plans stay: a worker repeats the same few statements for as long as it lives.
        max_cached_statement_lifetime=0,
        max_queries=1_000_000_000,
        max_inactive_connection_lifetime=0,
        server_settings={
            "search_path": _checked_schema(schema),
            "application_name": application_name,
            "jit": "off",
            "timezone": "UTC",
            "idle_in_transaction_session_timeout": "10s",
            # While the rows of a COPY are awaited, a transaction does not count as idle.
            "transaction_timeout": "60s",
            "lock_timeout": "20s",
        },
    )


async def execute_rows(connection: Connection, query: str, rows: Sequence[Sequence[Any]]) -> int:
    """Run a statement that takes a column a parameter; return how many rows it wrote. No rows cost no statement."""
    if not rows:
        return 0
    return int((await connection.execute(query, *columns_of(rows))).rpartition(" ")[2])


async def copy_rows(connection: Connection, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Insert rows by COPY; no rows cost no statement."""
    if rows:
        await connection.copy_records_to_table(table, columns=columns, records=rows)


def columns_of(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Return rows, at least one, as columns."""
    return [list(column) for column in zip(*rows, strict=True)]


def _checked_schema(schema: str) -> str:
    if not _SCHEMA_NAME.fullmatch(schema):
        raise MigrationError(f"{schema!r} can not be a schema: lower case letters, digits and _ only")
    return schema


class _Migration(NamedTuple):
    name: str
    checksum: str
    text: str


async def migrate(dsn: str, schema: str, folders: Sequence[Path]) -> list[str]:
    """Apply the numbered files (`0001_name.sql`) of the folders that `schema` lacks; return their names.

    Each file runs in its own transaction with `schema` as search path. Workers that start together wait
    for one another. Raises MigrationError when an applied migration was changed or is missing, or a new
    one is numbered below it.
    """
    migrations = [migration for folder in folders for migration in _read_folder(folder)]
    connection = await asyncpg.connect(
        dsn, timeout=10, server_settings={"search_path": _checked_schema(schema), "timezone": "UTC"}
    )
    try:
        lock = f"sluice.migrate.{schema}"
        await connection.execute("select pg_advisory_lock(hashtextextended($1, 0))", lock)
        return await _apply_pending(connection, schema, migrations)
    finally:
        await connection.close(timeout=10)


def _read_folder(folder: Path) -> list[_Migration]:
    files = sorted(folder.glob("*.sql"))
    for file in files:
        if not _MIGRATION_FILE.fullmatch(file.name):
            raise MigrationError(f"{file} is not named like 0001_name.sql")
    return [_read_migration(folder, file) for file in files]


def _read_migration(folder: Path, file: Path) -> _Migration:
    text = file.read_text(encoding="utf-8")
    return _Migration(f"{folder.parent.name}/{file.name}", hashlib.sha256(text.encode()).hexdigest(), text)


async def list_pending(connection: Connection, folders: Sequence[Path]) -> list[str]:
    """Return which files of the folders the connection's schema lacks; raises MigrationError as `migrate` does."""
    migrations = [migration for folder in folders for migration in _read_folder(folder)]
    applied: dict[str, str] = {}
    if await connection.fetchval("select to_regclass('migration') is not null"):
        rows = await connection.fetch("select name, checksum from migration")
        applied = {row["name"]: row["checksum"] for row in rows}
    _check_applied(applied, migrations)
    return [migration.name for migration in migrations if migration.name not in applied]


async def _apply_pending(connection: Connection, schema: str, migrations: Sequence[_Migration]) -> list[str]:
    await _ensure_schema(connection, schema)
    rows = await connection.fetch("select name, checksum from migration")
    applied = {row["name"]: row["checksum"] for row in rows}
    _check_applied(applied, migrations)
    pending = [migration for migration in migrations if migration.name not in applied]
    for migration in pending:
        await _apply(connection, migration)
    return [migration.name for migration in pending]


async def _ensure_schema(connection: Connection, schema: str) -> None:
    # `create schema if not exists` wants the right to create even where the schema is there already.
    if not await connection.fetchval("select to_regnamespace($1) is not null", schema):
        await connection.execute(f"create schema {schema}")
    await connection.execute(
        "create table if not exists migration ("
        " name text constraint migration_is_applied_once primary key,"
        " checksum text not null,"
        " applied_at timestamptz not null default now())"
    )


def _check_applied(applied: Mapping[str, str], migrations: Sequence[_Migration]) -> None:
    known = {migration.name: migration for migration in migrations}
    for name, checksum in applied.items():
        if name not in known:
            raise MigrationError(f"migration {name} was applied to this schema but its file is missing")
        if known[name].checksum != checksum:
            raise MigrationError(f"migration {name} was changed after it was applied to this schema")
    for migration in migrations:
        folder = migration.name.partition("/")[0]
        later = max((name for name in applied if name.partition("/")[0] == folder), default="")
        if migration.name not in applied and migration.name < later:
            raise MigrationError(f"migration {migration.name} is numbered below {later}, applied already")


async def _apply(connection: Connection, migration: _Migration) -> None:
    async with connection.transaction():
        await connection.execute(migration.text)
        await connection.execute(
            "insert into migration (name, checksum) values ($1, $2)", migration.name, migration.checksum
        )
