"""For any sequence of commands, results, waits and crashes the model and the database agree, and money is conserved.

The model is `plain_ledger`, which knows the messages and nothing of the rules' code; the events, added up, must
come to the same.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, example, given, settings

from schemas.customer import CustomerProfile
from services.runtime.database import create_pool
from services.runtime.message import Batch, Message, Timer
from services.transfer import records
from services.transfer.handlers import Handlers
from tests.transfer.bench_of_facts import LANE, MORNING, handle, message, read, request, with_policy
from tests.transfer.plain_ledger import OVERDRAFT, TIER, PlainLedger

if TYPE_CHECKING:
    from datetime import datetime

    from services.runtime.database import Connection, Pool

WALLETS = ("a", "b", "c")
CASES = [str(uuid.UUID(int=number)) for number in (1, 2)]
AMOUNTS = st.sampled_from([1, 70, 300, 1_000, 2_500_000])
RULES = with_policy(**TIER)

ACTIONS = st.one_of(
    st.tuples(st.just("p2p"), st.sampled_from(WALLETS), st.sampled_from((*WALLETS, "nobody")), AMOUNTS),
    st.tuples(st.just("withdrawal"), st.sampled_from(WALLETS), st.just("bank"), AMOUNTS),
    st.tuples(st.just("top_up"), st.just("bank"), st.sampled_from((*WALLETS, "nobody")), AMOUNTS),
    st.tuples(st.just("scheduled"), st.sampled_from(WALLETS), st.sampled_from(WALLETS), AMOUNTS),
    st.tuples(st.just("own payout"), st.sampled_from(WALLETS), st.just("bank"), AMOUNTS),
    st.tuples(
        st.sampled_from(["close", "close", "finish", "reinstate", "reopen"]),
        st.sampled_from(WALLETS),
        st.sampled_from([*CASES[:1] * 4, CASES[1]]),
        st.just(0),
    ),
    st.tuples(st.just("refund"), st.integers(0, 9), st.just(""), AMOUNTS),
    st.tuples(
        st.sampled_from(["cancel", "verify", "verify in vain", "repeat", "resolve", "bank repeats itself"]),
        st.integers(0, 9),
        st.just(""),
        st.just(0),
    ),
    st.tuples(
        st.sampled_from(["payout.settled", "payout.failed", "payout.returned", "payout.unknown"]),
        st.integers(0, 9),
        st.just(""),
        st.just(0),
    ),
    st.tuples(st.just("wait"), st.sampled_from([60, 400, 7_200, 400_000]), st.just(""), st.just(0)),
)
"""Commands name one of the latest ten transfers or payouts by its place."""

STEPS = st.lists(st.tuples(st.lists(ACTIONS, min_size=1, max_size=6), st.booleans()), min_size=1, max_size=12)
"""Batches, and whether each is first lost in a crash."""


CLOSINGS = [
    # A payout that comes back to a wallet that is closed by then.
    [
        ([("top_up", "bank", "a", 300)], False),
        ([("close", "a", CASES[0], 0), ("own payout", "a", "bank", 300)], False),
        ([("payout.settled", 0, "", 0), ("finish", "a", CASES[0], 0)], True),
        ([("payout.returned", 0, "", 0), ("reopen", "a", CASES[1], 0)], False),
        ([("reopen", "a", CASES[0], 0), ("top_up", "bank", "a", 300)], False),
    ],
    # A refund of what a closed wallet paid, in parts.
    [
        ([("top_up", "bank", "a", 300), ("p2p", "a", "b", 300)], False),
        ([("close", "a", CASES[0], 0), ("finish", "a", CASES[0], 0)], False),
        ([("refund", 0, "", 70), ("refund", 0, "", 230)], True),
    ],
    # What waits is cancelled, but for the case's own, which is proved while it closes.
    [
        ([("top_up", "bank", "a", 2_500), ("scheduled", "a", "b", 300), ("own payout", "a", "bank", 1_000)], False),
        ([("close", "a", CASES[0], 0), ("finish", "a", CASES[0], 0)], False),
        ([("wait", 60, "", 0)], True),
        ([("verify", 0, "", 0), ("payout.failed", 0, "", 0)], False),
    ],
    # A payout of its own uses up no limit.
    [
        ([("top_up", "bank", "a", 5_000), ("close", "a", CASES[0], 0), ("own payout", "a", "bank", 2_900)], False),
        ([("payout.settled", 0, "", 0), ("reinstate", "a", CASES[0], 0), ("p2p", "a", "b", 300)], False),
    ],
]
"""Ways through a closing that chance seldom finds."""


class Crash(Exception):
    """A worker dies before its transaction is committed."""


class Machine:
    """Drives the handlers as the runtime would, against the model and the sums of what is published."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        # In as many parts as may be, so that one part changes what another has written; or all as one.
        self._handlers = [Handlers(RULES, b"m" * 32, smallest_part=size) for size in (1, 200)]
        self._now: datetime = MORNING
        self._timers: dict[tuple[str, str], Timer] = {}
        self._requests: list[dict[str, Any]] = []
        self._payouts: list[str] = []
        self._words: list[Message] = []
        self._events: dict[str, bytes] = {}
        self._plain = PlainLedger(tuple(f"wallet:{name}" for name in WALLETS), MORNING, RULES.return_id)
        self.model: Counter[str] = Counter()
        self.seqs: Counter[str] = Counter()
        self.paid: dict[str, int] = {}
        self.refunded: Counter[str] = Counter()
        self.came_back: dict[str, int] = {}
        self.drained: dict[str, int] = {}

    async def run(self, steps: list[tuple[list[tuple[Any, ...]], bool]]) -> None:
        """Open the wallets, then take every step and check after each."""
        await self._handle([self._opening(name) for name in WALLETS], [], crashes=False)
        for actions, crashes in steps:
            waits = [action for action in actions if action[0] == "wait"]
            messages = [made for action in actions if action[0] != "wait" and (made := self._message(action))]
            await self._handle(messages, [], crashes=crashes)
            for heard in messages:
                assert heard.data is not None
                self._plain.hear(heard.type, heard.id, heard.data.model_dump())
            for wait in waits:
                self._now += timedelta(seconds=wait[1])
                await self._run_timers(crashes=crashes)
                self._plain.pass_time(self._now)
            await self._compare()
        await self._check()

    async def _compare(self) -> None:
        """Hold what the database says against the model: where every transfer stands, and every balance."""
        async with self._pool.acquire() as connection:
            statuses = await connection.fetch("select transfer_id, status from transfer")
            assert {str(row[0]): row[1] for row in statuses} == {
                id_: plan.status for id_, plan in self._plain.plans.items()
            }
            balances = await connection.fetch("select account_id, posted_minor, reserved_minor, status from account")
            for account_id, posted, reserved, status in balances:
                assert (posted, reserved) == (self._plain.posted[account_id], self._plain.reserved[account_id])
                is_over, is_closing = account_id in self._plain.closed, account_id in self._plain.closing
                assert status == ("closed" if is_over else "closing" if is_closing else "open")
                if is_closing and not self._plain.is_under_way(account_id):
                    assert self.drained[account_id] == posted, "a drained wallet is not said to be"
            stripes = await connection.fetch(
                "select account_id, sum(posted_minor)::bigint from platform_stripe group by account_id"
            )
            held = {"platform:fees": "fees", "platform:suspense": "suspense", "bank:X1": "bank"}
            held["platform:unclaimed"] = "unclaimed"
            for account_id, posted in stripes:
                assert posted == self._plain.posted[held[account_id]]

    def _opening(self, name: str) -> Message:
        opening = {"account_id": f"wallet:{name}", "customer_id": name, "currency": "CNY", "tier": "standard"}
        return message(
            "account.open", {**opening, "overdraft_limit_minor": OVERDRAFT, "low_balance_threshold_minor": 100}
        )

    def _message(self, action: tuple[Any, ...]) -> Message | None:
        kind, first, second, amount = action
        if kind in {"close", "finish", "reinstate", "reopen"}:
            return message(f"account.{kind}", {"account_id": f"wallet:{first}", "case_id": second})
        if kind in {"p2p", "withdrawal", "top_up", "scheduled", "own payout"}:
            return self._order(kind, first, second, amount)
        if kind == "bank repeats itself":
            return self._pick(self._words, first)  # type: ignore[no-any-return]
        if kind.startswith("payout."):
            payout = self._pick(self._payouts, first)
            extra = {"rail_code": "MS03"} if kind == "payout.failed" else {}
            if payout:
                self._words.append(message(kind, {"transfer_id": payout, **extra}))
            return self._words[-1] if payout else None
        asked = self._pick(self._requests, first)
        return None if asked is None else self._about(asked, kind, amount)

    @staticmethod
    def _about(asked: dict[str, Any], kind: str, amount: int) -> Message:
        name = {"transfer_id": asked["transfer_id"]}
        if kind == "repeat":
            return message("transfer.request", asked)
        if kind == "refund":
            return message(
                "transfer.refund", {**name, "refund_id": str(uuid.uuid4()), "reason": "x", "amount_minor": amount}
            )
        if kind.startswith("verify"):
            outcome = "passed" if kind == "verify" else "failed"
            return message("transfer.verify", {**name, "method": "face", "outcome": outcome})
        if kind == "resolve":
            return message("transfer.resolve", {**name, "outcome": "failed", "evidence": "a letter", "by": "operator"})
        return message("transfer.cancel", name)

    def _order(self, kind: str, payer: str, payee: str, amount: int) -> Message:
        fields: dict[str, Any] = {"amount_minor": amount}
        if kind == "scheduled":
            fields["execute_at"] = (self._now + timedelta(hours=1)).isoformat()
            fields["payee_name"] = "某人" if amount == 70 else None
        if kind == "own payout":
            fields["case_id"] = CASES[0]
        parties = {"payer": payer, "payee": payee}
        for side, name in parties.items():
            fields[side] = "bank:X1:1" if name == "bank" else f"wallet:{name}"
        asked = request({"scheduled": "p2p", "own payout": "withdrawal"}.get(kind, kind), **fields)
        self._requests.append(asked)
        return message("transfer.request", asked)

    @staticmethod
    def _pick(those: list[Any], place: int) -> Any:
        return those[-1 - place % len(those)] if those else None

    async def _run_timers(self, *, crashes: bool) -> None:
        for _ in range(50):
            due = [timer for timer in self._timers.values() if timer.due_at <= self._now]
            due.sort(key=lambda timer: (timer.due_at, timer.kind, timer.subject))
            if not due:
                return
            for timer in due:
                del self._timers[timer.kind, timer.subject]
            await self._handle([], due, crashes=crashes)

    async def _handle(self, messages: list[Message], timers: list[Timer], *, crashes: bool) -> None:
        handlers = self._handlers[len(self._events) % 2]
        async with self._pool.acquire() as connection:
            if crashes:
                try:
                    async with connection.transaction():
                        await handle(handlers, connection, Batch(messages, timers), self._now)
                        raise Crash
                except Crash:
                    pass
            async with connection.transaction():
                effects = await handle(handlers, connection, Batch(messages, timers), self._now)
                await self._keep_timers(connection, effects)
        for key in effects.timers_cleared:
            self._timers.pop((key.kind, key.subject), None)
        for timer in effects.timers_set:
            self._timers[timer.kind, timer.subject] = timer
        for outgoing in effects.outgoing:
            self._learn(outgoing)

    async def _keep_timers(self, connection: Connection, effects: Any) -> None:
        for key in effects.timers_cleared:
            await connection.execute("delete from timer where kind = $1 and subject = $2", key.kind, key.subject)
        for timer in effects.timers_set:
            await connection.execute(
                """
                insert into timer (kind, subject, lane_group, partition, due_at) values ($1, $2, $3, $4, $5)
                on conflict (kind, subject) do update set due_at = excluded.due_at
                """,
                timer.kind,
                timer.subject,
                LANE.group,
                LANE.partition,
                timer.due_at,
            )

    def _learn(self, outgoing: Any) -> None:
        """Apply what an event says to plain sums, once, and hold it to the contract."""
        type_, event = read(outgoing)
        if type_ == "payout.instructed":
            self._payouts.append(event["transfer_id"])
        if type_ in {"account.closing", "account.drained"} and outgoing.topic == "transfer.events":
            self._note_drained(type_, event)
        if not type_.startswith("transfer.") or "seq" not in event:
            return
        id_ = f"{event['transfer_id']}.{event['seq']}"
        if id_ in self._events:
            assert self._events[id_] == outgoing.value, "a repeated event has other bytes"
            return
        self._events[id_] = outgoing.value
        self.seqs[event["transfer_id"]] += 1
        assert event["seq"] == self.seqs[event["transfer_id"]], "an event is missing"
        self._move(type_, event)

    def _note_drained(self, type_: str, event: dict[str, Any]) -> None:
        assert event["status"] == "closing"
        if type_ == "account.closing":
            self.drained.pop(event["account_id"], None)
        else:
            assert event["reserved_minor"] == 0
            self.drained[event["account_id"]] = event["posted_minor"]

    def _move(self, type_: str, event: dict[str, Any]) -> None:
        payer, payee, amount, fee = event["payer"], event["payee"], event["amount_minor"], event["fee_minor"]
        transfer = event["transfer_id"]
        if type_ == "transfer.settled" and transfer not in self.paid:
            self.paid[transfer] = amount
            self.model[payer] -= amount + fee
            self.model[payee] += amount
            self.model["platform:fees"] += fee
        elif type_ == "transfer.refunded" and transfer in self.paid:
            self.model[payer] += amount + fee
            self.model[payee] -= amount
            self.model["platform:fees"] -= fee
            self.refunded[transfer] += amount
            self.came_back[transfer] = amount + fee
            assert self.refunded[transfer] <= self.paid[transfer], "more was refunded than was paid"
        elif type_ == "transfer.discrepancy" and event["found"] == "unclaimed":
            self.model[payer] -= self.came_back[transfer]
            self.model["platform:unclaimed"] += self.came_back[transfer]

    async def _check(self) -> None:
        async with self._pool.acquire() as connection:
            audit = await records.audit(connection)
            assert audit.findings == []
            found = {row[0]: row[1] for row in await connection.fetch("select account_id, posted_minor from account")}
            assert found == {f"wallet:{name}": self.model[f"wallet:{name}"] for name in WALLETS}
            stripes = await connection.fetch(
                "select account_id, sum(posted_minor) as minor from platform_stripe group by account_id"
            )
            held = {row["account_id"]: int(row["minor"]) for row in stripes}
            for account in ("platform:fees", "platform:unclaimed"):
                assert held.get(account, 0) == self.model[account]
            assert sum(found.values()) + sum(held.values()) == 0


