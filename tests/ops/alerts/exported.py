"""Every metric that some page of the system shows."""

from __future__ import annotations

from ops.lag.metrics import LAG_NAMES
from ops.monitor.metrics import StateMetrics
from ops.monitor.state import State
from ops.running import Running
from services.insight import metrics as insight
from services.notify.delivery import metrics as notify
from services.runtime.metrics import REGISTRY

assert notify.REGISTRY is insight.REGISTRY is REGISTRY


def exported_names() -> set[str]:
    """Return every name that a `/metrics` page shows, those of series that have no value yet too."""
    names = set(LAG_NAMES)
    for family in (*REGISTRY.collect(), *StateMetrics(State(Running("", "", "", "real"))).collect()):
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count", "")}.get(family.type, ("",))
        names |= {family.name + suffix for suffix in suffixes}
    return names
