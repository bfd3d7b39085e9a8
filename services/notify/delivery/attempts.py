"""What an attempt is called, under which circumstances it ends, and how what became of several is recorded."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from services.notify.delivery import store
from services.notify.delivery.decide import Circumstances, Step
from services.notify.model import Channel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.notify.gateways.route import Route
    from services.notify.policy import Policy
    from services.runtime.clock import Clock
    from services.runtime.database import Connection


def reference_of(delivery_id: object, number: int) -> str:
    """Return our name for an attempt, which gateways keep and say again."""
    return f"{delivery_id}.{number}"


def circumstances(route: Route[Any], policy: Policy, clock: Clock) -> Circumstances:
    """Return what decides how the messages of a gateway go on now."""
    return Circumstances(
        policy=policy.delivering,
        now=clock.now(),
        real_now=real_now(),
        can_inquire=route.gateway.can_inquire,
        has_receipts=route.channel == Channel.SMS,
        jitter=random.random(),  # noqa: S311 - it only spreads load
    )


def real_now() -> datetime:
    """Return the world's time: whatever the services' clock is moved to, gateways take as long as they take."""
    return datetime.now(UTC)


async def record_steps(connection: Connection, steps: Sequence[Step], around: Circumstances) -> None:
    """Record how messages go on."""
    await store.record(
        connection,
        around.now,
        endings=[step.ending for step in steps],
        moves=[step.move for step in steps if step.move is not None],
        finished=[step.ending.delivery_id for step in steps if step.move is None],
        advances=[step.advance for step in steps if step.advance is not None],
    )
