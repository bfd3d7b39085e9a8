"""Looks after messages of which nothing was heard, and those that did not leave in time; counts broadcasts."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import structlog

from services.notify.broadcast import store as broadcasts
from services.notify.delivery import store
from services.notify.delivery.attempts import circumstances, real_now, record_steps, reference_of
from services.notify.delivery.decide import HELD, QUEUED, after_inquiry, give_up
from services.notify.delivery.store import Advance, Ending, Out
from services.notify.gateways.gateway import Outcome
from services.notify.gateways.quoting import kept
from services.notify.listening import wait_for
from services.notify.model import Status, Why
from services.runtime.database import TRANSIENT
from services.runtime.log import error_fields

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.notify.gateways.route import Route
    from services.notify.policy import Policy
    from services.runtime.database import Connection
    from services.runtime.service import Surroundings

_LOOK_EVERY_S: Final = 1.0
_OVERDUE_AT_ONCE: Final = 500
_COUNT_SHARE: Final = 20

_LOG = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True)
class Caretaker:
    """Looks after messages whose gateway has not answered, whose receipts have not come, or that did not leave."""

    routes: Sequence[Route[Any]]
    policy: Policy
    around: Surroundings
    _next_count_s: float = 0.0

    async def run(self) -> None:
        """Work until told to stop."""
        while not self.around.stopping.is_set():
            try:
                while await self._expire() or await self._look_after():
                    pass
                await self._count_broadcasts()
            except TRANSIENT as error:
                _LOG.warning("care_retried", **error_fields(error))
            await wait_for(self.around.stopping, within_s=_LOOK_EVERY_S)

    async def _count_broadcasts(self) -> None:
        began_s = time.monotonic()
        if began_s < self._next_count_s:
            return
        async with self.around.pool.acquire() as connection:
            await broadcasts.count_all(connection, self.around.clock.now())
        # However many there are to count, that is a small part of all work.
        self._next_count_s = began_s + max(_LOOK_EVERY_S, _COUNT_SHARE * (time.monotonic() - began_s))

    async def _expire(self) -> bool:
        now = self.around.clock.now()
        async with self.around.pool.acquire() as connection, connection.transaction():
            found = await store.find_expired(connection, now, _OVERDUE_AT_ONCE)
            out = await store.lock(connection, found) if found else {}
            expired = [id_ for id_ in found if id_ in out and out[id_].state in (QUEUED, HELD)]
            advances = [Advance(id_, Status.FAILED, Why.EXPIRED) for id_ in expired]
            await store.record(connection, now, finished=expired, advances=advances)
        return bool(expired)

    async def _look_after(self) -> bool:
        now = real_now()
        until = now + timedelta(seconds=self.policy.delivering.answer_within_s)
        async with self.around.pool.acquire() as connection:
            overdue = await store.take_overdue(connection, now, until=until, limit=_OVERDUE_AT_ONCE)
        gateways = {route.gateway.name: route for route in self.routes}
        for name, of_gateway in groupby(sorted(overdue, key=attrgetter("gateway")), key=attrgetter("gateway")):
            route, messages = gateways.get(name), list(of_gateway)
            at_once = route.gateway.batch_size if route is not None else len(messages)
            for start in range(0, len(messages), at_once):
                await self._ask(route, messages[start : start + at_once])
        return bool(overdue)

    async def _ask(self, route: Route[Any] | None, overdue: Sequence[Out]) -> None:
        """Ask a gateway of messages; one that cannot be asked, or is no longer there, will not say more."""
        if route is None or not route.gateway.can_inquire:
            await self._give_up(overdue)
            return
        references = [reference_of(one.delivery_id, one.number) for one in overdue]
        said = [kept(answer, None) for answer in await route.gateway.inquire(references)]
        answers = dict(zip((one.delivery_id for one in overdue), said, strict=True))
        async with self.around.pool.acquire() as connection, connection.transaction():
            around = circumstances(route, self.policy, self.around.clock)
            present = await self._unchanged(connection, overdue)
            steps = [after_inquiry(one, answers[one.delivery_id], around) for one in present]
            await record_steps(connection, steps, around)

    async def _give_up(self, overdue: Sequence[Out]) -> None:
        async with self.around.pool.acquire() as connection, connection.transaction():
            present = await self._unchanged(connection, overdue)
            await store.record(
                connection,
                self.around.clock.now(),
                endings=[Ending(one.delivery_id, one.number, Outcome.UNKNOWN) for one in present if give_up(one)],
                finished=[one.delivery_id for one in present],
                advances=[advance for one in present if (advance := give_up(one)) is not None],
            )

    async def _unchanged(self, connection: Connection, overdue: Sequence[Out]) -> list[Out]:
        """Lock messages and return those of which nothing was heard meanwhile."""
        now_out = await store.lock(connection, [one.delivery_id for one in overdue])
        return [one for one in overdue if now_out.get(one.delivery_id) == one]
