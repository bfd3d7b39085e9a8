"""A token opens the inbox that it was made for, until its time is over, and nothing else does."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest

from services.notify.inbox.tokens import NotGranted, check, issue

KEY = bytes(range(32))
NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
EXPIRY = NOW + timedelta(hours=1)
GOOD = issue(KEY, "customer-1", EXPIRY)


@pytest.mark.parametrize("customer_id", ["c", "customer-1", "客户", "x" * 128, "a.b/c:d e"])
def test_a_token_says_whose_inbox_and_until_when(customer_id: str) -> None:
    assert check(KEY, issue(KEY, customer_id, EXPIRY), NOW) == (customer_id, EXPIRY)


def _raw(token: str) -> bytes:
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _for_another_customer(token: str) -> str:
    return _text(_raw(token).replace(b"customer-1", b"customer-2"))


def _for_longer(token: str) -> str:
    raw = bytearray(_raw(token))
    raw[39] ^= 0xFF
    return _text(bytes(raw))


def _with_another_signature(token: str) -> str:
    raw = bytearray(_raw(token))
    raw[0] ^= 1
    return _text(bytes(raw))


def _signed_for_another_purpose(token: str) -> str:
    content = _raw(token)[32:]
    key = hmac.digest(KEY, b"sluice another purpose", hashlib.sha256)
    return _text(hmac.digest(key, content, hashlib.sha256) + content)


def _signed_with_the_master_key_itself(token: str) -> str:
    content = _raw(token)[32:]
    return _text(hmac.digest(KEY, content, hashlib.sha256) + content)


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (issue(KEY, "customer-1", NOW), "The token has expired."),
        (issue(KEY, "customer-1", NOW - timedelta(days=1)), "The token has expired."),
        (issue(bytes(32), "customer-1", EXPIRY), "The token is not genuine."),
        (_for_another_customer(GOOD), "The token is not genuine."),
        (_for_longer(GOOD), "The token is not genuine."),
        (_with_another_signature(GOOD), "The token is not genuine."),
        (_signed_for_another_purpose(GOOD), "The token is not genuine."),
        (_signed_with_the_master_key_itself(GOOD), "The token is not genuine."),
        (GOOD[:-4], "The token is not genuine."),
        (GOOD[:40], "The token is not genuine."),
        (GOOD + "AAAA", "The token is not genuine."),
        ("", "The token is not genuine."),
        ("not a token", "The token is not genuine."),
        ("代币", "The token is not genuine."),
        ("A" * 100_000, "The token is not genuine."),
    ],
)
def test_whatever_else_opens_nothing(token: str, why: str) -> None:
    with pytest.raises(NotGranted, match=why):
        check(KEY, token, NOW)
