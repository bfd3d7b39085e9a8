"""Text messages over SMPP, whose receipts name only the centre's ids, in another form than its answers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.notify.system import System, listed, notifying, reachable, restricted
from tests.notify.test_process import publish
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PEOPLE = 300


@pytest.fixture
def system(kafka: str, topic_prefix: str, database: str, tmp_path: Path) -> Iterator[System]:
    with notifying(kafka, topic_prefix, database, tmp_path, centres=["sms-c"], id_form="padded") as started:
        yield started


async def test_every_receipt_finds_its_attempt(system: System, database: str) -> None:
    publish(system.environment, *map(reachable, range(PEOPLE)))
    publish(system.environment, *map(restricted, range(PEOPLE)))
    connection = await asyncpg.connect(database, server_settings={"search_path": "notify"})

    async def all_have_arrived() -> bool:
        delivered = "select count(*) from notice where channel = 'sms' and status = 'delivered'"
        return await connection.fetchval(delivered) == PEOPLE

    with system.notifier():
        await wait_until(all_have_arrived, deadline_s=60, what="every text message is known to have arrived")
    assert await connection.fetchval("select count(*) from early_receipt") == 0
    await connection.close()
    texts = Counter(message["to"] for message in await listed(system.sms.http, limit="100000"))
    assert (len(texts), set(texts.values())) == (PEOPLE, {1})
