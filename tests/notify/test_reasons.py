"""A notice stands in the database with no other reason than the contract has a word for."""

from __future__ import annotations

import uuid
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, get_args

import asyncpg
import pytest

from schemas.notify import FailureReason, SuppressionReason
from services.notify.model import Status, Why
from services.runtime.message import Effects
from tests.notify.test_broadcast import handle, notices, reachable, request, run
from tests.notify.test_notices import hear

if TYPE_CHECKING:
    from services.runtime.database import Pool

NOW = datetime(2026, 11, 23, 15, 0, tzinfo=UTC)
WAITS = {"profile_missing", "queued", "quiet_hours", "scheduled", "digest", "standby"}
SAID: dict[Status, set[str | None]] = {
    Status.PENDING: {*WAITS},
    Status.SENT: {None, "unknown"},
    Status.DELIVERED: {None},
    Status.FAILED: {*get_args(FailureReason)},
    Status.SUPPRESSED: {*get_args(SuppressionReason)},
}
INSERT = """
insert into notice (
    notice_id, event_id, customer_id, channel, role, category, urgency, template, delivery_id, lane_group, partition,
    status, why, created_at, ended_at
)
values ($1::uuid, $1::uuid::text, 'c', 'sms', 'payer', 'service', 'normal', 't', $1::uuid, 'l', 0, $2, $3, $4, $5)
"""


def test_every_reason_is_said_of_some_status() -> None:
    assert set().union(*SAID.values()) - {None} == set(Why)


@pytest.mark.parametrize("status", Status)
async def test_the_database_takes_the_reasons_of_the_contract_and_no_others(pool: Pool, status: Status) -> None:
    taken: set[str | None] = set()
    async with pool.acquire() as connection:
        for why in (None, "something", *Why):
            ended_at = None if status == Status.PENDING else NOW
            with suppress(asyncpg.CheckViolationError):
                await connection.execute(INSERT, uuid.uuid4(), status, why, NOW, ended_at)
                taken.add(why)
    assert taken == SAID[status]


async def test_what_a_night_puts_off_beyond_its_time_has_failed(pool: Pool) -> None:
    night = {"quiet_hours": {"from": "22:00", "to": "07:30"}}
    await hear(pool, reachable("a", time_zone="Asia/Shanghai", preferences=night), reachable("b"))
    asked = request(audience={"all": True}, channels=["sms"], expires_at="2026-11-23T20:00:00Z")
    effects = await handle(pool, asked, now=NOW)
    await run(pool, effects, now=NOW)
    assert await notices(pool) == {("a", "sms", "failed", "expired"): 1, ("b", "sms", "pending", "queued"): 1}
    later = NOW + timedelta(seconds=30)
    (said,) = await run(pool, Effects(timers_set=[effects.timers_set[0]._replace(due_at=later)]), now=later)
    assert (said["accepted"], said["failed"], said["pending"]) == (2, 1, 1)
