"""What a leading topic says is handled before anything else is decided, whichever worker it falls to."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from services.runtime.liveness import Hopeless
from services.runtime.metrics import REGISTRY
from services.runtime.service import Subscription
from tests.runtime.toy.service import Note, on_notes, on_sums, toy
from tests.waiting import wait_until

if TYPE_CHECKING:
    from datetime import datetime

    from services.runtime.database import Connection
    from services.runtime.message import Batch, Effects
    from services.runtime.service import Handler, Service
    from tests.runtime.world import World

IDS = [f"sum-{number}" for number in range(40)]


def _led_by(handler: Handler) -> Service:
    notes = Subscription("notes", {"toy.notes": {"toy.note": Note}}, handler, leads=True)
    sums = replace(toy().subscriptions[1], handler=on_sums)
    return replace(toy(), subscriptions=(notes, sums))


async def _send_notes(world: World) -> None:
    await world.send(
        [("toy.notes", b"n", b'{"text": "t"}', world.headers(f"note-{n}", "toy.note"), n) for n in range(4)]
    )


def _behind() -> float:
    places = [{"topic": "toy.sums", "partition": str(number)} for number in range(4)]
    return sum(REGISTRY.get_sample_value("sluice_lag", place) or 0 for place in places)


async def test_nothing_is_decided_while_another_worker_has_not_handled_what_leads(world: World) -> None:
    reached, released = asyncio.Event(), asyncio.Event()

    async def waits(connection: Connection, batch: Batch, now: datetime) -> Effects:
        reached.set()
        await released.wait()
        return await on_notes(connection, batch, now)

    async with world.worker(_led_by(waits)) as slow:
        await world.ready(slow)
        async with world.worker(_led_by(on_notes)) as quick:
            await world.ready(quick)
            await world.ready(slow)
            await _send_notes(world)
            await reached.wait()

            async def is_held_back() -> bool:
                return any("toy.notes" in reason for reason in quick.reasons_not_ready())

            await wait_until(is_held_back, what="the other worker to wait")
            await world.add(IDS)

            async def has_noticed() -> bool:
                return _behind() > 0

            await wait_until(has_noticed, what="sums to be seen")
            assert not set(await world.entries()) & set(IDS)
            released.set()
            entries = await world.entered(4 + len(IDS))
            await world.ready(quick)
    assert set(entries[:4]) == {"toy.note"}
    assert sorted(entries[4:]) == sorted(IDS)


async def test_what_leads_is_handled_first_after_a_time_without_workers(world: World) -> None:
    await world.add(IDS)
    await _send_notes(world)
    async with world.worker(_led_by(on_notes)):
        entries = await world.entered(4 + len(IDS))
    assert set(entries[:4]) == {"toy.note"}


async def test_a_gap_in_what_leads_keeps_nobody_waiting(world: World) -> None:
    async with world.worker(_led_by(on_notes)) as worker:
        await world.ready(worker)
        await _send_notes(world)
        await world.entered(4)
    await _send_notes(world)
    await world.delete_records("toy.notes", 0, 2)
    await world.add(IDS)
    async with world.worker(_led_by(on_notes)) as worker:
        await world.entered(4 + 3 + len(IDS))
        assert any("stopped by a gap" in reason for reason in worker.reasons_not_ready())


async def test_a_batch_that_is_tried_again_gives_way_to_what_was_said_meanwhile(world: World) -> None:
    is_told = False

    async def tells(connection: Connection, batch: Batch, now: datetime) -> Effects:
        nonlocal is_told
        is_told = True
        return await on_notes(connection, batch, now)

    async def fails_until_told(connection: Connection, batch: Batch, now: datetime) -> Effects:
        if not is_told:
            raise OSError
        return await on_sums(connection, batch, now)

    notes, sums = _led_by(tells).subscriptions
    service = replace(toy(), subscriptions=(notes, replace(sums, handler=fails_until_told)))
    async with world.worker(service) as worker:
        await world.ready(worker)
        await world.add(IDS)

        async def is_failing() -> bool:
            return any("database fails" in reason for reason in worker.reasons_not_ready())

        await wait_until(is_failing, what="the sums to fail")
        await _send_notes(world)
        entries = await world.entered(4 + len(IDS))
    assert set(entries[:4]) == {"toy.note"}


async def test_a_worker_whose_leading_topic_stands_still_gives_up(world: World) -> None:
    async def never_ends(_connection: Connection, _batch: Batch, _now: datetime) -> Effects:
        await asyncio.Event().wait()
        raise AssertionError

    await _send_notes(world)
    with pytest.raises(Hopeless, match="Stalled"):
        async with world.worker(_led_by(never_ends), stall_timeout_s=1), asyncio.timeout(40):
            await world.ended()
