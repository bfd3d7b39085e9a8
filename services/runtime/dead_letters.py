"""Dead letters: records that no handler can take, kept with the reason as whole as the brokers take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from services.runtime.message import Outgoing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from services.runtime.message import Lane

SUFFIX = ".dlq"
REASONS = ("malformed", "unknown_type", "unexpected")
"""Every reason for which a record becomes a dead letter."""

REASON_HEADERS = (
    "dlq-reason",
    "dlq-detail",
    "dlq-service",
    "dlq-topic",
    "dlq-partition",
    "dlq-offset",
    "dlq-time",
)
"""What says why a record is a dead letter and what it was, in this order, behind the record's own headers."""

_DETAIL_LENGTH = 1_000
_RECORD_OVERHEAD = 100
_HEADER_OVERHEAD = 12
# A value that is cut keeps enough of itself to be recognised.
_CUT_VALUE_BYTES = 1_024


class Rejected(NamedTuple):
    """A record that can't be handled, and why."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    reason: str
    detail: str


def dead_letter(rejected: Rejected, lane: Lane, service: str, now: datetime, max_bytes: int) -> Outgoing:
    """Return the dead letter for a record: its own key, value and headers, and `dlq-` headers beside them.

    What would not fit into `max_bytes` loses its own headers first, then most of its value, then its key;
    `dlq-headers-dropped`, `dlq-value-bytes` and `dlq-key-bytes` tell how much there was.
    """
    letter = Outgoing(
        lane,
        rejected.topic + SUFFIX,
        rejected.key,
        rejected.value,
        [*rejected.headers, *_reason_headers(rejected, service, now)],
    )
    for shorten in (_without_headers, _without_value, _without_key):
        if message_bytes(letter) <= max_bytes:
            return letter
        letter = shorten(letter, len(rejected.headers))
    return letter


def _reason_headers(rejected: Rejected, service: str, now: datetime) -> list[tuple[str, bytes]]:
    said = (
        rejected.reason,
        rejected.detail[:_DETAIL_LENGTH],
        service,
        rejected.topic,
        str(rejected.partition),
        str(rejected.offset),
        now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    )
    return [(name, text.encode()) for name, text in zip(REASON_HEADERS, said, strict=True)]


def message_bytes(message: Outgoing) -> int:
    """Return at most how many bytes a message takes in a record batch of its own."""
    headers = sum(len(name) * 3 + len(value or b"") + _HEADER_OVERHEAD for name, value in message.headers)
    return _RECORD_OVERHEAD + len(message.key or b"") + len(message.value or b"") + headers


def _without_headers(letter: Outgoing, own: int) -> Outgoing:
    dropped = ("dlq-headers-dropped", str(own).encode())
    return letter._replace(headers=[*letter.headers[own:], dropped])


def _without_value(letter: Outgoing, _own: int) -> Outgoing:
    value = letter.value or b""
    size = ("dlq-value-bytes", str(len(value)).encode())
    return letter._replace(value=value[:_CUT_VALUE_BYTES], headers=[*letter.headers, size])


def _without_key(letter: Outgoing, _own: int) -> Outgoing:
    size = ("dlq-key-bytes", str(len(letter.key or b"")).encode())
    return letter._replace(key=None, headers=[*letter.headers, size])
