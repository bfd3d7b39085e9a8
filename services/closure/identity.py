"""Compares what an applicant says of themselves with what the identity system knows, by keyed hashes alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from stdnum.cn import ric
from stdnum.exceptions import InvalidComponent

from services.runtime.identity_hash import fold
from services.runtime.phones import normalise_phone

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from schemas.customer import CustomerProfile
    from schemas.reasons import ClosingCode
    from services.runtime.identity_hash import KeyedHashes

_OF_TODAY: Final = re.compile(r"\d{17}[\dX]", re.ASCII)
_OF_BEFORE: Final = re.compile(r"\d{15}", re.ASCII)
"""Until 1999 a number had no century, which was always the 20th, and no check digit."""


@dataclass(frozen=True, slots=True)
class IdNumber:
    """A Chinese resident identity number in its one form: 18 characters, the last a digit or X."""

    text: str
    birth_date: date

    def age_on(self, day: date) -> int:
        """Return the age in whole years on a day; below 0 before the birth."""
        has_birthday_to_come = (day.month, day.day) < (self.birth_date.month, self.birth_date.day)
        return day.year - self.birth_date.year - has_birthday_to_come


class ProfileHashes(NamedTuple):
    """What is kept of a profile: keyed hashes, and whether its phone was verified; None for what it does not say."""

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
    of 18. The check digit and the date of birth must be right (GB 11643-1999). The region is not looked up: lists of
    them have gaps, and who was born before theirs got its number, or still has that of one that is gone, has it.
    """
    number = fold(text).upper()
    if _OF_BEFORE.fullmatch(number):
        number = f"{number[:6]}19{number[6:]}"
        # What it is called with ends in a check digit, whichever.
        number += ric.calc_check_digit(f"{number}0")
    if not _OF_TODAY.fullmatch(number) or number[-1] != ric.calc_check_digit(number):
        return None
    try:
        return IdNumber(number, ric.get_birth_date(number))
    except InvalidComponent:
        return None


def hash_profile(profile: CustomerProfile, hashes: KeyedHashes) -> ProfileHashes:
    """Return what is kept of a profile; an ID number that is none is still another, a phone that is none is missing."""
    phone = normalise_phone(profile.phone) if profile.phone else None
    return ProfileHashes(
        hashes.name(profile.name),
        None if profile.id_number is None else hashes.id_number(_one_form(profile.id_number)),
        None if phone is None else hashes.phone(phone),
        profile.phone_verified and phone is not None,
    )


def _one_form(text: str) -> str:
    number = parse_id_number(text)
    return fold(text).upper() if number is None else number.text


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
    yield from _phone_mismatches(applicant.phone, profile, hashes)


def _phone_mismatches(text: str, profile: ProfileHashes, hashes: KeyedHashes) -> Iterator[Mismatch]:
    if profile.phone_hash is None:
        yield Mismatch("profile_missing", "phone")
        return
    phone = normalise_phone(text)
    if phone is None or hashes.phone(phone) != profile.phone_hash:
        yield Mismatch("phone_mismatch", "phone")
    # Also beside the other, so that whoever mends that is not turned away once more.
    if not profile.phone_verified:
        yield Mismatch("phone_unverified", "phone")
