"""Wallets that are closed and reported on in a real database: slices, crashes, two workers, and what stays true."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson
import pytest

from schemas.customer import CustomerProfile
from schemas.erasure import CustomerErase
from schemas.registry import TOPICS
from services.runtime import timers
from services.runtime.database import create_pool
from services.runtime.message import Batch, Lane, Message
from services.transfer import records
from services.transfer.handlers import Handlers
from tests.transfer.bench_of_facts import LANE, MORNING, RULES, handle, message, new_id, read, request
from tests.transfer.test_releases import event
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime

    from services.runtime.database import Pool
    from services.runtime.message import Timer

Said = list[tuple[str, dict[str, Any]]]

CASE, OTHER = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
HOUR = timedelta(hours=1)
AT_ONCE = 4


class Crash(Exception):
    """A worker dies before its transaction is committed."""


class Ledger:
    """The service's handlers over a database, with slices small enough to need several."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.handlers = Handlers(RULES, b"m" * 32, drained_at_once=AT_ONCE, reported_at_once=AT_ONCE)
        self.crashes = False

    async def tell(self, *messages: Message, due: Sequence[Timer] = (), now: datetime = MORNING) -> Said:
        """Handle a batch, after it was lost in a crash where these are wanted; return what was published."""
        if self.crashes:
            with pytest.raises(Crash):
                await self._handle(messages, due, now, crashes=True)
        return await self._handle(messages, due, now, crashes=False)

    async def _handle(self, messages: Sequence[Message], due: Sequence[Timer], now: datetime, *, crashes: bool) -> Said:
        async with self.pool.acquire() as connection, connection.transaction():
            taken = await timers.take(connection, due) if due else []
            effects = await handle(self.handlers, connection, Batch(messages, taken), now)
            await timers.record(connection, effects)
            if crashes:
                raise Crash
        return [read(one) for one in effects.outgoing if one.topic != "account.states"]

    async def close_windows(self, *messages: Message) -> None:
        async with self.pool.acquire() as connection, connection.transaction():
            effects = await self.handlers.on_windows(connection, Batch(messages), MORNING)
            await timers.record(connection, effects)

    async def run_timers(self, now: datetime = MORNING) -> list[Said]:
        """Take what is due, again and again, until nothing is; return what each batch published."""
        said = []
        while due := await self.due(now):
            said.append(await self.tell(due=due, now=now))
        return said

    async def due(self, now: datetime) -> list[Timer]:
        async with self.pool.acquire() as connection:
            return [one for one in await timers.load_next(connection, [LANE], 100, now) if one.due_at <= now]

    async def value(self, query: str, *values: Any) -> Any:
        async with self.pool.acquire() as connection:
            return await connection.fetchval(query, *values)


@pytest.fixture
async def ledger(database: str) -> AsyncIterator[Ledger]:
    pool = await create_pool(database, "transfer", "test", size=4)
    made = Ledger(pool)
    opening = {"currency": "CNY", "tier": "unlimited"}
    accounts = [{"account_id": f"wallet:{name}", "customer_id": name, **opening} for name in "ab"]
    top_up = request("top_up", payer="bank:X1:1", payee="wallet:a", amount_minor=1_000)
    await made.tell(*(message("account.open", one) for one in accounts), message("transfer.request", top_up))
    yield made
    assert await _findings(pool) == []
    await pool.close()


async def _findings(pool: Pool) -> list[Any]:
    async with pool.acquire() as connection:
        return await records.find_all(connection)


def command(word: str, *, name: str = "a", case: str = CASE) -> Message:
    return message(f"account.{word}", {"account_id": f"wallet:{name}", "case_id": case})


def payout(transfer_id: str, word: str) -> Message:
    return message(f"payout.{word}", {"transfer_id": transfer_id})


def types(said: Said) -> list[str]:
    return [type_ for type_, _ in said]


