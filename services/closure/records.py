"""Reads what people ask of closings: where each case stands, its steps, the audit; without anybody's details."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

import orjson

from services.closure.model import FORGETTING, ReopeningStatus, Status, Subject, fee_id, payout_id
from services.runtime.audit import find_broken
from services.runtime.database import load_queries

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from services.runtime.audit import Finding
    from services.runtime.database import Connection

_QUERIES: Final = load_queries(Path(__file__).with_name("records.sql"))
_SHOWN_DIGITS: Final = 4


class Seen(NamedTuple):
    """What a command about a case was answered with; without a type, nothing was said of it."""

    type: str | None
    body: dict[str, Any]


class PaidCase(NamedTuple):
    """A case that has ended with payouts: what it counts as paid, fees too, and under which ids."""

    case_id: UUID
    subject: str
    counted_minor: int
    transfer_ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Audit:
    """What the audit looked at and what it found."""

    cases: int
    findings: list[Finding]


# --- Cases ---


async def list_cases(
    connection: Connection,
    case_id: UUID | None,
    statuses: Sequence[str],
    limit: int,
    services: Collection[str],
    clearance_id: UUID | None = None,
) -> list[dict[str, Any]]:
    """Return cases, the latest to be received first, each with who is waited for; `services` have to erase.

    Nothing of what the applicants said is in them: that stays sealed.
    """
    rows = await connection.fetch(_QUERIES.list_cases, case_id, list(statuses), limit, clearance_id)
    found = []
    for row in map(dict, rows):
        lists = {name: orjson.loads(row[name]) for name in ("approved_by", "erased_by")}
        case = {**row, **lists}
        found.append({**case, "waits_for": waits_for(case, services)})
    return found


def waits_for(case: Mapping[str, Any], services: Collection[str]) -> list[str]:
    """Return whom a case waits for: nobody once it has ended; `timer` where it looks again by itself."""
    status = Status(case["status"])
    if status == Status.ERASING or (status == Status.CLOSED and case["refusal"] == FORGETTING):
        return sorted(set(services) - set(case["erased_by"]))
    if status == Status.PAYOUT_STOPPED and (case["next_at"] is not None or case["refusal"] is None):
        return ["timer" if case["refusal"] is not None else "transfer"]
    if status == Status.RECEIVED and case["subject"].startswith(f"{Subject.LOAN}:"):
        return ["timer"]
    return list(_WAITS_FOR.get(status, ()))


_WAITS_FOR: Final[Mapping[Status, tuple[str, ...]]] = {
    Status.RECEIVED: ("transfer",),
    Status.DOCUMENTS_REQUIRED: ("customer",),
    Status.OBLIGATIONS: ("timer",),
    Status.IN_FLIGHT: ("transfer",),
    Status.REVIEW: ("reviewer",),
    Status.APPROVED: ("customer",),
    Status.ACCOUNT_WANTED: ("customer",),
    Status.DRAINING: ("transfer",),
    Status.PAYING_OUT: ("bank",),
    Status.PAYOUT_STOPPED: ("customer",),
    Status.PAYOUT_REVIEW: ("reviewer",),
    Status.FINISHING: ("transfer",),
    Status.REINSTATING: ("transfer",),
}


async def list_steps(connection: Connection, case_id: UUID) -> list[dict[str, Any]]:
    """Return every step of a case, in order, with what its event says that is not about a person."""
    rows = await connection.fetch(_QUERIES.list_steps, case_id)
    steps = []
    for row in map(dict, rows):
        body = row.pop("event_body")
        steps.append({**row, "said": {} if body is None else public_part(orjson.loads(body))})
    return steps


async def list_reopenings(connection: Connection, case_id: UUID | None, limit: int) -> list[dict[str, Any]]:
    """Return the applications to come back of a closing, or all that wait for somebody; the latest first."""
    rows = await connection.fetch(_QUERIES.list_reopenings, case_id, limit)
    found = []
    for row in map(dict, rows):
        said = public_part(orjson.loads(row.pop("event_body")))
        found.append({**row, "waits_for": list(_COMING_BACK.get(row["status"], ())), "said": said})
    return found


_COMING_BACK: Final = {ReopeningStatus.ASSESSING: ("credit system",), ReopeningStatus.REOPENING: ("transfer",)}


def public_part(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what anybody who works here may read of an event: of bank accounts only how their numbers end."""
    said = {name: body[name] for name in _PUBLIC if body.get(name) is not None}
    if "payee" in body:
        said["payee"] = mask_account(body["payee"])
    if "receipt" in body:
        receipt = body["receipt"]
        said["receipt"] = receipt | ({"payee": mask_account(receipt["payee"])} if receipt.get("payee") else {})
    return said


