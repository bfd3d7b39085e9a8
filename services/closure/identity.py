"""Compares what an applicant says of themselves with what the identity system knows, by keyed hashes alone."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from stdnum.cn import ric
from stdnum.exceptions import ValidationError

from services.runtime.phones import normalise_phone

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from schemas.customer import CustomerProfile
    from schemas.reasons import ClosingCode
    from services.runtime.identity_hash import KeyedHashes

_OLD_LENGTH: Final = 15
_CENTURY: Final = "19"
_CHECK_WEIGHTS: Final = tuple(2 ** (17 - place) % 11 for place in range(17))
_CHECK_DIGITS: Final = "10X98765432"


@dataclass(frozen=True, slots=True)
class IdNumber:
    """A Chinese resident identity number in its one form: 18 characters, the last a digit or X."""

    text: str
    birth_date: date

    def age_on(self, day: date) -> int:
        """Return the age in whole years on a day."""
        has_birthday_to_come = (day.month, day.day) < (self.birth_date.month, self.birth_date.day)
        return day.year - self.birth_date.year - has_birthday_to_come


class ProfileHashes(NamedTuple):
    """What is kept of a profile: keyed hashes, and whether its phone was verified."""

    name_hash: bytes
    id_number_hash: bytes | None
    phone_hash: bytes | None
    phone_verified: bool


class Applicant(NamedTuple):
    """Who applies, in their own words."""

    name: str
    id_number: str
    phone: str


class Mismatch(NamedTuple):
    """One thing in an application that does not fit, and the field that it is in."""

    code: ClosingCode
    field: str


def parse_id_number(text: str) -> IdNumber | None:
    """Return a resident identity number in its one form; None for what is none.

    Spaces, dashes, width and the case of X make no difference; one of the 15 digits given out until 1999 becomes one
    of 18. The checksum and the date of birth must be right (GB 11643-1999).
    """
    folded = _fold_id_number(text)
    if len(folded) == _OLD_LENGTH and folded.isascii() and folded.isdigit():
        body = f"{folded[:6]}{_CENTURY}{folded[6:]}"
        folded = (
            body
            + _CHECK_DIGITS[
                sum(int(digit) * weight for digit, weight in zip(body, _CHECK_WEIGHTS, strict=True))
                % len(_CHECK_DIGITS)
            ]
        )
    try:
        number = ric.validate(folded)
        return IdNumber(number, ric.get_birth_date(number))
    except (ValidationError, ValueError):
        return None


def _fold_id_number(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).upper()
    return "".join(character for character in folded if character.isalnum())


def _one_form(text: str) -> str:
    number = parse_id_number(text)
    return _fold_id_number(text) if number is None else number.text


def hash_profile(profile: CustomerProfile, hashes: KeyedHashes) -> ProfileHashes:
    """Return what is kept of a profile; a number that is none is compared as it is written."""
    id_number = _one_form(profile.id_number) if profile.id_number else None
    phone = (normalise_phone(profile.phone) or profile.phone) if profile.phone else None
    return ProfileHashes(
        hashes.name(profile.name),
        None if id_number is None else hashes.id_number(id_number),
        None if phone is None else hashes.phone(phone),
        profile.phone_verified and phone is not None,
    )


def compare(applicant: Applicant, profile: ProfileHashes | None, hashes: KeyedHashes) -> list[Mismatch]:
    """Return everything about an applicant that does not fit their profile, each once."""
    return list(_mismatches(applicant, profile, hashes))


def _mismatches(applicant: Applicant, profile: ProfileHashes | None, hashes: KeyedHashes) -> Iterator[Mismatch]:
    number = parse_id_number(applicant.id_number)
    if number is None:
        yield Mismatch("id_number_invalid", "id_number")
    if profile is None:
        yield Mismatch("profile_missing", "customer_id")
        return
    if hashes.name(applicant.name) != profile.name_hash:
        yield Mismatch("name_mismatch", "name")
    if profile.id_number_hash is None:
        yield Mismatch("profile_missing", "id_number")
    elif number is not None and hashes.id_number(number.text) != profile.id_number_hash:
        yield Mismatch("id_number_mismatch", "id_number")
    if profile.phone_hash is None:
        yield Mismatch("profile_missing", "phone")
    elif hashes.phone(normalise_phone(applicant.phone) or applicant.phone) != profile.phone_hash:
        yield Mismatch("phone_mismatch", "phone")
    elif not profile.phone_verified:
        yield Mismatch("phone_unverified", "phone")
