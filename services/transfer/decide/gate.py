"""The gate: what is closed for maintenance at a moment, and which window closes a transfer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.transfer.model import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from typing import TypeAlias
    from uuid import UUID

    from services.transfer.model import ClosedWindow, Transfer

    _Key: TypeAlias = tuple[str, str | None, str | None]

_FUNCTIONS: Final[Mapping[str, str]] = {
    Kind.P2P: "transfer",
    Kind.WITHDRAWAL: "withdrawal",
    Kind.TOP_UP: "top_up",
}
"""What a window has to close for a transfer of a kind to be closed; fees and interest never are."""


class Gate:
    """The windows in force at a moment, by what they close: a transfer needs a few look-ups, however many there are.

    Whether anybody has a waiver or a flag is known with them, so that nobody's is looked for while there are none.
    """

    def __init__(
        self, windows: Iterable[ClosedWindow], now: datetime, *, has_waivers: bool = False, has_flags: bool = False
    ) -> None:
        self.has_waivers = has_waivers
        self.has_flags = has_flags
        self.closed: dict[UUID, ClosedWindow] = {}
        self._strictest: dict[_Key, ClosedWindow] = {}
        self._narrow: dict[tuple[str, str], list[ClosedWindow]] = {}
        for window in windows:
            if window.closes_at(now):
                self.closed[window.window_id] = window
                self._add(window)

    def _add(self, window: ClosedWindow) -> None:
        for function in window.functions:
            if window.banks and window.currencies:
                # Not by every pair of them: there may be thousands.
                for bank in window.banks:
                    self._narrow.setdefault((function, bank), []).append(window)
                continue
            keys: list[_Key] = [(function, bank, None) for bank in window.banks]
            keys += [(function, None, currency) for currency in window.currencies]
            for key in keys or [(function, None, None)]:
                known = self._strictest.get(key)
                self._strictest[key] = window if known is None else _stricter(known, window)

    def closing(self, transfer: Transfer, *, is_closings_own: bool = False) -> ClosedWindow | None:
        """Return the window that closes a transfer: one that rejects before one that holds, then the last to end."""
        function = function_of(transfer, is_closings_own=is_closings_own)
        if function is None:
            return None
        bank, currency = _bank_of(transfer), transfer.currency
        keys: list[_Key] = [(function, None, None), (function, None, currency)]
        found: list[ClosedWindow] = []
        if bank is not None:
            keys.append((function, bank, None))
            found = [window for window in self._narrow.get((function, bank), ()) if currency in window.currencies]
        found += [window for key in keys if (window := self._strictest.get(key)) is not None]
        return max(found, key=_strictness, default=None)


def function_of(transfer: Transfer, *, is_closings_own: bool) -> str | None:
    """Return what has to be closed for a transfer to be; None for what is never gated."""
    if transfer.kind == Kind.WITHDRAWAL and is_closings_own:
        return "closure_payout"
    return _FUNCTIONS.get(transfer.kind)


def _bank_of(transfer: Transfer) -> str | None:
    for party in (transfer.payer, transfer.payee):
        if party.startswith("bank:"):
            return party.split(":", 2)[1]
    return None


def _stricter(one: ClosedWindow, other: ClosedWindow) -> ClosedWindow:
    return max(one, other, key=_strictness)


def _strictness(window: ClosedWindow) -> tuple[bool, datetime, UUID]:
    return not window.holds, window.ends_at, window.window_id
