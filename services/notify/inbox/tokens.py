"""Tokens that say who may do what, and until when: signed, so that any worker can check them by itself."""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct
from datetime import UTC, datetime
from typing import Final, NamedTuple

READ: Final = b"sluice inbox token v1"
"""To read an inbox."""
UNSUBSCRIBE: Final = b"sluice unsubscribe token v1"
"""To want no marketing any more."""

_EXPIRY: Final = struct.Struct(">Q")
_SIGNATURE_BYTES: Final = hashlib.sha256().digest_size
_LONGEST: Final = 1_024


class Grant(NamedTuple):
    """Who may do it, and until when."""

    customer_id: str
    expires_at: datetime


class NotGranted(Exception):
    """A token opens nothing; the text says why in one sentence, and nothing of what the token holds."""


def issue(master_key: bytes, customer_id: str, expires_at: datetime, purpose: bytes = READ) -> str:
    """Return a token that lets that customer do one thing until then, in whole seconds of the world's time."""
    content = _EXPIRY.pack(int(expires_at.timestamp())) + customer_id.encode()
    return base64.urlsafe_b64encode(_sign(master_key, content, purpose) + content).rstrip(b"=").decode()


def check(master_key: bytes, token: str, now: datetime, purpose: bytes = READ) -> Grant:
    """Return what a token grants; NotGranted when it is not one of ours, was changed, or is over."""
    raw = _decode(token)
    signature, content = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
    if not hmac.compare_digest(_sign(master_key, content, purpose), signature):
        raise NotGranted("The token is not genuine.")
    # Only who holds the key could have written what follows.
    expires_s, customer_id = _EXPIRY.unpack_from(content)[0], content[_EXPIRY.size :].decode()
    if expires_s <= now.timestamp():
        raise NotGranted("The token has expired.")
    return Grant(customer_id, datetime.fromtimestamp(expires_s, UTC))


def _sign(master_key: bytes, content: bytes, purpose: bytes) -> bytes:
    key = hmac.digest(master_key, purpose, hashlib.sha256)
    return hmac.digest(key, content, hashlib.sha256)


def _decode(token: str) -> bytes:
    if len(token) > _LONGEST:
        raise NotGranted("The token is not genuine.")
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise NotGranted("The token is not genuine.") from None
    if len(raw) < _SIGNATURE_BYTES + _EXPIRY.size:
        raise NotGranted("The token is not genuine.")
    return raw
