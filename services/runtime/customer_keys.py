"""Where a service keeps the wrapped keys of its customers: a table of its own, which is rewritten after erasures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from services.runtime.database import execute_rows, load_queries

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from services.runtime.database import Connection

_QUERIES: Final = load_queries(Path(__file__).with_suffix(".sql"))


class _Keyed(Protocol):
    customer_id: str
    wrapped_key: bytes | None


async def load_keys(connection: Connection, customers: Collection[str]) -> dict[str, bytes]:
    """Return the wrapped keys of those customers who have one.

    Whoever gives keys has locked the customers before, by a statement of its own: one that also locked would see keys
    as they were before it waited.
    """
    rows = await connection.fetch(_QUERIES.load, list(customers))
    return {row[0]: row[1] for row in rows}


async def move_keys(connection: Connection, customers: Iterable[_Keyed]) -> None:
    """Keep the keys of customers who are locked as they are now; where there is none any more, it is destroyed."""
    await execute_rows(connection, _QUERIES.move, [(one.customer_id, one.wrapped_key) for one in customers])
