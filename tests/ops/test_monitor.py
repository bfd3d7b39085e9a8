"""`sluice monitor`: its pages tell the lag of every group, pauses, windows, overdue refunds and the audit."""

from __future__ import annotations

import asyncio
import signal
import socket
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import aiohttp
import asyncpg
import pytest
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from ops.audits import keep_audit
from ops.lag import apart, collector
from ops.lag.apart import CollectorApart, LookFailed
from ops.lag.collector import Collector
from ops.lag.looking import look
from ops.lag.metrics import LAG_NAMES, LagText
from ops.lag.model import Row, Verdict
from ops.lag.watching import Looked, Watch
from ops.ledger import Audited
from ops.monitor import state as monitor_state
from ops.monitor.serving import NotServed, monitoring
from ops.monitor.state import State
from ops.pausing import begin
from ops.running import Running
from services.runtime.audit import Finding
from tests.ops.lag.test_collector import commit, make_topic
from tests.waiting import wait_for, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

_PLACES = ("group", "topic", "partition", "owner", "bank", "function")

WINDOW = """
insert into maintenance.maintenance_window
(window_id, content_hash, plan, starts_at, ends_at, status, revision, event_type, event_body, occurred_at)
values ($1, '', $2, now() - interval '1 h', now() + interval '1 h', $3, 1, '', '', now())
"""
PLAN = '{"functions": ["transfer", "withdrawal"], "scope": {"banks": ["ICBC"], "currencies": []}, "drill": %s}'


async def _metrics(client: aiohttp.ClientSession, address: str) -> dict[tuple[str, ...], float]:
    async with client.get(f"{address}/metrics") as answer:
        text = await answer.text()
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels, key=_PLACES.index))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_the_pages_say_how_groups_and_the_system_stand(kafka: str, database: str, topic_prefix: str) -> None:
    topic = make_topic(kafka, 1)
    producer = Producer({"bootstrap.servers": kafka})
    for _ in range(5):
        producer.produce(topic, b"x")
    assert producer.flush(10) == 0
    commit(kafka, topic, {f"{topic}-reader": [2]})
    running = Running(kafka, database, topic_prefix, "real")
    await begin(running, "closure", "somebody", "the bank asked")
    await _add_windows(database)
    async with (
        monitoring(running, every_s=1, audit_every_s=900) as address,
        aiohttp.ClientSession() as client,
    ):

        async def complete() -> dict[tuple[str, ...], float] | None:
            found = await _metrics(client, address)
            told = found[("sluice_state_age_seconds",)], found[("sluice_audit_age_seconds",)]
            is_there = ("sluice_group_lag_records", f"{topic}-reader", topic, "0") in found
            return found if is_there and all(value >= 0 for value in told) else None

        found = await wait_until(complete, what="every figure")
        place = (f"{topic}-reader", topic, "0")
        assert found["sluice_group_lag_records", *place] == 3
        assert found["sluice_group_verdict", *place] == Verdict.STOPPED.rank
        assert found["sluice_group_lag_seconds", *place] > 0
        assert found["sluice_group_paused", f"{topic_prefix}sluice.closure"] == 1
        assert found["sluice_group_paused", f"{topic_prefix}sluice.transfer"] == 0
        windows = {key[1:]: value for key, value in found.items() if key[0] == "sluice_windows_in_force"}
        assert windows == {("ICBC", "transfer"): 1, ("ICBC", "withdrawal"): 1}
        assert found[("sluice_refunds_overdue",)] == 0
        # The windows of this test have no events.
        assert found[("sluice_audit_broken_rules",)] >= 1
        at_once = await asyncio.gather(*(_metrics(client, address) for _ in range(20)))
        assert all(("sluice_group_lag_records", *place) in each for each in at_once)
        rows = await _json(client, f"{address}/lag")
        assert [row["lag"] for row in rows if row["group"] == f"{topic}-reader"] == [3]
        paused = next(row for row in rows if row["group"] == f"{topic_prefix}sluice.closure")
        assert paused["why"].startswith("no member in the group")
        assert await _json(client, f"{address}/healthz") == {"status": "alive"}


async def _json(client: aiohttp.ClientSession, url: str) -> Any:
    async with client.get(url) as answer:
        assert answer.status == 200
        return await answer.json()