@pytest.mark.parametrize("crashes", [False, True])
async def test_a_wallet_with_money_everywhere_is_emptied_and_closed(ledger: Ledger, *, crashes: bool) -> None:
    ledger.crashes = crashes
    later = {"execute_at": (MORNING + HOUR).isoformat(), "payee": "bank:X1:9"}
    in_flight = request("withdrawal", payee="bank:X1:9", amount_minor=100)
    waiting = [request("withdrawal", amount_minor=1, **later) for _ in range(6)]
    await ledger.close_windows(event(new_id(), "window.started", 1))
    held = [request(amount_minor=1) for _ in range(3)]
    await ledger.tell(*(message("transfer.request", one) for one in (in_flight, *waiting, *held)))
    assert types(await ledger.tell(command("close"))) == ["account.closing"]
    slices = await ledger.run_timers()
    assert [types(said).count("transfer.cancelled") for said in slices] == [4, 4, 1]
    assert "account.drained" not in [type_ for said in slices for type_ in types(said)]
    assert await ledger.value("select count(*) from held_transfer") == 0
    assert await _findings(ledger.pool) == []
    # What is sent already settles, and then it is drained.
    said = await ledger.tell(payout(in_flight["transfer_id"], "settled"))
    assert types(said) == ["transfer.settled", "account.drained"]
    assert said[1][1]["available_minor"] == 900
    assert types(await ledger.tell(command("finish")))[0] == "transfer.command_refused"
    own = request("withdrawal", payee="bank:X1:9", amount_minor=900, case_id=CASE)
    await ledger.tell(message("transfer.request", own))
    assert types(await ledger.tell(payout(own["transfer_id"], "settled"), command("finish"))) == [
        "transfer.settled",
        "account.closed",
    ]
    assert types(await ledger.tell(command("finish"))) == ["account.closed"]
    said = await ledger.tell(payout(own["transfer_id"], "returned"))
    assert types(said) == ["transfer.refunded", "transfer.discrepancy"]
    async with ledger.pool.acquire() as connection:
        assert await records.read_platform_balance(connection, "platform:unclaimed") == {"CNY": 900}
    # Opened again it takes money in the same batch; what was cancelled stays so.
    top_up = request("top_up", payer="bank:X1:1", payee="wallet:a", amount_minor=5)
    said = await ledger.tell(command("reopen"), message("transfer.request", top_up))
    assert types(said) == ["account.reopened", "transfer.settled"]
    assert [type_ for said in await ledger.run_timers(MORNING + 2 * HOUR) for type_ in types(said)] == []
    assert await ledger.value("select posted_minor from account where account_id = 'wallet:a'") == 5


async def test_a_closing_that_is_called_off_leaves_a_wallet_as_any_other(ledger: Ledger) -> None:
    waiting = [request(amount_minor=1, execute_at=(MORNING + HOUR).isoformat()) for _ in range(2)]
    await ledger.tell(*(message("transfer.request", one) for one in waiting))
    said = await ledger.tell(command("close"), command("reinstate"))
    assert types(said) == ["account.closing", "account.reinstated"]
    # What was not cancelled by then is not cancelled any more.
    await ledger.run_timers()
    settled = [type_ for said in await ledger.run_timers(MORNING + HOUR) for type_ in types(said)]
    assert settled == ["transfer.settled"] * 2
    assert types(await ledger.tell(command("close", case=OTHER))) == ["account.closing", "account.drained"]


async def test_a_payout_that_maintenance_holds_is_called_off_with_its_closing(ledger: Ledger) -> None:
    await ledger.close_windows(event(new_id(), "window.started", 1, functions=["closure_payout"]))
    held = [request("withdrawal", payee="bank:X1:9", amount_minor=900, case_id=CASE) for _ in range(2)]
    await ledger.tell(command("close"))
    assert types(await ledger.tell(message("transfer.request", held[0]))) == ["transfer.held"]
    # Of one batch, too: what it holds is not in the database yet.
    said = await ledger.tell(message("transfer.request", held[1]), command("reinstate"))
    assert types(said) == ["transfer.held", "transfer.cancelled", "transfer.cancelled", "account.reinstated"]
    assert said[-1][1]["available_minor"] == 1_000
    assert await ledger.value("select count(*) from held_transfer") == 0
    assert [one for said in await ledger.run_timers(MORNING + 24 * HOUR) for one in said] == []


