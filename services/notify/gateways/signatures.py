"""Signatures of HTTP requests: an HMAC of the time and the raw body, so that neither can be changed nor replayed."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

TIMESTAMP_HEADER: Final = "X-Timestamp"
SIGNATURE_HEADER: Final = "X-Signature"
LONGEST_AGE_S: Final = 300
"""A signed request older than this, or as far ahead, is refused: somebody may have kept it."""


class NotGenuine(Exception):
    """A request is not from who it says; nothing of it may be believed."""


class BadSignature(NotGenuine):
    """The signature is missing or is not made with the shared secret over this body and time."""


class StaleTimestamp(NotGenuine):
    """The signature is right, but of another time: the request is replayed, or a clock is wrong."""


def sign(secret: str, body: bytes, now: datetime) -> dict[str, str]:
    """Return the headers that sign a body: Unix seconds, and `sha256=` with the hex HMAC of seconds, dot and body."""
    timestamp = str(int(now.timestamp()))
    return {TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: _signature(secret, timestamp, body)}


def check_signature(secret: str, headers: Mapping[str, str], body: bytes, now: datetime) -> None:
    """Check a request's headers, their names in any case; raises BadSignature or StaleTimestamp."""
    lowered = {name.lower(): value for name, value in headers.items()}
    timestamp = lowered.get(TIMESTAMP_HEADER.lower(), "")
    signature = lowered.get(SIGNATURE_HEADER.lower(), "")
    if not (timestamp.isascii() and signature.isascii()):
        raise BadSignature("the signature is missing or wrong")
    if not hmac.compare_digest(_signature(secret, timestamp, body).encode(), signature.encode()):
        raise BadSignature("the signature is missing or wrong")
    # Only a genuine sender reaches this, so that a number which is none is a mistake and not an attack.
    if not timestamp.isdecimal() or abs(now.timestamp() - int(timestamp)) > LONGEST_AGE_S:
        raise StaleTimestamp(f"the timestamp {timestamp!r} is more than {LONGEST_AGE_S} s away")


def _signature(secret: str, timestamp: str, body: bytes) -> str:
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
