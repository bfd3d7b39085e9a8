"""What a trace reads: few records of topics, around known moments, and of large tables only by their indexes."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from rich.console import Console

from ops.running import Running
from ops.trace import topics, transfers, windows
from ops.trace.following import Asked, NothingKnown, asked_for, trace
from ops.trace.show import print_story
from ops.trace.story import Line, Look, Story, Subject
from ops.web.saying import said_in
from schemas.envelope import encode_headers
from schemas.topics import TOPICS
from services.closure import trail as closure
from services.maintenance import trail as maintenance
from services.notify import trail as notify
from services.notify.model import Locale
from services.runtime.topics import TopicMissing
from services.transfer import records
from services.transfer import trail as transfer
from tests.ops.in_process import run
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from services.runtime.database import Connection

ID = "7d9a0d3c-2a4f-4d5e-9a54-0c8f5b1d2e3f"


def now() -> frozenset[datetime]:
    return frozenset({datetime.now(UTC)})


# --- Lines ---


def line(seconds: float, name: str, correlation: str | None, **more: Any) -> Line:
    at = datetime(2026, 11, 23, 0, 30, tzinfo=UTC) + timedelta(seconds=seconds)
    return Line(at, "transfer", "event", name, ID, correlation=correlation, **more)


def test_a_line_says_when_what_why_and_how_long_after_the_one_before() -> None:
    lines = [
        line(0, "transfer.sent", "order-1", status="sent", amount_minor=123_450, currency="CNY"),
        line(0.9, "transfer.delayed", "order-1", status="delayed"),
        line(4, "transfer.refunded", "other", status="refunded", why="rail_rejected"),
        line(4_000, "transfer.discrepancy", None),
    ]
    story = Story(ID, [Subject("transfer", ID)], [Subject("case", "c1")], ["order-1", "other"], lines, ["A note."])
    out = StringIO()
    print_story(Console(file=out, width=200, highlight=False), story)
    printed = out.getvalue()
    assert printed.splitlines()[:5] == [
        f"{ID}: transfer {ID}; times of Asia/Shanghai",
        "  with case c1",
        "  [1] is correlation order-1",
        "  [2] is correlation other",
        printed.splitlines()[4],
    ]
    _, sent, delayed, refunded, last = printed.splitlines()[4:9]
    assert sent.split() == [
        "2026-11-23",
        "08:30:00.000",
        "transfer",
        "event",
        "transfer.sent",
        "sent",
        "1,234.50",
        "CNY",
        "5b1d2e3f",
        "[1]",
    ]
    assert delayed.split()[:2] == ["2026-11-23", "08:30:00.900"]
    assert refunded.split()[:4] == ["+3.1", "s", "2026-11-23", "08:30:04.000"]
    assert "refunded: rail_rejected" in refunded
    assert refunded.rstrip().endswith("[2]")
    assert last.split()[0] == "+1:06:36"
    assert printed.endswith("A note.\n")


# --- Topics ---


@pytest.fixture
def running(kafka: str, topic_prefix: str, database: str, monkeypatch: pytest.MonkeyPatch) -> Running:
    monkeypatch.setenv("SLUICE_TOPIC_PREFIX", topic_prefix)
    named = Running(kafka, database, topic_prefix, "real")
    # Topics that were just made may have no leader for a moment.
    wait_for(lambda: have_leaders(named), what="leaders")
    return named


def have_leaders(running: Running) -> bool:
    looks = [Look(topic.name, None, frozenset(), frozenset()) for topic in TOPICS]
    try:
        asyncio.run(topics.look(running, looks))
    except (KafkaException, TopicMissing):
        return False
    return True


def publish(running: Running, topic: str, value: bytes, *, key: str = "wallet:a", id_: str = "e1", **more: Any) -> None:
    producer = Producer({"bootstrap.servers": running.kafka, "partitioner": "murmur2_random"})
    about: Any = {"id": id_, "source": more.pop("source", "shop"), "time": "2026-01-01T00:00:00Z", "subject": "s"}
    dlq = more.pop("dlq", [])
    headers: Any = [*encode_headers(more.pop("type", "transfer.request"), **about, **more), *dlq]
    producer.produce(running.topic_prefix + topic, value, key, headers=headers)
    assert producer.flush(30) == 0


def look(running: Running, *looks: Look) -> topics.Seen:
    settings, logs = asyncio.run(topics.look(running, looks))
    return topics.read(running, settings, logs, looks)


def test_a_command_is_found_by_its_key_and_personal_data_are_masked(running: Running) -> None:
    said = {"transfer_id": ID, "amount_minor": 5, "currency": "CNY", "payee_name": "王小明"}
    publish(running, "transfer.commands", json.dumps(said).encode(), correlation_id="order-1")
    publish(running, "transfer.commands", b'{"transfer_id": "another"}', id_="e2")
    publish(running, "transfer.commands", json.dumps(said).encode(), key="wallet:b")
    asked = Look("transfer.commands", "wallet:a", frozenset({ID}), now())
    (found,) = look(running, asked).lines
    assert (found.service, found.what, found.name, found.about) == ("transfer", "command", "transfer.request", ID)
    assert (found.amount_minor, found.currency, found.correlation) == (5, "CNY", "order-1")
    assert found.said == {**said, "payee_name": "***"}
    assert look(running, asked._replace(moments=frozenset({datetime.now(UTC) - timedelta(days=1)}))).lines == []
    # A command without a correlation begins one.
    (other,) = look(running, asked._replace(needles=frozenset({"another"}))).lines
    assert other.correlation == "e2"


def test_a_flag_says_by_which_rule(running: Running) -> None:
    said = {"customer_id": "c7", "rule": "many_failures", "until": "2026-11-23T08:30:00Z"}
    publish(running, "risk.events", json.dumps(said).encode(), key="c7", type="risk.flagged")
    (found,) = look(running, Look("risk.events", "c7", frozenset({"c7"}), now())).lines
    assert (found.what, found.name, found.why) == ("event", "risk.flagged", "many_failures")


def test_a_dead_letter_is_found_in_any_partition_with_its_reason(running: Running) -> None:
    dlq = [("dlq-reason", b"malformed"), ("dlq-detail", b"payee: is missing"), ("dlq-service", b"transfer")]
    dlq.append(("dlq-time", b"2026-11-23T08:30:00.000Z"))
    publish(running, "transfer.commands.dlq", f'{{"transfer_id": "{ID}"'.encode(), dlq=dlq)
    (found,) = look(running, Look("transfer.commands.dlq", None, frozenset({ID}), now())).lines
    assert (found.what, found.why, found.service) == ("dead letter", "malformed", "transfer")
    assert found.at == datetime(2026, 11, 23, 8, 30, tzinfo=UTC)
    assert (found.detail or "").startswith("payee: is missing (transfer.commands.dlq/")


def test_every_time_is_the_one_that_clocks_there_show() -> None:
    starts_at, ends_at = "2026-09-28T06:59:28.522800Z", "2026-09-28T07:59:28Z"
    step = {"occurred_at": datetime.now(UTC), "type": "window.started", "status": "started", "revision": 2}
    body = {"starts_at": starts_at, "ends_at": ends_at}
    lasts = windows.line_of(uuid.UUID(ID), step | {"body": body}, "order-1").detail
    assert lasts == "2026-09-28 14:59:28 to 2026-09-28 15:59:28"
    assert said_in(Locale.CHINESE, lasts) == "2026-09-28 14:59:28 至 2026-09-28 15:59:28"
    said = {"refund_due_on": "2026-10-09", "reason": {"code": "maintenance", "available_at": ends_at}}
    told = transfers.told(said)
    assert told == "refund_due_on 2026-10-09; available_at 2026-09-28 15:59:28"
    assert said_in(Locale.CHINESE, told) == "退款期限 2026-10-09；可用时间 2026-09-28 15:59:28"


def test_a_customers_life_goes_back_by_the_services_clock(tmp_path: Path) -> None:
    (tmp_path / "clock").write_text(f"{-50 * 86_400}")
    running = Running("", "", "", f"file:{tmp_path / 'clock'}")
    since = asked_for(running, "c1", timedelta(days=7), timedelta(hours=1)).since
    assert timedelta(days=57) <= datetime.now(UTC) - since < timedelta(days=57, minutes=1)


def test_commands_of_two_senders_with_one_id_are_two(running: Running) -> None:
    # Headers of a sender's own are none of the envelope's.
    own = [("id", b"7"), ("type", b"pdf"), ("source", b"post"), ("correlationid", b"8")]
    for source in ("shop", "shop", "bank"):
        publish(running, "transfer.commands", b"{}", id_="order-7", source=source, dlq=own)
    story = asyncio.run(trace(running, Asked("order-7", datetime.now(UTC) - timedelta(days=7), timedelta(hours=1))))
    assert sorted(found.source or "" for found in story.lines) == ["bank", "shop"]
    assert {(found.name, found.event_id, found.correlation) for found in story.lines} == {
        ("transfer.request", "order-7", "order-7")
    }


def test_of_a_word_that_stands_in_every_record_not_all_are_told(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics, "MOST_LINES", 2)
    for number in range(3):
        publish(running, "transfer.commands", b'{"currency": "CNY"}', id_=f"e{number}")
    seen = look(running, Look("transfer.commands", "wallet:a", frozenset({"CNY"}), now()))
    assert (len(seen.lines), seen.notes[-1]) == (2, "2 records alone: more name it.")


def test_what_retention_has_removed_is_said(running: Running) -> None:
    for _ in range(2):
        publish(running, "transfer.commands", f'{{"transfer_id": "{ID}"}}'.encode())
    asked = Look("transfer.commands", "wallet:a", frozenset({ID}), now())
    assert (len(look(running, asked).lines), look(running, asked).notes) == (2, [])
    partition = topics.partition_of("wallet:a", 3)
    where = TopicPartition(f"{running.topic_prefix}transfer.commands", partition, 1)
    admin = AdminClient({"bootstrap.servers": running.kafka})
    for future in admin.delete_records([where]).values():
        future.result(20)
    seen = look(running, asked)
    assert len(seen.lines) == 1
    gone = f"transfer.commands/{partition} has nothing before offset 1 any more (transfer.commands is kept 7 days)."
    assert seen.notes == [gone]


def test_more_than_can_be_looked_at_is_said(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "MOST_RECORDS", 1)
    for number in range(3):
        publish(running, "transfer.commands", f'{{"transfer_id": "{ID}"}}'.encode(), id_=f"e{number}")
    seen = look(running, Look("transfer.commands", "wallet:a", frozenset({ID}), now()))
    assert [found.event_id for found in seen.lines] == ["e2"]
    assert seen.notes[0].endswith("the last 1 of 3 records were looked at.")


def test_an_id_that_only_a_topic_knows_is_searched_and_one_that_nobody_knows_ends_with_1(running: Running) -> None:
    publish(running, "transfer.commands", b"{}", id_="lost-1")
    asked = Asked("lost-1", datetime.now(UTC) - timedelta(days=7), timedelta(hours=1))
    story = asyncio.run(trace(running, asked))
    assert ([found.event_id for found in story.lines], story.found) == (["lost-1"], [])
    with pytest.raises(NothingKnown, match="Nothing is known of 'nobody'") as refused:
        asyncio.run(trace(running, Asked("nobody", asked.since, asked.within)))
    assert refused.value.exit_code == 1


@pytest.mark.parametrize(
    ("id_", "found"),
    [("a1", True), ("wallet:a1", True), (ID, True), ("a", False), ("1", False), ("_", False), ("-1", False)],
)
def test_an_id_is_not_found_in_others_that_begin_or_end_like_it(id_: str, *, found: bool) -> None:
    value = json.dumps(
        {"customer_id": "a1", "of": f"case.{ID}.x", "wallet": "wallet:a1", "kind": "top_up", "n": "b-11"}
    )
    assert topics.says(value.encode(), frozenset({id_, "another"})) == found


def test_of_no_id_nothing_is_told() -> None:
    done = run({}, ["trace", " "])
    assert (done.returncode, done.stdout) == (2, "")
    assert "Say of what" in done.stderr


# --- Tables ---

_ROWS = 8_000
_FILLED = {
    "transfer": """
        insert into account
            (account_id, customer_id, currency, tier, overdraft_limit_minor, version, used_on, opened_at, opening_hash,
             entry_count)
        select 'wallet:' || n, 'c' || n, 'CNY', 'standard', 0, 1, '2026-01-01', now(), '', n / 10
        from generate_series(1, {rows}) as n;
        update account set entry_count = {rows} where account_id = 'wallet:1';
        insert into account_event (account_id, version, type, body, occurred_at)
        select account_id, 1, 'account.opened', '', now() from account;
        insert into transfer
            (transfer_id, content_hash, kind, payer, payee, payer_customer_id, amount_minor, fee_minor, currency,
             status, requested_at, seq, event_type, event_body, occurred_at)
        select
            md5('t' || n)::uuid, '', 'p2p', 'wallet:1', 'wallet:2', 'c1', 1, 0, 'CNY', 'settled',
            '2026-01-01'::timestamptz + n * interval '1 second', 2, 'transfer.settled', '{{"transfer_id": "x"}}',
            '2026-01-01'::timestamptz + n * interval '1 second'
        from generate_series(1, {rows}) as n;
        insert into transfer_step (transfer_id, seq, type, body, occurred_at)
        select transfer_id, 1, 'transfer.scheduled', '{{"transfer_id": "x"}}', occurred_at from transfer;
        insert into movement
            (transfer_id, purpose, currency, amount_minor, debit_account, debit_number, debit_after_minor,
             credit_account, credit_number, credit_after_minor, moved_at)
        select
            md5('t' || n)::uuid, 'transfer', 'CNY', 1, 'wallet:1', n, 0, 'wallet:2', n, 0,
            '2026-01-01'::timestamptz + n * interval '1 second'
        from generate_series(1, {rows}) as n;
        insert into refund (refund_id, transfer_id, amount_minor, fee_minor, status, source_account, requested_at)
        select md5('r' || n)::uuid, md5('t' || n)::uuid, 1, 0, 'settled', 'wallet:1', now()
        from generate_series(1, {rows}) as n;
        insert into answer (scope, id, content_hash, occurred_at)
        select 'source:s' || n % 5, 'e' || n, '', now() from generate_series(1, {rows}) as n;
        insert into fee_waiver (compensation_id, customer_id, window_id, remaining, expires_at)
        select md5('w' || n)::uuid, 'c' || n, md5('x')::uuid, 1, now() from generate_series(1, {rows}) as n;
        insert into held_transfer (transfer_id, number, window_id, partition)
        select md5('t' || n)::uuid, n, md5('x' || n % 100)::uuid, n % 3 from generate_series(1, {rows}) as n;
        insert into timer (kind, subject, lane_group, partition, due_at)
        select case n % 2 when 0 then 'expire' else 'execute' end, md5('t' || n)::uuid::text, 'wallet', 0, now()
        from generate_series(1, {rows}) as n;
    """,
    "closure": """
        insert into customer (customer_id) select 'c' || n from generate_series(1, {rows}) as n;
        insert into wallet select 'wallet:' || n, 'c' || n, 'CNY', 'open', 1 from generate_series(1, {rows}) as n;
        insert into closing_case
            (case_id, content_hash, subject, received_at, customer_id, status, step_count, revision, event_type,
             event_body, accepts_fee, attempts, approved_by, reports, start_minor, balance_minor, fee_minor, payouts,
             payout_minor, paid_minor, paid_numbers, fee_paid_minor, fee_paid_number, erased_by, ended_at)
        select
            md5('k' || n)::uuid, '', 'wallet:' || n, now(), 'c' || n, 'rejected', 1, 1, 'closure.rejected', '', false,
            0, '[]', 0, 0, 0, 0, 0, 0, 0, '[]', 0, 0, '[]', now()
        from generate_series(1, {rows}) as n;
        insert into case_step (case_id, number, status, occurred_at)
        select case_id, 1, 'received', now() from closing_case;
        insert into answer (source, id, content_hash, occurred_at)
        select 's' || n % 5, 'e' || n, '', now() from generate_series(1, {rows}) as n;
    """,
    "maintenance": """
        insert into affected_customer (window_id, customer_id, compensation_id, granted_at, expires_at)
        select md5('x' || n % 100)::uuid, 'c' || n, md5('w' || n)::uuid, now(), now()
        from generate_series(1, {rows}) as n;
        insert into compensation_use
        select md5('w' || n)::uuid, md5('t' || n)::uuid from generate_series(1, {rows}) as n;
        insert into answer (source, id, content_hash, window_id, occurred_at)
        select 's' || n % 5, 'e' || n, '', md5('x')::uuid, now() from generate_series(1, {rows}) as n;
    """,
    "notify": """
        insert into announcement (event_id, type, accepted, accepted_at)
        select md5('t' || n)::uuid || '.1', 'transfer.settled', 1, now() from generate_series(1, {rows}) as n;
        insert into notice
            (notice_id, event_id, customer_id, channel, role, category, urgency, template, delivery_id, lane_group,
             partition, status, created_at, ended_at)
        select
            md5('n' || n)::uuid, md5('t' || n)::uuid || '.1', 'c' || n % 1000, 'email', 'payer', 'service', 'normal',
            'transfer.settled', md5('n' || n)::uuid, 'wallet', 0, 'sent', now(), now()
        from generate_series(1, {rows}) as n;
        insert into attempt (delivery_id, number, gateway, started_at, ended_at, outcome)
        select delivery_id, 1, 'mail', now(), now(), 'accepted' from notice;
    """,
}
_LARGE = (
    *("account", "account_event", "transfer", "transfer_step", "movement", "refund", "answer", "fee_waiver"),
    *("held_transfer", "timer", "customer", "wallet", "closing_case", "case_step", "affected_customer"),
    *("compensation_use", "announcement", "notice", "attempt"),
)
_UUID = uuid.UUID("acc16fc6-e48d-0bcb-cbd6-2ab1db1a9d4c")
_SAMPLES: dict[str, Any] = {
    "uuid": _UUID,
    "uuid[]": [_UUID],
    "text": "wallet:1",
    "text[]": [f"{_UUID}"],
    "int4": 5,
    "int8": 5,
    "timestamptz": datetime(2026, 1, 1, tzinfo=UTC),
}
"""An argument of each type."""

_RECORDS = {
    "transfer": (
        records._QUERIES,
        (
            *("transfer", "refund", "steps", "refunds_of_transfer", "movements_between_books", "first_entry_from"),
            *("movements_among", "find_transfers", "timers_of"),
        ),
    )
}


@pytest.fixture
async def filled(database: str) -> AsyncIterator[dict[str, Connection]]:
    """Connections to the schemas of all services, whose tables have so many rows that a scan costs more than a look."""
    connections = {}
    for schema, statements in _FILLED.items():
        connection = await asyncpg.connect(database, server_settings={"search_path": schema})
        await connection.execute(statements.format(rows=_ROWS))
        await connection.execute("analyze")
        connections[schema] = connection
    yield connections
    for connection in connections.values():
        await connection.close()


async def test_no_statement_of_a_trace_scans_a_large_table(filled: dict[str, Connection]) -> None:
    trails = {"transfer": transfer, "closure": closure, "maintenance": maintenance, "notify": notify}
    statements = [(schema, name, module.QUERIES[name]) for schema, module in trails.items() for name in module.QUERIES]
    statements += [(schema, name, texts[name]) for schema, (texts, names) in _RECORDS.items() for name in names]
    scans = {}
    for schema, name, text in statements:
        connection = filled[schema]
        types = [one.name for one in (await connection.prepare(text)).get_parameters()]
        rows = await connection.fetch(f"explain {text}", *(_SAMPLES[one] for one in types))
        plan = "\n".join(row[0] for row in rows)
        if found := [table for table in re.findall(r"Seq Scan on (\w+)", plan) if table in _LARGE]:
            scans[f"{schema}.{name}"] = found
    assert scans == {}
    # Nor do a transfer's entries have to be looked for in all of its wallet's.
    (id_,) = [row[0] for row in await filled["transfer"].fetch("select md5('t7777')::uuid")]
    record = await records.read_transfer(filled["transfer"], uuid.UUID(str(id_)))
    assert record is not None
    assert [(row["debit_number"], row["amount_minor"]) for row in record.movements] == [(7777, 1)]