async def test_what_another_worker_lets_wait_meanwhile_is_cancelled_too(ledger: Ledger) -> None:
    # In the lane of another wallet, by a key that is not its own.
    asked = request(amount_minor=1, execute_at=(MORNING + HOUR).isoformat())
    async with ledger.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        effects = await handle(ledger.handlers, connection, Batch([message("transfer.request", asked)]), MORNING)
        await timers.record(connection, effects)
        closing = asyncio.create_task(ledger.tell(command("close")))
        done, _ = await asyncio.wait([closing], timeout=0.3)
        assert not done
        await transaction.commit()
    assert types(await closing) == ["account.closing"]
    ((cancelled, drained),) = await ledger.run_timers()
    assert (cancelled[0], drained[0]) == ("transfer.cancelled", "account.drained")


async def test_wallets_that_are_closed_at_once_share_what_a_batch_cancels(ledger: Ledger) -> None:
    names = [f"c{number}" for number in range(5)]
    opening = {"currency": "CNY", "tier": "unlimited"}
    await ledger.tell(
        *(message("account.open", {"account_id": f"wallet:{one}", "customer_id": one, **opening}) for one in names)
    )
    later = (MORNING + HOUR).isoformat()
    waiting = [request(payer=f"wallet:{one}", execute_at=later) for one in names for _ in range(3)]
    await ledger.tell(*(message("transfer.request", one) for one in waiting))
    await ledger.tell(*(command("close", name=one) for one in names))
    slices = await ledger.run_timers()
    assert max(types(said).count("transfer.cancelled") for said in slices) == AT_ONCE
    drained = [body["account_id"] for said in slices for type_, body in said if type_ == "account.drained"]
    assert sorted(drained) == [f"wallet:{one}" for one in names]


