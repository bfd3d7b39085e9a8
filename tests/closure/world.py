"""The closing service's handlers over a database, driven as the runtime would, with what others say made by hand."""

from __future__ import annotations

import itertools
import uuid
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import orjson

from schemas.envelope import short_type
from schemas.fields import as_text
from schemas.registry import TOPICS
from services.closure import records
from services.closure.decide.book import Rules
from services.closure.handlers import Handlers
from services.closure.policy import Policy
from services.runtime import timers
from services.runtime.identity_hash import KeyedHashes
from services.runtime.message import Batch, Lane, Message
from tests.end_to_end.closings import applicant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from services.runtime.database import Connection, Pool
    from services.runtime.message import Effects, Timer

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
Said = list[tuple[str, dict[str, Any]]]
_GROUPS = {
    "customer.profiles": "profile",
    "obligation.positions": "obligation",
    "account.states": "account",
    "risk.events": "risk",
    "erasure.events": "erasure",
    "transfer.events": "transfer",
    "closure.commands": "case",
}


class _Counting:
    """A connection that counts its statements."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.statements = 0

    def __getattr__(self, name: str) -> Any:
        self.statements += 1
        return getattr(self._connection, name)


class World:
    """One closing service; `said` is everything that it published, orders too."""

    def __init__(self, pool: Pool, policy: dict[str, Any] | None = None) -> None:
        self.pool, self.now = pool, NOW
        self.policy = Policy.model_validate({"erasing": {"services": ["transfer", "notify"]}, **(policy or {})})
        handlers = Handlers(Rules(self.policy, KeyedHashes(b"n" * 32)), b"m" * 32)
        self._handle = {
            "profile": handlers.on_profiles,
            "obligation": handlers.on_positions,
            "account": handlers.on_states,
            "risk": handlers.on_risks,
            "erasure": handlers.on_erasures,
            "transfer": handlers.on_transfers,
            "case": handlers.on_commands,
        }
        self._offsets = itertools.count()
        self.said: Said = []
        self.statements = 0
        """How many statements the latest batch cost."""

    async def hear(self, topic: str, type_: str, key: str, data: dict[str, Any]) -> Said:
        """Handle one message; return what it made the service say."""
        return await self.hear_all(topic, [(type_, key, data)])

    async def hear_all(self, topic: str, said: Iterable[tuple[str, str, dict[str, Any]]]) -> Said:
        """Handle messages of one topic, each its type, key and body, in one batch."""
        lane = Lane(_GROUPS[topic], 0)
        messages = []
        for type_, key, data in said:
            body = TOPICS[topic][type_].model_validate_json(orjson.dumps(data))
            id_ = str(uuid.uuid4())
            messages.append(Message(lane, topic, next(self._offsets), key.encode(), type_, id_, "test", body))
        return await self._run(lane.group, Batch(messages))

    async def _run(self, group: str, batch: Batch) -> Said:
        async with self.pool.acquire() as connection, connection.transaction():
            if batch.timers:
                batch = Batch(batch.messages, await timers.take(connection, batch.timers))
            counting: Any = _Counting(connection)
            effects = await self._handle[group](counting, batch, self.now)
            self.statements = counting.statements
            await timers.record(connection, effects)
        return self._read(effects)

    @asynccontextmanager
    async def uncommitted(self) -> AsyncIterator[World]:
        """Yield another worker, all of whose batches are committed at the end."""
        async with self.pool.acquire() as connection, connection.transaction():
            pool: Any = SimpleNamespace(acquire=lambda: nullcontext(connection))
            other = World(pool)
            other.now, other._offsets = self.now, self._offsets
            yield other

    async def wait(self, by: timedelta) -> Said:
        """Let time pass, and take every timer that is due."""
        self.now += by
        said: Said = []
        while due := await self._due():
            said += await self._run(due[0].lane.group, Batch((), due))
        return said

    async def _due(self) -> list[Timer]:
        async with self.pool.acquire() as connection:
            for group in self._handle:
                following = await timers.load_next(connection, [Lane(group, 0)], 100, self.now)
                if due := [timer for timer in following if timer.due_at <= self.now]:
                    return due
        return []

    async def execute(self, statement: str, *arguments: Any) -> None:
        """Change the database behind the service's back."""
        async with self.pool.acquire() as connection:
            await connection.execute(statement, *arguments)

    async def broken(self) -> set[str]:
        """Return the rules of the audit that are broken."""
        async with self.pool.acquire() as connection:
            return {finding.rule for finding in (await records.audit(connection)).findings}

    async def shown(self, case_id: str) -> dict[str, Any]:
        """Return a case as people see it, with its steps."""
        services = self.policy.erasing.services
        async with self.pool.acquire() as connection:
            (case,) = await records.list_cases(connection, uuid.UUID(case_id), (), 10, services)
            return {**case, "steps": await records.list_steps(connection, uuid.UUID(case_id))}

    def _read(self, effects: Effects) -> Said:
        said = []
        for outgoing in effects.outgoing:
            type_ = short_type((dict(outgoing.headers)["ce_type"] or b"").decode())
            TOPICS[outgoing.topic][type_].model_validate_json(outgoing.value or b"")
            said.append((type_, orjson.loads(outgoing.value or b"")))
        self.said += said
        return said

    # --- What people and other services say ---

    async def join(self, number: int) -> str:
        """Make person of a number known, with a wallet; return that."""
        customer_id, wallet = f"person-{number}", f"wallet:p{number}"
        profile = {"customer_id": customer_id, **applicant(number), "phone_verified": True}
        await self.hear("customer.profiles", "customer.profile", customer_id, profile)
        await self.hear("account.states", "account.opened", wallet, self.state(number, 0, version=1))
        return wallet

    def state(self, number: int, posted_minor: int, *, version: int, status: str = "open") -> dict[str, Any]:
        """Return how the wallet of person of a number stands."""
        return {
            "account_id": f"wallet:p{number}",
            "customer_id": f"person-{number}",
            "currency": "CNY",
            "status": status,
            "tier": "standard",
            "posted_minor": posted_minor,
            "reserved_minor": 0,
            "available_minor": posted_minor,
            "overdraft_limit_minor": 0,
            "version": version,
            "occurred_at": as_text(self.now),
        }

    async def owes(self, number: int, principal_minor: int) -> None:
        """Say what person of a number owes on a loan, `loan-<number>`."""
        position = {
            "obligation_id": f"loan-{number}",
            "customer_id": f"person-{number}",
            "kind": "loan",
            "principal_minor": principal_minor,
            "interest_minor": 0,
            "penalty_minor": 0,
            "currency": "CNY",
            "status": "open" if principal_minor else "settled",
        }
        await self.hear("obligation.positions", "obligation.position", f"loan-{number}", position)

    async def no_more(self, number: int) -> Said:
        """Publish the loan of person of a number no more."""
        lane = Lane("obligation", 0)
        key = f"loan-{number}"
        tombstone = Message(
            lane, "obligation.positions", 0, key.encode(), "obligation.positions.tombstone", key, "t", None
        )
        return await self._run("obligation", Batch([tombstone]))

    async def apply(self, number: int, **more: Any) -> str:
        """Apply for the closing of the wallet of person of a number; return the case."""
        case_id, subject = str(uuid.uuid4()), f"wallet:p{number}"
        request = {"case_id": case_id, "subject": subject, "reason": "Not needed", "applicant": applicant(number)}
        payout = {"payee": f"bank:ICBC:622202{number:010d}", "payee_name": f"Person {number}"}
        await self.hear("closure.commands", "closure.request", subject, {**request, "payout": payout, **more})
        return case_id

    async def command(self, type_: str, case_id: str, **data: Any) -> Said:
        """Say something of a case."""
        return await self.hear("closure.commands", type_, "k", {"case_id": case_id, **data})

    async def report(self, number: int, posted_minor: int, *, reserved_minor: int = 0) -> Said:
        """Answer the latest report that was asked for."""
        asked = next(body for type_, body in reversed(self.said) if type_ == "accounts.report")
        state = self.state(number, posted_minor, version=2) | {"reserved_minor": reserved_minor}
        said = {**state, "available_minor": posted_minor - reserved_minor, "report_id": asked["report_id"]}
        return await self.hear("transfer.events", "account.reported", f"wallet:p{number}", said)

    async def account(self, type_: str, number: int, case_id: str, posted_minor: int) -> Said:
        """Say that a wallet is drained, closed or reinstated for a case."""
        status = {"account.drained": "closing", "account.closed": "closed", "account.reinstated": "open"}[type_]
        version = 3 + next(self._offsets)
        said = self.state(number, posted_minor, version=version, status=status) | {"case_id": case_id}
        return await self.hear("transfer.events", type_, f"wallet:p{number}", said)

    async def settle(self, number: int, case_id: str) -> Said:
        """Say that the latest payout of a case has arrived."""
        asked = [body for type_, body in self.said if type_ == "transfer.request" and body["case_id"] == case_id][-1]
        transfer = {
            **{name: asked[name] for name in ("transfer_id", "kind", "payer", "payee", "amount_minor", "currency")},
            "seq": 2,
            "status": "settled",
            "fee_minor": 0,
            "payer_customer_id": f"person-{number}",
            "requested_at": as_text(self.now),
            "occurred_at": as_text(self.now),
            "case_id": case_id,
        }
        return await self.hear("transfer.events", "transfer.settled", asked["payer"], transfer)

    async def erased(self, number: int, service: str) -> Said:
        """Say that a service has forgotten somebody."""
        asked = [body for type_, body in self.said if type_ == "customer.erase"]
        case_id = next((one["case_id"] for one in reversed(asked) if one["customer_id"] == f"person-{number}"), None)
        said = {"customer_id": f"person-{number}", "service": service, "retained": [], "case_id": case_id}
        return await self.hear("erasure.events", "customer.erased", f"person-{number}", said)

    async def close(self, number: int, balance_minor: int) -> str:
        """Have somebody known close their wallet up to the payout, which is on its way; return the case."""
        case_id = await self.apply(number)
        await self.report(number, balance_minor)
        await self.command("closure.confirm", case_id)
        await self.account("account.drained", number, case_id, balance_minor)
        return case_id

    async def finish(self, number: int, case_id: str) -> None:
        """Have the payout arrive and the wallet end."""
        await self.settle(number, case_id)
        await self.account("account.drained", number, case_id, 0)
        await self.account("account.closed", number, case_id, 0)
