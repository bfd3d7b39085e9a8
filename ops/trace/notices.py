"""What the notifier knows: who was told of an event, on which channel, by which attempts, and what became of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from ops.trace.story import MOST, Chapter, Line, Look, Subject
from services.notify import trail
from services.runtime.log import mask_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from ops.trace.story import What
    from services.runtime.database import Connection

SERVICE: Final = "notify"


async def know(connection: Connection, id_: UUID) -> list[Subject]:
    """Return what of the notifier's has this id."""
    return [Subject(kind, found) for kind, found in await trail.know(connection, id_)]


async def know_event(connection: Connection, event_id: str) -> list[Subject]:
    """Return the event of this id, if somebody was told of it."""
    return [Subject("event", event_id)] if await trail.find_announcement(connection, event_id) is not None else []


async def tell_notices(connection: Connection, subjects: Sequence[str]) -> Chapter:
    """Return what was told of the events about these, by the ids that theirs begin with."""
    return await _tell(connection, await trail.list_notices(connection, subjects, MOST * 10))


async def tell_event(connection: Connection, event_id: str) -> Chapter:
    """Return what was told of one event, or request: how many notices stand where, and the first of them."""
    chapter = await _tell(connection, await trail.list_notices(connection, [event_id], MOST))
    if (announced := await trail.find_announcement(connection, event_id)) is not None:
        counts = await trail.count_notices(connection, event_id)
        stand = [f"{count:,} {status}" for status, count in counts.items()]
        detail = "; ".join([f"{announced['accepted']:,} notices", *stand])
        chapter.lines.insert(
            0,
            Line(
                at=announced["accepted_at"],
                service=SERVICE,
                what="decision",
                name="accepted",
                about=event_id,
                why=announced["type"],
                detail=detail,
                correlation=announced["correlation_id"],
            ),
        )
        moments = frozenset({announced["accepted_at"]})
        chapter.looks.append(Look("notify.commands", None, frozenset({event_id}), moments))
    return chapter


async def tell_customer(connection: Connection, customer_id: str, since: datetime) -> Chapter:
    """Return a customer's latest notices since a moment."""
    rows = await trail.list_notices_of_customer(connection, customer_id, since, MOST)
    chapter = await _tell(connection, rows)
    if len(rows) == MOST:
        chapter.notes.append(f"The latest {MOST} notices alone: `sluice notices --customer` lists more.")
    return chapter


async def tell_announcements(connection: Connection, about: str) -> Chapter:
    """Return what was told to many about a window or a clearance."""
    chapter = Chapter()
    for row in await trail.list_broadcasts(connection, about):
        chapter.lines += _broadcast(row)
        chapter.lines += (await tell_event(connection, row["notification_id"])).lines
    return chapter


async def tell_broadcast(connection: Connection, notification_id: str) -> Chapter:
    """Return how a broadcast goes."""
    row = await trail.read_broadcast(connection, notification_id)
    chapter = await tell_event(connection, notification_id)
    chapter.lines += [] if row is None else _broadcast(row)
    return chapter


def _broadcast(row: Any) -> list[Line]:
    state = "finished" if row["is_over"] and row["state"] == "running" else row["state"]
    made = _line(row, row["created_at"], "decision", "broadcast", state, row["template"])
    lines = [replace(made, detail=f"about {row['expected']:,} people")]
    if row["resolved_at"] is not None:
        lines.append(_line(row, row["resolved_at"], "decision", "broadcast reached all", state))
    return lines


async def _tell(connection: Connection, rows: Sequence[Any]) -> Chapter:
    deliveries: set[UUID] = {row["delivery_id"] for row in rows if row["delivery_id"] is not None}
    attempts = await trail.list_attempts(connection, deliveries) if deliveries else {}
    chapter, shown = Chapter(), set()
    for row in rows:
        chapter.lines += _notice(row)
        # A digest is one message of several notices.
        if (delivery := row["delivery_id"]) not in shown:
            shown.add(delivery)
            chapter.lines += [line for attempt in attempts.get(delivery, ()) for line in _attempt(row, attempt)]
    return chapter


def _notice(row: Any) -> list[Line]:
    made = _line(row, row["created_at"], "notice", row["template"], "made")
    made = replace(made, detail=f"{row['channel']} to {mask_text(row['customer_id'])}", event_id=row["event_id"])
    if row["ended_at"] is None:
        return [replace(made, status="pending", why=row["why"])]
    became = replace(made, at=row["ended_at"], status=row["status"], why=row["why"])
    return [became] if row["ended_at"] == row["created_at"] else [made, became]


def _attempt(row: Any, attempt: Any) -> list[Line]:
    name = f"{attempt['gateway']} #{attempt['number']}"
    lines = [_line(row, attempt["started_at"], "attempt", name, "handed over")]
    if attempt["ended_at"] is not None:
        why = attempt["code"] or attempt["why"]
        lines.append(_line(row, attempt["ended_at"], "attempt", name, attempt["outcome"], why))
    return lines


def _line(row: Any, at: datetime, what: What, name: str, status: str | None, why: str | None = None) -> Line:
    """Return a line about a notice or a broadcast."""
    about = str(row.get("notice_id") or row.get("notification_id"))
    return Line(at, SERVICE, what, name, about, status, why, correlation=row["correlation_id"])