async def _add_windows(database: str) -> None:
    connection = await asyncpg.connect(database)
    for status, drill in (("started", "false"), ("started", "true"), ("ended", "false")):
        await connection.execute(WINDOW, uuid.uuid4(), PLAN % drill, status)
    await connection.close()


async def test_without_an_answer_of_the_brokers_it_is_not_well() -> None:
    nowhere = Running("127.0.0.1:1", "postgresql://127.0.0.1:1/none", "", "real")
    async with monitoring(nowhere) as address, aiohttp.ClientSession() as client:
        async with client.get(f"{address}/healthz") as answer:
            assert answer.status == 503
            assert (await answer.json())["status"].startswith("nothing was seen yet")
        found = await _metrics(client, address)
        assert str(found[("sluice_lag_look_age_seconds",)]) == "nan"
        assert str(found[("sluice_audit_broken_rules",)]) == str(found[("sluice_refunds_overdue",)]) == "nan"


def test_brokers_that_do_not_answer_are_told_from_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "_REQUEST_TIMEOUT_S", 0.2)
    nobody = Collector({"bootstrap.servers": "127.0.0.1:1"}, {})
    told = look(nobody)
    assert isinstance(told, str)
    assert told.startswith("the brokers do not answer (_")
    monkeypatch.setattr(nobody, "collect", lambda: {}["a mistake"])
    assert look(nobody) == "a look is broken (KeyError)"


def test_a_process_that_looks_may_end_and_another_one_looks_on(kafka: str) -> None:
    topic = make_topic(kafka, 1)
    commit(kafka, topic, {f"{topic}-reader": [0]})
    found = CollectorApart({"bootstrap.servers": kafka}, {}, paused=dict)
    with Watch(found, 0.05) as watch:
        first = wait_for(lambda: watch.newest, what="a look")
        assert topic in {row.topic for row in first.rows}
        process = found._process
        assert process is not None
        process.send_signal(signal.SIGABRT)
        wait_for(lambda: "SIGABRT" in watch.problem, what="why nothing is seen")
        wait_for(lambda: watch.newest is not first and not watch.problem, what="a look of another process")
        process = found._process
    assert process is not None
    process.wait(10)


def test_a_look_that_comes_too_late_is_not_taken_for_the_next_one(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = CollectorApart({"bootstrap.servers": kafka}, {}, paused=dict)
    monkeypatch.setattr(apart, "_ENDS_WITHIN_S", 0.1)
    found.collect()
    late = found._process
    with monkeypatch.context() as patience:
        patience.setattr(apart, "_ANSWERS_WITHIN_S", 0.0)
        with pytest.raises(LookFailed, match="has not ended in time"):
            found.collect()
    assert late is not None
    assert late.poll() is not None, "nobody waits for its answer any more"
    found.collect()
    found.close()


async def test_an_address_that_is_taken_is_one_sentence() -> None:
    nowhere = Running("127.0.0.1:1", "postgresql://127.0.0.1:1/none", "", "real")
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(NotServed, match=r"^Nothing can listen at 127\.0\.0\.1:\d+: address already in use\. See"),
    ):
        async with monitoring(nowhere, port=taken.getsockname()[1]):
            pass


class Broken:
    """Looks that fail as no broker does, until they do not."""

    looked_at = 1.0

    def __init__(self) -> None:
        self.fails = True
        self.asked = 0

    def close(self) -> None:
        """Hold nothing."""

    def collect(self) -> list[Row]:
        self.asked += 1
        if self.fails:
            raise KeyError("a mistake")
        return []


def test_whatever_a_look_fails_of_there_is_another_one() -> None:
    broken: Any = Broken()
    with Watch(broken, 0.01) as watch:
        wait_for(lambda: broken.asked > 2, what="another look")
        assert watch.problem == "a look is broken (KeyError)"
        assert watch.newest is None
        broken.fails = False
        wait_for(lambda: watch.newest is not None, what="a look")
        assert watch.problem == ""


