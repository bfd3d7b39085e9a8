"""Runs the audit in the background, one at a time, and keeps what it said last."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from ops.acts import note_act
from ops.audits import broken_rules
from ops.errors import UserError
from ops.ledger import audit_everything

if TYPE_CHECKING:
    from ops.ledger import Audited
    from ops.running import Running

ACT = "audit"
"""What an audit found, in the log of acts."""
BEGUN = "audit begun"
"""That somebody has one run, in the log of acts: it stands there before, and also where none ends."""
WHY = "to see whether everything adds up"
BROKE_OFF = "It broke off by a mistake of ours: the console's log says which."
_LOG = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ran:
    """An audit that has ended: when, for whom, how long it took, and what it found, or why it could not look."""

    at: datetime
    who: str
    took_s: float
    found: Audited | None
    problem: str = ""


class Audits:
    """The audits of a console's life; what older ones found stands in the log of acts."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._task: asyncio.Task[None] | None = None
        self.newest: Ran | None = None

    @property
    def is_running(self) -> bool:
        """Whether one looks at this moment."""
        return self._task is not None and not self._task.done()

    def start(self, who: str) -> None:
        """Begin one, unless one runs."""
        if not self.is_running:
            self._task = asyncio.create_task(self._run(who))

    async def stop(self) -> None:
        """End the one that runs."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, who: str) -> None:
        at, began = datetime.now(UTC), time.monotonic()
        try:
            found = await audit_everything(self._running)
        except UserError as error:
            self.newest = Ran(at, who, time.monotonic() - began, None, str(error))
            return
        except Exception as error:  # noqa: BLE001 - a mistake is told here and by the page
            _LOG.error("audit_broken", exc_info=error)
            self.newest = Ran(at, who, time.monotonic() - began, None, BROKE_OFF)
            return
        self.newest = Ran(at, who, time.monotonic() - began, found)
        try:
            await self._note(self.newest, found)
        except UserError as error:
            _LOG.warning("audit_not_noted", error=str(error))

    async def _note(self, ran: Ran, found: Audited) -> None:
        broken = broken_rules(found)
        detail = {"clean": not broken, "broken": broken, "counts": found.counts, "took_s": round(ran.took_s, 1)}
        await note_act(self._running, who=ran.who, what=ACT, about="everything", why=WHY, detail=detail)
