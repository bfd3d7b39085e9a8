"""What the insight service counts for Prometheus, in the worker's registry."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from services.runtime.metrics import REGISTRY

OUTCOMES = Counter(
    "sluice_transfer_outcomes",
    "Transfers that ended, by outcome, reason and bank, as far as they are told apart.",
    ["outcome", "reason", "bank"],
    registry=REGISTRY,
)
DELIVERIES = Counter(
    "sluice_notice_outcomes", "What became of notices.", ["gateway", "channel", "status"], registry=REGISTRY
)
UNREADABLE = Counter(
    "sluice_unreadable_records",
    "Records that are no message of their topic, and were passed over.",
    ["topic", "reason"],
    registry=REGISTRY,
)
FLAGGED = Counter("sluice_risk_flagged", "Flags raised.", ["rule"], registry=REGISTRY)
FLAGS = Gauge("sluice_risk_flags", "Flags in force.", registry=REGISTRY)
