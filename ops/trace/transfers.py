"""What the ledger knows: a transfer's events, entries and refunds, what a window holds, a customer's wallets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import orjson

from ops.moments import shown
from ops.money import amount_text
from ops.trace.story import MOST, Chapter, Line, Look, Subject, subject_named
from services.closure.records import mask_account
from services.transfer import records, trail

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from services.runtime.database import Connection
    from services.transfer.records import Row, TransferRecord

SERVICE: Final = "transfer"
_TOLD: Final = (
    "attempts_left",
    "execute_at",
    "resume_at",
    "expires_at",
    "refund_due_on",
    "refund_id",
    "expected",
    "found",
)


async def know(connection: Connection, id_: UUID) -> list[Subject]:
    """Return what of the ledger has this id."""
    return [Subject(*found) for found in await trail.know(connection, id_)]


async def know_command(connection: Connection, command_id: str) -> list[Subject]:
    """Return what a command with this `ce_id` was about."""
    answers = await trail.find_answers(connection, command_id)
    return [subject for answer in answers for subject in subject_named(answer["body"], "transfer", "customer")]


async def tell_transfer(connection: Connection, id_: UUID) -> Chapter:
    """Return everything that the ledger knows of a transfer."""
    record = await records.read_transfer(connection, id_)
    if record is None:
        return Chapter()
    transfer = record.transfer
    chapter = Chapter(lines=[*_events(record), *_entries(record), *_refunds(record), *_timers(record)])
    if transfer["case_id"] is not None:
        chapter.links.append(Subject("case", str(transfer["case_id"])))
    windows = {line.said["window_id"] for line in chapter.lines if "window_id" in line.said}
    chapter.links += [Subject("window", window_id) for window_id in sorted(windows)]
    if transfer["payer_customer_id"] is not None:
        waivers = await trail.list_waivers(connection, transfer["payer_customer_id"])
        chapter.links += [Subject("waiver", str(row["compensation_id"])) for row in waivers]
    chapter.looks = _looks(record)
    return chapter


def _events(record: TransferRecord) -> list[Line]:
    lines = []
    for step in record.steps:
        said = orjson.loads(step["body"])
        reason = said.get("reason") or {}
        lines.append(
            Line(
                at=step["occurred_at"],
                service=SERVICE,
                what="event",
                name=step["type"],
                about=said["transfer_id"],
                status=said.get("status"),
                why=reason.get("code"),
                amount_minor=said.get("amount_minor"),
                currency=said.get("currency"),
                detail=_parties(said) if step["seq"] == 1 else told(said),
                correlation=record.transfer["correlation_id"],
                event_id=f"{said['transfer_id']}.{step['seq']}",
                said=masked(said),
            )
        )
    return lines


def masked(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an event says with the ends of bank accounts' numbers alone."""
    parties = {name: mask_account(said[name]) for name in ("payer", "payee") if isinstance(said.get(name), str)}
    return {**said, **parties}


def _parties(said: Mapping[str, Any]) -> str:
    fee = f", fee {amount_text(said['fee_minor'], said['currency'])}" if said.get("fee_minor") else ""
    return f"{said['kind']} {mask_account(said['payer'])} → {mask_account(said['payee'])}{fee}"


def told(said: Mapping[str, Any]) -> str | None:
    """Return what an event says besides the transfer itself, each by its name."""
    figures = {name: value for name, value in (said.get("reason") or {}).items() if name.endswith(("_minor", "_at"))}
    known = {name: said[name] for name in _TOLD if said.get(name) is not None} | figures
    return "; ".join(f"{name} {shown(what) if name.endswith('_at') else what}" for name, what in known.items()) or None


def _entries(record: TransferRecord) -> list[Line]:
    return [
        Line(
            at=row["moved_at"],
            service=SERVICE,
            what="entry",
            name=row["purpose"],
            about=str(row["transfer_id"]),
            amount_minor=row["amount_minor"],
            currency=row["currency"],
            detail=f"{row['debit_account']} → {row['credit_account']}",
            correlation=record.transfer["correlation_id"],
            said={
                name: row[name] for name in ("debit_number", "debit_after_minor", "credit_number", "credit_after_minor")
            },
        )
        for row in record.movements
    ]


def _refunds(record: TransferRecord) -> list[Line]:
    return [
        Line(
            at=row["requested_at"],
            service=SERVICE,
            what="decision",
            name="refund",
            about=str(row["refund_id"]),
            status=row["status"],
            amount_minor=row["amount_minor"],
            currency=record.transfer["currency"],
            detail=f"of {row['transfer_id']}, due {row['due_on']}" if row["due_on"] else f"of {row['transfer_id']}",
            correlation=record.transfer["correlation_id"],
        )
        for row in record.refunds
    ]


