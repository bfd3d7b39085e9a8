"""Large batches are written while they are decided, and those that meet in an account take turns."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from schemas.customer import CustomerProfile
from services.runtime.database import create_pool
from services.runtime.message import Batch, Message, Timer
from services.transfer import handlers as handlers_module
from services.transfer import store
from services.transfer.decide.dispatch import decide_message
from services.transfer.decide.ledger import Ledger
from services.transfer.decide.subjects import Subjects
from services.transfer.handlers import Handlers
from tests.transfer.bench_of_facts import LANE, MORNING, RULES, handle, message, read, request
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from services.runtime.database import Connection, Pool
    from services.transfer.model import Account, Transfer

KEY = b"m" * 32
WALLETS = [f"wallet:{number}" for number in range(500)]


async def _open(connection: Connection, wallets: list[str]) -> None:
    await connection.execute(
        """
        insert into account (
            account_id, customer_id, currency, tier, overdraft_limit_minor, version, used_on, opened_at, opening_hash
        )
        select id, id, 'CNY', 'unlimited', 1000000, 1, '2026-01-01', now(), '' from unnest($1::text[]) as id
        """,
        wallets,
    )


def _payments(count: int) -> list[Message]:
    return [
        message("transfer.request", request(payer=WALLETS[number % 500], payee=WALLETS[(number + 1) % 500]))
        for number in range(count)
    ]


async def _load(connection: Connection, subjects: Subjects) -> dict[str, Account]:
    """Load what a batch is about, and keep it for the transaction."""
    ledger = Ledger(await store.load_facts(connection, subjects, KEY), RULES, MORNING)
    await store.BatchStore(connection, ledger, subjects, KEY).__aenter__()
    return ledger.accounts


async def _tell(pool: Pool, messages: list[Message]) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await handle(Handlers(RULES, KEY), connection, Batch(messages), MORNING)


def _bug() -> None:
    raise RuntimeError("a bug")


def _cancelled() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


@pytest.mark.parametrize(("mishap", "error"), [(_bug, RuntimeError), (_cancelled, asyncio.CancelledError)])
async def test_a_batch_that_ends_while_a_part_is_written_leaves_nothing_and_a_usable_connection(
    database: str, monkeypatch: pytest.MonkeyPatch, mishap: Callable[[], None], error: type[BaseException]
) -> None:
    pool = await create_pool(database, "transfer", "test")
    payments = _payments(1_000)
    spoilt = payments[700]

    def decide(ledger: Ledger, heard: Message, draft: Transfer | None) -> None:
        if heard is spoilt:
            mishap()
        decide_message(ledger, heard, draft)

    try:
        async with pool.acquire() as connection:
            await _open(connection, WALLETS)
            with monkeypatch.context() as patched:
                patched.setattr(handlers_module, "decide_message", decide)
                with pytest.raises(error):
                    async with connection.transaction():
                        await handle(Handlers(RULES, KEY), connection, Batch(payments), MORNING)
            assert await connection.fetchval("select count(*) from transfer") == 0
        await _tell(pool, payments)
        async with pool.acquire() as connection:
            assert await connection.fetchval("select count(*) from movement") == len(payments)
    finally:
        await pool.close()


async def test_a_name_in_an_early_part_waits_sealed_and_can_be_erased(database: str) -> None:
    pool = await create_pool(database, "transfer", "test")
    handlers = Handlers(RULES, KEY, smallest_part=1)
    due_at = MORNING + timedelta(hours=1)
    named = request(payer=WALLETS[0], payee=WALLETS[1], payee_name="Li Na", execute_at=due_at.isoformat())
    orders = [named, *(request(payer=WALLETS[2], payee=WALLETS[3]) for _ in range(7))]

    async def tell(batch: Batch, now: datetime) -> list[tuple[str, dict[str, Any]]]:
        async with pool.acquire() as connection, connection.transaction():
            effects = await handle(handlers, connection, batch, now)
        return [read(outgoing) for outgoing in effects.outgoing]

    async def hear(customer: str, data: CustomerProfile | None) -> None:
        said = Message(LANE, "customer.profiles", 0, customer.encode(), "customer.profile", "p", "test", data)
        async with pool.acquire() as connection, connection.transaction():
            await handlers.on_profiles(connection, Batch([said]), MORNING)

    async def sealed_names() -> list[bytes]:
        async with pool.acquire() as connection:
            query = "select payee_name_sealed from transfer where payee_name_sealed is not null"
            return [row[0] for row in await connection.fetch(query)]

    try:
        async with pool.acquire() as connection:
            await _open(connection, WALLETS)
        await hear(WALLETS[1], CustomerProfile(customer_id=WALLETS[1], name="Li Na"))
        await tell(Batch([message("transfer.request", order) for order in orders]), MORNING)
        (sealed,) = await sealed_names()
        assert len(sealed) > len(b"Li Na")
        assert b"Li Na" not in sealed
        await hear(WALLETS[0], None)
        assert await sealed_names() == [b""]
        due = Timer(LANE, "execute", named["transfer_id"], due_at)
        ((type_, body),) = await tell(Batch((), [due]), due_at)
        assert (type_, body["reason"]["code"]) == ("transfer.failed", "payee_name_unverified")
    finally:
        await pool.close()


async def test_what_the_database_refuses_of_an_early_part_fails_the_batch(database: str) -> None:
    pool = await create_pool(database, "transfer", "test")
    payments = _payments(1_000)
    try:
        async with pool.acquire() as connection:
            await _open(connection, WALLETS)
            await connection.execute("alter table movement add constraint nothing_moves check (amount_minor < 0)")
        with pytest.raises(Exception, match="nothing_moves"):
            await _tell(pool, payments)
        async with pool.acquire() as connection:
            assert await connection.fetchval("select count(*) from transfer") == 0
    finally:
        await pool.close()


async def test_a_large_batch_waits_before_it_reads_what_another_changes(database: str) -> None:
    pool, others = await create_pool(database, "transfer", "test"), await create_pool(database, "transfer", "test")
    parts = [set(WALLETS), set[str]()]

    async def read() -> set[int]:
        async with others.acquire() as connection, connection.transaction():
            return {account.posted_minor for account in (await _load(connection, Subjects(parts))).values()}

    async def is_queued() -> bool:
        async with others.acquire() as connection:
            query = """
                select exists (
                    select from pg_locks join pg_database on pg_database.oid = pg_locks.database
                    where locktype = 'advisory' and not granted and datname = current_database()
                )
            """
            return bool(await connection.fetchval(query))

    try:
        async with pool.acquire() as connection:
            await _open(connection, WALLETS)
            async with connection.transaction():
                await _load(connection, Subjects(parts))
                await connection.execute("update account set posted_minor = 7")
                reading = asyncio.create_task(read())
                await wait_until(is_queued, what="the second batch waits its turn")
        assert await asyncio.wait_for(reading, 20) == {7}
    finally:
        await pool.close()
        await others.close()


class _Counting:
    """A connection that counts its statements."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.statements = 0

    def __getattr__(self, name: str) -> Any:
        self.statements += 1
        return getattr(self._connection, name)


