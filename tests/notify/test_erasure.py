"""After an erasure no table knows the person's name, number, mail address or words, whatever was told them and how."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest

from schemas.registry import TOPICS
from services.notify.broadcast import store as broadcasts
from services.notify.broadcast.handlers import BROADCAST_TIMER, Broadcasts
from services.notify.decide import DIGEST_TIMER, ERASE_TIMER, Rules
from services.notify.delivery.dispatch import Dispatcher
from services.notify.delivery.receipts import on_receipts
from services.notify.gateways.gateway import Answer, Email, Outcome, Sms
from services.notify.gateways.route import Route, make_email, make_sms
from services.notify.handlers import Handlers
from services.notify.model import Channel
from services.runtime.message import Batch, Effects, Lane, Message, Timer
from services.runtime.service import Surroundings
from services.runtime.settings import RuntimeSettings
from tests.notify.system import restricted
from tests.notify.test_broadcast import request
from tests.notify.test_notices import KEYS, MASTER_KEY, POLICY, WORDING, erase, erased, profile, settled
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.runtime.database import Pool

RULES = Rules(POLICY, WORDING, MASTER_KEY)
HANDLERS = Handlers(RULES, KEYS, Broadcasts(RULES))
CUSTOMER = "c1"
NAME, PHONE, EMAIL = "欧阳小明", "+8613812345678", "ouyang.xm@mail.example"
SECRET = "藏头诗一首"
"""Words that only this person is told."""
TOLD = {
    "title": {"zh-CN": f"{NAME}，您好", "en": f"Dear {NAME}"},
    "body": {"zh-CN": f"{SECRET}：{PHONE}。", "en": f"{SECRET}: {PHONE}, {EMAIL}."},
}
PLAIN: Final = (NAME, "小明", "13812345678", "138-1234-5678", EMAIL, "ouyang", SECRET)


def traces() -> list[bytes]:
    """Return what would betray the person: their words, in the forms that a database may hold, and plain hashes."""
    forms = [PHONE, PHONE[1:], PHONE[3:], NAME, EMAIL]
    hashes = [getattr(hashlib, kind)(form.encode()) for kind in ("md5", "sha1", "sha256", "sha512") for form in forms]
    spelled = [form.encode("unicode_escape") for form in (NAME, SECRET)]
    said = [form.encode() for form in PLAIN] + spelled
    return said + [one.digest() for one in hashes] + [one.hexdigest().encode() for one in hashes]


async def found(pool: Pool) -> dict[str, bytes]:
    """Return which columns of which tables hold a trace, and which one."""
    columns = (
        "select table_name, column_name from information_schema.columns join information_schema.tables"
        " using (table_schema, table_name) where table_schema = 'notify' and table_type = 'BASE TABLE'"
    )
    places: dict[str, bytes] = {}
    async with pool.acquire() as connection:
        for table, column in await connection.fetch(columns):
            for (value,) in await connection.fetch(f'select "{column}" from notify."{table}"'):
                held = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
                if trace := next((one for one in traces() if one.lower() in held.lower()), None):
                    places[f"{table}.{column}"] = trace
    return places


@dataclass(frozen=True, slots=True)
class Echo:
    """A gateway that says nothing but what it was given, in every field that it has a say in."""

    name: str
    outcome: Outcome
    batch_size: int = 50
    can_inquire: bool = True
    longest_s: float = 1.0

    async def start(self) -> None:
        pass

    async def send(self, messages: Sequence[Sms | Email], until: float = 0) -> list[Answer]:
        assert until
        return [
            Answer(
                one.reference, self.outcome, f"{self.name}-{one.reference}", code=one.to, said=" ".join(map(str, one))
            )
            for one in messages
        ]

    async def inquire(self, references: Sequence[str]) -> list[Answer]:
        return [Answer(one, Outcome.PERMANENT, code=PHONE, said=f"{NAME} {SECRET}") for one in references]

    async def close(self) -> None:
        pass


@dataclass(slots=True)
class SetClock:
    """A clock that stands where it is set."""

    at: datetime

    def now(self) -> datetime:
        return self.at


async def hear(pool: Pool, *messages: Message, timers: tuple[Timer, ...] = (), now: datetime) -> Effects:
    topic = messages[0].topic if messages else ""
    handle = {"customer.profiles": HANDLERS.on_profiles, "notify.commands": HANDLERS.on_commands}
    async with pool.acquire() as connection, connection.transaction():
        return await handle.get(topic, HANDLERS.on_events_for_many)(connection, Batch(messages, timers), now)


async def deliver(pool: Pool, clock: SetClock, *routes: Route[Any]) -> None:
    """Let gateways take what is due, until each message was tried."""
    stopping = asyncio.Event()
    settings = RuntimeSettings.model_construct()
    around = Surroundings(settings, pool, clock, stopping)
    running = asyncio.create_task(Dispatcher(routes, RULES, KEYS, "http://sluice.example").run(around))

    async def all_were_tried() -> bool:
        query = (
            "select not exists (select from delivery where attempts = 0 and state = 'queued' and due_at <= $1)"
            " and not exists (select from delivery where state = 'sending')"
        )
        async with pool.acquire() as connection:
            return bool(await connection.fetchval(query, clock.now()))

    try:
        await wait_until(all_were_tried, what="every message was handed over")
    finally:
        stopping.set()
        await running


async def tell_everything(pool: Pool, clock: SetClock) -> None:
    """Tell the person something in every way that there is."""
    now = clock.at
    await hear(
        pool,
        profile(CUSTOMER, name=NAME, phone=PHONE, phone_verified=True, email=EMAIL, preferences={"marketing": True}),
        now=now,
    )
    told = await hear(pool, *(settled(payer=CUSTOMER, payee=None) for _ in range(3)), restricted(1), now=now)
    personal = {"data": TOLD, "channels": ["in_app", "email", "sms"]}
    later = "2126-01-01T00:00:00Z"
    asked = await hear(
        pool,
        request(customer_id=CUSTOMER, **personal),
        request(customer_id=CUSTOMER, **personal, not_before=later),
        request(customer_id=CUSTOMER, **personal | {"category": "marketing"}),
        request(audience={"customers": [CUSTOMER]}, **personal),
        now=now,
    )
    chunks = tuple(timer for timer in asked.timers_set if timer.kind == BROADCAST_TIMER)
    await hear(pool, timers=chunks, now=now)
    due = tuple(timer for timer in told.timers_set if timer.kind == DIGEST_TIMER)
    await hear(pool, timers=due[:1], now=due[0].due_at)
    # Another digest is open, and stays so.
    await hear(pool, *(settled(payer=CUSTOMER, payee=None) for _ in range(3)), now=due[0].due_at)
    clock.at = due[0].due_at


async def end_broadcasts(pool: Pool, now: datetime) -> None:
    async with pool.acquire() as connection:
        await broadcasts.count_all(connection, now)
        ids = [row[0] for row in await connection.fetch("select notification_id from broadcast where not is_over")]
    timers = tuple(Timer(Lane("command", 0), BROADCAST_TIMER, id_, now) for id_ in ids)
    await hear(pool, timers=timers, now=now)


async def bring_receipts(pool: Pool, now: datetime) -> None:
    """Bring a receipt of an attempt and one of none that is known, both with the person's number for a code."""
    model, lane = TOPICS["notify.receipts"]["message.failed"], Lane("receipt", 0)
    async with pool.acquire() as connection, connection.transaction():
        known = "select provider_message_id from attempt where gateway = 'sms' and provider_message_id is not null"
        messages = []
        for id_ in ("of nobody", await connection.fetchval(f"{known} limit 1")):
            body = {"provider": "sms", "provider_message_id": id_, "code": PHONE, "at": now.isoformat()}
            data = model.model_validate(body)
            messages.append(Message(lane, "notify.receipts", 0, b"k", "message.failed", id_, "t", data))
        await on_receipts(connection, Batch(messages, ()), now)


