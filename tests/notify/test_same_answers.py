"""A broadcast tells and spares the same people at the same times as a message to one of them would."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.notify.broadcast.handlers import Broadcasts
from services.notify.handlers import Handlers
from services.notify.model import Category, Channel
from services.runtime.message import Batch, Effects, Lane, Timer
from tests.notify.test_broadcast import request
from tests.notify.test_notices import KEYS, RULES, hear, profile

if TYPE_CHECKING:
    from services.runtime.database import Pool
    from services.runtime.message import Message

HANDLERS = Handlers(RULES, KEYS, Broadcasts(RULES))
LANE = Lane("command", 0)
ZONES = ("Asia/Shanghai", "Asia/Kathmandu", "Europe/Berlin", "America/New_York")
CLOCK = st.times().map(lambda at: f"{at:%H:%M}")
NIGHT = st.one_of(st.none(), st.fixed_dictionaries({"from": CLOCK, "to": CLOCK}))
CHANNELS = st.fixed_dictionaries({channel.value: st.booleans() for channel in Channel})
PREFERENCES = st.fixed_dictionaries({"channels": CHANNELS, "marketing": st.booleans(), "quiet_hours": NIGHT})
PROFILE = st.fixed_dictionaries(
    {
        "phone": st.sampled_from([None, "+8613812345678", "12"]),
        "phone_verified": st.booleans(),
        "email": st.sampled_from([None, "a@mail.example", "nobody"]),
        "time_zone": st.sampled_from(ZONES),
        "preferences": PREFERENCES,
    }
)
# Everybody of these is told after a night that ends about when clocks are changed.
SLEEPER = st.fixed_dictionaries(
    {
        "phone": st.just("+8613812345678"),
        "phone_verified": st.just(value=True),
        "email": st.just("a@mail.example"),
        "time_zone": st.sampled_from(("Europe/Berlin", "America/New_York")),
        "preferences": st.integers(0, 179).map(
            lambda minute: {"quiet_hours": {"from": "22:00", "to": f"{1 + minute // 60:02}:{minute % 60:02}"}}
        ),
    }
)
PEOPLE = st.lists(st.one_of(PROFILE, SLEEPER), min_size=1, max_size=8)
# Half of the moments are close to a change of the clocks in one of the zones.
CHANGES = (
    datetime(2027, 3, 28, 1, tzinfo=UTC),
    datetime(2026, 10, 25, 1, tzinfo=UTC),
    datetime(2026, 11, 1, 6, tzinfo=UTC),
)
MOMENTS = st.one_of(
    st.datetimes(datetime(2026, 6, 1), datetime(2027, 6, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - of hypothesis
    st.builds(lambda at, minutes: at + timedelta(minutes=minutes), st.sampled_from(CHANGES), st.integers(-180, 180)),
)


async def told(pool: Pool, event_id: str) -> dict[tuple[str, str], tuple[object, ...]]:
    """Return what became of the notices of an event, and when what waits is due."""
    async with pool.acquire() as connection:
        rows = await connection.fetch(
            "select notice.customer_id, notice.channel, status, why, due_at from notice"
            " left join delivery using (delivery_id) where event_id = $1",
            event_id,
        )
    return {(row[0], row[1]): tuple(row[2:]) for row in rows}


async def ask(pool: Pool, message: Message, now: datetime) -> str:
    async with pool.acquire() as connection, connection.transaction():
        effects: Effects = await HANDLERS.on_commands(connection, Batch([message]), now)
    assert effects.unfit == []
    for timer in effects.timers_set:
        await go_on(pool, timer, now)
    return str(message.data.notification_id)  # type: ignore[union-attr]


async def go_on(pool: Pool, timer: Timer, now: datetime) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await HANDLERS.on_commands(connection, Batch((), [timer]), now)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(people=PEOPLE, unsubscribed=st.booleans(), category=st.sampled_from(Category), now=MOMENTS)
async def test_one_and_many_are_decided_alike(
    pool: Pool, people: list[dict[str, object]], *, unsubscribed: bool, category: Category, now: datetime
) -> None:
    names = [f"{uuid.uuid4()}" for _ in people]
    await hear(pool, *(profile(name, **fields) for name, fields in zip(names, people, strict=True)), now=now)
    async with pool.acquire() as connection:
        await connection.execute(
            "update customer set is_unsubscribed = $2 where customer_id = any($1)", names, unsubscribed
        )
    asked = {"category": category, "channels": list(Channel)}
    of_many = await told(pool, await ask(pool, request(audience={"customers": names}, **asked), now))
    of_one: dict[tuple[str, str], tuple[object, ...]] = {}
    for name in names:
        of_one |= await told(pool, await ask(pool, request(customer_id=name, **asked), now))
    assert of_many == of_one
    assert len(of_many) == len(names) * len(Channel)
