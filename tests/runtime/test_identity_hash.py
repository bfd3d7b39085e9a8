"""Keyed hashes of names and numbers: spellings are equal, kinds and keys are not."""

from __future__ import annotations

import pytest

from services.runtime.identity_hash import KeyedHashes, fold
from services.runtime.phones import normalise_phone

HASHES = KeyedHashes(b"k" * 32)


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("欧阳·娜娜", "欧阳娜娜"),
        ("Li, Na", "lina"),
        ("ＬＩ\u3000ＮＡ", "lina"),
        ("+86 138-0000-0000", "8613800000000"),
        ("·, -", ""),
        ("Jose\u0301", "josé"),
        ("葛\U000e0100", "葛"),
    ],
)
def test_spellings_of_the_same_fold_to_the_same(text: str, folded: str) -> None:
    assert fold(text) == folded


@pytest.mark.parametrize(
    ("one", "other"),
    [("张\U00031350", "张"), ("张\U0002ebf0", "张\U0002ebf1"), ("张\ue000", "张\ue001"), ("བསོད་", "བསད་")],
    ids=["newer", "two newer", "of a font's own", "a vowel"],
)
def test_names_that_differ_by_a_rare_character_or_a_vowel_are_not_the_same(one: str, other: str) -> None:
    assert HASHES.name(one) != HASHES.name(other)


def test_names_have_the_hashes_that_they_have_had() -> None:
    assert HASHES.name("欧阳 娜娜").hex() == "58af2f32efea9de78eaddf0502d7768929a081c47557d0330a108ee2c6050551"


def test_kinds_and_keys_tell_hashes_of_one_text_apart() -> None:
    other = KeyedHashes(b"o" * 32)
    hashes = [(one.name("1"), one.phone("1"), one.id_number("1")) for one in (HASHES, other)]
    assert len({each for kinds in hashes for each in kinds}) == 6


def test_a_key_is_in_no_text_about_its_hashes() -> None:
    assert "kkk" not in repr(HASHES)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("13800000000", "+8613800000000"),
        ("+86 138-0000-0000", "+8613800000000"),
        ("0086 138 0000 0000", "+8613800000000"),
        ("１３８００００００００", "+8613800000000"),
        ("+44 20 7946 0958", "+442079460958"),
        ("1380000", None),
        ("none", None),
        ("", None),
    ],
)
def test_a_phone_number_has_one_form(text: str, number: str | None) -> None:
    assert normalise_phone(text) == number
