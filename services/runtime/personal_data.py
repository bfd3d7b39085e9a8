"""Encryption of personal data: AES-GCM under a key per customer, which a master key wraps."""

from __future__ import annotations

import base64
import binascii
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
_NONCE_BYTES = 12


class PersonalDataError(Exception):
    """A key has the wrong form, or a text was not encrypted with this key for this use."""


def parse_master_key(text: str) -> bytes:
    """Return the 32 bytes of a base64 master key; PersonalDataError for any other text."""
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise PersonalDataError(f"a master key is {KEY_BYTES} random bytes in base64")
    return key


def new_key() -> bytes:
    """Return a fresh customer key of 32 bytes."""
    return AESGCM.generate_key(bit_length=KEY_BYTES * 8)


def encrypt(key: bytes, plain: bytes, associated: bytes) -> bytes:
    """Return nonce and ciphertext; `associated` (whose, which field) must be the same to decrypt."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, associated)


def decrypt(key: bytes, sealed: bytes, associated: bytes) -> bytes:
    """Return what was encrypted; PersonalDataError when key, text and associated data do not fit."""
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], associated)
    except (InvalidTag, ValueError):
        raise PersonalDataError("the text was not encrypted with this key for this use") from None


def wrap_key(master_key: bytes, key: bytes, customer_id: str) -> bytes:
    """Return the customer's key encrypted under the master key, bound to the customer."""
    return encrypt(master_key, key, b"customer-key:" + customer_id.encode())


def unwrap_key(master_key: bytes, wrapped: bytes, customer_id: str) -> bytes:
    """Return the customer's key; PersonalDataError when it was wrapped otherwise or for somebody else."""
    return decrypt(master_key, wrapped, b"customer-key:" + customer_id.encode())
