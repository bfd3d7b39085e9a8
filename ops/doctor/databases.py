"""What the database is asked: whether it answers, its clock, migrations, rights, keys, and pauses."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from local.setup import SCHEMAS, WORKERS
from ops.counts import count_text
from ops.database import connect
from ops.doctor.model import Check, advice, ok, unknown, wrong
from ops.errors import UserError
from services.runtime.database import MigrationError, list_pending, load_queries
from services.runtime.pausing import load_pause
from services.runtime.personal_data import PersonalDataError, unwrap_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ops.running import Running
    from services.runtime.database import Connection

_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))
_OLDEST: Final = 170_000
_CLOCK_APART_S: Final = 1.0
_SEALED_BY: Final = ("transfer", "closure", "notify")


async def check_database(running: Running, keys: Mapping[str, str]) -> list[Check]:
    """Return what is found in the database; `keys` are the settings that data are sealed with."""
    try:
        checks = await _server(running)
    except UserError as error:
        return [
            unknown(
                "engines",
                f"PostgreSQL: {str(error).removesuffix('.')}",
                "DATABASE_URL says where it is, or `sluice up`",
            )
        ]
    for schema, folders in SCHEMAS.items():
        checks += await _schema(running, schema, folders, keys.get("SLUICE_MASTER_KEY"))
    return checks


async def _server(running: Running) -> list[Check]:
    async with connect(running, "public") as connection:
        await connection.fetchrow(_SQL.about_server)
        before = time.time()
        row = await connection.fetchrow(_SQL.about_server)
        after = time.time()
    assert row is not None  # noqa: S101 - it always has one
    return list(_about_server(row, before, after))


def _about_server(row: Any, before: float, after: float) -> Iterator[Check]:
    version = f"PostgreSQL {row['version_text']}, {row['bytes'] / 1e6:,.0f} MB"
    if row["version"] < _OLDEST:
        yield wrong("engines", version, "the services need PostgreSQL 17 or newer")
    else:
        yield ok("engines", version)
    if row["is_read_only"]:
        todo = "name the primary in DATABASE_URL, or set default_transaction_read_only = off for the services' role"
        yield wrong("engines", "PostgreSQL takes no changes from here: a replica, or all is to be read only", todo)
    if not row["syncs"]:
        yield wrong("engines", "PostgreSQL: fsync is off", "set it on: a crash of the machine would lose money")
    if row["recycles_log"]:
        said = "PostgreSQL: wal_recycle is on, so destroyed keys stay in old segments of its log"
        yield advice("engines", said, "set wal_recycle = off (docs/operations.md, Erasures)")
    at = row["now"].timestamp()
    apart_s = min(0.0, at - before) + max(0.0, at - after)
    if abs(apart_s) > _CLOCK_APART_S:
        said = f"the database's clock is {apart_s:+.1f} s from this machine's"
        yield wrong("clock", said, "let both follow NTP: timers and expiries would be early or late")
    else:
        yield ok("clock", f"the database's is within {_CLOCK_APART_S:g} s of this machine's")
    if not row["may_switch_log"]:
        grant = "grant execute on function pg_switch_wal() to the services' role, or set archive_timeout"
        yield advice("permissions", "PostgreSQL: pg_switch_wal() is not allowed", grant)
    if not row["may_see_others"]:
        said = "PostgreSQL: what other roles' transactions see is not known"
        yield advice("permissions", said, "grant pg_read_all_stats to the services' role")


async def _schema(running: Running, schema: str, folders: Sequence[Path], master_key: str | None) -> list[Check]:
    try:
        async with connect(running, schema) as connection:
            pending = await list_pending(connection, folders)
            if pending:
                said = f"{schema}: {count_text(len(pending), 'migration')} not applied, the first is {pending[0]}"
                return [wrong("migrations", said, "`sluice migrate` applies them")]
            checks = [ok("migrations", f"{schema}: all are applied, none was changed since")]
            checks += await _rights(connection, schema)
            if schema in WORKERS and (pause := await load_pause(connection)) is not None:
                checks.append(
                    advice("services", f"{schema} is {pause}", f"`sluice resume {schema} --why TEXT` when it is over")
                )
            if schema in _SEALED_BY:
                checks += await _keys(connection, schema, master_key)
            return checks
    except MigrationError as error:
        todo = "run the version that it was migrated with, or restore the files; nothing is applied until then"
        return [wrong("migrations", f"{schema}: {error}", todo)]
    except (UserError, asyncpg.PostgresError) as error:
        return [unknown("migrations", f"{schema}: {error}", "see whether the database runs, and its log")]


async def _rights(connection: Connection, schema: str) -> list[Check]:
    rows = await connection.fetch(_SQL.missing_rights)
    if not rows:
        return [ok("permissions", f"{schema}: the role may do all that a worker does with its tables")]
    said = ", ".join(f"{row['right_name']} on {row['name']}" for row in rows[:5])
    more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    return [wrong("permissions", f"{schema}: the role lacks {said}{more}", "let it own the tables, or grant these")]


async def _keys(connection: Connection, schema: str, master_key: str | None) -> list[Check]:
    """Open some customers' keys: another master key opens none."""
    if master_key is None:
        return []
    rows = await connection.fetch(_SQL.some_keys)
    try:
        for row in rows:
            unwrap_key(base64.b64decode(master_key), row["wrapped_key"], row["customer_id"])
    except PersonalDataError:
        said = f"{schema}: SLUICE_MASTER_KEY is not the one that its data were written with"
        return [wrong("settings", said, "bring that key back (docs/operations.md, A lost master key)")]
    return [ok("settings", f"{schema}: SLUICE_MASTER_KEY opens its data")] if rows else []
