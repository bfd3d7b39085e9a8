"""What the demo expects of its closings at the end: all are over but one, and whoever left is known nowhere."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from local.demo_messages import LEAVING
from ops.database import connect
from services.closure import records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.running import Running

_SAID: Final = {"closed": "{} closed", "rejected": "{} rejected", "review": "{} waits for a reviewer"}


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How closings ended, in words, and whether that is as it should be."""

    text: str
    is_well: bool


async def look_at_closings(running: Running, case_ids: Sequence[str]) -> Forgotten:
    """Return how these cases ended, and whether everybody who closed their wallet is erased."""
    async with connect(running, "closure") as connection:
        cases: list[dict[str, Any]] = []
        for case_id in case_ids:
            cases += await records.list_cases(connection, UUID(case_id), (), 1, ())
        erased = await records.list_erased(connection, [reader.customer_id for reader in LEAVING])
    ended = Counter(case["status"] for case in cases)
    counts = ", ".join(_SAID.get(status, "{} " + status).format(count) for status, count in sorted(ended.items()))
    missing = sorted({reader.customer_id for reader in LEAVING} - erased)
    whom = f"NOT FORGOTTEN: {', '.join(missing)}" if missing else f"all {len(erased)} who left are forgotten"
    is_well = not missing and ended.keys() == _SAID.keys() and ended["review"] == 1
    return Forgotten(f"Closings: {counts}; {whom}.", is_well)
