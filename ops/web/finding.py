"""Finds what the services' records say of an id, as stories that a page can show; without personal data."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from ops.cases import read_cases
from ops.database import connect
from ops.money import amount_text
from ops.windows import read_windows
from services.closure.records import mask_account
from services.runtime.log import mask_text
from services.transfer import records

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from ops.running import Running
    from services.transfer.records import TransferRecord


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happened: when, in which service, what, and what was said of it."""

    at: datetime
    service: str
    what: str
    said: str


@dataclass(frozen=True, slots=True)
class Story:
    """What is known of one thing: `kind` is transfer, case or window, `facts` are by name, the steps by time."""

    kind: str
    id: str
    status: str
    facts: Mapping[str, str]
    steps: list[Step]


async def find_stories(running: Running, wanted: str) -> list[Story]:
    """Return what is known of an id; nothing where it is none."""
    try:
        id_ = uuid.UUID(wanted)
    except ValueError:
        return []
    async with connect(running, "transfer") as connection:
        transfer = await records.read_transfer(connection, id_)
    cases = await read_cases(running, id_, (), 1)
    windows = await read_windows(running, id_, 1)
    return [
        *([_of_transfer(transfer)] if transfer is not None else []),
        *(_of_case(case) for case in cases),
        *(_of_window(window) for window in windows),
    ]


def _of_transfer(record: TransferRecord) -> Story:
    transfer = record.transfer
    steps = [
        Step(step["occurred_at"], "transfer", step["type"], _said(orjson.loads(step["body"]))) for step in record.steps
    ]
    steps += [
        Step(
            moved["moved_at"],
            "ledger",
            moved["purpose"],
            f"{amount_text(moved['amount_minor'], moved['currency'])}: "
            f"{mask_account(moved['debit_account'])} → {mask_account(moved['credit_account'])}",
        )
        for moved in record.movements
    ]
    facts = {
        "kind": transfer["kind"],
        "amount": amount_text(transfer["amount_minor"], transfer["currency"]),
        "fee": amount_text(transfer["fee_minor"], transfer["currency"]) if transfer["fee_minor"] else "",
        "payer": mask_account(transfer["payer"]),
        "payee": mask_account(transfer["payee"]),
    }
    return Story("transfer", str(transfer["transfer_id"]), transfer["status"], _filled(facts), _in_order(steps))


def _of_case(case: Mapping[str, Any]) -> Story:
    steps = [
        Step(step["occurred_at"], "closure", step["type"] or step["status"], mask_text(step["why"] or ""))
        for step in case["steps"]
    ]
    paid = amount_text(case["paid_minor"], case["currency"]) if case["paid_minor"] and case["currency"] else ""
    facts = {"subject": case["subject"], "paid": paid, "waits_for": ", ".join(case["waits_for"])}
    return Story("case", str(case["case_id"]), case["status"], _filled(facts), _in_order(steps))


def _of_window(window: Mapping[str, Any]) -> Story:
    steps = [Step(step["occurred_at"], "maintenance", step["type"], "") for step in window["steps"]]
    facts = {"title_fact": window["title"], "functions": ", ".join(window["functions"])}
    return Story("window", window["window_id"], window["status"], facts, _in_order(steps))


def _said(event: Mapping[str, Any]) -> str:
    reason = event.get("reason") or {}
    parts = [reason.get("code", ""), mask_text(reason.get("detail", ""))]
    parts += [f"{name} {event[name]}" for name in ("execute_at", "expires_at", "refund_due_on") if name in event]
    return ", ".join(filter(None, parts))


def _filled(facts: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in facts.items() if value}


def _in_order(steps: list[Step]) -> list[Step]:
    return sorted(steps, key=lambda step: step.at)
