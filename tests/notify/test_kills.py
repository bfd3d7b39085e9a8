"""Notifiers killed again and again, before gateways that fail: all is accounted for, and nothing leaves twice."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from tests.notify.system import System, listed, notifying, reachable, restricted, taken
from tests.notify.test_process import publish
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IN_SMS = {"failure_rate": 0.05, "failure_code": "BUSY", "delay_rate": 0.05, "delay_s": 0.5, "lost_receipt_rate": 0.05}


@pytest.fixture
def system(kafka: str, topic_prefix: str, database: str, tmp_path: Path) -> Iterator[System]:
    with notifying(kafka, topic_prefix, database, tmp_path, gateways=["sms-a"], batch_size=100, **IN_SMS) as started:
        yield started


@pytest.mark.parametrize(
    ("customers", "kills"), [(400, 3), pytest.param(6_700, 25, marks=pytest.mark.soak, id="6700-25")]
)
async def test_nothing_is_lost_and_nothing_leaves_twice(
    system: System, database: str, customers: int, kills: int
) -> None:
    publish(system.environment, *map(reachable, range(customers)))
    publish(system.environment, *map(restricted, range(customers)))
    connection = await asyncpg.connect(database, server_settings={"search_path": "notify"})
    with ExitStack() as stack:
        stack.callback(connection.terminate)
        running_now = [stack.enter_context(system.notifier()) for _ in range(2)]
        for kill in range(kills):

            async def has_gone_on(kill: int = kill) -> bool:
                return await taken(system.sms.http) > customers * kill // (kills + 1)

            await wait_until(has_gone_on, deadline_s=60, what=f"texts have left before kill {kill}")
            running_now.pop(random.randrange(2)).kill()
            running_now.append(stack.enter_context(system.notifier()))

        async def is_over() -> bool:
            pending = await connection.fetchval("select count(*) from notice where status = 'pending'")
            accepted = await connection.fetchval("select coalesce(sum(accepted), 0) from announcement")
            out = await connection.fetchval("select count(*) from delivery")
            untold = await connection.fetchval("select count(*) from notice where told is distinct from status")
            return bool(accepted == 3 * customers and pending == out == untold == 0)

        await wait_until(is_over, deadline_s=120, what="everything has ended")
        rows = await connection.fetch("select channel, status, why, count(*) from notice group by 1, 2, 3")
        ended = {(row[0], row[1], row[2]): row[3] for row in rows}
        assert sum(ended.values()) == 3 * customers
        assert ended[("in_app", "delivered", None)] == customers
        assert ended[("sms", "delivered", None)] == customers
        texts = Counter(message["to"] for message in await listed(system.sms.http, limit="100000"))
        assert len(texts) == customers
        assert set(texts.values()) == {1}
        mails = Counter(address for mail in await listed(system.mail.said["http"]) for address in _addresses(mail))
        assert set(mails.values()) == {1}
        unknown = ended.get(("email", "sent", "unknown"), 0)
        assert ended[("email", "sent", None)] + unknown == customers
        assert customers - unknown <= len(mails) <= customers


def _addresses(mail: dict[str, Any]) -> list[str]:
    to = mail["to"]
    return to if isinstance(to, list) else [to]
