"""The loop's promise in quiet times: each message has its effect once, and is answered."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import orjson
from pydantic import field_validator

from services.runtime import session
from services.runtime.service import Subscription
from tests.runtime.toy.service import Add, on_sums, toy
from tests.waiting import wait_until

if TYPE_CHECKING:
    import pytest

    from tests.runtime.world import World


async def test_each_message_is_entered_once_and_answered(world: World) -> None:
    ids = [f"m{number}" for number in range(300)]
    await world.add(ids)
    async with world.worker() as consumer:
        assert sorted(await world.entered(300)) == sorted(ids)
        await world.ready(consumer)
    assert sorted(await world.answered()) == sorted(ids)
    assert sorted(await world.answered("toy.follow_ups")) == sorted(ids)


async def test_a_stopped_worker_leaves_nothing_to_publish_again(world: World) -> None:
    await world.add(["a", "b"])
    async with world.worker():
        await world.entered(2)
    assert await world.value("select count(*) from outbox") == 0
    await world.add(["c"])
    async with world.worker():
        await world.entered(3)
    assert sorted(await world.answered()) == ["a", "b", "c"]


async def test_what_a_publisher_took_back_is_not_done_and_its_markers_hold_nothing_up(world: World) -> None:
    async with world.worker(stall_timeout_s=1.5) as consumer:
        await world.add_in_transaction(["taken back"], commits=False)
        await world.add_in_transaction(["a", "b"], commits=True)
        assert sorted(await world.entered(2)) == ["a", "b"]

        async def nothing_is_behind() -> bool:
            consumed = await world.value("select sum(next_offset) from consumed_offset where topic = 'toy.sums'")
            # Each record and each transaction's marker in each of its partitions.
            return bool(consumed == await world.length("toy.sums"))

        await wait_until(nothing_is_behind, what="offsets behind the markers")
        await world.add(["c"])
        await world.entered(3)
        await world.ready(consumer)
    assert sorted(await world.answered()) == ["a", "b", "c"]


async def test_large_messages_are_decoded_one_in_a_turn_of_the_event_loop(world: World) -> None:
    turn, decoded_in = 0, []

    class Large(Add):
        text: str

        @field_validator("text")
        @classmethod
        def _note_turn(cls, text: str) -> str:
            decoded_in.append(turn)
            return text

    async def count_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    large = Subscription("sums", {"toy.sums": {"toy.add": Large}}, on_sums)
    value = orjson.dumps({"amount": 1, "text": "x" * 150_000})
    await world.send([("toy.sums", b"key", value, world.headers(id_), 0) for id_ in "abc"])
    counting = asyncio.create_task(count_turns())
    async with world.worker(replace(toy(), subscriptions=(large,))):
        await world.entered(3)
    counting.cancel()
    assert len(set(decoded_in)) == 3


async def test_what_is_read_is_kept_however_long_others_have_the_event_loop(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = 0

    async def let_a_hog_run() -> None:
        nonlocal slices
        slices += 1
        until = time.perf_counter() + 0.5
        while time.perf_counter() < until:
            pass
        await asyncio.sleep(0)

    # All are there at once, and are read in slices; the hog's turns between them are longer than a read may wait.
    await world.add([f"m{number}" for number in range(600)], partition=0)
    monkeypatch.setattr(session, "let_others_run", let_a_hog_run)
    async with world.worker():
        await world.entered(600, within_s=30)
    assert slices >= 7