def test_model_and_database_agree_whatever_happens(database: str) -> None:
    @settings(
        max_examples=150,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @example(CLOSINGS[0])
    @example(CLOSINGS[1])
    @example(CLOSINGS[2])
    @example(CLOSINGS[3])
    @given(STEPS)
    def agree(steps: list[tuple[list[tuple[Any, ...]], bool]]) -> None:
        asyncio.run(_run(database, steps))

    agree()


async def _run(database: str, steps: list[tuple[list[tuple[Any, ...]], bool]]) -> None:
    pool = await create_pool(database, "transfer", "test")
    try:
        async with pool.acquire() as connection:
            tables = "account, account_event, transfer, transfer_step, movement, platform_stripe, refund, answer, timer"
            await connection.execute(f"truncate {tables}, customer_key, holder")
        await Machine(pool).run(steps)
    finally:
        await pool.close()


async def test_a_name_that_was_erased_while_its_transfer_waits_stays_missed(database: str) -> None:
    pool = await create_pool(database, "transfer", "test")
    handlers = Handlers(RULES, b"m" * 32)
    profile = CustomerProfile(customer_id="b", name="Li Na")
    asked = request(amount_minor=1_000, payee_name="Li Na")
    verify = {"transfer_id": asked["transfer_id"], "method": "face"}
    openings = [{"account_id": f"wallet:{name}", "customer_id": name, "currency": "CNY"} for name in "ab"]
    top_up = request("top_up", payer="bank:X1:1", payee="wallet:a", amount_minor=2_000)

    async def tell(*messages: Message) -> list[tuple[str, dict[str, Any]]]:
        async with pool.acquire() as connection, connection.transaction():
            effects = await handle(handlers, connection, Batch(messages), MORNING)
        return [read(outgoing) for outgoing in effects.outgoing]

    async def hear(customer: str, data: CustomerProfile | None) -> None:
        said = Message(LANE, "customer.profiles", 0, customer.encode(), "customer.profile", "p", "test", data)
        async with pool.acquire() as connection, connection.transaction():
            await handlers.on_profiles(connection, Batch([said]), MORNING)

    try:
        await hear("b", profile)
        await tell(*(message("account.open", opening) for opening in openings), message("transfer.request", top_up))
        assert (await tell(message("transfer.request", asked)))[0][0] == "transfer.verification_required"
        await hear("a", None)
        # The same customer seals another name under another key, and a try fails in between.
        other = request(amount_minor=1_000, payee_name="Li Na")
        assert (await tell(message("transfer.request", other)))[0][0] == "transfer.verification_required"
        await tell(message("transfer.verify", {**verify, "outcome": "failed"}))
        ((type_, body),) = await tell(message("transfer.verify", {**verify, "outcome": "passed"}))
        assert (type_, body["reason"]["code"]) == ("transfer.failed", "payee_name_unverified")
        passed = {**verify, "transfer_id": other["transfer_id"], "outcome": "passed"}
        assert (await tell(message("transfer.verify", passed)))[0][0] == "transfer.settled"
    finally:
        await pool.close()


CORRUPTIONS = [
    ("update account set posted_minor = posted_minor + 1 where account_id = 'wallet:a'", "wallet's balance"),
    ("update account set reserved_minor = reserved_minor + 1", "reservations"),
    ("update platform_stripe set posted_minor = posted_minor + 1", "platform account's stripes"),
    ("update movement set credit_after_minor = credit_after_minor + 1 where credit_number is not null", "each entry"),
    ("update transfer set status = 'failed'", "a transfer moved"),
    ("update transfer set seq = seq + 1", "all of its events"),
    ("delete from timer where subject in (select transfer_id::text from transfer)", "will be woken"),
    ("delete from timer where subject in (select refund_id::text from refund)", "will be woken"),
    ("delete from movement where purpose = 'suspense'", "platform account's stripes"),
    ("update movement set amount_minor = amount_minor - 1 where purpose = 'suspense'", "a transfer moved"),
    ("update timer set parked_at = now(), failure = 'x'", "parked"),
    (
        "update account set status = 'closing', case_id = gen_random_uuid() where account_id = 'wallet:a'",
        "closing wallet",
    ),
    (
        """
        insert into outbox (lane_group, partition, batch_number, payload, created_at)
        values ('wallet', 0, 1, '', now() - interval '2 minutes')
        """,
        "published",
    ),
]


async def test_the_audit_finds_what_is_wrong(database: str) -> None:
    pool = await create_pool(database, "transfer", "test")
    try:
        machine = Machine(pool)
        actions = [
            ("top_up", "bank", "a", 2_500_000),
            ("withdrawal", "a", "bank", 70),
            ("top_up", "bank", "nobody", 300),
            ("scheduled", "a", "b", 1),
        ]
        await machine.run([(actions, False)])
        for corruption, rule in CORRUPTIONS:
            async with pool.acquire() as connection:
                transaction = connection.transaction()
                await transaction.start()
                await connection.execute(corruption)
                audit = await _audit_inside(connection)
                await transaction.rollback()
            assert any(rule in finding for finding in audit), f"{corruption}: found only {audit}"
    finally:
        await pool.close()


async def _audit_inside(connection: asyncpg.Connection) -> list[str]:  # type: ignore[type-arg]
    return [finding.rule for finding in await records.find_all(connection)]
