"""Whether spans are sent: off unless a setting names a collector, and then nothing of OpenTelemetry is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.runtime.intake import Taken
    from services.runtime.message import Outgoing
    from services.runtime.settings import RuntimeSettings
    from services.runtime.work import Work


class Handling(Protocol):
    """One try to handle a batch: its spans are sent only if it is committed."""

    def relate(self, outgoing: Sequence[Outgoing]) -> Sequence[Outgoing]:
        """Return what is published with the contexts of the spans in which it was made."""

    def end(self) -> None:
        """End the spans: the batch is committed."""


class Tracing(Protocol):
    """Makes spans of messages and batches."""

    def begin_traces(self, taken: Taken) -> Taken:
        """Return records with traces begun for a share of the messages that came without one."""

    def begin(self, work: Work) -> Handling:
        """Begin the spans of one try to handle a batch."""

    def close(self) -> None:
        """Send what is left, within seconds; blocks."""


def start_tracing(settings: RuntimeSettings, service: str) -> Tracing | None:
    """Return what makes spans; None where no collector is named."""
    if settings.otel_exporter_otlp_endpoint is None:
        return None
    from services.runtime.spans import Spans

    return Spans(service, settings.otel_exporter_otlp_endpoint, settings.otel_traces_sampler_arg)
