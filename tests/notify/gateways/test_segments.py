"""How texts are cut into SMS, by the tables of 3GPP TS 23.038."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notify.gateways.segments import Alphabet, count_segments, split_text

GSM, UCS = Alphabet.GSM_7, Alphabet.UCS_2


@pytest.mark.parametrize(
    ("text", "alphabet", "count"),
    [
        ("", GSM, 1),
        ("a" * 160, GSM, 1),
        ("a" * 161, GSM, 2),
        ("a" * 306, GSM, 2),
        ("a" * 307, GSM, 3),
        ("@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ", GSM, 1),
        ("€" * 80, GSM, 1),
        ("€" * 81, GSM, 2),
        # 76 of them are 152 septets: the next would be cut in two.
        ("€" * 152, GSM, 2),
        ("€" * 153, GSM, 3),
        ("`", UCS, 1),
        ("ç", UCS, 1),
        ("汉" * 70, UCS, 1),
        ("汉" * 71, UCS, 2),
        ("汉" * 134, UCS, 2),
        ("汉" * 135, UCS, 3),
        ("a" * 69 + "汉", UCS, 1),
        ("😀" * 35, UCS, 1),
        ("😀" * 36, UCS, 2),
        ("😀" * 67, UCS, 3),
    ],
)
def test_a_text_takes_as_many_segments_as_an_operator_bills(text: str, alphabet: Alphabet, count: int) -> None:
    assert (split_text(text).alphabet, count_segments(text)) == (alphabet, count)


@given(st.text(alphabet="ab€{汉😀", max_size=500))
def test_parts_are_the_text_and_each_fits(text: str) -> None:
    alphabet, parts = split_text(text)
    assert "".join(parts) == text
    room = {GSM: (160, 153), UCS: (70, 67)}[alphabet][len(parts) > 1]
    for part in parts:
        length = len(part) + sum(map(part.count, "€{")) if alphabet is GSM else len(part.encode("utf-16-be")) // 2
        assert length <= room
