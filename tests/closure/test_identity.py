"""Who applies is who the customer is: every spelling of a number is the number, and every difference is named."""

from __future__ import annotations

from datetime import date
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.customer import CustomerProfile
from services.closure.identity import Applicant, ProfileHashes, compare, hash_profile, parse_id_number
from services.runtime.identity_hash import KeyedHashes

HASHES = KeyedHashes(b"k" * 32)
WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
CHECK_DIGITS = "10X98765432"
"""The weights and check digits of GB 11643-1999, by the remainder."""
WIDE = str.maketrans("0123456789Xx", "０１２３４５６７８９Ｘｘ")


def with_check_digit(digits: str) -> str:
    """Return 17 digits with the one that follows from them."""
    total = sum(weight * int(digit) for weight, digit in zip(WEIGHTS, digits, strict=True))
    return digits + CHECK_DIGITS[total % 11]


def number_of(region: int, born: date, order: int) -> str:
    """Return the number of nobody: no region's begins with 9."""
    return with_check_digit(f"9{region:05d}{born:%Y%m%d}{order:03d}")


REGIONS = st.integers(0, 99_999)
ORDERS = st.integers(0, 999)
BIRTHS = st.dates(date(1900, 1, 1), date(2030, 12, 31))
NUMBERS = st.builds(number_of, REGIONS, BIRTHS, ORDERS)
OLD_NUMBERS = st.builds(number_of, REGIONS, st.dates(date(1900, 1, 1), date(1999, 12, 31)), ORDERS)


@st.composite
def spelled(draw: st.DrawFn, text: str) -> str:
    """Return a text as somebody may type it: wide or narrow, in small letters, with spaces and dashes anywhere."""
    written = draw(st.sampled_from([text, text.lower(), text.translate(WIDE), text.lower().translate(WIDE)]))
    separators = st.sampled_from(["", "", "", " ", "-", "\u2013", "\u3000", "\u00a0", "\u200b", "\t"])
    return "".join(draw(separators) + character for character in written) + draw(separators)


# --- ID numbers ---

BORN = date(1949, 12, 31)
NUMBER = number_of(1, BORN, 2)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (NUMBER, NUMBER),
        (number_of(1, date(2000, 2, 29), 2), number_of(1, date(2000, 2, 29), 2)),
        # Regions that lists of them do not have, or not at that time, or not whole.
        (with_check_digit("11999919491231002"), with_check_digit("11999919491231002")),
        (with_check_digit("32058319491231002"), with_check_digit("32058319491231002")),
        (with_check_digit("90000119490229002"), None),
        (with_check_digit("90000119491331002"), None),
        (with_check_digit("90000100001231002"), None),
        (NUMBER[:-1], None),
        (NUMBER + "0", None),
        ("X" * 18, None),
        ("", None),
        ("护照 E00000000", None),
        ("٩" * 18, None),
        ("900001491231002", NUMBER),
        ("900001490229002", None),
        ("90000149123100X", None),
        ("90000149123100", None),
    ],
)
def test_a_number_is_one_by_its_digits_birth_date_and_check_digit(text: str, number: str | None) -> None:
    parsed = parse_id_number(text)
    assert (parsed.text if parsed else None) == number


@settings(deadline=None)
@given(number=NUMBERS, data=st.data())
def test_every_spelling_of_a_number_is_the_same(number: str, data: st.DataObject) -> None:
    parsed = parse_id_number(data.draw(spelled(number)))
    assert parsed is not None
    assert parsed.text == number
    assert f"{parsed.birth_date:%Y%m%d}" == number[6:14]


@settings(deadline=None)
@given(number=OLD_NUMBERS, data=st.data())
def test_an_old_number_is_the_one_that_replaced_it(number: str, data: st.DataObject) -> None:
    parsed = parse_id_number(data.draw(spelled(number[:6] + number[8:17])))
    assert parsed is not None
    assert parsed.text == number


@settings(deadline=None)
@given(number=NUMBERS, place=st.integers(0, 17), digit=st.sampled_from(CHECK_DIGITS))
def test_a_number_with_one_digit_changed_is_none(number: str, place: int, digit: str) -> None:
    changed = f"{number[:place]}{digit}{number[place + 1 :]}"
    assert (parse_id_number(changed) is not None) == (changed == number)


@settings(deadline=None)
@given(number=NUMBERS, place=st.integers(0, 16))
def test_a_number_with_two_neighbours_swapped_is_none(number: str, place: int) -> None:
    changed = f"{number[:place]}{number[place + 1]}{number[place]}{number[place + 2 :]}"
    assert (parse_id_number(changed) is not None) == (changed == number)


@pytest.mark.parametrize(
    ("born", "day", "age"),
    [
        (date(2000, 6, 15), date(2018, 6, 14), 17),
        (date(2000, 6, 15), date(2018, 6, 15), 18),
        (date(2000, 2, 29), date(2018, 2, 28), 17),
        (date(2000, 2, 29), date(2018, 3, 1), 18),
        (date(2000, 6, 15), date(2000, 6, 15), 0),
        (date(2000, 6, 15), date(1999, 12, 31), -1),
    ],
)
def test_an_age_counts_birthdays(born: date, day: date, age: int) -> None:
    number = parse_id_number(number_of(1, born, 2))
    assert number is not None
    assert number.age_on(day) == age


