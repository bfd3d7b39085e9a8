"""Whom a broadcast reaches: as a request says, or by what an event closes and whose that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from schemas.closure import ClearanceAnnounced
from schemas.maintenance import SurveyRequested, WindowEvent, WindowScheduled

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.notify import Audience

_CLOSING_PAYOUT: Final = "closure_payout"


class Reached(NamedTuple):
    """A kind of audience with its values, in these currencies alone if there are any; and who is listed.

    The values of `bank` are banks with one of which money was moved, those of `holders` how their wallets stand.
    """

    kind: str
    values: tuple[str, ...] = ()
    currencies: tuple[str, ...] = ()
    customers: tuple[str, ...] = ()
    wallets: tuple[str, ...] = ()


def asked_for(audience: Audience) -> Reached:
    """Return whom a request is for."""
    if audience.customers is not None:
        return Reached("customers", customers=audience.customers)
    named = {"bank": audience.bank, "tier": audience.tier, "locale": audience.locale}
    return next((Reached(kind, (value,)) for kind, value in named.items() if value is not None), Reached("all"))


def concerned_by(data: Any) -> Reached | None:
    """Return whom an event concerns; None for rehearsals, and for what does not concern many."""
    if isinstance(data, WindowEvent):
        # Of what starts at once only the start is told, which follows.
        is_no_news = isinstance(data, WindowScheduled) and data.starts_at <= data.occurred_at
        return None if data.drill or is_no_news else _concerned_by_window(data)
    if isinstance(data, ClearanceAnnounced) and not data.dry_run:
        named = () if data.subjects == "all" else data.subjects
        return Reached("customers", wallets=named) if named else Reached("holders", ("open", "closing"))
    return None


def told_about(data: Any) -> tuple[str, int] | None:
    """Return which window or clearance an event tells as it is now, and the revision; a survey tells nothing of one."""
    if isinstance(data, WindowEvent) and not isinstance(data, SurveyRequested):
        return str(data.window_id), data.revision
    if isinstance(data, ClearanceAnnounced):
        return str(data.clearance_id), data.revision
    return None


def _concerned_by_window(window: WindowEvent) -> Reached:
    banks, currencies = _each_once(window.scope.banks), _each_once(window.scope.currencies)
    if set(window.functions) == {_CLOSING_PAYOUT}:
        return Reached("holders", ("closing",), currencies)
    if banks:
        return Reached("bank", banks, currencies)
    if currencies:
        return Reached("holders", ("open", "closing") if _CLOSING_PAYOUT in window.functions else ("open",), currencies)
    return Reached("all")


def _each_once(named: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(named))
