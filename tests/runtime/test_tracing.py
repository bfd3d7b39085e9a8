"""Spans: of each batch and each message of a sampled trace, and what is published carries them on."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import ConsumerRecord

from schemas.envelope import encode_headers
from services.runtime.intake import Taken
from services.runtime.message import Lane, Message, Outgoing
from services.runtime.service import Subscription
from services.runtime.spans import Seldom, Spans
from services.runtime.topics import Place
from services.runtime.work import LetterPolicy, RecordWork
from tests.collector import Collector, collecting

if TYPE_CHECKING:
    from collections.abc import Iterator

LANE = Lane("toy", 0)
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{PARENT}-01"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as listening:
        yield listening


def message(traceparent: str | None, offset: int = 0, correlation: str = "c") -> Message:
    return Message(LANE, "toy.sums", offset, b"k", "toy.add", f"e{offset}", "test", None, correlation, traceparent)


def work(*messages: Message) -> RecordWork:
    records: Any = [
        ConsumerRecord("toy.sums", 0, one.offset, 1_790_000_000_000, 0, b"k", b"{}", None, 1, 2, ()) for one in messages
    ]

    async def handler(*_: object) -> Any:
        raise AssertionError

    taken = Taken(Subscription("toy", {}, handler), Place("toy.sums", 0), records, messages, ())
    return RecordWork([taken], LetterPolicy("toy", 1_000_000))


def outgoing(traceparent: str | None, correlation: str = "c", topic: str = "toy.events") -> Outgoing:
    headers = encode_headers(
        "toy.added", id="out", source="s", time="t", subject="s", correlation_id=correlation, traceparent=traceparent
    )
    return Outgoing(LANE, topic, b"k", b"{}", headers)


def traceparent_of(message: Outgoing) -> str:
    return (dict(message.headers)["traceparent"] or b"").decode()


def test_what_is_published_is_the_child_of_the_message_that_it_follows_from(collector: Collector) -> None:
    spans = Spans("toy", collector.endpoint, share=0)
    attempt = spans.begin(work(message(SAMPLED), message(None, 1)))
    (said,) = attempt.relate([outgoing(SAMPLED)])
    attempt.end()
    spans.close()
    (process,) = collector.of_trace(TRACE)
    assert (process.service, process.name, process.parent) == ("sluice-toy", "toy.add process", PARENT)
    assert traceparent_of(said) == f"00-{TRACE}-{process.id}-01"
    assert [name for name, _ in said.headers] == [name for name, _ in outgoing(SAMPLED).headers]
    (batch,) = [span for span in collector.spans if span.name == "batch"]
    assert (batch.links, batch.parent) == ({PARENT}, "")
    assert len(collector.spans) == 2


def test_what_a_timer_sends_has_a_span_of_its_own_in_the_kept_trace(collector: Collector) -> None:
    spans = Spans("toy", collector.endpoint, share=0)
    attempt = spans.begin(work(message(None)))
    (said,) = attempt.relate([outgoing(SAMPLED, correlation="of another")])
    attempt.end()
    spans.close()
    (publish,) = collector.of_trace(TRACE)
    assert (publish.name, publish.parent) == ("toy.added publish", PARENT)
    assert traceparent_of(said) == f"00-{TRACE}-{publish.id}-01"


def test_a_try_that_is_not_committed_leaves_no_span(collector: Collector) -> None:
    spans = Spans("toy", collector.endpoint, share=0)
    spans.begin(work(message(SAMPLED))).relate([outgoing(SAMPLED)])
    spans.close()
    assert collector.spans == []


@pytest.mark.parametrize(
    "kept",
    [
        outgoing(f"00-{TRACE}-{PARENT}-00"),
        outgoing("nonsense"),
        outgoing(f"00-{'0' * 32}-{PARENT}-01"),
        outgoing(None),
        outgoing(SAMPLED, topic="toy.sums.dlq"),
    ],
    ids=["not sampled", "broken", "of no trace", "none", "a dead letter"],
)
def test_what_is_not_sampled_is_carried_through_as_it_came(collector: Collector, kept: Outgoing) -> None:
    spans = Spans("toy", collector.endpoint, share=0)
    attempt = spans.begin(work(message(None)))
    assert attempt.relate([kept]) == [kept]
    spans.close()


def test_a_share_of_the_messages_without_a_trace_begin_one(collector: Collector) -> None:
    (taken,) = work(message(None), message(SAMPLED, 1)).parts
    spans = Spans("toy", collector.endpoint, share=1)
    begun, kept = spans.begin_traces(taken).messages
    assert kept.traceparent == SAMPLED
    spans.close()
    (root,) = collector.spans
    assert (root.name, root.parent) == ("toy.add receive", "")
    place, _, flags = (begun.traceparent or "").rpartition("-")
    assert (place, int(flags, 16) & 1) == (f"00-{root.trace}-{root.id}", 1)
    assert Spans("toy", collector.endpoint, share=0).begin_traces(taken).messages[0].traceparent is None


def test_a_collector_that_never_answers_keeps_no_worker_from_its_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        spans = Spans("toy", f"http://127.0.0.1:{silent.getsockname()[1]}", share=0)
        for _ in range(2_000):
            spans.begin(work(message(None))).end()
        began = time.monotonic()
        spans.close()
        assert time.monotonic() - began < 5


def test_a_collector_that_is_away_is_said_once_a_minute() -> None:
    seldom, said = Seldom(), []
    for at in (0, 1, 59, 60, 61, 300):
        record = logging.makeLogRecord({"created": at})
        said += [at] if seldom.filter(record) else []
    assert said == [0, 60, 300]


def test_without_a_collector_nothing_of_opentelemetry_is_loaded() -> None:
    load = "import sys, services.runtime.app, services.transfer.app, services.notify.app"
    seen = subprocess.run(
        [sys.executable, "-c", f"{load}; print([name for name in sys.modules if 'opentelemetry' in name])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert seen.stdout == "[]\n"
