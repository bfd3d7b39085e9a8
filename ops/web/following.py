"""What a customer may read of one transfer or closing: where it stands, its steps, what to do; nobody's name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import orjson

from ops.cases import read_cases
from ops.database import connect
from ops.web.links import Followed, Kind
from services.notify.wording import BABEL, DEFAULT_WORDING, money, read_wording, shown_of
from services.transfer import records

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from ops.running import Running
    from services.notify.model import Locale
    from services.notify.wording import Wording


@dataclass(frozen=True, slots=True)
class Course:
    """How one transfer or closing goes: `amounts` by what they are, `ending` the last digits of a bank account.

    `steps` are when and where it stood from then on; `advice` is what stands in the way, and what to do about it. Of
    somebody who is erased no amount and no account is left.
    """

    kind: Kind
    status: str
    amounts: Mapping[str, str]
    ending: str
    steps: Sequence[tuple[datetime, str]]
    advice: Sequence[str]
    is_erased: bool = False

    def forgotten(self) -> Course:
        """Return what is left of it once its customer is erased."""
        return replace(self, amounts={}, ending="", is_erased=True)


@cache
def wording() -> Wording:
    """Return the words that customers are told everything else in."""
    return read_wording(DEFAULT_WORDING)


async def kind_of(running: Running, id_: uuid.UUID) -> Followed | None:
    """Return what an id is, a transfer's or a case's; None for another."""
    async with connect(running, "transfer") as connection:
        transfer = await records.read_transfer(connection, id_)
    if transfer is not None:
        return Followed(Kind.TRANSFER, transfer.transfer["transfer_id"])
    return Followed(Kind.CASE, id_) if await read_cases(running, id_, (), 1) else None


async def follow(running: Running, followed: Followed, language: Locale) -> Course | None:
    """Return how it goes; None where nothing is known of it any more."""
    if followed.kind is Kind.TRANSFER:
        return await _follow_transfer(running, followed.id, language)
    return await _follow_case(running, followed.id, language)


async def _follow_transfer(running: Running, id_: uuid.UUID, language: Locale) -> Course | None:
    async with connect(running, "transfer") as connection:
        record = await records.read_transfer(connection, id_)
        if record is None:
            return None
        transfer = record.transfer
        is_erased = await records.is_of_erased(connection, transfer["transfer_id"])
    events = [(step["occurred_at"], orjson.loads(step["body"])) for step in record.steps]
    amounts = {"amount": money(transfer["amount_minor"], transfer["currency"], BABEL[language])}
    if transfer["fee_minor"]:
        amounts["fee"] = money(transfer["fee_minor"], transfer["currency"], BABEL[language])
    reason = events[-1][1].get("reason") if events else None
    advice = [] if reason is None else _sentences(wording().because(language, reason["code"]))
    course = Course(
        Kind.TRANSFER,
        transfer["status"],
        amounts,
        _ending(transfer["payer"], transfer["payee"]),
        _changes([(at, event["status"]) for at, event in events]),
        advice,
    )
    return course.forgotten() if is_erased else course


async def _follow_case(running: Running, id_: uuid.UUID, language: Locale) -> Course | None:
    found = await read_cases(running, id_, (), 1)
    if not found:
        return None
    case = found[0]
    names = {"amount": "balance_minor", "fee": "fee_minor", "paid": "paid_minor"}
    amounts = {
        name: money(case[field], case["currency"], BABEL[language])
        for name, field in names.items()
        if case[field] and case["currency"]
    }
    payees = [payout["payee"] for payout in case["payouts"]]
    course = Course(
        Kind.CASE,
        case["status"],
        amounts,
        _ending(*payees[-1:]),
        _changes([(step["occurred_at"], step["status"]) for step in case["steps"]]),
        _remedies(case["steps"][-1]["said"] if case["steps"] else {}, language),
    )
    return course.forgotten() if case["erasure"] == "done" else course


def _remedies(said: Mapping[str, Any], language: Locale) -> list[str]:
    """Return what stands in the way of a closing and what would mend it, as the notifier says it."""
    words = []
    for one in (*said.get("items", ()), *said.get("reasons", ())):
        words += [wording().term(language, "code", one["code"]), wording().term(language, "remedy", one["remedy"])]
    return words


def _changes(stands: Sequence[tuple[datetime, str]]) -> list[tuple[datetime, str]]:
    """Return when it came to stand where, without what left it there."""
    return [each for place, each in enumerate(stands) if place == 0 or stands[place - 1][1] != each[1]]


def _ending(*parties: str) -> str:
    """Return the last digits of the bank account among the parties; nothing where there is none."""
    for party in parties:
        kind, _, number = party.partition(":")
        if kind == "bank":
            return shown_of(number.rpartition(":")[2])
    return ""


def _sentences(texts: Sequence[str]) -> list[str]:
    """Return texts as sentences of their own: in a notice the first follows a colon."""
    return [text[:1].upper() + text[1:] for text in texts if text]
