"""Broadcasts: whom they reach and whom not, chunk by chunk, paused, cancelled, repeated and counted."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from schemas.envelope import Envelope, decode
from schemas.examples import EXAMPLES
from schemas.registry import TOPICS
from services.notify import records
from services.notify.broadcast import store
from services.notify.broadcast.handlers import BROADCAST_TIMER, Broadcasts
from services.notify.decide import FORGET_TIMER, Rules
from services.notify.handlers import Handlers
from services.runtime.message import Batch, Effects, Lane, Message, Timer
from tests.notify.test_notices import (
    KEYS,
    MASTER_KEY,
    POLICY,
    RULES,
    WORDING,
    erasure,
    hear,
    inboxes,
    profile,
    published,
    settled,
)

if TYPE_CHECKING:
    from services.runtime.database import Pool

NOW = datetime(2026, 11, 23, 8, 30, tzinfo=UTC)
LANE = Lane("command", 0)
HANDLERS = Handlers(RULES, KEYS, Broadcasts(RULES))
ALL_CHANNELS = Rules(POLICY, WORDING, MASTER_KEY)
BY_ALL_CHANNELS = Handlers(ALL_CHANNELS, KEYS, Broadcasts(ALL_CHANNELS))
TEXT = {"title": {"zh-CN": "服务更新", "en": "Update"}, "body": {"zh-CN": "内容。", "en": "What is new."}}


def command(type_: str, body: dict[str, Any]) -> Message:
    data = TOPICS["notify.commands"][type_].model_validate_json(orjson.dumps(body))
    return Message(LANE, "notify.commands", 0, b"k", type_, str(uuid.uuid4()), "test", data)


def request(id_: str | None = None, **fields: Any) -> Message:
    body = {"notification_id": id_ or str(uuid.uuid4()), "template": "announcement", "data": TEXT}
    return command("notification.request", body | {"category": "service", "channels": ["in_app", "sms"]} | fields)


async def handle(pool: Pool, *messages: Message, timers: tuple[Timer, ...] = (), now: datetime = NOW) -> Effects:
    async with pool.acquire() as connection, connection.transaction():
        return await HANDLERS.on_commands(connection, Batch(messages, timers), now)


async def run(pool: Pool, effects: Effects, now: datetime = NOW) -> list[dict[str, Any]]:
    """Take broadcasts on until they only wait; return what was published of them."""
    said, kinds = [], (BROADCAST_TIMER, FORGET_TIMER)
    for _ in range(20):
        due = tuple(timer for timer in effects.timers_set if timer.kind in kinds and timer.due_at <= now)
        if not due:
            return said
        async with pool.acquire() as connection:
            await store.count_all(connection, now)
        effects = await handle(pool, timers=due, now=now)
        for outgoing in effects.outgoing:
            found = decode(outgoing.headers, outgoing.value, TOPICS[outgoing.topic])
            assert isinstance(found, Envelope)
            said.append({"type": found.type, **found.data.model_dump()})
    raise AssertionError("it does not come to an end")


async def notices(pool: Pool) -> dict[tuple[str, str, str, str | None], int]:
    async with pool.acquire() as connection:
        rows = await connection.fetch(
            "select customer_id, channel, status, why, count(*) from notice group by 1, 2, 3, 4 order by 1, 2, 3, 4"
        )
        accepted = await connection.fetchval("select coalesce(sum(accepted), 0) from announcement")
    assert sum(row[4] for row in rows) == accepted
    return {tuple(row[:4]): row[4] for row in rows}


def reachable(customer_id: str, **fields: Any) -> Message:
    return profile(customer_id, phone="+8613812345678", phone_verified=True, email="a@mail.example", **fields)


async def test_everybody_who_is_known_is_told_in_their_language_and_how_they_want(pool: Pool) -> None:
    off = {"channels": {"sms": False}}
    await hear(pool, reachable("a"), reachable("b", locale="zh-CN", preferences=off), profile("c"))
    await hear(pool, settled(payer="nobody", payee=None))
    await run(pool, await handle(pool, request(audience={"all": True})))
    told = {key: count for key, count in (await notices(pool)).items() if key[0] != "nobody"}
    assert told == {
        ("a", "in_app", "delivered", None): 1,
        ("a", "sms", "pending", "queued"): 1,
        ("b", "in_app", "delivered", None): 1,
        ("b", "sms", "suppressed", "channel_off"): 1,
        ("c", "in_app", "delivered", None): 1,
        ("c", "sms", "suppressed", "no_address"): 1,
    }


@pytest.mark.parametrize(
    ("audience", "reached"),
    [
        ({"all": True}, {"a", "b", "c"}),
        ({"tier": "gold"}, {"b"}),
        ({"locale": "zh-CN"}, {"c"}),
        ({"customers": ["a", "c"]}, {"a", "c"}),
        ({"bank": "ICBC"}, {"a"}),
    ],
)
async def test_an_audience_is_who_it_says(pool: Pool, audience: dict[str, Any], reached: set[str]) -> None:
    await hear(pool, reachable("a"), reachable("b", tier="gold"), reachable("c", locale="zh-CN"))
    await hear(pool, settled(payer="a", payee=None, payee_party="bank:ICBC:6222020000000001"))
    effects = await handle(pool, request(audience=audience))
    await run(pool, effects)
    (id_,) = {timer.subject for timer in effects.timers_set}
    async with pool.acquire() as connection:
        rows = await connection.fetch("select distinct customer_id from notice where event_id = $1", id_)
    assert {row[0] for row in rows} == reached


async def test_a_list_accounts_for_those_who_are_not_known(pool: Pool) -> None:
    await hear(pool, reachable("a"))
    await run(pool, await handle(pool, request(audience={"customers": ["a", "nobody"]}, channels=["in_app"])))
    assert await notices(pool) == {
        ("a", "in_app", "delivered", None): 1,
        ("nobody", "in_app", "suppressed", "profile_missing"): 1,
    }


async def left_of_broadcasts(pool: Pool) -> tuple[bool, bool]:
    """Return whether the words of a broadcast are kept, and whether its list is."""
    async with pool.acquire() as connection:
        row = await connection.fetchrow(
            "select (select bool_or(texts is not null) from broadcast), exists (select from broadcast_target)"
        )
    assert row is not None
    return row[0], row[1]


async def run_to_its_end(pool: Pool, *messages: Message) -> list[dict[str, Any]]:
    effects = await handle(pool, *messages)
    await run(pool, effects)
    later = NOW + timedelta(seconds=30)
    return await run(pool, Effects(timers_set=[effects.timers_set[0]._replace(due_at=later)]), now=later)


async def test_a_broadcast_that_is_over_keeps_no_list_and_its_words_while_somebody_can_read_them(pool: Pool) -> None:
    await hear(pool, profile("a"), profile("b"))
    asked = request(audience={"customers": ["a", "b", "nobody"]}, channels=["in_app"])
    await run(pool, await handle(pool, asked))
    assert await left_of_broadcasts(pool) == (True, True)
    later = NOW + timedelta(seconds=30)
    timer = Timer(LANE, BROADCAST_TIMER, str(asked.data.notification_id), later)  # type: ignore[union-attr]
    (said,) = await run(pool, Effects(timers_set=[timer]), now=later)
    assert (said["type"], said["accepted"], said["delivered"]) == ("broadcast.finished", 3, 2)
    assert await left_of_broadcasts(pool) == (True, False)
    # The same again is a repeat as ever.
    again = await handle(pool, asked)
    assert (again.timers_set, again.unfit) == ([], [])
    await run(pool, await hear(pool, erasure("a")))
    assert await left_of_broadcasts(pool) == (True, False)
    await run(pool, await hear(pool, erasure("b")))
    assert await left_of_broadcasts(pool) == (False, False)
    assert sum((await notices(pool)).values()) == 3


async def test_words_that_are_in_no_inbox_go_with_the_end(pool: Pool) -> None:
    await hear(pool, profile("a"))
    (said,) = await run_to_its_end(pool, request(audience={"all": True}, channels=["sms"]))
    assert (said["type"], said["suppressed"]) == ("broadcast.finished", 1)
    assert await left_of_broadcasts(pool) == (False, False)


async def test_who_is_erased_while_a_broadcast_goes_on_leaves_no_words_at_its_end(pool: Pool) -> None:
    await hear(pool, profile("a"))
    effects = await handle(pool, request(audience={"customers": ["a"]}, channels=["in_app"]))
    await run(pool, effects)
    await hear(pool, erasure("a"))
    assert await left_of_broadcasts(pool) == (True, True)
    later = NOW + timedelta(seconds=30)
    await run(pool, Effects(timers_set=[effects.timers_set[0]._replace(due_at=later)]), now=later)
    assert await left_of_broadcasts(pool) == (False, False)


async def test_marketing_reaches_only_who_agreed_and_security_everybody(pool: Pool) -> None:
    off = {"channels": {"in_app": False}}
    await hear(pool, reachable("a", preferences={"marketing": True}), reachable("b", preferences=off))
    await run(pool, await handle(pool, request(audience={"all": True}, category="marketing", channels=["in_app"])))
    await run(pool, await handle(pool, request(audience={"all": True}, category="security", channels=["in_app"])))
    assert await notices(pool) == {
        ("a", "in_app", "delivered", None): 2,
        ("b", "in_app", "delivered", None): 1,
        ("b", "in_app", "suppressed", "no_consent"): 1,
    }


async def test_many_are_resolved_in_chunks_each_once_and_the_end_is_told(pool: Pool) -> None:
    people = [profile(f"c{number:05}") for number in range(2_500)]
    await hear(pool, *people)
    effects = await handle(pool, request(audience={"all": True}, channels=["in_app"]))
    await run(pool, effects)
    later = NOW + timedelta(seconds=30)
    said = await run(pool, Effects(timers_set=[effects.timers_set[0]._replace(due_at=later)]), now=later)
    assert [(one["type"], one["status"], one["accepted"], one["delivered"]) for one in said] == [
        ("broadcast.finished", "finished", 2_500, 2_500)
    ]
    assert len(await inboxes_of_broadcast(pool)) == 2_500


async def inboxes_of_broadcast(pool: Pool) -> list[Any]:
    async with pool.acquire() as connection:
        return await connection.fetch(
            "select distinct customer_id from inbox_message where notification_id is not null"
        )


async def test_a_repeat_changes_nothing_and_another_content_is_a_dead_letter(pool: Pool) -> None:
    await hear(pool, reachable("a"))
    first = request(audience={"all": True})
    id_ = str(first.data.notification_id)  # type: ignore[union-attr]
    await run(pool, await handle(pool, first, first))
    again = await handle(pool, first)
    assert (again.timers_set, again.unfit) == ([], [])
    (unfit,) = (await handle(pool, request(id_, audience={"locale": "en"}))).unfit
    assert "other content" in unfit.detail
    assert sum((await notices(pool)).values()) == 2


async def test_paused_nothing_goes_on_resumed_it_does_and_cancelled_the_rest_is_suppressed(pool: Pool) -> None:
    await hear(pool, *(reachable(f"c{number:05}") for number in range(1_500)))
    asked = request(audience={"all": True}, channels=["sms"])
    id_ = {"notification_id": str(asked.data.notification_id)}  # type: ignore[union-attr]
    effects = await handle(pool, asked)
    effects = await handle(pool, timers=tuple(effects.timers_set))
    await handle(pool, command("broadcast.pause", id_))
    paused = await handle(pool, timers=tuple(effects.timers_set))
    assert await states(pool) == {"held": 500}
    await handle(pool, command("broadcast.resume", id_))
    await run(pool, Effects(timers_set=[paused.timers_set[0]._replace(due_at=NOW)]))
    assert await states(pool) == {"queued": 1_500}
    await handle(pool, command("broadcast.cancel", id_))
    assert await states(pool) == {}
    later = NOW + timedelta(seconds=30)
    said = await run(pool, Effects(timers_set=[paused.timers_set[0]._replace(due_at=later)]), now=later)
    assert [(one["type"], one["status"], one["suppressed"]) for one in said] == [
        ("broadcast.finished", "cancelled", 1_500)
    ]


async def test_it_is_told_how_a_broadcast_goes_and_how_many_it_has_reached(pool: Pool) -> None:
    await hear(pool, *(reachable(f"c{number:05}") for number in range(1_500)))
    asked = request(audience={"all": True}, channels=["in_app", "sms"])
    id_ = str(asked.data.notification_id)  # type: ignore[union-attr]
    assert await look(pool, id_) is None
    effects = await handle(pool, asked)
    effects = await handle(pool, timers=tuple(effects.timers_set))
    assert await look(pool, id_) == records.Broadcast("running", 500, 1_500)
    await handle(pool, command("broadcast.pause", {"notification_id": id_}))
    assert await look(pool, id_) == records.Broadcast("paused", 500, 1_500)
    await handle(pool, command("broadcast.cancel", {"notification_id": id_}))
    assert await look(pool, id_) == records.Broadcast("cancelled", 500, 1_500)
    told = request(audience={"all": True}, channels=["in_app"])
    await run_to_its_end(pool, told)
    said = await look(pool, str(told.data.notification_id))  # type: ignore[union-attr]
    assert said == records.Broadcast("finished", 1_500, 1_500)


async def look(pool: Pool, id_: str) -> records.Broadcast | None:
    async with pool.acquire() as connection:
        return await records.look_at_broadcast(connection, id_)


async def test_a_cancel_is_final_whatever_comes_with_it(pool: Pool) -> None:
    await hear(pool, reachable("a"))
    asked = request(audience={"all": True}, not_before="2026-11-23T09:00:00Z")
    id_ = {"notification_id": str(asked.data.notification_id)}  # type: ignore[union-attr]
    effects = await handle(pool, asked)
    await handle(pool, command("broadcast.cancel", id_), command("broadcast.resume", id_))
    await handle(pool, command("broadcast.resume", id_))
    later = NOW + timedelta(hours=1)
    await run(pool, effects, now=later)
    assert await notices(pool) == {}


@pytest.mark.parametrize("type_", ["broadcast.pause", "broadcast.resume", "broadcast.cancel"])
async def test_what_is_asked_of_no_broadcast_is_a_dead_letter(pool: Pool, type_: str) -> None:
    await hear(pool, reachable("a"))
    broadcast, single = request(audience={"all": True}), request(customer_id="a")
    refused = request(audience={"all": True}, template="nothing")
    about = [{"notification_id": str(one.data.notification_id)} for one in (broadcast, single, refused)]  # type: ignore[union-attr]
    early, of_one, of_none = (command(type_, id_) for id_ in about)
    late = command(type_, about[0])
    # Before its request it is a mistake, in the same batch or not; after it it is not, even when all is over.
    effects = await handle(pool, early, broadcast, late, single, of_one, refused, of_none)
    in_vain = [unfit.message for unfit in effects.unfit if "no broadcast was asked for" in unfit.detail]
    assert in_vain == [early, of_one, of_none]
    assert (await handle(pool, late)).unfit == []
    (unfit,) = (await handle(pool, command(type_, {"notification_id": str(uuid.uuid4())}))).unfit
    assert unfit.message.type == type_


@pytest.mark.parametrize(
    "odd",
    [{"settles_on": "abc"}, {"until": "2026-13-45"}, {"amount_minor": "abc", "currency": "CNY"}, {"support": "x"}],
)
async def test_data_that_no_template_needs_is_no_obstacle(pool: Pool, odd: dict[str, Any]) -> None:
    await hear(pool, reachable("a"))
    effects = await handle(pool, request(customer_id="a", channels=["in_app"], data=TEXT | odd))
    assert (published(effects), effects.unfit) == ([("delivered", "a", None)], [])


async def states(pool: Pool) -> dict[str, int]:
    async with pool.acquire() as connection:
        rows = await connection.fetch("select state, count(*) from delivery group by 1")
    return {row[0]: row[1] for row in rows}


async def test_a_template_that_lacks_something_is_a_dead_letter(pool: Pool) -> None:
    (missing,) = (await handle(pool, request(audience={"all": True}, data={"title": "x"}))).unfit
    assert "body" in missing.detail
    (unknown,) = (await handle(pool, request(customer_id="a", template="nothing"))).unfit
    assert "there is no template nothing" in unknown.detail
    (silent,) = (await handle(pool, request(customer_id="a", data=TEXT | {"title": {"en": "only"}}))).unfit
    assert "title is not said in zh-CN" in silent.detail


async def test_one_person_is_told_and_not_before_its_time(pool: Pool) -> None:
    await hear(pool, reachable("a"))
    asked = request(customer_id="a", channels=["in_app"], not_before="2026-11-23T09:00:00Z")
    effects = await handle(pool, asked, asked)
    assert (published(effects), await inboxes(pool)) == ([], [])
    (timer,) = effects.timers_set
    assert published(await handle(pool, timers=(timer,), now=timer.due_at)) == [("delivered", "a", None)]
    assert [title for *_, title in await inboxes(pool)] == ["Update"]


async def test_one_person_who_is_not_known_yet_is_waited_for(pool: Pool) -> None:
    effects = await handle(pool, request(customer_id="a", channels=["in_app"]))
    assert published(effects) == []
    assert published(await hear(pool, reachable("a"))) == [("delivered", "a", None)]


async def test_the_night_of_a_person_is_left_in_peace(pool: Pool) -> None:
    night = {"quiet_hours": {"from": "22:00", "to": "07:30"}}
    await hear(pool, reachable("a", time_zone="Asia/Shanghai", preferences=night))
    at = datetime(2026, 11, 23, 15, 0, tzinfo=UTC)
    await run(pool, await handle(pool, request(audience={"all": True}, channels=["sms"]), now=at), now=at)
    async with pool.acquire() as connection:
        assert await connection.fetchval("select due_at from delivery") == datetime(2026, 11, 23, 23, 30, tzinfo=UTC)


def window(type_: str, **fields: Any) -> Message:
    body = {**EXAMPLES[type_][0], "ends_at": "2026-11-24T08:30:00Z", "starts_at": "2026-11-24T02:00:00Z", **fields}
    data = TOPICS["maintenance.events"][type_].model_validate_json(orjson.dumps(body))
    lane = Lane("maintenance", 0)
    return Message(lane, "maintenance.events", 0, b"k", type_, f"{body['window_id']}.{type_}", "test", data)


def wallet(customer_id: str, currency: str = "CNY", status: str = "open", version: int = 1) -> Message:
    body = {**EXAMPLES["account.opened"][0], "customer_id": customer_id, "currency": currency, "status": status}
    body |= {"account_id": f"wallet:{customer_id}-{currency}", "version": version}
    data = TOPICS["account.states"]["account.opened"].model_validate_json(orjson.dumps(body))
    return Message(Lane("account", 0), "account.states", 0, b"k", "account.opened", str(uuid.uuid4()), "test", data)


async def hold(pool: Pool, *messages: Message) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await HANDLERS.on_accounts(connection, Batch(messages), NOW)


def clearance(**fields: Any) -> Message:
    body = {**EXAMPLES["clearance.announced"][0], **fields}
    data = TOPICS["closure.events"]["clearance.announced"].model_validate_json(orjson.dumps(body))
    lane, id_ = Lane("closure", 0), str(uuid.uuid4())
    return Message(lane, "closure.events", 0, b"k", "clearance.announced", id_, "test", data)


async def told_of(pool: Pool, message: Message) -> set[tuple[str, str]]:
    """Announce an event; return who was told of it, and what became of it."""
    await run(pool, await announce(pool, message))
    async with pool.acquire() as connection:
        rows = await connection.fetch("select customer_id, status from notice where event_id = $1", message.id)
    return {tuple(row) for row in rows}


async def announce(pool: Pool, *messages: Message, handlers: Handlers = HANDLERS) -> Effects:
    async with pool.acquire() as connection, connection.transaction():
        return await handlers.on_events_for_many(connection, Batch(messages), NOW)


@pytest.mark.parametrize(
    "type_", sorted(type_ for type_ in EXAMPLES if type_.startswith("window.") and type_ in POLICY.events)
)
async def test_a_window_is_told_to_everybody_whom_it_concerns_once(pool: Pool, type_: str) -> None:
    await hear(pool, reachable("a"), reachable("b", locale="zh-CN"))
    await hear(pool, settled(payer="a", payee=None, payee_party="bank:ICBC:6222020000000001"))
    about_a_bank, about_all = {"banks": ["ICBC", "ABC"]}, {"banks": [], "currencies": []}
    for scope, told in ((about_a_bank, {"a"}), (about_all, {"a", "b"})):
        message = window(type_, scope=scope, window_id=str(uuid.uuid4()))
        effects = await announce(pool, message, message)
        await run(pool, effects)
        async with pool.acquire() as connection:
            rows = await connection.fetch("select distinct customer_id from notice where event_id = $1", message.id)
        assert {row[0] for row in rows} == told
        assert (await announce(pool, message)).timers_set == []


TO_ALL = {"banks": [], "currencies": []}


async def test_what_is_newer_of_a_window_ends_what_was_told_before_and_else_nothing(pool: Pool) -> None:
    await hear(pool, reachable("a"), *(reachable(f"c{number:05}") for number in range(1_000)))
    planned = window("window.scheduled", scope=TO_ALL, revision=1)
    another = window("window.scheduled", scope=TO_ALL, revision=1, window_id=str(uuid.uuid4()))
    asked = request(audience={"customers": ["a"]}, channels=["sms"])
    await run(pool, await handle(pool, asked))
    await run(pool, await announce(pool, another, handlers=BY_ALL_CHANNELS))
    # The first chunk of it is on its way, the others are not told at all.
    begun = await announce(pool, planned, handlers=BY_ALL_CHANNELS)
    begun = await handle(pool, timers=tuple(begun.timers_set))
    assert await became_of(pool, planned) == {
        ("in_app", "delivered", None): 500,
        ("email", "pending", "queued"): 500,
        ("sms", "pending", "queued"): 500,
    }
    called_off = window("window.cancelled", scope=TO_ALL, revision=2)
    effects = await announce(pool, called_off, handlers=BY_ALL_CHANNELS)
    # At once nothing more is taken of it; what waits ends in the next transaction about it.
    assert await left_to_take(pool) == {str(asked.data.notification_id): 1, another.id: 2_002}  # type: ignore[union-attr]
    await run(pool, begun)
    assert await became_of(pool, planned) == {
        ("in_app", "delivered", None): 500,
        ("email", "suppressed", "cancelled"): 500,
        ("sms", "suppressed", "cancelled"): 500,
    }
    await run(pool, effects)
    assert sum((await became_of(pool, called_off)).values()) == 3_003
    assert sum((await became_of(pool, another)).values()) == 3_003
    later = NOW + timedelta(seconds=30)
    said = await run(pool, Effects(timers_set=[begun.timers_set[0]._replace(due_at=later)]), now=later)
    assert [(one["type"], one["status"], one["accepted"], one["suppressed"]) for one in said] == [
        ("broadcast.finished", "cancelled", 1_500, 1_000)
    ]


async def became_of(pool: Pool, message: Message) -> dict[tuple[str, str, str | None], int]:
    """Return how many notices of an event stand how, which is for how many it was accepted."""
    async with pool.acquire() as connection:
        rows = await connection.fetch(
            "select channel, status, why, count(*) from notice where event_id = $1 group by 1, 2, 3", message.id
        )
        accepted = await connection.fetchval("select accepted from announcement where event_id = $1", message.id)
    assert sum(row[3] for row in rows) == accepted
    return {(row[0], row[1], row[2]): row[3] for row in rows}


async def left_to_take(pool: Pool) -> dict[str, int]:
    """Return how many messages of each broadcast a gateway could be given."""
    async with pool.acquire() as connection:
        rows = await connection.fetch(
            "select notification_id, count(*) from delivery join broadcast using (notification_id)"
            " where delivery.state = 'queued' and broadcast.state = 'running' group by 1"
        )
    return {row[0]: row[1] for row in rows}


@pytest.mark.parametrize("at_once", [1, 2])
@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
async def test_what_is_older_of_a_window_is_never_told_beside_what_is_newer(
    pool: Pool, order: tuple[int, int], at_once: int
) -> None:
    await hear(pool, reachable("a"))
    types = {1: "window.scheduled", 2: "window.cancelled"}
    messages = [window(types[revision], scope=TO_ALL, revision=revision) for revision in order]
    batches = [messages[start : start + at_once] for start in range(0, 2, at_once)]
    begun = [timer for batch in batches for timer in (await announce(pool, *batch)).timers_set]
    await run(pool, Effects(timers_set=begun))
    told = {message.type: sum((await became_of(pool, message)).values()) for message in messages}
    assert told == {"window.scheduled": 0, "window.cancelled": 1}


async def test_a_survey_and_a_repeat_end_nothing_and_a_clearance_is_told_as_it_is_now(pool: Pool) -> None:
    await hear(pool, reachable("a"))
    await hold(pool, wallet("a"))
    ended, survey = window("window.ended", scope=TO_ALL, revision=4), window("survey.requested", revision=5)
    clearances = [clearance(revision=revision) for revision in (1, 2)]
    begun = [timer for one in (ended, survey, ended, *clearances) for timer in (await announce(pool, one)).timers_set]
    await run(pool, Effects(timers_set=begun))
    assert [sum((await became_of(pool, one)).values()) for one in (ended, *clearances)] == [1, 0, 1]


@pytest.mark.parametrize(
    ("functions", "scope", "told"),
    [
        (["withdrawal"], {}, {"yuan", "dollar", "closing", "closed", "none"}),
        (["withdrawal"], {"currencies": ["USD"]}, {"dollar"}),
        (["withdrawal"], {"currencies": ["USD", "CNY"]}, {"yuan", "dollar"}),
        (["withdrawal", "closure_payout"], {"currencies": ["CNY"]}, {"yuan", "closing"}),
        (["closure_payout"], {}, {"closing"}),
        (["closure_payout"], {"currencies": ["USD"]}, set()),
        (["withdrawal"], {"banks": ["ICBC"]}, {"yuan", "dollar"}),
        (["withdrawal"], {"banks": ["ICBC", "ABC"], "currencies": ["USD"]}, {"dollar"}),
        (["withdrawal"], {"banks": ["ABC"]}, set()),
    ],
)
async def test_a_window_is_told_by_what_it_closes_with_which_banks_and_in_which_currencies(
    pool: Pool, functions: list[str], scope: dict[str, Any], told: set[str]
) -> None:
    await hear(pool, *(reachable(name) for name in ("yuan", "dollar", "closing", "closed", "none")))
    await hold(pool, wallet("yuan"), wallet("dollar", "USD"), wallet("closing", status="closing"), wallet("closed"))
    # What is late says nothing new.
    await hold(pool, wallet("closed", status="closed", version=3), wallet("closed", version=2))
    party = "bank:ICBC:6222020000000001"
    await hear(pool, *(settled(payer=name, payee=None, payee_party=party) for name in ("yuan", "dollar")))
    message = window("window.scheduled", functions=functions, scope=scope)
    assert await told_of(pool, message) == {(name, "delivered") for name in told}


async def test_a_clearance_is_told_to_the_holders_of_the_wallets_that_it_names_or_of_all(pool: Pool) -> None:
    await hear(pool, reachable("a"), reachable("b"), reachable("c"))
    # Who has no profile is accounted for.
    await hold(pool, wallet("a"), wallet("a", "USD"), wallet("b"), wallet("unknown"))
    named = ["wallet:a-CNY", "wallet:a-USD", "wallet:unknown-CNY", "wallet:nobody-CNY"]
    assert await told_of(pool, clearance(subjects=named)) == {("a", "delivered"), ("unknown", "suppressed")}
    assert await told_of(pool, clearance()) == {("a", "delivered"), ("b", "delivered")}
    assert await told_of(pool, clearance(subjects=named, dry_run=True)) == set()


async def test_who_is_erased_has_no_wallets_any_more(pool: Pool) -> None:
    await hear(pool, reachable("a"))
    await hold(pool, wallet("a"))
    await hear(pool, erasure("a"))
    await hold(pool, wallet("a", status="closed", version=2))
    async with pool.acquire() as connection:
        assert await connection.fetchval("select count(*) from wallet") == 0


async def test_a_drill_tells_nobody(pool: Pool) -> None:
    await hear(pool, reachable("a"))
    assert (await announce(pool, window("window.scheduled", drill=True))).timers_set == []