_PUBLIC: Final = (
    "reasons",
    "reason",
    "items",
    "obligations",
    "balance_minor",
    "fee_minor",
    "payout_minor",
    "currency",
    "transfer_id",
    "consequences",
    "expires_at",
    "deadline",
    "clearance_id",
    "cause",
    "receipt_sha256",
    "erasure",
    "why",
    "expected",
    "found",
    "status",
)


def mask_account(payee: str) -> str:
    """Return a bank account with the last four digits of its number alone."""
    kind, bank, number = [*payee.split(":", 2), "", ""][:3]
    if not number:
        return payee
    return f"{kind}:{bank}:…{number[-_SHOWN_DIGITS:] if len(number) > _SHOWN_DIGITS else ''}"


def payout_ids(case_id: UUID, payouts: int) -> list[UUID]:
    """Return the ids of all transfers with which a case may have paid out, and its fees."""
    return [id_of(case_id, number) for number in range(1, payouts + 1) for id_of in (payout_id, fee_id)]


async def find_answer(connection: Connection, source: str, id_: str) -> Seen | None:
    """Return what a command was answered with; None as long as it is not decided."""
    row = await connection.fetchrow(_QUERIES.find_answer, source, id_)
    return None if row is None else Seen(row["type"], orjson.loads(row["body"] or b"{}"))


async def list_erased(connection: Connection, customers: Sequence[str]) -> set[str]:
    """Return which of these customers are erased: nothing is left that their names or numbers could be known by."""
    rows = await connection.fetch(_QUERIES.list_erased, customers)
    return {row["customer_id"] for row in rows}


# --- Audit ---


async def audit(connection: Connection) -> Audit:
    """Return every rule that is broken; all of one moment."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        cases = await connection.fetchval(_QUERIES.count_audited)
        return Audit(cases, await find_broken(connection, _QUERIES, _RULES))


async def list_paid(connection: Connection, after: UUID, limit: int) -> list[PaidCase]:
    """Return the next cases after an id that are closed and have paid out, by their ids."""
    rows = await connection.fetch(_QUERIES.list_paid, after, limit)
    return [PaidCase(row[0], row[1], row[2], tuple(payout_ids(row[0], row[3]))) for row in rows]


async def count_paid(connection: Connection, case_ids: Sequence[UUID]) -> dict[UUID, int]:
    """Return what each of these cases counts as paid, fees too."""
    rows = await connection.fetch(_QUERIES.count_paid, case_ids)
    return {row["case_id"]: row["counted_minor"] for row in rows}


_RULES: Final = {
    "a case has every one of its steps": "audit_steps",
    "a case has every one of its events": "audit_events",
    "a case stands where its last step took it": "audit_last_steps",
    "a case that waits for a moment has its timer": "audit_timers",
    "a case has paid no more than it sent": "audit_payouts",
    "a wallet or loan has one case that has not ended": "audit_open_cases",
    "a closed case has paid what its wallet held": "audit_closed",
    "nothing of who is erased can be read": "audit_erased",
    "nothing is kept of who was never known once their case has ended": "audit_unknown",
    "a case whose customer is known has no key of its own": "audit_case_keys",
    "what a clearance says of its wallets adds up": "audit_clearance_sums",
    "a clearance accounts for what was there": "audit_clearance_totals",
    "a clearance's cases are those of its wallets": "audit_clearance_cases",
    "a clearance that is finished has left nothing out": "audit_clearance_ends",
    "a wallet is closed by one clearance at a time": "audit_cleared_once",
    "no timer of the closing service is parked": "audit_parked_timers",
}