async def test_what_breaks_one_reading_of_the_state_keeps_no_other_from_being_made(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor_state, "_READ_EVERY_S", 0.01)
    read, fails = monitor_state.load_pauses, True

    async def breaking(running: Running) -> Any:
        if fails:
            raise asyncpg.InsufficientPrivilegeError("a mistake")
        return await read(running)

    monkeypatch.setattr(monitor_state, "load_pauses", breaking)
    state = State(Running("127.0.0.1:1", database, "", "real"))
    following = asyncio.create_task(state.follow(900))
    await wait_until(lambda: _is(state.audited_at is not None), what="the audit")
    assert state.read_at is None
    fails = False
    await wait_until(lambda: _is(state.read_at is not None), what="the state")
    following.cancel()
    await asyncio.wait([following])


async def test_what_an_audit_found_is_looked_at_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = [(), (Finding("an outbox that workers empty as soon as they run", [{"id": 1}]),)]

    async def audits(_running: Running) -> Audited:
        return Audited({}, findings.pop() if len(findings) > 1 else findings[0])

    async def keeps(*_: object) -> None:
        pass

    monkeypatch.setattr(monitor_state, "_BROKEN_EVERY_S", 0.01)
    monkeypatch.setattr(monitor_state, "audit_everything", audits)
    monkeypatch.setattr(monitor_state, "keep_audit", keeps)
    state = State(Running("127.0.0.1:1", "postgresql://127.0.0.1:1/none", "", "real"))
    following = asyncio.create_task(state.follow(900))
    await wait_until(lambda: _is(state.broken_rules == 0), what="the next audit")
    following.cancel()
    await asyncio.wait([following])


async def test_a_monitor_that_begins_anew_knows_the_audit_of_the_one_before(database: str) -> None:
    running = Running("127.0.0.1:1", database, "", "real")
    await keep_audit(running, Audited({}, (Finding("a rule", [{"id": 1}]),)), 1.5)
    state = State(running)
    await state.read()
    assert (state.broken_rules, state.audit_took_s) == (1, 1.5)
    assert state.audited_at is not None
    assert state.read_at is not None
    assert abs(state.read_at - state.audited_at) < 60


async def _is(found: bool) -> bool:  # noqa: FBT001 - as it is asked
    return found


@pytest.mark.parametrize("odd", [str, lambda name: f'{name} "said"\n\\n'], ids=["plain", "odd"])
def test_the_text_of_lag_is_what_the_clients_library_reads(odd: Callable[[str], str]) -> None:
    looked = Looked(1.0, 0.25, [
        Row(odd("group"), "topic", 3, 12, 1.5, None, None, None, None, Verdict.STALLED, ""),
        Row(odd("group"), "topic", 4, 5, 0.5, 2.0, 12.0, 0.5, odd("one@here"), Verdict.OK, ""),
    ])  # fmt: skip
    text = b"".join(LagText().of(looked)).decode()
    families = {each.name: each for each in text_string_to_metric_families(text)}
    assert set(families) == LAG_NAMES
    place = {"group": odd("group"), "topic": "topic"}
    told = {
        name: [(each.labels, each.value) for each in family.samples if each.labels] for name, family in families.items()
    }
    third, fourth = {**place, "partition": "3"}, {**place, "partition": "4"}
    assert told["sluice_group_lag_seconds"] == [(third, 1.5), (fourth, 0.5)]
    assert told["sluice_group_verdict"] == [(third, 3), (fourth, 0)]
    # What is not known is not there.
    assert told["sluice_group_rate_in"] == [(fourth, 2)]
    assert told["sluice_group_rate_out"] == [(fourth, 12)]
    assert told["sluice_group_eta_seconds"] == [(fourth, 0.5)]
    assert told["sluice_group_owner_info"] == [({**fourth, "owner": odd("one@here")}, 1)]
    assert families["sluice_lag_look_seconds"].samples[0].value == 0.25


def test_who_asks_again_gets_the_newest_look() -> None:
    row = Row("group", "topic", 3, 12, 1.5, None, None, None, None, Verdict.STALLED, "")
    text = LagText()
    assert b"sluice_lag_look_seconds NaN" in b"".join(text.of(None))
    for lag in (12, 13):
        looked = Looked(1.0, 0.25, [replace(row, lag=lag)])
        written = b"".join(text.of(looked))
        assert f"}} {lag}\n".encode() in written
        assert written.count(b"sluice_group_lag_records{") == 1
