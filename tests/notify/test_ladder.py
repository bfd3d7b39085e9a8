"""A number is given no more text messages than its operator allows, counted without saying whose it is."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from services.notify.delivery import store
from services.notify.policy import Ladder
from tests.notify.system import restricted
from tests.notify.test_digest import hear
from tests.notify.test_notices import NOW, erasure, profile

if TYPE_CHECKING:
    from datetime import datetime

    from services.runtime.database import Pool
    from services.runtime.message import Message

NUMBER = {"phone": "+8613812345678", "phone_verified": True}


async def take(pool: Pool, now: datetime, ladder: Ladder) -> int:
    """Return how many text messages a gateway is given in four goes."""
    count = 0
    for _ in range(4):
        async with pool.acquire() as connection:
            turn = await store.take(
                connection,
                "sms",
                "sms",
                now,
                answered_by=now + timedelta(minutes=1),
                limit=10,
                ladder=ladder,
                left_to_others=timedelta(0),
                last_priority=2,
            )
            count += len(turn.taken)
    return count


def events(count: int, customer: int, now: datetime) -> list[Message]:
    return [restricted(customer)._replace(id=f"{customer}.{now}.{number}") for number in range(count)]


@pytest.mark.parametrize(
    ("ladder", "after"),
    [
        (Ladder(a_minute=2), timedelta(minutes=1)),
        (Ladder(an_hour=2), timedelta(hours=1)),
        (Ladder(a_day=2), timedelta(days=1)),
    ],
)
async def test_what_is_more_waits_until_it_is_allowed(pool: Pool, ladder: Ladder, after: timedelta) -> None:
    await hear(pool, profile("c1", **NUMBER), profile("c2", **NUMBER))
    await hear(pool, *events(3, 1, NOW), *events(1, 2, NOW))
    assert await take(pool, NOW, ladder) == 2
    soon = NOW + after - timedelta(seconds=1)
    await hear(pool, *events(3, 1, soon), now=soon)
    assert await take(pool, soon, ladder) == 0
    assert await take(pool, NOW + after, ladder) == 2


async def test_an_erasure_lets_nobody_have_more(pool: Pool) -> None:
    await hear(pool, profile("c1", **NUMBER))
    await hear(pool, *events(2, 1, NOW))
    assert await take(pool, NOW, Ladder(a_day=2)) == 2
    await hear(pool, erasure("c1"))
    later = NOW + timedelta(hours=1)
    await hear(pool, profile("c1", **NUMBER), now=later)
    await hear(pool, *events(1, 1, later), now=later)
    assert await take(pool, later, Ladder(a_day=2)) == 0