# --- Who applies ---


class Field(NamedTuple):
    """What a customer's profile says, spellings of the same, other values, and what is no value at all."""

    known: str
    same: tuple[str, ...]
    others: tuple[str, ...]
    none: tuple[str, ...]


NAME = Field("欧阳·娜娜", ("欧阳·娜娜", "欧阳 娜娜", "欧阳娜娜"), ("欧阳娜", "Ouyang Nana"), ())
ID_NUMBER = Field(
    NUMBER,
    (NUMBER, f"{NUMBER[:6]} {NUMBER[6:14]} {NUMBER[14:]}".translate(WIDE), "900001491231002"),
    (number_of(1, BORN, 4), number_of(2, BORN, 2)),
    (number_of(1, BORN, 2)[:-1], "E00000000"),
)
PHONE = Field(
    "+8613800000000",
    ("+8613800000000", "138-0000-0000", "0086 138 0000 0000"),
    ("+8613800000001", "+442079460958"),
    ("1380000", "none"),
)


def applicant(name: str = NAME.known, id_number: str = ID_NUMBER.known, phone: str = PHONE.known) -> Applicant:
    return Applicant(name=name, id_number=id_number, phone=phone)


def profile(**more: Any) -> ProfileHashes:
    known = {"name": NAME.known, "id_number": ID_NUMBER.known, "phone": PHONE.known, "phone_verified": True}
    return hash_profile(CustomerProfile.model_validate({"customer_id": "c", **known, **more}), HASHES)


@pytest.mark.parametrize(
    ("applies", "known", "differences"),
    [
        (applicant(), profile(), []),
        (applicant(name="欧阳娜"), profile(), [("name_mismatch", "name")]),
        (applicant(id_number="E00000000"), profile(), [("id_number_invalid", "id_number")]),
        (applicant(id_number=ID_NUMBER.others[0]), profile(), [("id_number_mismatch", "id_number")]),
        (applicant(phone=PHONE.others[0]), profile(), [("phone_mismatch", "phone")]),
        (applicant(phone="none"), profile(), [("phone_mismatch", "phone")]),
        (applicant(), profile(phone_verified=False), [("phone_unverified", "phone")]),
        (
            applicant(phone=PHONE.others[0]),
            profile(phone_verified=False),
            [("phone_mismatch", "phone"), ("phone_unverified", "phone")],
        ),
        (applicant(), None, [("profile_missing", "customer_id")]),
        (applicant(id_number="none"), None, [("id_number_invalid", "id_number"), ("profile_missing", "customer_id")]),
        (applicant(), profile(id_number=None), [("profile_missing", "id_number")]),
        (applicant(), profile(phone=None), [("profile_missing", "phone")]),
        (applicant(), profile(phone="none"), [("profile_missing", "phone")]),
        # An ID number of the profile that is none is another, and a passport's is compared with nothing.
        (applicant(), profile(id_number="E00000000"), [("id_number_mismatch", "id_number")]),
        (applicant(id_number="E00000000"), profile(id_number="E00000000"), [("id_number_invalid", "id_number")]),
    ],
)
def test_each_difference_has_a_code_and_a_field(
    applies: Applicant, known: ProfileHashes | None, differences: list[tuple[str, str]]
) -> None:
    assert [tuple(one) for one in compare(applies, known, HASHES)] == differences


@settings(deadline=None)
@given(data=st.data(), verified=st.booleans())
def test_exactly_what_differs_is_reported_all_at_once(data: st.DataObject, verified: bool) -> None:  # noqa: FBT001
    expected = set()
    said, kept = {}, {}
    codes = {
        "name": (NAME, "name_mismatch", "name_mismatch"),
        "id_number": (ID_NUMBER, "id_number_mismatch", "id_number_invalid"),
        "phone": (PHONE, "phone_mismatch", "phone_mismatch"),
    }
    for name, (field, other, none) in codes.items():
        ways = dict.fromkeys(field.same) | dict.fromkeys(field.others, other) | dict.fromkeys(field.none, none)
        said[name] = data.draw(st.sampled_from(sorted(ways)), label=name)
        is_known = name == "name" or data.draw(st.booleans(), label=f"{name} is known")
        kept[name] = data.draw(st.sampled_from(field.same), label=f"{name} of the profile") if is_known else None
        code = ways[said[name]]
        if code is not None and (is_known or code == "id_number_invalid"):
            expected.add((code, name))
        if not is_known:
            expected.add(("profile_missing", name))
    if kept["phone"] is not None and not verified:
        expected.add(("phone_unverified", "phone"))
    found = compare(applicant(**said), profile(**kept, phone_verified=verified), HASHES)
    assert sorted(map(tuple, found)) == sorted(expected)
