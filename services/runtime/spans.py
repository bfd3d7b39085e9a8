"""Spans of messages and batches, sent to a collector by OTLP over HTTP; imported only where one is named."""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from typing import TYPE_CHECKING, Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    set_span_in_context,
)

from schemas.envelope import short_type
from services.runtime.dead_letters import SUFFIX
from services.runtime.message import Cause

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.trace import Tracer

    from services.runtime.intake import Taken
    from services.runtime.message import Message, Outgoing
    from services.runtime.work import Work

_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_HEADER: Final = "traceparent"
_EXPORT_WITHIN_S: Final = 3
_CLOSE_WITHIN_S: Final = 3.0
_SAY_AGAIN_AFTER_S: Final = 60.0


class Seldom(logging.Filter):
    """Lets one line a minute pass: a collector that does not answer is one thing to know, not one a batch."""

    def __init__(self) -> None:
        super().__init__()
        self._said_at = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line is said, by its own time."""
        if record.created - self._said_at < _SAY_AGAIN_AFTER_S:
            return False
        self._said_at = record.created
        return True


_EXPORTER_LOG: Final = logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter")
_SELDOM: Final = Seldom()


class Spans:
    """Makes spans: one a batch, one a message of a trace that is sampled, one a message that a timer sends."""

    def __init__(self, service: str, endpoint: str, share: float) -> None:
        _EXPORTER_LOG.addFilter(_SELDOM)
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=_EXPORT_WITHIN_S)
        # What begins a trace here is chosen here; whoever began another has chosen for it.
        self._provider = TracerProvider(
            sampler=ParentBased(ALWAYS_ON),
            resource=Resource.create({"service.name": f"sluice-{service}"}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("sluice.runtime")
        self._share = share

    def begin_traces(self, taken: Taken) -> Taken:
        """Return records with traces begun for a share of the messages that came without one."""
        written = {record.offset: int(record.timestamp) * 1_000_000 for record in taken.records}
        return taken.with_messages([self._with_trace(one, written[one.offset]) for one in taken.messages])

    def _with_trace(self, message: Message, written_ns: int) -> Message:
        if _context_of(message.traceparent) is not None or random.random() >= self._share:  # noqa: S311 - a sample
            return message
        span = self._tracer.start_span(
            f"{message.type} receive",
            context=Context(),
            kind=SpanKind.CLIENT,
            start_time=written_ns,
            attributes={"messaging.system": "kafka", "messaging.destination.name": message.topic},
        )
        span.end()
        return message._replace(traceparent=_text_of(span.get_span_context()))

    def begin(self, work: Work) -> Attempt:
        """Begin the spans of one try to handle a batch."""
        return Attempt(self._tracer, work)

    def close(self) -> None:
        """Send what is left, within seconds; blocks."""
        # Neither its flushing nor its end keeps to a time: what a slow collector has not taken by then is given up.
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(_CLOSE_WITHIN_S)


class Attempt:
    """One try to handle a batch: its spans are sent only if it is committed."""

    def __init__(self, tracer: Tracer, work: Work) -> None:
        self._tracer = tracer
        self._work = work
        self._started_ns = time.time_ns()
        self._links: list[Link] = []
        self._of_messages: dict[Cause, Span] = {}
        self._spans: list[Span] = []
        for message in work.messages:
            if (context := _sampled(message.traceparent)) is not None:
                self._links.append(Link(context))
                span = self._start(f"{message.type} process", context, SpanKind.CONSUMER, message.topic, message.id)
                self._of_messages[Cause.of(message)] = span

    def _start(self, name: str, parent: SpanContext, kind: SpanKind, topic: str, id_: str) -> Span:
        span = self._tracer.start_span(
            name,
            context=set_span_in_context(NonRecordingSpan(parent), Context()),
            kind=kind,
            start_time=self._started_ns,
            attributes={
                "messaging.system": "kafka",
                "messaging.destination.name": topic,
                "messaging.message.id": id_,
            },
        )
        self._spans.append(span)
        return span

    def relate(self, outgoing: Sequence[Outgoing]) -> Sequence[Outgoing]:
        """Return what is published with the contexts of the spans in which it was made.

        What follows from a message of this batch is the child of its span; what a timer sends has a span of its own
        in the trace that the timer's subject has kept. A dead letter keeps its headers.
        """
        return [self._related(one) for one in outgoing]

    def _related(self, message: Outgoing) -> Outgoing:
        headers = dict(message.headers)
        traceparent, correlation = headers.get(_HEADER), headers.get("ce_correlationid")
        if traceparent is None or message.topic.endswith(SUFFIX):
            return message
        cause = Cause(None if correlation is None else correlation.decode(), traceparent.decode("ascii", "replace"))
        parent = _sampled(cause.traceparent)
        if parent is None:
            return message
        span = self._of_messages.get(cause)
        if span is None:
            type_, id_ = short_type((headers.get("ce_type") or b"").decode()), (headers.get("ce_id") or b"").decode()
            span = self._start(f"{type_} publish", parent, SpanKind.PRODUCER, message.topic, id_)
        said = _text_of(span.get_span_context()).encode()
        return message._replace(headers=[(name, said if name == _HEADER else value) for name, value in message.headers])

    def end(self) -> None:
        """End the spans: the batch is committed."""
        ended_ns = time.time_ns()
        for span in self._spans:
            span.end(ended_ns)
        batch = self._tracer.start_span(
            "batch",
            context=Context(),
            links=self._links,
            start_time=self._started_ns,
            attributes={
                "messaging.system": "kafka",
                "messaging.batch.message_count": self._work.size,
                "sluice.lanes": [f"{lane.group}/{lane.partition}" for lane in self._work.lanes],
            },
        )
        batch.end(ended_ns)


def _context_of(traceparent: str | None) -> SpanContext | None:
    found = _TRACEPARENT.fullmatch(traceparent or "")
    if found is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in found.groups())
    context = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return context if context.is_valid else None


def _sampled(traceparent: str | None) -> SpanContext | None:
    context = _context_of(traceparent)
    return context if context is not None and context.trace_flags.sampled else None


def _text_of(context: SpanContext) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
