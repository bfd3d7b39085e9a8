"""On PostgreSQL: a null profile while something is open, and that nothing sealed stays of whom nobody would erase."""

from __future__ import annotations

import itertools
import uuid
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from schemas.registry import MODELS
from services.closure.decide.book import Rules
from services.closure.handlers import Handlers
from services.closure.model import LOOK_TIMER
from services.closure.policy import Policy
from services.runtime.database import create_pool
from services.runtime.message import Batch, Effects, Lane, Message, Timer, identity_of
from tests.closure.coming_back import HASHES, NOW
from tests.end_to_end.closings import applicant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.runtime.database import Pool

CUSTOMER, LOAN = "person-1", "loan:l1"
CASE = str(uuid.uuid4())
_COUNT = itertools.count()


class Service:
    """A closing service's handlers on a database."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.handlers = Handlers(Rules(Policy(), HASHES), b"m" * 32)

    async def tell(self, group: str, *said: tuple[str, Any]) -> list[str]:
        """Have a batch of messages handled, each its type and body; return the types of what is published."""
        handler: Any = getattr(self.handlers, f"on_{group}")
        batch = Batch([_message(group, type_, body) for type_, body in said])
        return await self._handle(handler, batch)

    async def remind(self, kind: str, subject: str) -> list[str]:
        """Have a timer handled."""
        timer = Timer(Lane("case", 0), kind, subject, NOW)
        return await self._handle(self.handlers.on_commands, Batch([], [timer]))

    async def _handle(self, handler: Any, batch: Batch) -> list[str]:
        async with self.pool.acquire() as connection, connection.transaction():
            effects: Effects = await handler(connection, batch, NOW)
        return [identity_of(one)[0] for one in effects.outgoing]

    async def value(self, query: str) -> Any:
        """Return the one value of a query."""
        async with self.pool.acquire() as connection:
            return await connection.fetchval(query)


def _message(group: str, type_: str, body: Any) -> Message:
    number = next(_COUNT)
    data: Any = None if body is None else MODELS[type_].model_validate_json(orjson.dumps(body))
    return Message(Lane(group, 0), group, number, CUSTOMER.encode(), type_, f"m{number}", "test", data)


@pytest.fixture
async def service(database: str) -> AsyncIterator[Service]:
    pool = await create_pool(database, "closure", "test", size=2)
    service = Service(pool)
    await service.tell("positions", ("obligation.position", _position()))
    await service.tell("profiles", ("customer.profile", _profile()))
    yield service
    await pool.close()


def _position() -> dict[str, Any]:
    amounts = {"principal_minor": 0, "interest_minor": 0, "penalty_minor": 0}
    loan = {"obligation_id": "l1", "customer_id": CUSTOMER, "kind": "loan", "currency": "CNY", "status": "settled"}
    return {**loan, **amounts}


def _profile() -> dict[str, Any]:
    return {"customer_id": CUSTOMER, **applicant(1), "phone_verified": True}


def _request(subject: str = LOAN, case_id: str = CASE, **more: str) -> tuple[str, dict[str, Any]]:
    return "closure.request", {"case_id": case_id, "subject": subject, "reason": "r", "applicant": applicant(1) | more}


NOBODY: tuple[str, Any] = ("customer.profiles.tombstone", None)
KEPT = (
    "select count(*) from closing_case left join case_key using (case_id)"
    " where sealed is not null or wrapped_key is not null"
)
PROFILED = (
    "select wrapped_key is null and name_hash is not null from customer left join customer_key using (customer_id)"
)
KEYS = (
    "select count(*) from customer left join customer_key using (customer_id)"
    " where wrapped_key is not null or name_hash is not null"
)


async def test_a_null_profile_waits_for_the_end_of_a_case(service: Service) -> None:
    assert await service.tell("commands", _request()) == ["closure.received", "closure.approved"]
    assert await service.tell("profiles", NOBODY) == []
    assert (await service.value(KEPT), await service.value(KEYS)) == (1, 1)
    said = await service.tell("commands", ("closure.cancel", {"case_id": CASE}))
    assert said == ["closure.cancelled", "customer.erased"]
    assert (await service.value(KEPT), await service.value(KEYS)) == (0, 0)


async def test_a_null_profile_is_done_at_once_where_nothing_is_open_also_before_another_profile(
    service: Service,
) -> None:
    await service.tell("commands", _request(), ("closure.cancel", {"case_id": CASE}))
    assert await service.value(KEPT) == 1
    assert await service.tell("profiles", NOBODY, ("customer.profile", _profile())) == ["customer.erased"]
    assert await service.value(KEPT) == 0
    assert await service.value(PROFILED)


async def test_what_is_nobodys_is_kept_no_longer_than_its_case_is_open(service: Service) -> None:
    assert await service.tell("commands", _request("loan:unknown")) == []
    assert await service.value(KEPT) == 1
    assert await service.remind(LOOK_TIMER, CASE) == ["closure.rejected"]
    assert await service.value(KEPT) == 0


async def test_who_was_forgotten_and_applies_again_is_forgotten_again(service: Service) -> None:
    await service.tell("profiles", NOBODY)
    assert await service.tell("commands", _request(phone="1")) == ["closure.received", "closure.documents_required"]
    assert (await service.value(KEPT), await service.value(KEYS)) == (1, 1)
    await service.tell("commands", ("closure.cancel", {"case_id": CASE}))
    assert (await service.value(KEPT), await service.value(KEYS)) == (0, 0)


async def test_applications_in_one_batch_are_decided_one_after_the_other(service: Service) -> None:
    again = _reopen("1"), _reopen("2"), _reopen("1")
    assert await service.tell("commands", *again) == ["closure.reopen_refused"] * 3
    assert await service.value("select count(*) from reopening where status = 'refused'") == 2


def _reopen(number: str) -> tuple[str, dict[str, Any]]:
    id_ = str(uuid.uuid5(uuid.NAMESPACE_OID, number))
    return "closure.reopen", {"request_id": id_, "subject": LOAN, "applicant": applicant(1)}
