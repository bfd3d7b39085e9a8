"""The runbooks of docs/operations.md: what they have done to the database fits what it is."""

from __future__ import annotations

import re
from pathlib import Path

import asyncpg

from local.setup import SCHEMAS

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")

HOLDS_KEYS = """
select table_schema || '.' || table_name
from information_schema.columns
where column_name = 'wrapped_key' and table_schema = any($1::text[])
"""


def test_a_restore_drops_every_schema_first() -> None:
    (dropped,) = re.findall(r"drop schema if exists ([a-z, ]+) cascade", PAGE)
    assert set(dropped.split(", ")) == set(SCHEMAS)


async def test_without_the_master_key_what_nobody_can_open_is_forgotten(database: str) -> None:
    (statements,) = re.findall(r"```sql\n(.+?)```", PAGE.partition("### A lost master key")[2], re.DOTALL)
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(statements)
        holding = {table for (table,) in await connection.fetch(HOLDS_KEYS, list(SCHEMAS))}
    finally:
        await connection.close()
    assert set(re.findall(r"delete from ([a-z._]+key);", statements)) == holding
