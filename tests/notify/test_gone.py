"""Who was forgotten is told nothing any more, who comes back only what is news to them, and a receipt comes first."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from schemas.closure import event_id
from schemas.examples import EXAMPLES
from schemas.fields import as_text
from services.notify.decide import CLOSING_AWAITED, ERASE_TIMER
from services.notify.model import Why
from tests.notify.test_broadcast import handle, hold, notices, request, run, wallet
from tests.notify.test_notices import (
    NOW,
    accounted,
    closing,
    erase,
    erased,
    erasure,
    hear,
    inboxes,
    kept_of,
    profile,
    published,
    settled,
)

if TYPE_CHECKING:
    from datetime import datetime

    from services.runtime.database import Pool
    from services.runtime.message import Effects, Message, Timer

HOUR = timedelta(hours=1)
CASE = uuid.UUID(EXAMPLES["closure.erasing"][0]["case_id"])


def moved(at: datetime) -> Message:
    return settled(payer="a", payee=None, payee_party="bank:ICBC:6222020000000001", occurred_at=as_text(at))


async def forget(pool: Pool, *, is_null: bool, is_known: bool) -> None:
    """Have somebody forgotten an hour from now."""
    if is_known:
        await hear(pool, profile("a"))
    now = NOW + HOUR
    assert erased(await (hear(pool, erasure("a"), now=now) if is_null else erase(pool, "a", now=now))) == ["a"]


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("is_null", [True, False])
async def test_what_is_heard_of_who_is_gone_is_told_to_nobody_and_kept_for_nobody(
    pool: Pool, *, is_null: bool, is_known: bool
) -> None:
    await forget(pool, is_null=is_null, is_known=is_known)
    later = NOW + 2 * HOUR
    for at in (NOW, later):
        effects = await hear(pool, moved(at), now=later)
        assert (published(effects), effects.timers_set) == ([("suppressed", "a", "erased")], [])
    for more in ({}, {"not_before": as_text(later + HOUR)}):
        effects = await handle(pool, request(customer_id="a", channels=["in_app"], **more), now=later)
        assert (published(effects), effects.timers_set) == ([("suppressed", "a", "erased")], [])
    await hold(pool, wallet("a"))
    async with pool.acquire() as connection:
        for table in ("waiting", "bank_use", "wallet"):
            assert await connection.fetchval(f"select count(*) from {table}") == 0
        assert await connection.fetchval("select count(*) from customer_key") == 0
    # Whoever comes back is told what happens from then on.
    assert published(await hear(pool, profile("a"), now=later)) == []
    assert published(await hear(pool, moved(NOW), now=later)) == [("suppressed", "a", "erased")]
    assert published(await hear(pool, moved(later), now=later)) == [("delivered", "a", None)]
    assert len(await inboxes(pool)) == 1


async def test_a_list_of_a_broadcast_accounts_for_who_is_gone(pool: Pool) -> None:
    await forget(pool, is_null=True, is_known=True)
    await run(pool, await handle(pool, request(audience={"customers": ["a", "b"]}, channels=["in_app"])))
    assert await notices(pool) == {
        ("a", "in_app", "suppressed", "erased"): 1,
        ("b", "in_app", "suppressed", "profile_missing"): 1,
    }


# --- A null profile before the end of a closing ---


def said(type_: str, revision: int, at: datetime) -> Message:
    body: dict[str, Any] = EXAMPLES[type_][0] | {"customer_id": "a", "revision": revision, "occurred_at": as_text(at)}
    return closing(type_, body, event_id("case", CASE, revision))


def looks(effects: Effects) -> tuple[Timer, ...]:
    return tuple(timer for timer in effects.timers_set if timer.kind == ERASE_TIMER)


async def look(pool: Pool, due: tuple[Timer, ...]) -> Effects:
    return await hear(pool, timers=due, now=due[0].due_at, is_profile=True)


async def test_a_null_profile_during_a_closing_waits_for_its_receipt(pool: Pool) -> None:
    await hear(pool, profile("a"))
    await hear(pool, said("closure.received", 1, NOW))
    null = await hear(pool, erasure("a"))
    assert (erased(null), await kept_of(pool, "a")) == ([], (True, True, True))
    # For as long as it takes, and the customer hears how it goes.
    again = null
    while looks(again)[0].due_at < NOW + 2 * HOUR:
        again = await look(pool, looks(again))
        assert erased(again) == []
    now = looks(again)[0].due_at
    assert published(await hear(pool, said("closure.approved", 2, now), now=now)) == [("delivered", "a", None)]
    # The end of the closing asks for the erasure, too, and that may be heard of first.
    asked = await erase(pool, "a", now=now, case_id=CASE)
    assert erased(asked) == []
    again = await look(pool, looks(again))
    assert erased(again) == []
    assert published(await hear(pool, said("closure.erasing", 3, now), now=now)) == [("delivered", "a", None)]
    # It is the last that they are told, whatever is read after it.
    assert published(await hear(pool, moved(now), now=now)) == [("suppressed", "a", "erased")]
    assert erased(await erase(pool, timers=looks(asked), now=looks(asked)[0].due_at)) == ["a"]
    assert erased(await look(pool, looks(again))) == ["a"]
    assert (await kept_of(pool, "a"), await inboxes(pool)) == ((False, False, False), [])
    later = looks(again)[0].due_at
    assert published(await hear(pool, said("closure.closed", 4, later), now=later)) == [("suppressed", "a", "erased")]


@pytest.mark.parametrize("end", ["closure.rejected", "closure.cancelled", "closure.expired", None])
async def test_a_null_profile_is_heeded_when_the_closing_has_ended_or_was_not_heard_of_for_long(
    pool: Pool, end: str | None
) -> None:
    await hear(pool, profile("a"))
    await hear(pool, said("closure.received", 1, NOW))
    null = await hear(pool, erasure("a"))
    if end is None:
        late = NOW + CLOSING_AWAITED
        assert erased(await hear(pool, timers=looks(null), now=late, is_profile=True)) == ["a"]
    else:
        assert published(await hear(pool, said(end, 2, NOW))) == [("delivered", "a", None)]
        assert erased(await look(pool, looks(null))) == ["a"]


async def test_a_profile_after_a_null_one_is_somebody_new_though_a_closing_went_on(pool: Pool) -> None:
    await hear(pool, profile("a"))
    await hear(pool, said("closure.received", 1, NOW))
    null = await hear(pool, erasure("a"))
    await hear(pool, profile("a"), now=NOW + HOUR)
    assert (await inboxes(pool), await kept_of(pool, "a")) == ([], (True, True, False))
    assert erased(await look(pool, looks(null))) == ["a"]
    assert published(await hear(pool, said("closure.approved", 2, NOW), now=NOW + HOUR)) == [
        ("suppressed", "a", Why.ERASED)
    ]
    assert await accounted(pool) == {("delivered", None): 1, ("suppressed", "erased"): 1}
