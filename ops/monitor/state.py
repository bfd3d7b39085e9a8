"""What the services' databases say about the whole system: windows, overdue refunds, pauses, and the audit."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog

from ops.audits import keep_audit, kept_audit
from ops.database import connect
from ops.errors import UserError
from ops.ledger import audit_everything
from ops.pausing import load_pauses
from services.maintenance.records import list_in_force
from services.runtime.clock import clock_from_setting
from services.runtime.log import error_fields
from services.transfer.records import count_overdue

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from ops.running import Running
    from services.maintenance.records import InForce
    from services.runtime.pausing import Pause

_LOG = structlog.stdlib.get_logger(__name__)

_READ_EVERY_S: Final = 5.0
_READ_WITHIN_S: Final = 30.0
_BROKEN_EVERY_S: Final = 60.0
_MOST_TIMES: Final = 10
"""An audit that is repeated has at most this part of the time."""


@dataclass(slots=True)
class State:
    """What was read last of a running system; what was not read yet is None, or empty."""

    running: Running
    pauses: Mapping[str, Pause] = field(default_factory=dict)
    windows: Sequence[InForce] = ()
    overdue: int | None = None
    read_at: float | None = None
    broken_rules: int | None = None
    audited_at: float | None = None
    audit_took_s: float | None = None

    async def follow(self, audit_every_s: float) -> None:
        """Read again and again, and audit every so often; 0 never audits."""
        async with asyncio.TaskGroup() as group:
            group.create_task(_repeat(self.read, lambda: _READ_EVERY_S))
            if audit_every_s:
                group.create_task(_repeat(self.audit, lambda: self._audit_after_s(audit_every_s)))

    def _audit_after_s(self, every_s: float) -> float:
        """Say when the next audit is due: sooner where the last found something, which may be over already."""
        if not self.broken_rules:
            return every_s
        return min(every_s, max(_BROKEN_EVERY_S, _MOST_TIMES * (self.audit_took_s or 0.0)))

    async def read(self) -> None:
        """Read everything but the audit; raises Unreachable, or TimeoutError where the database stops in the middle."""
        async with asyncio.timeout(_READ_WITHIN_S):
            await self._read()

    async def _read(self) -> None:
        now = clock_from_setting(self.running.clock).now()
        self.pauses = await load_pauses(self.running)
        async with connect(self.running, "maintenance") as connection:
            self.windows = await list_in_force(connection)
        async with connect(self.running, "transfer") as connection:
            self.overdue = await count_overdue(connection, now)
        self.read_at = time.time()
        if self.audited_at is None and (kept := await kept_audit(self.running)) is not None:
            # Who begins anew knows what the one before has found.
            self.broken_rules, self.audited_at = len(kept.broken), kept.at.timestamp()
            self.audit_took_s = kept.took_s

    async def audit(self) -> None:
        """Check whether everything adds up, and keep what was found for the console; raises Unreachable."""
        started = time.monotonic()
        said = await audit_everything(self.running)
        self.broken_rules, self.audited_at = len(said.findings), time.time()
        self.audit_took_s = time.monotonic() - started
        await keep_audit(self.running, said, self.audit_took_s)


async def _repeat(read: Callable[[], Awaitable[None]], after_s: Callable[[], float]) -> None:
    while True:
        try:
            await read()
        except (UserError, TimeoutError) as error:
            _LOG.warning("state_not_read", **error_fields(error))
        except Exception as error:  # noqa: BLE001 - the ages of what was read last tell of it; the others are read on
            _LOG.error("state_reading_broken", exc_info=error)
        await asyncio.sleep(after_s())
