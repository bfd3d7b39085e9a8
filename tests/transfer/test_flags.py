"""Risk flags: what they stop, what they leave alone, and that they end."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from schemas.customer import CustomerProfile
from schemas.erasure import CustomerErase
from schemas.fields import as_text
from schemas.risk import RiskCleared, RiskFlagged
from services import transfer
from services.runtime.database import create_pool, load_queries
from services.runtime.message import Batch, Lane, Message
from services.transfer.decide.risks import read_risks
from services.transfer.handlers import Handlers
from tests.transfer.bench_of_facts import MORNING, RULES, World, funded, handle, message, new_id, read, request
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.runtime.database import Connection

QUERIES = load_queries(Path(transfer.__file__).with_name("queries.sql"))
HOUR = timedelta(hours=1)
BANK = "bank:ICBC:6222020000001234"


def flagged_world() -> World:
    world = funded()
    world.facts.flags["a"] = world.now + HOUR
    return world


def codes(said: list[tuple[str, dict[str, Any]]]) -> list[str | None]:
    return [body["reason"]["code"] if body.get("reason") else None for _, body in said]


@pytest.mark.parametrize(
    ("fields", "is_stopped"),
    [
        ({}, True),
        ({"kind": "withdrawal", "payee": BANK}, True),
        ({"execute_at": "2026-09-28T01:30:00Z"}, True),
        ({"kind": "fee", "payee": "platform:fees"}, False),
        ({"kind": "top_up", "payer": BANK, "payee": "wallet:a"}, False),
        ({"kind": "interest", "payer": "platform:interest", "payee": "wallet:a"}, False),
        ({"payer": "wallet:b", "payee": "wallet:a"}, False),
    ],
)
def test_a_flag_stops_what_a_customer_sends_and_nothing_else(fields: dict[str, Any], is_stopped: bool) -> None:  # noqa: FBT001 - a table
    world = flagged_world()
    world.fund("b", 1_000)
    said = world.tell(message("transfer.request", request(**fields)))
    if is_stopped:
        ((type_, body),) = said
        assert (type_, body["reason"]["code"]) == ("transfer.failed", "risk_restricted")
        assert body["reason"]["available_at"] == as_text(world.facts.flags["a"])
        assert body["reason"]["retryable"]
    else:
        assert codes(said) == [None]


def test_it_ends_by_itself() -> None:
    world = flagged_world()
    world.pass_time(HOUR - timedelta(microseconds=1))
    assert codes(world.tell(message("transfer.request", request()))) == ["risk_restricted"]
    world.pass_time(timedelta(microseconds=1))
    assert codes(world.tell(message("transfer.request", request()))) == [None]


def test_what_is_on_its_way_goes_on_and_what_was_paid_may_go_back() -> None:
    world = funded()
    payout, paid = request("withdrawal", payee=BANK), request()
    received = request(payer="wallet:b", payee="wallet:a", amount_minor=50)
    world.tell(*(message("transfer.request", one) for one in (payout, paid, received)))
    world.facts.flags |= {"a": world.now + HOUR, "b": world.now + HOUR}
    refunds = [{"refund_id": new_id(), "transfer_id": one["transfer_id"], "reason": "x"} for one in (received, paid)]
    assert [type_ for type_, _ in world.tell(*(message("transfer.refund", one) for one in refunds))] == [
        "transfer.refunded",
        "transfer.refunded",
    ]
    said = world.tell(message("payout.settled", {"transfer_id": payout["transfer_id"]}))
    assert [type_ for type_, _ in said] == ["transfer.settled"]


def flag(rule: str = "r", until: timedelta = HOUR, customer_id: str = "a") -> RiskFlagged:
    return RiskFlagged(customer_id=customer_id, rule=rule, until=MORNING + until)


@pytest.mark.parametrize(
    ("said", "flags", "cleared", "cleared_customers"),
    [
        ([flag()], {("a", "r"): HOUR}, set(), set()),
        ([flag(), flag(until=2 * HOUR)], {("a", "r"): 2 * HOUR}, set(), set()),
        ([flag(until=2 * HOUR), flag()], {("a", "r"): HOUR}, set(), set()),
        ([flag(), flag(until=-HOUR)], {}, {("a", "r")}, set()),
        ([flag(), flag("s"), RiskCleared(customer_id="a", rule="r")], {("a", "s"): HOUR}, {("a", "r")}, set()),
        ([flag(), flag("s"), flag(customer_id="b"), RiskCleared(customer_id="a")], {("b", "r"): HOUR}, set(), {"a"}),
        ([RiskCleared(customer_id="a"), flag()], {("a", "r"): HOUR}, set(), {"a"}),
    ],
)
def test_the_last_word_about_a_rule_counts(
    said: list[Any], flags: dict[Any, timedelta], cleared: set[Any], cleared_customers: set[str]
) -> None:
    changes = read_risks(said, MORNING)
    assert changes == ({key: MORNING + until for key, until in flags.items()}, cleared, cleared_customers)


# --- In a database ---


def told(*said: RiskFlagged | RiskCleared) -> Batch:
    lane = Lane("risk", 0)
    types = {RiskFlagged: "risk.flagged", RiskCleared: "risk.cleared"}
    return Batch(
        [
            Message(lane, "risk.events", number, b"a", types[type(one)], f"e{number}", "test", one)
            for number, one in enumerate(said)
        ]
    )


class Wallets:
    """Two wallets in a database, of customers `a` and `b`."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.handlers = Handlers(RULES, b"m" * 32)
        self.statements = 0

    async def tell(self, *messages: Message) -> list[tuple[str, dict[str, Any]]]:
        async with self.connection.transaction():
            effects = await handle(self.handlers, self.connection, Batch(messages), MORNING)
        return [read(one) for one in effects.outgoing if one.topic != "account.states"]

    async def pay(self) -> str | None:
        """Have `a` pay `b`, and return why not; count the statements that it takes."""
        said: list[Any] = []
        with self.connection.query_logger(said.append):
            (answer,) = codes(await self.tell(message("transfer.request", request())))
        self.statements = len(said)
        return answer

    async def hear(self, *said: RiskFlagged | RiskCleared) -> None:
        async with self.connection.transaction():
            await self.handlers.on_risks(self.connection, told(*said), MORNING)

    async def erase(self) -> None:
        erase = CustomerErase(customer_id="a")
        asked = Message(Lane("erasure", 0), "erasure.events", 0, b"a", "customer.erase", "e", "test", erase)
        async with self.connection.transaction():
            await self.handlers.on_erasures(self.connection, Batch([asked]), MORNING)

    async def come_back(self) -> None:
        profile = CustomerProfile(customer_id="a", name="Li Na")
        said = Message(Lane("profile", 0), "customer.profiles", 0, b"a", "customer.profile", "p", "test", profile)
        async with self.connection.transaction():
            await self.handlers.on_profiles(self.connection, Batch([said]), MORNING)


