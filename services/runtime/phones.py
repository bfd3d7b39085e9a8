"""Phone numbers in one form."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import phonenumbers

_HOME_REGION: Final = "CN"


@lru_cache(maxsize=4_096)
def normalise_phone(text: str) -> str | None:
    """Return a phone number in E.164 form, read as a Chinese one where it names no country; None for what is none."""
    try:
        number = phonenumbers.parse(text, _HOME_REGION)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
