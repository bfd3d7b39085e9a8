"""The state of the whole system as metrics, made when they are asked for."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily

from ops.pausing import PAUSABLE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import Metric

    from ops.monitor.state import State


class StateMetrics:
    """What was read last of a running system; NaN says that it was not read yet."""

    def __init__(self, state: State) -> None:
        self._state = state

    def collect(self) -> Iterable[Metric]:
        """Yield a gauge for each figure."""
        state = self._state
        paused = GaugeMetricFamily(
            "sluice_group_paused", "1 while a person has paused the service of a group.", labels=["group"]
        )
        for service in PAUSABLE:
            paused.add_metric([f"{state.running.topic_prefix}sluice.{service}"], service in state.pauses)
        yield paused
        windows = GaugeMetricFamily(
            "sluice_windows_in_force",
            "Maintenance windows in force, drills not counted, by what they close; '*' is everything.",
            labels=["function", "bank"],
        )
        counts: dict[tuple[str, str], int] = {}
        for window in state.windows:
            for closed in window.closes():
                counts[closed] = counts.get(closed, 0) + 1
        for labels, count in sorted(counts.items()):
            windows.add_metric(labels, count)
        yield windows
        yield _one("sluice_refunds_overdue", "Payouts whose money should be back by now.", state.overdue)
        yield _one(
            "sluice_audit_broken_rules", "Rules that the last audit found broken: `sluice audit`.", state.broken_rules
        )
        yield _one("sluice_audit_age_seconds", "How long ago the last audit ended.", _age(state.audited_at))
        yield _one("sluice_audit_seconds", "How long the last audit took.", state.audit_took_s)
        yield _one("sluice_state_age_seconds", "How long ago the databases last told this.", _age(state.read_at))


def _one(name: str, text: str, value: float | None) -> Metric:
    return GaugeMetricFamily(name, text, value=math.nan if value is None else value)


def _age(at: float | None) -> float | None:
    return None if at is None else max(0.0, time.time() - at)
