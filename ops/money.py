"""Amounts as people read them."""

from __future__ import annotations

from decimal import Decimal

from babel.numbers import get_currency_precision


def amount_text(minor: int, currency: str, *, signed: bool = False) -> str:
    """Return `1,234.50 CNY` for 123450 minor units of CNY; with `signed` a plus for what comes in."""
    digits = get_currency_precision(currency)
    amount = Decimal(minor).scaleb(-digits)
    return f"{amount:{'+' if signed else ''},.{digits}f} {currency}"