@pytest.mark.parametrize(
    "broken",
    [
        "update account set status = 'closing' where account_id = 'wallet:a'",
        "update account set case_id = gen_random_uuid() where account_id = 'wallet:a'",
        "update account set status = 'closed', case_id = gen_random_uuid() where account_id = 'wallet:a'",
    ],
)
async def test_the_database_keeps_what_must_be_true(ledger: Ledger, broken: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await ledger.value(broken)


async def test_a_payout_changes_its_status_without_touching_an_index(ledger: Ledger) -> None:
    asked = request("withdrawal", payee="bank:X1:9", amount_minor=100)
    await ledger.tell(message("transfer.request", asked))
    await ledger.tell(payout(asked["transfer_id"], "settled"))
    await ledger.value("select pg_stat_force_next_flush()")
    updates = await ledger.value(
        "select n_tup_upd - n_tup_hot_upd from pg_stat_user_tables where relid = 'transfer.transfer'::regclass"
    )
    assert updates == 0


# --- Reports ---


def report(subjects: Any) -> Message:
    return message("accounts.report", {"report_id": OTHER, "subjects": subjects}, key="r")


@pytest.mark.parametrize("crashes", [False, True])
async def test_a_report_of_all_tells_of_each_once_while_others_have_their_turn(
    ledger: Ledger, *, crashes: bool
) -> None:
    names = [f"c{number:02d}" for number in range(9)]
    opening = {"currency": "USD", "tier": "unlimited"}
    await ledger.tell(
        *(message("account.open", {"account_id": f"wallet:{one}", "customer_id": one, **opening}) for one in names)
    )
    ledger.crashes = crashes
    assert await ledger.tell(report("all")) == []
    due = await ledger.due(MORNING)
    # A payment in the batch of a slice is told of.
    first = await ledger.tell(message("transfer.request", request(amount_minor=10)), due=due)
    assert types(first) == ["transfer.settled"] + ["account.reported"] * AT_ONCE
    slices = [first, *await ledger.run_timers()]
    assert [types(said).count("account.reported") for said in slices] == [4, 4, 3, 0]
    reported = [body for said in slices for type_, body in said if type_ == "account.reported"]
    assert Counter(body["account_id"] for body in reported) == Counter(f"wallet:{one}" for one in ("a", "b", *names))
    assert [body["posted_minor"] for body in reported[:2]] == [990, 10]
    ((type_, finished),) = slices[-1]
    assert (type_, finished["count"], finished["total_minor"]) == (
        "accounts.report_finished",
        11,
        {"CNY": 1_000, "USD": 0},
    )
    assert await ledger.tell(report("all")) == [(type_, finished)]
    assert await ledger.value("select count(*) from account_report") == 0


async def test_a_report_that_two_lanes_are_asked_for_at_once_does_not_begin_again(ledger: Ledger) -> None:
    opening = {"currency": "USD", "tier": "unlimited"}
    accounts = [{"account_id": f"wallet:c{number}", "customer_id": "c", **opening} for number in range(9)]
    await ledger.tell(*(message("account.open", one) for one in accounts))
    await ledger.tell(report("all"))
    first = await ledger.tell(due=await ledger.due(MORNING))
    # What the other lane knows, that was asked before this one had recorded that it was.
    await ledger.value("delete from answer where scope = 'report_id'")
    await ledger.tell(report("all"))
    said = first + [one for batch in await ledger.run_timers() for one in batch]
    told = [body["account_id"] for type_, body in said if type_ == "account.reported"]
    assert (len(told), len(set(told)), said[-1][1]["count"]) == (11, 11, 11)


async def test_a_report_of_some_sees_what_was_told_before_it(ledger: Ledger) -> None:
    said = await ledger.tell(message("transfer.request", request(amount_minor=10)), report(["wallet:b", "wallet:x"]))
    assert types(said) == [
        "transfer.settled",
        "account.reported",
        "transfer.command_refused",
        "accounts.report_finished",
    ]
    assert (said[1][1]["posted_minor"], said[2][1]["account_id"]) == (10, "wallet:x")
    assert (await ledger.tell(report(["wallet:b", "wallet:x"]))) == said[-1:]


# --- Erasing ---


def _said_by(topic: str, type_: str, key: str, data: Any, id_: str = "e") -> Message:
    return Message(Lane("erasure", 0), topic, 0, key.encode(), type_, id_, "test", data)


@pytest.mark.parametrize("how", ["null profile", "command"])
async def test_who_is_erased_is_forgotten_and_what_is_kept_is_named(ledger: Ledger, how: str) -> None:
    named = request(payee_name="Li Na", execute_at=(MORNING + HOUR).isoformat())
    profiles = [
        _said_by("customer.profiles", "customer.profile", name, CustomerProfile(customer_id=name, name="Li Na"))
        for name in "ab"
    ]
    waiver = "insert into fee_waiver values ($1, 'a', $1, 3, 'infinity')"
    async with ledger.pool.acquire() as connection, connection.transaction():
        await ledger.handlers.on_profiles(connection, Batch(profiles), MORNING)
        await connection.execute(waiver, uuid.uuid4())
    await ledger.tell(message("transfer.request", named))
    assert await ledger.value("select count(*) from transfer where length(payee_name_sealed) > 0") == 1
    handlers = ledger.handlers
    async with ledger.pool.acquire() as connection, connection.transaction():
        if how == "command":
            asked = _said_by("erasure.events", "customer.erase", "a", CustomerErase(customer_id="a"))
            effects = await handlers.on_erasures(connection, Batch([asked]), MORNING)
        else:
            asked = _said_by("customer.profiles", "customer.profiles.tombstone", "a", None)
            # Who comes after it is somebody new, also where both are read at once.
            effects = await handlers.on_profiles(connection, Batch([asked, profiles[0]]), MORNING)
    (answer,) = effects.outgoing
    assert (answer.topic, answer.key) == ("erasure.events", b"a")
    type_, body = read(answer)
    assert (type_, body["customer_id"], body["service"]) == ("customer.erased", "a", "transfer")
    kept = [(one["what"], one["until"]) for one in body["retained"]]
    assert kept == [("transfers", "2036-09-28"), ("that they were erased, under their customer id", "2027-11-12")]
    assert await ledger.value("select count(*) from transfer where length(payee_name_sealed) > 0") == 0
    assert await ledger.value("select count(*) from customer_key") == 0
    assert await ledger.value("select count(*) from fee_waiver") == 0
    assert await ledger.value("select count(*) from holder where customer_id = 'a'") == (how != "command")
    ((_, failed),) = (await ledger.run_timers(MORNING + HOUR))[0]
    assert failed["reason"]["code"] == "payee_name_unverified"


def _granted(customer: str, at: datetime) -> Message:
    compensation = {"kind": "fee_waiver", "value": 1, "text": "Your next transfer costs no fee."}
    said = {"compensation_id": new_id(), "customer_id": customer, "window_id": new_id(), "compensation": compensation}
    data = TOPICS["maintenance.events"]["compensation.granted"].model_validate_json(
        orjson.dumps({**said, "occurred_at": at.isoformat()})
    )
    return Message(
        Lane("maintenance", 0), "maintenance.events", 0, b"k", "compensation.granted", new_id(), "test", data
    )


async def test_what_was_given_before_an_erasure_is_given_to_nobody_after_it(ledger: Ledger) -> None:
    handlers, kept = ledger.handlers, "select count(*) from fee_waiver where customer_id = 'a'"
    erase = _said_by("erasure.events", "customer.erase", "a", CustomerErase(customer_id="a"))
    profile = _said_by("customer.profiles", "customer.profile", "a", CustomerProfile(customer_id="a", name="Li Na"))

    async def handle_at(handle: Any, now: datetime, *said: Message, due: Sequence[Timer] = ()) -> list[Timer]:
        async with ledger.pool.acquire() as connection, connection.transaction():
            effects = await handle(connection, Batch(said, due), now)
            return list(effects.timers_set)

    (forgetting,) = await handle_at(handlers.on_erasures, MORNING, erase)
    # Others may have erased them later.
    await handle_at(handlers.on_windows, MORNING, _granted("a", MORNING - HOUR), _granted("a", MORNING + HOUR))
    await handle_at(handlers.on_windows, MORNING, _granted("b", MORNING))
    assert await ledger.value(kept) == 0
    assert await ledger.value("select count(*) from fee_waiver") == 1
    await handle_at(handlers.on_profiles, MORNING + 2 * HOUR, profile)
    await handle_at(handlers.on_windows, MORNING, _granted("a", MORNING + HOUR))
    assert await ledger.value(kept) == 0
    await handle_at(handlers.on_windows, MORNING, _granted("a", MORNING + 3 * HOUR))
    assert await ledger.value(kept) == 1
    assert (forgetting.due_at - MORNING).days == 410
    await handle_at(handlers.on_erasures, forgetting.due_at, due=[forgetting])
    assert await ledger.value("select count(*) from erased_customer") == 0


async def _erase(ledger: Ledger, erase: Message) -> None:
    async with ledger.pool.acquire() as connection, connection.transaction():
        await ledger.handlers.on_erasures(connection, Batch([erase]), MORNING)


async def test_who_is_given_something_at_the_same_moment_is_erased_too(ledger: Ledger) -> None:
    erase = _said_by("erasure.events", "customer.erase", "a", CustomerErase(customer_id="a"))
    async with ledger.pool.acquire() as giving, giving.transaction():
        await ledger.handlers.on_windows(giving, Batch([_granted("a", MORNING)]), MORNING)
        begun = asyncio.create_task(_erase(ledger, erase))
        blocked = "datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0"
        waits = f"select exists (select from pg_stat_activity where {blocked})"
        await wait_until(lambda: ledger.value(waits), what="the erasure waits for who gives them something")
    await begun
    assert await ledger.value("select count(*) from fee_waiver") == 0