async def test_a_batch_costs_as_many_statements_whatever_its_size(database: str) -> None:
    pool = await create_pool(database, "transfer", "test")

    async def statements_for(count: int) -> int:
        async with pool.acquire() as connection, connection.transaction():
            counting: Any = _Counting(connection)
            await handle(Handlers(RULES, KEY), counting, Batch(_payments(count)), MORNING)
        return int(counting.statements)

    try:
        async with pool.acquire() as connection:
            await _open(connection, WALLETS)
        # The fewer, when later parts are about the same wallets.
        assert await statements_for(2_400) <= await statements_for(800) < 20
        assert await statements_for(1) == await statements_for(100) < 12
    finally:
        await pool.close()


async def test_small_batches_about_other_wallets_go_on_beside_each_other(database: str) -> None:
    pool = await create_pool(database, "transfer", "test")
    try:
        async with pool.acquire() as first, pool.acquire() as second:
            await _open(first, WALLETS)
            async with first.transaction(), second.transaction():
                await _load(first, Subjects([set(WALLETS[:300])]))
                accounts = await asyncio.wait_for(_load(second, Subjects([{WALLETS[499]}])), 10)
            assert accounts.keys() == {WALLETS[499]}
    finally:
        await pool.close()


async def test_a_repeat_in_a_later_part_than_what_ended_it_is_answered_again(database: str) -> None:
    pool = await create_pool(database, "transfer", "test")
    handlers = Handlers(RULES, KEY, smallest_part=1)
    top_up = request("top_up", payer="bank:X1:1", payee=WALLETS[0], amount_minor=500)
    refund = {
        "refund_id": str(uuid.uuid4()),
        "transfer_id": top_up["transfer_id"],
        "amount_minor": 200,
        "reason": "asked",
    }
    asked = message("transfer.refund", refund)
    settled = message("payout.settled", {"transfer_id": refund["refund_id"]})

    async def tell(*messages: Message) -> list[tuple[str, dict[str, Any]]]:
        async with pool.acquire() as connection, connection.transaction():
            return [read(sent) for sent in (await handle(handlers, connection, Batch(messages), MORNING)).outgoing]

    try:
        async with pool.acquire() as connection:
            await _open(connection, WALLETS)
        await tell(message("transfer.request", top_up))
        assert [type_ for type_, _ in await tell(asked)] == ["transfer.refund_started", "payout.instructed"]
        events = await tell(settled, asked)
        assert [type_ for type_, _ in events] == ["transfer.refunded", "transfer.refunded"]
        assert events[0] == events[1]
    finally:
        await pool.close()


