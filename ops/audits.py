"""What the monitor's audit found last, kept for whoever looks: only the newest, of which no person acted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ops.acts import SCHEMA
from ops.database import connect
from services.runtime.database import load_queries

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from ops.ledger import Audited
    from ops.running import Running

_SQL: Final = load_queries(Path(__file__).with_suffix(".sql"))


@dataclass(frozen=True, slots=True)
class KeptAudit:
    """When an audit ended, how long it took, how many findings broke each rule, and how much was looked at."""

    at: datetime
    took_s: float
    broken: Mapping[str, int]
    counts: Mapping[str, int]


def broken_rules(found: Audited) -> dict[str, int]:
    """Return by rule that is broken how often it is."""
    return {finding.rule: len(finding.rows) for finding in found.findings}


async def keep_audit(running: Running, found: Audited, took_s: float) -> None:
    """Keep what an audit has found in place of the one before; raises Unreachable."""
    broken, counts = json.dumps(broken_rules(found)), json.dumps(found.counts)
    async with connect(running, SCHEMA) as connection:
        await connection.execute(_SQL.keep_audit, took_s, broken, counts)


async def kept_audit(running: Running) -> KeptAudit | None:
    """Return the monitor's newest audit, None before the first; raises Unreachable."""
    async with connect(running, SCHEMA) as connection:
        row = await connection.fetchrow(_SQL.load_audit)
    if row is None:
        return None
    return KeptAudit(row["ended_at"], row["took_s"], json.loads(row["broken"]), json.loads(row["counts"]))
