"""Logs tell what happened without telling to whom."""

from __future__ import annotations

import time

import pytest

from services.runtime.log import mask, mask_text, summarise


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("pays wallet:6222021234567890 now", "pays wallet:***7890 now"),
        ("bank:ICBC:6222021234567890", "bank:ICBC:***7890"),
        ("wallet:abc", "wallet:***"),
        ("call 13812345678", "call ***"),
        ("call +86 138-1234-5678 or 138 1234 5678", "call *** or ***"),
        ("id 11010519491231002X", "id ***"),
        ("id 110105 19491231 002X or 110105-19491231-002x", "id *** or ***"),
        ("mail zhang.san+x@example.com.cn!", "mail ***!"),
        ("mails a@b@example.com, c@d.e+f@g.h, nobody@localhost", "mails a@***, ******, nobody@localhost"),
        ("card 6222021234567890", "card ***7890"),
        ("0b8f9a52-1c1e-4b7e-9d1f-123456789012", "0b8f9a52-1c1e-4b7e-9d1f-123456789012"),
        ("offset 12345678", "offset 12345678"),
    ],
)
def test_texts_lose_account_numbers_and_personal_data(text: str, masked: str) -> None:
    assert mask_text(text) == masked


@pytest.mark.parametrize("repeated", ["a", "1", "_", ".", "a@", "@a."])
def test_a_long_text_is_masked_as_fast_as_it_is_read(repeated: str) -> None:
    began = time.process_time()
    mask_text(repeated * (60_000 // len(repeated)) + "@")
    assert time.process_time() - began < 3


def test_personal_fields_are_masked_whatever_they_hold_and_however_deep() -> None:
    event = {
        "event": "seen",
        "phone": "n/a",
        "data": {"payee_name": "张三", "email": None, "lines": [{"id_number": 1}, "wallet:6222021234567890"]},
        "wallet:6222021234567890": 1,
        "offset": 12345678901234,
    }
    assert mask(None, "info", event) == {
        "event": "seen",
        "phone": "***",
        "data": {"payee_name": "***", "email": None, "lines": [{"id_number": "***"}, "wallet:***7890"]},
        "wallet:***7890": 1,
        "offset": 12345678901234,
    }


def test_an_exception_is_told_by_its_types_and_places_without_its_text() -> None:
    try:
        try:
            raise KeyError("Zhang San")
        except KeyError as cause:
            raise ValueError("13812345678") from cause
    except ValueError as error:
        text = summarise(error)
    assert text.startswith("ValueError from KeyError at runtime/test_log.py:")
    assert "Zhang" not in text
    assert "138" not in text
