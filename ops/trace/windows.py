"""What the maintenance service knows: everything that was said of a window, and what it gave for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from ops.moments import shown
from ops.trace.story import Chapter, Line, Look, Subject
from services.maintenance import records, trail

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.runtime.database import Connection

SERVICE: Final = "maintenance"


async def know(connection: Connection, id_: UUID) -> list[Subject]:
    """Return the window that has this id, or owes a compensation of this id."""
    return [Subject("window", found) for _, found in await trail.know(connection, id_)]


async def know_command(connection: Connection, command_id: str) -> list[Subject]:
    """Return which window a command with this `ce_id` was about."""
    answers = await trail.find_answers(connection, command_id)
    return [Subject("window", str(answer["window_id"])) for answer in answers]


async def tell_window(connection: Connection, window_id: UUID) -> Chapter:
    """Return everything that was said of a window, and who asked for it."""
    window = await trail.read_window(connection, window_id)
    if window is None:
        return Chapter()
    steps = await records.list_steps(connection, window_id)
    chapter = Chapter([line_of(window_id, step, window["correlation_id"]) for step in steps])
    moments = frozenset(step["occurred_at"] for step in steps)
    needles = frozenset({str(window_id)})
    chapter.looks = [
        Look("maintenance.commands", str(window_id), needles, moments),
        Look("maintenance.commands.dlq", None, needles, moments),
    ]
    return chapter


def line_of(window_id: UUID, step: Mapping[str, Any], correlation: str | None) -> Line:
    """Return what was said of a window at one time."""
    said = step["body"]
    return Line(
        at=step["occurred_at"],
        service=SERVICE,
        what="event",
        name=step["type"],
        about=str(window_id),
        status=step["status"],
        why=said.get("reason") if step["revision"] == 1 else None,
        detail=f"{shown(said['starts_at'])} to {shown(said['ends_at'])}",
        correlation=correlation,
        event_id=f"{window_id}.{step['revision']}",
        said=said,
    )


async def tell_waiver(connection: Connection, compensation_id: UUID, transfer_ids: Sequence[str]) -> Chapter:
    """Return whether one of these transfers has used a compensation, and the window that it is for."""
    chapter = Chapter()
    for transfer_id in transfer_ids:
        for row in await trail.list_uses(connection, [compensation_id], UUID(transfer_id)):
            chapter.links.append(Subject("window", str(row["window_id"])))
            detail = f"a fee waived, granted for window {row['window_id']}"
            chapter.lines.append(
                Line(row["granted_at"], SERVICE, "event", "compensation.granted", str(compensation_id), detail=detail)
            )
    return chapter
