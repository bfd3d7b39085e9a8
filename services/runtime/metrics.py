"""What a worker counts and measures, in a registry of its own; services add theirs to the same registry."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Iterator

REGISTRY = CollectorRegistry()

RECORDS = Counter("sluice_records", "Records consumed.", ["topic"], registry=REGISTRY)
BATCHES = Counter("sluice_batches", "Transactions committed.", registry=REGISTRY)
BATCH_SIZE = Histogram(
    "sluice_batch_size",
    "Records or timers a transaction.",
    buckets=(1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000),
    registry=REGISTRY,
)
STAGE_SECONDS = Histogram(
    "sluice_stage_seconds",
    "Time spent in each stage of a batch: fetch, decode, transaction, publish.",
    ["stage"],
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
    registry=REGISTRY,
)
for _name in ("fetch", "decode", "transaction", "publish"):
    # There from the start: a rate over a metric that appears later misses its first step.
    STAGE_SECONDS.labels(_name)
PUBLISHED = Counter("sluice_published", "Messages acknowledged by the brokers.", registry=REGISTRY)
EVENTS = Counter("sluice_events", "Messages recorded to be published, by type.", ["type"], registry=REGISTRY)
DEAD_LETTERS = Counter("sluice_dead_letters", "Records dead-lettered.", ["topic", "reason"], registry=REGISTRY)
UNEXPECTED = Counter("sluice_unexpected", "Messages and timers whose handling failed.", registry=REGISTRY)
TRANSIENT_RETRIES = Counter("sluice_transient_retries", "Transactions tried again.", ["error"], registry=REGISTRY)
SESSIONS_ENDED = Counter("sluice_sessions_ended", "Sessions ended, by reason.", ["reason"], registry=REGISTRY)
MIS_KEYED = Counter(
    "sluice_mis_keyed",
    "Messages whose key is not the one that the contract gives; the service's handlers decide and count.",
    ["topic"],
    registry=REGISTRY,
)
LAG = Gauge("sluice_lag", "Records not yet consumed.", ["topic", "partition"], registry=REGISTRY)
STOPPED = Gauge("sluice_stopped_partitions", "Partitions that wait for a gap's acceptance.", registry=REGISTRY)
GAP_SIZE = Gauge(
    "sluice_gap_size", "Records missing; -1 where nobody knows.", ["topic", "partition"], registry=REGISTRY
)
TIMERS_TAKEN = Counter("sluice_timers_taken", "Timers handled.", registry=REGISTRY)
TIMERS_PARKED = Gauge("sluice_timers_parked", "Timers put aside, in the whole service.", registry=REGISTRY)
TIMER_DELAY = Gauge("sluice_timer_delay_seconds", "How late the earliest timer of the lanes is.", registry=REGISTRY)
OUTBOX_AGE = Gauge("sluice_outbox_age_seconds", "Age of the oldest batch not yet published.", registry=REGISTRY)
BRAKED = Gauge("sluice_braked", "1 once the brake has stopped the consumer.", registry=REGISTRY)
PAUSED = Gauge("sluice_paused", "1 while a person has paused the service.", registry=REGISTRY)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Measure one stage of a batch."""
    started = time.perf_counter()
    try:
        yield
    finally:
        STAGE_SECONDS.labels(name).observe(time.perf_counter() - started)