def _timers(record: TransferRecord) -> list[Line]:
    return [
        Line(
            at=row["due_at"],
            service=SERVICE,
            what="timer",
            name=row["kind"],
            about=row["subject"],
            status="parked" if row["parked_at"] else "waits",
            why=row["failure"],
            correlation=record.transfer["correlation_id"],
        )
        for row in record.timers
    ]


def _looks(record: TransferRecord) -> list[Look]:
    """Where commands, refusals, instructions and banks' answers about a transfer are, and what could not be taken."""
    transfer = record.transfer
    party = transfer["payer"] if transfer["payer"].startswith("wallet:") else transfer["payee"]
    needles = frozenset({str(transfer["transfer_id"]), *(str(row["refund_id"]) for row in record.refunds)})
    moments = frozenset({transfer["requested_at"], *(step["occurred_at"] for step in record.steps)})
    keyed = ("transfer.commands", "rail.instructions", "rail.results")
    looks = [Look(topic, party, needles, moments) for topic in keyed]
    looks.append(Look("transfer.events", party, needles, moments, ("transfer.command_refused", "fee.waived")))
    looks += [Look(f"{topic}.dlq", None, needles, moments) for topic in ("transfer.commands", "rail.results")]
    looks.append(Look("transfer.events.dlq", None, needles, moments))
    customer = transfer["payer_customer_id"]
    if customer is not None:
        looks.append(Look("risk.events", customer, frozenset({customer}), moments))
    return looks


async def tell_batch(connection: Connection, batch_id: str) -> Chapter:
    """Return where the command stands that asked for a batch: the ledger keeps its transfers, and no list of them."""
    decided_at = await trail.decided_at(connection, batch_id)
    if decided_at is None:
        return Chapter()
    look = Look("transfer.commands", None, frozenset({batch_id}), frozenset({decided_at}))
    line = Line(decided_at, SERVICE, "decision", "batch", batch_id)
    return Chapter(
        [line], looks=[look], notes=["Each of its transfers has a trace of its own: its command names them."]
    )


async def tell_held(connection: Connection, window_id: UUID) -> Chapter:
    """Return what a window did to transfers: counts, and the first that it holds now."""
    tally = (await records.tally_windows(connection, [window_id])).get(window_id)
    chapter = Chapter()
    if tally is None:
        return chapter
    chapter.notes.append(
        f"The window held {tally.held:,} transfers, of which {tally.released:,} went on and {tally.waiting:,} wait; "
        f"it refused {tally.refused:,}."
    )
    for row in await trail.list_held(connection, window_id, MOST):
        chapter.lines.append(
            Line(
                at=row["occurred_at"],
                service=SERVICE,
                what="decision",
                name="held",
                about=str(row["transfer_id"]),
                status="held",
                amount_minor=row["amount_minor"],
                currency=row["currency"],
                detail=f"{row['kind']}, number {row['number']} of its lane",
            )
        )
    return chapter


async def tell_wallets(connection: Connection, ids: Sequence[str], since: datetime) -> Chapter:
    """Return how wallets stand, and the latest transfers of each since a moment."""
    chapter = Chapter()
    for row in await trail.read_wallets(connection, ids):
        chapter.lines.append(_opened(row))
        if row["type"] is not None and row["type"] != "account.opened":
            chapter.lines.append(_wallet(row))
        latest = await trail.list_latest(connection, row["account_id"], MOST)
        if len(latest) == MOST:
            chapter.notes.append(
                f"The latest {MOST} transfers of {row['account_id']} alone: `sluice statement` lists more."
            )
        chapter.lines += [
            _found(found)
            for found in await records.find_transfers(connection, latest)
            if found["requested_at"] >= since
        ]
    return chapter


def _opened(row: Row) -> Line:
    return Line(row["opened_at"], SERVICE, "event", "account.opened", row["account_id"], currency=row["currency"])


def _wallet(row: Row) -> Line:
    return Line(
        at=row["occurred_at"],
        service=SERVICE,
        what="event",
        name=row["type"],
        about=row["account_id"],
        status=row["status"],
        amount_minor=row["posted_minor"],
        currency=row["currency"],
        detail=f"reserved {row['reserved_minor']}" if row["reserved_minor"] else None,
        event_id=f"{row['account_id']}.{row['version']}",
    )


def _found(row: Row) -> Line:
    return Line(
        at=row["requested_at"],
        service=SERVICE,
        what="decision",
        name=row["kind"],
        about=str(row["transfer_id"]),
        status=row["status"],
        why=row["code"],
        amount_minor=row["amount_minor"],
        currency=row["currency"],
        detail=f"to {mask_account(row['payee'])}",
    )
