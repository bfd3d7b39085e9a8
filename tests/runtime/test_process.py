"""A worker as its supervisor sees it: what it prints, answers and returns."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.runtime.world import World


async def test_a_worker_announces_itself_answers_and_stops_in_order(world: World) -> None:
    async with world.process() as worker:
        announcement = await worker.announced()
        assert announcement["service"] == "toy"
        assert announcement["health"].startswith("http://127.0.0.1:")
        assert (await worker.get("/healthz"))[0] == 200

        async def is_ready() -> bool:
            return (await worker.get("/readyz"))[0] == 200

        await wait_until(is_ready, what="ready")
        await world.add(["a", "b"], slow_s=0.3)
        await world.entered(2)
        status, text = await worker.get("/metrics")
        assert status == 200
        assert 'sluice_records_total{topic="toy.sums"} 2.0' in text
        assert 'sluice_stage_seconds_count{stage="publish"}' in text
        await world.add(["c"], slow_s=0.5)
        worker.signal(signal.SIGTERM)
        assert await worker.ended() == 0
    assert await world.value("select count(*) from outbox") == 0
    assert len(await world.answered()) == await world.value("select count(*) from entry")


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"KAFKA_BOOTSTRAP_SERVERS": "nowhere"}, "KAFKA_BOOTSTRAP_SERVERS"),
        ({"DATABASE_URL": "mysql://u:secret@h/d"}, "DATABASE_URL"),
        ({"SLUICE_CLOCK": "sundial"}, "SLUICE_CLOCK"),
        ({"SLUICE_BATCH_SIZE": "many"}, "SLUICE_BATCH_SIZE"),
        ({"SLUICE_MASTER_KEY": "short"}, "SLUICE_MASTER_KEY"),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "KAFKA_SASL_USERNAME"),
    ],
)
async def test_a_wrong_setting_ends_the_start_with_one_sentence(
    world: World, environment: dict[str, str], name: str
) -> None:
    async with world.process(**environment) as worker:
        assert await worker.ended() == 2
        (sentence,) = worker.log
        assert name in sentence
        assert "secret" not in sentence


async def test_a_changed_migration_ends_the_start(world: World) -> None:
    await world.fetch("update migration set checksum = 'other' where name = 'runtime/0001_runtime.sql'")
    async with world.process() as worker:
        assert await worker.ended() == 2
        assert "runtime/0001_runtime.sql" in "".join(worker.log)


async def test_a_stopped_partition_turns_readiness_red_and_says_which(world: World) -> None:
    await world.add(["a", "b"], partition=3)
    await world.delete_records("toy.sums", 3, 2)
    await world.fetch("insert into consumed_offset values ('toy.sums', 3, 'an older topic', 0)")
    async with world.process() as worker:
        await worker.announced()

        async def says_which() -> bool:
            status, text = await worker.get("/readyz")
            return status == 503 and "partition 3 of toy.sums" in text

        await wait_until(says_which, what="reason")
        assert "sluice_stopped_partitions 1.0" in (await worker.get("/metrics"))[1]


async def test_logs_are_json_and_name_nobody(world: World) -> None:
    async with world.process() as worker:
        await worker.ready()
        await world.add(["wallet:6222021234567890"], poison=True)
        await world.settled()
        worker.signal(signal.SIGTERM)
        assert await worker.ended() == 0
    events = [json.loads(line) for line in worker.log]
    assert "handling_failed" in {event["event"] for event in events}
    text = "".join(worker.log)
    assert "Zhang" not in text
    assert "13812345678" not in text
    assert "6222021234567890" not in text
