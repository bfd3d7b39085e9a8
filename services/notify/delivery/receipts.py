"""Matches what gateways say by themselves with our attempts, whichever comes first."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

from services.notify.delivery import store
from services.notify.delivery.decide import after_receipt
from services.notify.delivery.store import Advance, Early, Ending, Out
from services.notify.gateways.gateway import Outcome
from services.notify.gateways.quoting import kept_code
from services.runtime.message import Effects, Timer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from services.runtime.database import Connection
    from services.runtime.message import Batch, Lane, Message

MATCH_TIMER: Final = "match"
"""A receipt came before its attempt was recorded; the subject is the gateway and its id, on two lines."""

_OUTCOMES: Final = {
    "message.delivered": Outcome.DELIVERED,
    "message.failed": Outcome.PERMANENT,
    "message.expired": Outcome.PERMANENT,
}
_REFERENCE: Final = re.compile(
    r"(?P<delivery>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\.(?P<number>[1-9]\d{0,8})"
)
_MATCH_AGAIN: Final = timedelta(seconds=2)
_MATCH_SELDOM: Final = timedelta(hours=1)
_KEPT: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Said:
    """A receipt, the attempt that it names by our reference if it does, and the lane that it came on."""

    receipt: Early
    ours: tuple[UUID, int] | None
    lane: Lane


async def on_receipts(connection: Connection, batch: Batch, now: datetime) -> Effects:
    """Record what became of messages; what is about none that is known yet is kept, and looked at again."""
    if batch.timers:
        return await _match_kept(connection, batch.timers, now)
    said = [_read(message) for message in batch.messages]
    found = await _find(connection, said)
    kept = await store.keep_receipts(connection, list({_name(one): one.receipt for one in found.others}.values()), now)
    await _apply(connection, found, now)
    return Effects(timers_set=[_match_later(one, now, now) for one in found.others if _name(one) in kept])


async def _match_kept(connection: Connection, timers: Sequence[Timer], now: datetime) -> Effects:
    lanes = {_parse_subject(timer.subject): timer.lane for timer in timers}
    early = await store.load_early_receipts(connection, list(lanes))
    said = [_Said(receipt, None, lanes[receipt.gateway, receipt.provider_message_id]) for receipt, _ in early]
    too_old = {(receipt.gateway, receipt.provider_message_id) for receipt, came in early if now - came > _KEPT}
    found = await _find(connection, said)
    kept = [one for one in found.others if _name(one) not in too_old]
    left = {_name(one) for one in kept}
    await store.take_early_receipts(connection, [name for one in said if (name := _name(one)) not in left])
    await _apply(connection, found, now)
    since = {(receipt.gateway, receipt.provider_message_id): came for receipt, came in early}
    return Effects(timers_set=[_match_later(one, now, since[_name(one)]) for one in kept])


class _Found(NamedTuple):
    """The latest receipt of each attempt that is known, the messages still out, locked, and the other receipts."""

    latest: Mapping[tuple[UUID, int], Early]
    out: Mapping[UUID, Out]
    others: Sequence[_Said]


async def _find(connection: Connection, said: Sequence[_Said]) -> _Found:
    attempts = await store.find_attempts(connection, [(one.receipt, one.ours) for one in said])
    # Of several about one attempt the last counts.
    latest = {attempt: said[place].receipt for place, attempt in sorted(attempts.items())}
    out = await store.lock(connection, {delivery_id for delivery_id, _ in latest})
    return _Found(latest, out, [one for place, one in enumerate(said) if place not in attempts])


async def _apply(connection: Connection, found: _Found, now: datetime) -> None:
    """Record the receipts whose attempts are known."""
    endings: list[Ending] = []
    advances: dict[UUID, Advance] = {}
    for attempt, receipt in found.latest.items():
        ending, advance = after_receipt(attempt, receipt)
        endings.append(ending)
        if _counts(attempt, receipt, found.out):
            advances.setdefault(attempt[0], advance)
    await store.record(connection, now, endings=endings, finished=list(advances), advances=list(advances.values()))


def _counts(attempt: tuple[UUID, int], receipt: Early, out: Mapping[UUID, Out]) -> bool:
    """Tell whether a receipt ends its message: not where an earlier attempt failed, and a later one is on its way."""
    found = out.get(attempt[0])
    return receipt.outcome == Outcome.DELIVERED or found is None or found.number == attempt[1]


def _read(message: Message) -> _Said:
    data = message.data
    code = kept_code(data.code)  # type: ignore[union-attr]
    receipt = Early(data.provider, data.provider_message_id, _OUTCOMES[message.type], code)  # type: ignore[union-attr]
    return _Said(receipt, parse_reference(data.client_reference), message.lane)  # type: ignore[union-attr]


def parse_reference(text: str | None) -> tuple[UUID, int] | None:
    """Return the attempt that a reference of ours names; None for any other text."""
    found = _REFERENCE.fullmatch(text or "")
    return (UUID(found["delivery"]), int(found["number"])) if found else None


def _name(said: _Said) -> tuple[str, str]:
    return said.receipt.gateway, said.receipt.provider_message_id


def _match_later(said: _Said, now: datetime, came: datetime) -> Timer:
    # The older it is, the less is it one of ours.
    wait = min(_MATCH_SELDOM, max(_MATCH_AGAIN, now - came))
    return Timer(said.lane, MATCH_TIMER, "\n".join(_name(said)), now + wait)


def _parse_subject(subject: str) -> tuple[str, str]:
    gateway, _, provider_message_id = subject.partition("\n")
    return gateway, provider_message_id
