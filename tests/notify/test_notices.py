"""Everyone is told once, and for every event accepted = delivered + suppressed + pending."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from schemas.closure import event_id
from schemas.envelope import Envelope, decode
from schemas.erasure import CustomerErased
from schemas.examples import EXAMPLES
from schemas.registry import MODELS, TOPICS
from services.notify.broadcast.handlers import Broadcasts
from services.notify.decide import ERASE_TIMER, REPORT_TIMER, Rules, recipients, report_timer
from services.notify.handlers import Handlers
from services.notify.model import Channel, Role
from services.notify.policy import DEFAULT_POLICY, read_policy
from services.notify.sealed import Keys, open_text
from services.notify.wording import DEFAULT_WORDING, read_wording
from services.runtime.message import Batch, Effects, Lane, Message, Timer
from tests.waiting import wait_until

if TYPE_CHECKING:
    from services.runtime.database import Pool

NOW = datetime(2026, 11, 23, 8, 30, tzinfo=UTC)
LANE = Lane("transfer", 0)
MASTER_KEY = bytes(range(32))
KEYS = Keys(MASTER_KEY)
POLICY = read_policy(DEFAULT_POLICY)
WORDING = read_wording(DEFAULT_WORDING)
IN_APP_ONLY = {type_: rule.model_copy(update={"channels": (Channel.IN_APP,)}) for type_, rule in POLICY.events.items()}
RULES = Rules(POLICY.model_copy(update={"events": IN_APP_ONLY}), WORDING, MASTER_KEY)
HANDLERS = Handlers(RULES, KEYS, Broadcasts(RULES))


def settled(
    *,
    payer: str | None = "a",
    payee: str | None = "b",
    id_: str | None = None,
    payee_party: str = "wallet:payee-5678",
    occurred_at: str = "2026-11-23T08:30:00Z",
) -> Message:
    transfer_id = str(uuid.uuid4())
    body = {
        "transfer_id": transfer_id,
        "seq": 1,
        "kind": "p2p",
        "payer": "wallet:payer-1234",
        "payee": payee_party,
        "payer_customer_id": payer,
        "payee_customer_id": payee,
        "amount_minor": 1_250,
        "fee_minor": 0,
        "currency": "CNY",
        "status": "settled",
        "payer_available_minor": 100,
        "payee_available_minor": 200,
        "requested_at": "2026-11-23T08:30:00Z",
        "occurred_at": occurred_at,
    }
    model = TOPICS["transfer.events"]["transfer.settled"]
    data = model.model_validate_json(orjson.dumps(body))
    return Message(LANE, "transfer.events", 0, b"k", "transfer.settled", id_ or f"{transfer_id}.1", "test", data)


def closing(type_: str, body: dict[str, Any], id_: str = "case.1") -> Message:
    data = MODELS[type_].model_validate_json(orjson.dumps(body))
    return Message(Lane("closure", 0), "closure.events", 0, b"k", type_, id_, "test", data)


def profile(customer_id: str, **fields: Any) -> Message:
    body = {"customer_id": customer_id, "name": "王小明", "locale": "en", **fields}
    model = TOPICS["customer.profiles"]["customer.profile"]
    data = model.model_validate_json(orjson.dumps(body))
    return Message(Lane("profile", 0), "customer.profiles", 0, customer_id.encode(), "customer.profile", "p", "t", data)


def erasure(customer_id: str) -> Message:
    key = customer_id.encode()
    return Message(Lane("profile", 0), "customer.profiles", 0, key, "customer.profiles.tombstone", "e", "t", None)


CASE = "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f50a"


@pytest.mark.parametrize("type_", ["transfer.failed", "transfer.refunded"])
@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"kind": "withdrawal", "case_id": CASE}, False),
        ({"kind": "fee", "case_id": CASE}, False),
        ({"kind": "withdrawal"}, True),
        ({"kind": "p2p", "case_id": CASE}, True),
    ],
)
def test_what_a_closing_says_of_its_own_payout_is_said_once(type_: str, more: dict[str, Any], *, told: bool) -> None:
    data = MODELS[type_].model_validate_json(orjson.dumps({**EXAMPLES[type_][0], "case_id": None, **more}))
    event = Message(LANE, "transfer.events", 0, b"k", type_, "e", "test", data)
    assert (Role.PAYER in dict(recipients(event, POLICY))) is told


@pytest.mark.parametrize("example", EXAMPLES["risk.cleared"])
def test_that_one_restriction_is_over_is_told_only_where_no_other_goes_on(example: dict[str, Any]) -> None:
    data = MODELS["risk.cleared"].model_validate_json(orjson.dumps(example))
    event = Message(LANE, "risk.events", 0, b"k", "risk.cleared", "e", "test", data)
    assert bool(dict(recipients(event, POLICY))) is ("restricted_until" not in example)


def test_a_payout_that_is_refused_for_a_while_is_told_because_the_closing_says_nothing() -> None:
    example = EXAMPLES["transfer.failed"][0]
    reason = {**example["reason"], "code": "maintenance"}
    body = {**example, "reason": reason, "kind": "withdrawal", "case_id": CASE}
    data = MODELS["transfer.failed"].model_validate_json(orjson.dumps(body))
    event = Message(LANE, "transfer.events", 0, b"k", "transfer.failed", "e", "test", data)
    assert Role.PAYER in dict(recipients(event, POLICY))


async def hear(
    pool: Pool, *messages: Message, timers: tuple[Timer, ...] = (), now: datetime = NOW, is_profile: bool = False
) -> Effects:
    is_profile = is_profile or (bool(messages) and messages[0].topic == "customer.profiles")
    handle = HANDLERS.on_profiles if is_profile else HANDLERS.on_events
    async with pool.acquire() as connection, connection.transaction():
        effects = await handle(connection, Batch(messages, timers), now)
    lanes = {one.lane for one in (*messages, *timers)}
    # The runtime refuses what is not of the batch's lanes.
    assert all(outgoing.lane in lanes for outgoing in effects.outgoing)
    reports = tuple(timer for timer in effects.timers_set if timer.kind == REPORT_TIMER)
    if not reports:
        return effects
    reported = await hear(pool, timers=reports, now=now)
    rest = [timer for timer in effects.timers_set if timer.kind != REPORT_TIMER]
    return Effects(outgoing=[*effects.outgoing, *reported.outgoing], timers_set=rest, unfit=effects.unfit)


def published(effects: Effects) -> list[tuple[str, str, str | None]]:
    """Return who was told of what became of their notice, each in a message that the contract knows."""
    said = []
    for outgoing in effects.outgoing:
        if outgoing.topic != "notify.events":
            continue
        found = decode(outgoing.headers, outgoing.value, TOPICS[outgoing.topic])
        assert isinstance(found, Envelope)
        data: Any = found.data
        assert outgoing.key == data.customer_id.encode()
        said.append((found.type.removeprefix("notification."), data.customer_id, getattr(data, "why", None)))
    return said


async def inboxes(pool: Pool) -> list[tuple[str, int, str, str]]:
    async with pool.acquire() as connection:
        rows = await connection.fetch(
            "select customer_id, number, notice_id, wrapped_key, sealed from inbox_message"
            " join customer_key using (customer_id) where sealed is not null order by customer_id, number"
        )
    return [
        (customer_id, number, locale, text.title)
        for customer_id, number, notice_id, wrapped, sealed in rows
        for locale, text in [open_text(KEYS.unwrap(customer_id, wrapped), notice_id, sealed)]
    ]


async def accounted(pool: Pool) -> dict[tuple[str, str | None], int]:
    """Return how many notices stand where, having checked that they are as many as were accepted."""
    async with pool.acquire() as connection:
        rows = await connection.fetch("select status, why, count(*) from notice group by status, why")
        accepted = await connection.fetchval("select coalesce(sum(accepted), 0)::integer from announcement")
        waiting = await connection.fetchval("select count(*) from waiting")
    counts = {(row[0], row[1]): row[2] for row in rows}
    assert sum(counts.values()) == accepted
    assert waiting == sum(count for (status, _), count in counts.items() if status == "pending")
    return counts


async def test_both_parties_are_told_once_each_in_their_language_whatever_is_repeated(pool: Pool) -> None:
    await hear(pool, profile("a"), profile("b", locale="zh-CN"))
    event = settled()
    assert published(await hear(pool, event, event)) == [("delivered", "a", None), ("delivered", "b", None)]
    assert published(await hear(pool, event)) == []
    assert await inboxes(pool) == [("a", 1, "en", "CN¥12.50 sent"), ("b", 1, "zh-CN", "收到 ¥12.50")]
    assert await accounted(pool) == {("delivered", None): 2}


async def test_what_became_of_a_message_names_the_gateway_that_had_it_last(pool: Pool) -> None:
    await hear(pool, profile("a"), is_profile=True)
    await hear(pool, settled(payee=None))
    async with pool.acquire() as connection:
        notice_id = await connection.fetchval(
            "update notice set delivery_id = notice_id, status = 'sent', ended_at = now(), told = null, why = null"
            " returning notice_id"
        )
        for number, gateway in enumerate(("mail-a", "mail-b"), 1):
            await connection.execute(
                "insert into attempt (delivery_id, number, gateway, started_at) values ($1, $2, $3, now())",
                notice_id,
                number,
                gateway,
            )
    effects = await hear(pool, timers=(report_timer(LANE, notice_id, "sent", NOW),))
    (told,) = effects.outgoing
    assert told.value is not None
    assert orjson.loads(told.value)["gateway"] == "mail-b"
    assert published(effects) == [("sent", "a", None)]


async def test_who_is_both_parties_is_told_once(pool: Pool) -> None:
    await hear(pool, profile("a"))
    await hear(pool, settled(payer="a", payee="a"))
    assert [title for *_, title in await inboxes(pool)] == ["CN¥12.50 sent"]


async def test_an_event_that_concerns_nobody_leaves_nothing(pool: Pool) -> None:
    await hear(pool, settled(payer=None, payee=None))
    assert await accounted(pool) == {}


async def test_an_inbox_is_numbered_without_gaps_over_many_batches(pool: Pool) -> None:
    await hear(pool, profile("a"), profile("b"))
    for count in (3, 1, 5):
        await hear(pool, *(settled() for _ in range(count)))
    assert [number for customer, number, *_ in await inboxes(pool) if customer == "a"] == list(range(1, 10))


async def test_a_notice_waits_for_its_profile_and_is_told_when_it_comes(pool: Pool) -> None:
    await hear(pool, profile("a"))
    effects = await hear(pool, settled())
    assert published(effects) == [("delivered", "a", None)]
    assert await accounted(pool) == {("delivered", None): 1, ("pending", "profile_missing"): 1}
    assert published(await hear(pool, profile("b"))) == [("delivered", "b", None)]
    assert [customer for customer, *_ in await inboxes(pool)] == ["a", "b"]
    # The timer finds nothing that waits.
    (timer,) = effects.timers_set
    assert published(await hear(pool, timers=(timer,), now=timer.due_at)) == []
    assert await accounted(pool) == {("delivered", None): 2}


async def test_without_a_profile_in_time_it_is_suppressed_and_stays_so(pool: Pool) -> None:
    (timer,) = (await hear(pool, settled())).timers_set
    assert timer.due_at == NOW + timedelta(days=1)
    said = published(await hear(pool, timers=(timer,), now=timer.due_at))
    assert sorted(said) == [("suppressed", "a", "profile_missing"), ("suppressed", "b", "profile_missing")]
    assert published(await hear(pool, profile("a"))) == []
    assert await inboxes(pool) == []
    assert await accounted(pool) == {("suppressed", "profile_missing"): 2}


async def test_who_wants_nothing_in_the_app_gets_nothing_there_and_it_is_accounted_for(pool: Pool) -> None:
    await hear(pool, profile("a", preferences={"channels": {"in_app": False}}), profile("b"))
    assert published(await hear(pool, settled())) == [("suppressed", "a", "channel_off"), ("delivered", "b", None)]
    assert await accounted(pool) == {("delivered", None): 1, ("suppressed", "channel_off"): 1}


async def test_what_is_for_security_cannot_be_switched_off(pool: Pool) -> None:
    await hear(pool, profile("a", preferences={"channels": {"in_app": False}}))
    body = {"account_id": "wallet:a", "customer_id": "a", "currency": "CNY", "tier": "standard", "status": "open"}
    body |= {"posted_minor": 0, "reserved_minor": 0, "available_minor": 0, "version": 2, "scope": "debit"}
    data = TOPICS["transfer.events"]["account.restricted"].model_validate_json(orjson.dumps(body))
    event = Message(LANE, "transfer.events", 0, b"k", "account.restricted", "wallet:a.2", "test", data)
    assert published(await hear(pool, event)) == [("delivered", "a", None)]


async def test_erasing_somebody_takes_what_they_were_told_and_what_waits_but_not_the_accounting(pool: Pool) -> None:
    await hear(pool, profile("a"))
    await hear(pool, settled())
    await hear(pool, settled(payer="b", payee=None))
    assert sorted(published(await hear(pool, erasure("a"), erasure("b")))) == [
        ("suppressed", "b", "erased"),
        ("suppressed", "b", "erased"),
    ]
    assert await inboxes(pool) == []
    assert await accounted(pool) == {("delivered", None): 1, ("suppressed", "erased"): 2}
    # Somebody new under the same id begins with an empty inbox, and is told again.
    await hear(pool, profile("a"))
    await hear(pool, settled(payee=None))
    assert [(customer, number) for customer, number, *_ in await inboxes(pool)] == [("a", 2)]


def erased(effects: Effects) -> list[str]:
    """Return who was said to be forgotten, each in a message that the contract knows."""
    said = []
    for outgoing in effects.outgoing:
        if outgoing.topic == "erasure.events":
            found = decode(outgoing.headers, outgoing.value, TOPICS[outgoing.topic])
            assert isinstance(found, Envelope)
            assert isinstance(found.data, CustomerErased)
            assert (found.data.service, len(found.data.retained)) == ("notify", 2)
            said.append(found.data.customer_id)
    return said


async def erase(
    pool: Pool,
    *customers: str,
    timers: tuple[Timer, ...] = (),
    now: datetime = NOW,
    case_id: uuid.UUID | None = None,
) -> Effects:
    lane, model = Lane("erasure", 0), TOPICS["erasure.events"]["customer.erase"]
    messages = [
        Message(
            lane,
            "erasure.events",
            0,
            b"k",
            "customer.erase",
            f"erase-{customer}",
            "t",
            model(customer_id=customer, case_id=case_id),
        )
        for customer in customers
    ]
    async with pool.acquire() as connection, connection.transaction():
        return await HANDLERS.on_erasures(connection, Batch(messages, timers), now)


async def test_who_is_erased_is_answered_for_by_either_way(pool: Pool) -> None:
    await hear(pool, profile("a"), profile("b"))
    await hear(pool, settled())
    assert erased(await erase(pool, "a")) == ["a"]
    assert erased(await hear(pool, erasure("b"))) == ["b"]
    async with pool.acquire() as connection:
        left = await connection.fetch(
            "select contacts, wrapped_key, is_known from customer left join customer_key using (customer_id)"
        )
    assert {tuple(row) for row in left} == {(None, None, False)}
    assert await accounted(pool) == {("delivered", None): 2}


async def test_the_receipt_of_a_closing_leaves_before_its_reader_is_forgotten(pool: Pool) -> None:
    example = EXAMPLES["closure.erasing"][0]
    await hear(pool, closing("closure.erasing", example))
    customer = example["customer_id"]
    waits = await erase(pool, customer)
    (timer,) = waits.timers_set
    assert erased(waits) == []
    again = await erase(pool, timers=(timer,), now=timer.due_at)
    assert (erased(again), len(again.timers_set)) == ([], 1)
    # Its profile comes, and so it can be told; then its reader is forgotten.
    await hear(pool, profile(customer))
    assert erased(await erase(pool, timers=tuple(again.timers_set), now=timer.due_at)) == [customer]


async def test_a_receipt_that_is_heard_of_after_its_erasure_leaves_all_the_same(pool: Pool) -> None:
    example = EXAMPLES["closure.erasing"][0]
    customer, case_id = example["customer_id"], uuid.UUID(example["case_id"])
    await hear(pool, profile(customer))
    waits = await erase(pool, customer, case_id=case_id)
    assert erased(waits) == []
    # Nor does the null profile that follows take what it needs.
    assert erased(await hear(pool, erasure(customer))) == []
    told = await hear(pool, closing("closure.erasing", example, event_id("case", case_id, 7)))
    assert ("delivered", customer, None) in published(told)
    (timer,) = waits.timers_set
    assert erased(await erase(pool, timers=(timer,), now=timer.due_at)) == [customer]


async def test_an_erasure_long_after_the_closing_waits_for_no_other_receipt(pool: Pool) -> None:
    example = next(one for one in EXAMPLES["closure.closed"] if one["erasure"] == "deferred")
    customer, case_id = example["customer_id"], uuid.UUID(example["case_id"])
    await hear(pool, profile(customer))
    await hear(pool, closing("closure.closed", example, event_id("case", case_id, 8)))
    assert erased(await erase(pool, customer, case_id=case_id)) == [customer]


async def test_a_receipt_that_cannot_leave_holds_up_an_erasure_no_longer_than_the_policy_says(pool: Pool) -> None:
    example = EXAMPLES["closure.erasing"][0]
    await hear(pool, closing("closure.erasing", example))
    (timer,) = (await erase(pool, example["customer_id"])).timers_set
    late = NOW + timedelta(seconds=POLICY.erasing.receipt_within_s)
    assert erased(await erase(pool, timers=(timer,), now=late)) == [example["customer_id"]]
    assert await accounted(pool) == {("suppressed", "erased"): 1}


async def kept_of(pool: Pool, customer: str) -> tuple[bool, bool, bool]:
    """Return whether a customer is known, can be reached, and is being erased."""
    async with pool.acquire() as connection:
        said = "select is_known, contacts is not null or phone_hash <> '', erasing is not null from customer"
        return tuple(await connection.fetchrow(f"{said} where customer_id = $1", customer))


async def test_a_profile_that_comes_while_an_erasure_waits_is_forgotten_with_the_rest(pool: Pool) -> None:
    example = EXAMPLES["closure.erasing"][0]
    customer = example["customer_id"]
    await hear(pool, closing("closure.erasing", example))
    (timer,) = (await erase(pool, customer)).timers_set
    await hear(pool, profile(customer, phone="+8613812345678", phone_verified=True))
    assert await kept_of(pool, customer) == (True, True, True)
    assert len(await inboxes(pool)) == 1
    assert erased(await erase(pool, timers=(timer,), now=timer.due_at)) == [customer]
    assert await kept_of(pool, customer) == (False, False, False)
    assert await inboxes(pool) == []


@pytest.mark.parametrize("is_one_batch", [True, False])
async def test_a_profile_after_a_null_one_is_somebody_new_though_the_erasure_waits(
    pool: Pool, *, is_one_batch: bool
) -> None:
    example = EXAMPLES["closure.erasing"][0]
    customer = example["customer_id"]
    await hear(pool, closing("closure.erasing", example))
    asked = await erase(pool, customer)
    if is_one_batch:
        null = await hear(pool, erasure(customer), profile(customer))
    else:
        null = await hear(pool, erasure(customer))
        assert (erased(null), await kept_of(pool, customer)) == ([], (False, False, True))
        await hear(pool, profile(customer))
    # What waited was for somebody else.
    assert await accounted(pool) == {("suppressed", "erased"): 1}
    assert await inboxes(pool) == []
    await hear(pool, settled(payer=customer, payee=None))
    # Both are answered, and neither takes the newcomer.
    timers = tuple(timer for timer in null.timers_set if timer.kind == ERASE_TIMER)
    assert erased(await hear(pool, timers=timers, now=timers[0].due_at, is_profile=True)) == [customer]
    assert erased(await erase(pool, timers=tuple(asked.timers_set), now=asked.timers_set[0].due_at)) == [customer]
    assert await kept_of(pool, customer) == (True, True, False)
    assert len(await inboxes(pool)) == 1


async def test_a_profile_that_comes_while_its_event_is_decided_is_not_missed(pool: Pool) -> None:
    await hear(pool, profile("a"))

    async def waits() -> bool:
        activity = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        async with pool.acquire() as watch:
            return bool(await watch.fetchval(f"select exists ({activity})"))

    async with pool.acquire() as connection, connection.transaction():
        await HANDLERS.on_events(connection, Batch([settled()]), NOW)
        arriving = asyncio.create_task(hear(pool, profile("b")))
        await wait_until(waits, what="the profile waits for the event's decision")
    assert published(await arriving) == [("delivered", "b", None)]


async def test_a_time_zone_that_there_is_not_does_not_keep_anybody_from_being_told(pool: Pool) -> None:
    await hear(pool, profile("a", time_zone="Mars/Olympus"), profile("b", time_zone="../../etc/passwd"))
    await hear(pool, settled())
    assert len(await inboxes(pool)) == 2


async def test_a_closing_that_waited_for_its_profile_is_told(pool: Pool) -> None:
    await hear(pool, closing("closure.rejected", EXAMPLES["closure.rejected"][0]))
    assert await accounted(pool) == {("pending", "profile_missing"): 1}
    assert published(await hear(pool, profile("customer-1"))) == [("delivered", "customer-1", None)]
    assert [title for *_, title in await inboxes(pool)] == ["Not possible yet: closing your wallet ending e"]


def _concerns_many() -> list[str]:
    return sorted(type_ for type_, rule in POLICY.events.items() if "concerned" in rule.to)


@pytest.mark.parametrize("type_", _concerns_many())
def test_who_is_concerned_is_not_found_in_the_event_and_a_drill_concerns_nobody(type_: str) -> None:
    for example in EXAMPLES[type_]:
        for is_drill in (False, True):
            message = closing(type_, {**example, "drill": is_drill})
            assert list(recipients(message, POLICY)) == []


async def test_a_tombstone_whose_key_is_nobodys_is_set_aside_and_erases_nobody(pool: Pool) -> None:
    await hear(pool, profile("\ufffd"))
    keys = (None, b"\xff", b"a\x00", b"x" * 129)
    tombstones = [erasure("c")._replace(key=key, offset=number) for number, key in enumerate(keys)]
    effects = await hear(pool, *tombstones, profile("d"))
    assert [unfit.message for unfit in effects.unfit] == tombstones
    async with pool.acquire() as connection:
        known = await connection.fetch("select customer_id from customer where is_known order by customer_id")
    assert [row[0] for row in known] == ["d", "\ufffd"]
