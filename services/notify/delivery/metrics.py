"""What the notifier's workers count of their gateways, at the runtime's `/metrics`."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from services.runtime.metrics import REGISTRY

GATEWAY_WEIGHT = Gauge(
    "sluice_gateway_weight",
    "What a gateway is given by this worker: 1 all it can take, halved with each call that fails or is slow.",
    ["gateway"],
    registry=REGISTRY,
)
GATEWAY_ANSWERS = Counter(
    "sluice_gateway_answers", "What gateways answered, message by message.", ["gateway", "outcome"], registry=REGISTRY
)
