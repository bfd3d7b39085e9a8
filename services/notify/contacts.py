"""How a person can be reached: addresses checked and brought into one form, and kept only encrypted."""

from __future__ import annotations

import hashlib
import hmac
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson
from email_validator import EmailNotValidError, validate_email

from services.runtime.personal_data import decrypt, encrypt
from services.runtime.phones import normalise_phone

if TYPE_CHECKING:
    from schemas.customer import CustomerProfile

_NO_BYTES: Final = b""


class Reach(StrEnum):
    """Whether an address may be used; the value of each but `good` is why not."""

    GOOD = "good"
    MISSING = "no_address"
    UNVERIFIED = "unverified"
    INVALID = "address_invalid"
    DEAD = "address_dead"


class Contacts(NamedTuple):
    """A person's name and addresses, each in one form: the phone as E.164 has it, the mail address as servers do."""

    name: str
    phone: str | None
    email: str | None


def read_contacts(profile: CustomerProfile) -> tuple[Contacts, Reach, Reach]:
    """Return a profile's contacts in one form, and whether its phone and its mail address may be used."""
    phone, phone_reach = _read_phone(profile.phone, is_verified=profile.phone_verified)
    email, email_reach = _read_email(profile.email)
    return Contacts(profile.name, phone, email), phone_reach, email_reach


def _read_phone(text: str | None, *, is_verified: bool) -> tuple[str | None, Reach]:
    if not text or not text.strip():
        return None, Reach.MISSING
    number = normalise_phone(text)
    if number is None:
        return None, Reach.INVALID
    return number, Reach.GOOD if is_verified else Reach.UNVERIFIED


def _read_email(text: str | None) -> tuple[str | None, Reach]:
    if not text or not text.strip():
        return None, Reach.MISSING
    address = normalise_email(text)
    return address, Reach.INVALID if address is None else Reach.GOOD


@lru_cache(maxsize=4_096)
def normalise_email(text: str) -> str | None:
    """Return a mail address as servers write it; None for what is none."""
    try:
        # Whether the domain takes mail is found out by sending: a lookup here would wait for others' name servers.
        return validate_email(text.strip(), check_deliverability=False, test_environment=True).normalized
    except EmailNotValidError:
        return None


def seal_contacts(key: bytes, customer_id: str, contacts: Contacts) -> bytes:
    """Return the contacts encrypted under the customer's key."""
    return encrypt(key, orjson.dumps(contacts._asdict()), _contacts_of(customer_id))


def open_contacts(key: bytes, customer_id: str, sealed: bytes) -> Contacts:
    """Return sealed contacts; PersonalDataError where the key is another."""
    return Contacts(**orjson.loads(decrypt(key, sealed, _contacts_of(customer_id))))


def _contacts_of(customer_id: str) -> bytes:
    return f"contacts:{customer_id}".encode()


def hash_address(master_key: bytes, address: str | None) -> bytes:
    """Return a keyed hash by which uses of one address are counted without keeping it; no bytes for no address."""
    if address is None:
        return _NO_BYTES
    return hmac.digest(master_key, b"address:" + address.encode(), hashlib.sha256)
