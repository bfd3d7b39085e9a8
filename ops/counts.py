"""Counts as people read them."""

from __future__ import annotations


def count_text(count: int, one: str, many: str | None = None) -> str:
    """Return `1 wallet`, `2 wallets`, or with `many` as `1,000 entries`."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