async def test_a_refund_with_the_id_of_a_return_is_refused_in_a_later_batch_too(database: str) -> None:
    pool = await create_pool(database, "transfer", "test")
    top_ups = [request("top_up", payer="bank:X1:1", payee=payee) for payee in (WALLETS[0], "wallet:nobody")]
    refund = {
        "refund_id": str(RULES.return_id(uuid.UUID(top_ups[1]["transfer_id"]))),
        "transfer_id": top_ups[0]["transfer_id"],
        "reason": "asked",
    }
    try:
        async with pool.acquire() as connection:
            await _open(connection, WALLETS[:1])
            for asked in (
                *(message("transfer.request", top_up) for top_up in top_ups),
                message("transfer.refund", refund),
            ):
                async with connection.transaction():
                    effects = await handle(Handlers(RULES, KEY), connection, Batch([asked]), MORNING)
        ((type_, body),) = [read(sent) for sent in effects.outgoing]
        assert (type_, body["reason"]["code"]) == ("transfer.command_refused", "duplicate_id_conflict")
    finally:
        await pool.close()


async def test_a_tombstone_whose_key_is_nobodys_is_set_aside_and_erases_nobody(database: str) -> None:
    pool = await create_pool(database, "transfer", "test")
    told = [
        Message(LANE, "customer.profiles", number, key, "customer.profiles.tombstone", "e", "test", None)
        for number, key in enumerate((None, b"\xff", b"a\x00", b"x" * 129))
    ]
    profile = CustomerProfile(customer_id="\ufffd", name="Li Na")
    known = Message(LANE, "customer.profiles", 9, b"k", "customer.profile", "p", "test", profile)
    try:
        async with pool.acquire() as connection, connection.transaction():
            await Handlers(RULES, KEY).on_profiles(connection, Batch([known]), MORNING)
            effects = await Handlers(RULES, KEY).on_profiles(connection, Batch(told), MORNING)
            holders = await connection.fetch("select customer_id from holder")
        assert [unfit.message for unfit in effects.unfit] == told
        assert [row[0] for row in holders] == ["\ufffd"]
    finally:
        await pool.close()