@pytest.fixture
async def wallets(database: str) -> AsyncIterator[Wallets]:
    pool = await create_pool(database, "transfer", "test", size=1)
    async with pool.acquire() as connection:
        made = Wallets(connection)
        opening = {"currency": "CNY", "tier": "unlimited"}
        for name in "ab":
            body = {"account_id": f"wallet:{name}", "customer_id": name, **opening}
            await made.tell(message("account.open", body))
        top_up = request("top_up", payer=BANK, payee="wallet:a", amount_minor=1_000)
        await made.tell(message("transfer.request", top_up))
        yield made
    await pool.close()


async def test_others_flags_cost_a_batch_no_statement(wallets: Wallets) -> None:
    assert await wallets.pay() is None
    without = wallets.statements
    await wallets.hear(flag(customer_id="z"), flag(customer_id="b"))
    assert await wallets.pay() is None
    assert wallets.statements == without


async def test_a_flag_is_over_when_every_rule_has_cleared_it(wallets: Wallets) -> None:
    await wallets.hear(flag("r"), flag("s", 2 * HOUR))
    assert await wallets.pay() == "risk_restricted"
    await wallets.hear(RiskCleared(customer_id="a", rule="s"))
    assert await wallets.pay() == "risk_restricted"
    await wallets.hear(RiskCleared(customer_id="a", rule="r"))
    assert await wallets.pay() is None
    await wallets.hear(flag("r"), flag("s"))
    await wallets.hear(RiskCleared(customer_id="a"))
    assert await wallets.pay() is None


async def test_an_erasure_takes_a_flag_with_it(wallets: Wallets) -> None:
    await wallets.hear(flag())
    await wallets.erase()
    assert await wallets.pay() is None
    assert await wallets.connection.fetchval("select count(*) from risk_flag") == 0
    # News of them from before may come late, and bring nobody back.
    await wallets.hear(flag(until=2 * HOUR))
    assert await wallets.pay() is None
    await wallets.come_back()
    await wallets.hear(flag(until=3 * HOUR))
    assert await wallets.pay() == "risk_restricted"


async def test_flags_are_found_by_index_and_one_that_is_said_again_stays(wallets: Wallets, database: str) -> None:
    connection = wallets.connection
    await connection.execute("""
        insert into risk_flag
        select 'c' || n, 'r', now() + interval '1 day' from generate_series(1, 20000) as n;
        analyze risk_flag
    """)
    plan = await connection.fetch(f"explain {QUERIES.delete_flags}", ["c5"], ["c7"], ["r"], MORNING)
    assert "Seq Scan on risk_flag" not in "\n".join(row[0] for row in plan)
    await wallets.hear(flag(until=timedelta(seconds=1)))
    later = MORNING + HOUR
    other = await asyncpg.connect(database, server_settings={"search_path": "transfer"})
    # Another worker says it again while this one finds that it is over.
    saying = other.transaction()
    await saying.start()
    await other.execute("update risk_flag set until = $1 where customer_id = 'a'", later + HOUR)
    forgetting = asyncio.create_task(connection.execute(QUERIES.delete_flags, [], [], [], later))
    await wait_until(lambda: other.fetchval(_IS_WAITING), what="the lock")
    await saying.commit()
    await forgetting
    assert await other.fetchval("select until from risk_flag where customer_id = 'a'") == later + HOUR
    await other.close()


_IS_WAITING = "select exists (select from pg_locks where not granted and locktype in ('transactionid', 'tuple'))"
