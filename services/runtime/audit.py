"""How a service audits itself: each rule is a query that returns the rows that break it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.runtime.database import Connection, Queries


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that is broken, with the rows that break it."""

    rule: str
    rows: list[dict[str, Any]]


async def find_broken(connection: Connection, queries: Queries, rules: Mapping[str, str]) -> list[Finding]:
    """Return the rules that are broken; `rules` names each one's query."""
    found = {rule: await connection.fetch(queries[query]) for rule, query in rules.items()}
    return [Finding(rule, [dict(row) for row in rows]) for rule, rows in found.items() if rows]
