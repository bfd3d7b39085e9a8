"""What the closing service knows: a case's steps, what it paid and who erased, applications, clearances, customers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

import orjson

from ops.moments import moment_text
from ops.trace.story import MOST, Chapter, Line, Look, Subject, subject_named
from services.closure import records, trail

if TYPE_CHECKING:
    from typing import Any

    from services.runtime.database import Connection

SERVICE: Final = "closure"


async def know(connection: Connection, id_: UUID) -> list[Subject]:
    """Return what of the closing service's has this id."""
    return [Subject(kind, found) for kind, found in await trail.know(connection, id_)]


async def know_customer(connection: Connection, customer_id: str) -> list[Subject]:
    """Return the customer of this id, if one is known."""
    known = await trail.read_customer(connection, customer_id)
    has_wallets = await trail.list_wallets(connection, customer_id, 1)
    return [Subject("customer", customer_id)] if known is not None or has_wallets else []


async def know_command(connection: Connection, command_id: str) -> list[Subject]:
    """Return what a command with this `ce_id` was about."""
    answers = await trail.find_answers(connection, command_id)
    return [subject for answer in answers for subject in subject_named(answer["body"], "case", "clearance")]


async def tell_case(connection: Connection, case_id: UUID) -> Chapter:
    """Return everything that is known of a case."""
    case = await trail.read_case(connection, case_id)
    if case is None:
        return Chapter()
    steps = await records.list_steps(connection, case_id)
    chapter = Chapter(lines=[_step(case, step) for step in steps])
    if case["clearance_id"] is not None:
        chapter.links.append(Subject("clearance", str(case["clearance_id"])))
    chapter.links += [Subject("transfer", str(id_)) for id_ in records.payout_ids(case_id, case["payouts"])]
    if erased_by := orjson.loads(case["erased_by"]):
        chapter.notes.append(f"Erased by: {', '.join(sorted(erased_by))}.")
    moments = frozenset({case["received_at"], *(step["occurred_at"] for step in steps)})
    needles = frozenset({str(case_id)})
    subject = case["subject"]
    chapter.looks = [
        Look("closure.commands", subject, needles, moments),
        Look("transfer.commands", subject, needles, moments),
        Look("transfer.events", subject, needles, moments, ("account.", "transfer.command_refused")),
        Look("closure.commands.dlq", None, needles, moments),
    ]
    if (customer := case["customer_id"]) is not None:
        chapter.looks.append(Look("erasure.events", customer, frozenset({str(case_id), customer}), moments))
    return chapter


def _step(case: Any, step: dict[str, Any]) -> Line:
    said = step["said"]
    is_event = step["type"] is not None
    return Line(
        at=step["occurred_at"],
        service=SERVICE,
        what="event" if is_event else "decision",
        name=step["type"] or step["status"],
        about=str(case["case_id"]),
        status=step["status"],
        why=step["why"] or (said.get("reason") or {}).get("code") or _codes(said),
        amount_minor=said.get("payout_minor", said.get("balance_minor")),
        currency=said.get("currency"),
        detail=case["subject"] if step["number"] == 1 else None,
        correlation=case["correlation_id"],
        event_id=f"case.{case['case_id']}.{step['revision']}" if is_event else None,
        said=said,
    )


def _codes(said: dict[str, Any]) -> str | None:
    return ", ".join(one["code"] for one in (*said.get("reasons", ()), *said.get("items", ()))) or None


async def tell_reopening(connection: Connection, request_id: UUID) -> Chapter:
    """Return how an application to come back stands, and the case that it is about."""
    row = await trail.read_reopening(connection, request_id)
    if row is None:
        return Chapter()
    line = Line(
        at=row["occurred_at"] or row["received_at"],
        service=SERVICE,
        what="event",
        name=row["event_type"],
        about=str(request_id),
        status=row["status"],
        detail=row["subject"],
        correlation=row["correlation_id"],
    )
    chapter = Chapter(lines=[line])
    if row["case_id"] is not None:
        chapter.links.append(Subject("case", str(row["case_id"])))
    moments = frozenset({row["received_at"], line.at})
    chapter.looks.append(Look("closure.commands", row["subject"], frozenset({str(request_id)}), moments))
    return chapter


async def tell_clearance(connection: Connection, clearance_id: UUID) -> Chapter:
    """Return how a clearance stands."""
    row = await trail.read_clearance(connection, clearance_id)
    if row is None:
        return Chapter()
    line = Line(
        at=row["occurred_at"],
        service=SERVICE,
        what="event",
        name=row["event_type"],
        about=str(clearance_id),
        status=row["status"],
        detail=f"{row['cause']}: {row['begun']:,} of {row['wallets']:,} wallets begun",
        correlation=row["correlation_id"],
        event_id=f"clearance.{clearance_id}.{row['revision']}",
    )
    look = Look("closure.commands", str(clearance_id), frozenset({str(clearance_id)}), frozenset({line.at}))
    return Chapter(lines=[line], looks=[look])


async def tell_customer(connection: Connection, customer_id: str) -> tuple[Chapter, list[str]]:
    """Return a customer's cases as links, whether they are flagged or erased, and the ids of their wallets."""
    chapter = Chapter(
        links=[Subject("case", str(id_)) for id_ in await trail.list_cases(connection, customer_id, MOST)]
    )
    row = await trail.read_customer(connection, customer_id)
    if row is not None and row["flagged_until"] is not None:
        chapter.notes.append(f"Flagged as a risk until {moment_text(row['flagged_until'])}.")
    if row is not None and row["erased_at"] is not None:
        chapter.lines.append(
            Line(row["erased_at"], SERVICE, "decision", "customer erased", customer_id, status="erased")
        )
    if len(chapter.links) == MOST:
        chapter.notes.append(f"The latest {MOST} closings alone: `sluice cases` lists more.")
    wallets = await trail.list_wallets(connection, customer_id, MOST)
    if len(wallets) == MOST:
        chapter.notes.append(f"{MOST} wallets alone: there may be more.")
    return chapter, wallets
