"""Several events of one kind for one person within minutes: the first at once, the rest as one message."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from schemas.registry import TOPICS
from services.notify.broadcast.handlers import Broadcasts
from services.notify.decide import DIGEST_TIMER, Rules
from services.notify.handlers import Handlers
from services.notify.sealed import open_text
from services.runtime.message import Batch, Effects, Message, Timer
from tests.notify.system import restricted
from tests.notify.test_broadcast import reachable
from tests.notify.test_notices import KEYS, MASTER_KEY, NOW, POLICY, WORDING, erasure, settled

if TYPE_CHECKING:
    from datetime import datetime

    from services.runtime.database import Pool

RULES = Rules(POLICY, WORDING, MASTER_KEY)
HANDLERS = Handlers(RULES, KEYS, Broadcasts(RULES))
WITHIN = timedelta(seconds=POLICY.digest.within_s)


async def hear(pool: Pool, *messages: Message, timers: tuple[Timer, ...] = (), now: datetime = NOW) -> Effects:
    is_profile = bool(messages) and messages[0].topic == "customer.profiles"
    handle = HANDLERS.on_profiles if is_profile else HANDLERS.on_events
    async with pool.acquire() as connection, connection.transaction():
        return await handle(connection, Batch(messages, timers), now)


async def mails(pool: Pool) -> list[tuple[str, str, datetime]]:
    """Return what waits for the mail gateway: title, body and when it is due."""
    async with pool.acquire() as connection:
        rows = await connection.fetch(
            "select delivery_id, delivery.customer_id, wrapped_key, sealed, due_at from delivery"
            " join customer_key using (customer_id) where channel = 'email' order by due_at, delivery_id"
        )
    return [
        (*open_text(KEYS.unwrap(row["customer_id"], row["wrapped_key"]), row["delivery_id"], row["sealed"])[1], row[4])
        for row in rows
    ]


async def standing(pool: Pool, channel: str = "email") -> list[tuple[str, str | None]]:
    async with pool.acquire() as connection:
        rows = await connection.fetch(
            "select status, why from notice where channel = $1 order by created_at, why, notice_id", channel
        )
    return [tuple(row) for row in rows]


def digests(effects: Effects) -> tuple[Timer, ...]:
    return tuple({timer.subject: timer for timer in effects.timers_set if timer.kind == DIGEST_TIMER}.values())


async def test_the_first_goes_out_at_once_and_the_rest_as_one_that_lists_them(pool: Pool) -> None:
    await hear(pool, reachable("a"))
    first = await hear(pool, settled(payee=None))
    assert (len(await mails(pool)), digests(first)) == (1, ())
    later = await hear(pool, *(settled(payee=None) for _ in range(3)), now=NOW + WITHIN / 2)
    (timer,) = digests(later)
    assert timer.due_at == NOW + WITHIN
    assert len(await mails(pool)) == 1
    assert (await standing(pool))[1:] == [("pending", "digest")] * 3
    await hear(pool, timers=(timer,), now=timer.due_at)
    _, (title, body, _) = await mails(pool)
    assert title == "3 more: CN¥12.50 sent, …"
    assert body.count("- CN¥12.50 sent") == 3
    assert await standing(pool) == [("pending", "queued")] * 4
    # In the app each stands by itself, at once.
    assert await standing(pool, "in_app") == [("delivered", None)] * 4


async def test_one_that_is_alone_in_its_digest_says_just_what_it_is(pool: Pool) -> None:
    await hear(pool, reachable("a"))
    effects = await hear(pool, settled(payee=None), settled(payee=None))
    (timer,) = digests(effects)
    await hear(pool, timers=(timer,), now=timer.due_at)
    assert [title for title, *_ in await mails(pool)] == ["CN¥12.50 sent", "CN¥12.50 sent"]


async def test_after_its_time_the_next_goes_out_at_once_again(pool: Pool) -> None:
    await hear(pool, reachable("a"))
    await hear(pool, settled(payee=None))
    assert digests(await hear(pool, settled(payee=None), now=NOW + WITHIN)) == ()
    assert len(await mails(pool)) == 2


async def test_people_and_kinds_are_gathered_apart_and_what_is_urgent_never_waits(pool: Pool) -> None:
    await hear(pool, reachable("a"), reachable("b"), reachable("c1"))
    again = restricted(1)._replace(id="again")
    effects = await hear(pool, settled(payee=None), settled(payer="b", payee=None), restricted(1), again)
    assert digests(effects) == ()
    assert len(await mails(pool)) == 4


async def test_erasing_somebody_takes_what_was_gathered(pool: Pool) -> None:
    await hear(pool, reachable("a"))
    effects = await hear(pool, settled(payee=None), settled(payee=None))
    await hear(pool, erasure("a"))
    (timer,) = digests(effects)
    await hear(pool, timers=(timer,), now=timer.due_at)
    assert await mails(pool) == []
    assert set(await standing(pool)) == {("suppressed", "erased")}


@pytest.mark.parametrize("locale", ["en", "zh-CN"])
async def test_a_digest_of_many_fits_a_text_message_by_its_title(pool: Pool, locale: str) -> None:
    await hear(pool, reachable("a", locale=locale))
    effects = await hear(pool, *(low_balance(version) for version in range(2, 60)))
    assert len(digests(effects)) == 1
    await hear(pool, timers=digests(effects), now=NOW + WITHIN)
    async with pool.acquire() as connection:
        rows = await connection.fetch(
            "select delivery_id, wrapped_key, sealed from delivery join customer_key using (customer_id)"
            " where channel = 'sms' order by due_at"
        )
    texts = [open_text(KEYS.unwrap("a", row[1]), row[0], row[2])[1].body for row in rows]
    assert len(texts) == 2
    assert "57" in texts[1]


def low_balance(version: int) -> Message:
    body: dict[str, Any] = {"account_id": "wallet:a-1234", "customer_id": "a", "currency": "CNY", "tier": "standard"}
    body |= {"status": "open", "posted_minor": 0, "reserved_minor": 0, "available_minor": 100, "version": version}
    body |= {"threshold_minor": 1_000}
    data = TOPICS["transfer.events"]["account.low_balance"].model_validate_json(json.dumps(body))
    return settled()._replace(type="account.low_balance", id=f"wallet:a.{version}", data=data)
