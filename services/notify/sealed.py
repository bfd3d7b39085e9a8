"""What is kept of people's messages, encrypted under each customer's key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import orjson

from services.notify.model import Text
from services.runtime.personal_data import decrypt, encrypt, unwrap_key

if TYPE_CHECKING:
    from uuid import UUID

    from services.notify.model import Customer

_MOST_KEYS: Final = 20_000


@dataclass(slots=True)
class Keys:
    """Customers' keys, unwrapped; the latest are kept, because a batch needs each more than once."""

    master_key: bytes
    _unwrapped: dict[bytes, bytes] = field(default_factory=dict)

    def of(self, customer: Customer) -> bytes:
        """Return a customer's key; KeyError for a customer who has none any more."""
        if customer.wrapped_key is None:
            raise KeyError(customer.customer_id)
        return self.unwrap(customer.customer_id, customer.wrapped_key)

    def unwrap(self, customer_id: str, wrapped: bytes) -> bytes:
        """Return a key of a customer; PersonalDataError where it was wrapped by another master key."""
        key = self._unwrapped.get(wrapped)
        if key is None:
            if len(self._unwrapped) >= _MOST_KEYS:
                self._unwrapped.clear()
            key = self._unwrapped[wrapped] = unwrap_key(self.master_key, wrapped, customer_id)
        return key


def seal_text(key: bytes, id_: UUID, locale: str, text: Text) -> bytes:
    """Return what a person reads, and in which language, encrypted for the notice or delivery of that id."""
    return encrypt(key, orjson.dumps([locale, *text]), b"text:" + id_.bytes)


def open_text(key: bytes, id_: UUID, sealed: bytes) -> tuple[str, Text]:
    """Return a sealed text and its language; PersonalDataError where key or id are others."""
    locale, title, body = orjson.loads(decrypt(key, sealed, b"text:" + id_.bytes))
    return locale, Text(title, body)


def seal_event(key: bytes, notice_id: UUID, body: bytes) -> bytes:
    """Return the event that a waiting notice will tell, encrypted."""
    return encrypt(key, body, b"event:" + notice_id.bytes)


def open_event(key: bytes, notice_id: UUID, sealed: bytes) -> bytes:
    """Return a sealed event; PersonalDataError where key or notice are others."""
    return decrypt(key, sealed, b"event:" + notice_id.bytes)
