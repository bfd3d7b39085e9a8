"""A batch costs the same statements, however many messages and timers are in it."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from schemas.fields import as_text
from services.closure.model import payout_id
from services.runtime.database import create_pool
from tests.closure.world import World
from tests.end_to_end.closings import applicant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

DAY = timedelta(days=1)
FEW, MANY = 3, 40


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    pool = await create_pool(database, "closure", "test", size=2)
    yield World(pool)
    await pool.close()


class Crowd:
    """So many people at once, each with a wallet, a loan that is paid and a case for each; `cost` by what they did."""

    def __init__(self, world: World, first: int, count: int) -> None:
        self.world = world
        self.numbers = range(first, first + count)
        self.cases = {number: uuid.uuid4() for number in self.numbers}
        self.cost: dict[str, int] = {}

    async def say(self, what: str, topic: str, said: Iterable[tuple[str, str, dict[str, Any]]]) -> None:
        await self.world.hear_all(topic, list(said))
        self.cost[what] = self.world.statements

    async def commands(self, name: str, **data: Any) -> None:
        said = (
            (f"closure.{name}", f"wallet:p{one}", {"case_id": str(self.cases[one]), **data}) for one in self.numbers
        )
        await self.say(name, "closure.commands", said)

    async def accounts(self, what: str, name: str, posted_minor: int, *, status: str, **more: Any) -> None:
        versions = {"open": 2, "closing": 3 if posted_minor else 4, "closed": 5}
        said = []
        for number in self.numbers:
            state = self.world.state(number, posted_minor, version=versions[status], status=status)
            said.append((f"account.{name}", f"wallet:p{number}", {**state, **self._about(number, name), **more}))
        await self.say(what, "transfer.events", said)

    def _about(self, number: int, name: str) -> dict[str, str]:
        case_id = self.cases[number]
        return {"report_id": str(uuid.uuid5(case_id, "report/1"))} if name == "reported" else {"case_id": str(case_id)}

    async def settle(self) -> None:
        transfer = {"kind": "withdrawal", "amount_minor": 700, "fee_minor": 0, "currency": "CNY", "seq": 2}
        transfer |= {
            "status": "settled",
            "requested_at": as_text(self.world.now),
            "occurred_at": as_text(self.world.now),
        }
        said = []
        for number, case_id in self.cases.items():
            ids = {"transfer_id": str(payout_id(case_id, 1)), "case_id": str(case_id)}
            parties = {"payer": f"wallet:p{number}", "payee": "bank:ICBC:1"}
            said.append(("transfer.settled", f"wallet:p{number}", {**transfer, **ids, **parties}))
        await self.say("settled", "transfer.events", said)

    async def live(self) -> dict[str, int]:
        """Have everybody known, apply, be paid out and forgotten; return what each batch cost."""
        people = [(f"person-{number}", applicant(number)) for number in self.numbers]
        profiles = [
            ("customer.profile", id_, {"customer_id": id_, **said, "phone_verified": True}) for id_, said in people
        ]
        await self.say("profiles", "customer.profiles", profiles)
        states = [self.world.state(number, 0, version=1) for number in self.numbers]
        await self.say("states", "account.states", [("account.opened", one["account_id"], one) for one in states])
        nothing = {
            "principal_minor": 0,
            "interest_minor": 0,
            "penalty_minor": 0,
            "currency": "CNY",
            "status": "settled",
        }
        loans = [
            {"obligation_id": f"loan-{one}", "customer_id": f"person-{one}", "kind": "loan"} for one in self.numbers
        ]
        positions = [("obligation.position", one["obligation_id"], {**one, **nothing}) for one in loans]
        await self.say("positions", "obligation.positions", positions)
        await self.apply()
        await self.accounts("reported", "reported", 700, status="open")
        await self.commands("confirm")
        await self.accounts("drained", "drained", 700, status="closing")
        await self.settle()
        await self.accounts("drained of all", "drained", 0, status="closing")
        await self.accounts("closed", "closed", 0, status="closed")
        for service in ("transfer", "notify"):
            body = {"service": service, "retained": []}
            asked = [said for type_, said in self.world.said if type_ == "customer.erase"]
            erased = [("customer.erased", one["customer_id"], {**one, **body}) for one in asked]
            await self.say(f"erased by {service}", "erasure.events", erased)
        await self.world.wait(DAY)
        self.cost["looked at once more"] = self.world.statements
        return self.cost

    async def apply(self) -> None:
        payout = {"payee": "bank:ICBC:1", "payee_name": "Person"}
        said = []
        for number, case_id in self.cases.items():
            who = {"applicant": applicant(number), "payout": payout | {"payee_name": applicant(number)["name"]}}
            request = {"case_id": str(case_id), "subject": f"wallet:p{number}", "reason": "Not needed", **who}
            said.append(("closure.request", f"wallet:p{number}", request))
        await self.say("applied", "closure.commands", said)


async def test_a_batch_costs_the_same_statements_however_much_is_in_it(world: World) -> None:
    few, many = Crowd(world, 1, FEW), Crowd(world, 100, MANY)
    expected = await few.live()
    assert await many.live() == expected
    # Everybody has come to the end.
    async with world.pool.acquire() as connection:
        rows = await connection.fetch("select status, erasure, count(*) from closing_case group by 1, 2")
    assert [tuple(row) for row in rows] == [("closed", "done", FEW + MANY)]
    assert max(expected.values()) <= 18