@pytest.mark.parametrize("outcome", [Outcome.PERMANENT, Outcome.TEMPORARY, Outcome.ACCEPTED, Outcome.UNKNOWN])
async def test_no_table_knows_who_was_erased(pool: Pool, outcome: Outcome) -> None:
    clock = SetClock(datetime.now(UTC))
    await tell_everything(pool, clock)
    # Only the words of a broadcast to a list stand in plain, because its people share them.
    assert set(await found(pool)) == {"broadcast.texts"}
    sms: Route[Sms] = Route(Echo("sms", outcome), Channel.SMS, None, make_sms)
    mail: Route[Email] = Route(Echo("mail", outcome), Channel.EMAIL, None, make_email)
    await deliver(pool, clock, sms, mail)
    await bring_receipts(pool, clock.at)
    assert set(await found(pool)) == {"broadcast.texts"}
    effects = await erase(pool, CUSTOMER, now=clock.at)
    assert ([timer for timer in effects.timers_set if timer.kind == ERASE_TIMER], erased(effects)) == ([], [CUSTOMER])
    clock.at += timedelta(seconds=10)
    await end_broadcasts(pool, clock.at)
    assert await found(pool) == {}
    async with pool.acquire() as connection:
        assert await connection.fetchval("select count(*) from attempt") > 0
        assert await connection.fetchval("select count(*) from attempt where why is not null") == 0
        assert await connection.fetchval("select bool_and(not is_known and contacts is null) from customer")
