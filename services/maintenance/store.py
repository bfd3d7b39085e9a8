"""Loads the windows of a batch and records what it changed: one function a query."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

import orjson

from services.maintenance.decide import STEPS
from services.maintenance.model import Affected, Answer, AnswerKey, Grant, Step, Window
from services.runtime.database import copy_rows, execute_rows, load_queries
from services.runtime.message import Lane, Timer

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from services.maintenance.decide import Book
    from services.runtime.database import Connection

_QUERIES: Final = load_queries(Path(__file__).with_name("queries.sql"))

_AFTER_PLAN: Final = attrgetter(
    "starts_at",
    "ends_at",
    "correlation_id",
    "status",
    "revision",
    "event_type",
    "event_body",
    "occurred_at",
    "answer_by",
)


async def load_windows(connection: Connection, ids: Collection[UUID]) -> dict[UUID, Window]:
    """Load and lock windows, in the order of their ids."""
    if not ids:
        return {}
    rows = await connection.fetch(_QUERIES.load_windows, list(ids))
    windows = (Window(row[0], row[1], orjson.loads(row[2]), *row[3:]) for row in rows)
    return {window.window_id: window for window in windows}


async def take_due(connection: Connection, ids: Collection[UUID], now: datetime) -> list[Timer]:
    """Take the timers of windows that are due, whichever lane they belong to; before the windows, as all do."""
    subjects = sorted(map(str, ids))
    rows = await connection.fetch(_QUERIES.take_due_timers, subjects, sorted(STEPS), now)
    return [
        Timer(Lane(row["lane_group"], row["partition"]), row["kind"], row["subject"], row["due_at"]) for row in rows
    ]


async def load_answers(connection: Connection, keys: Collection[AnswerKey]) -> dict[AnswerKey, Answer]:
    """Return what commands were answered with before."""
    if not keys:
        return {}
    ordered = list(keys)
    rows = await connection.fetch(_QUERIES.load_answers, [key.source for key in ordered], [key.id for key in ordered])
    answers = (Answer(AnswerKey(row[0], row[1]), *row[2:]) for row in rows)
    return {answer.key: answer for answer in answers}


async def record(connection: Connection, book: Book) -> None:
    """Write everything that a batch changed, one statement a table."""
    windows = [
        (window.window_id, window.content_hash, orjson.dumps(window.plan).decode(), *_AFTER_PLAN(window))
        for window in book.changed.values()
    ]
    await execute_rows(connection, _QUERIES.upsert_windows, windows)
    await copy_rows(connection, "window_step", Step._fields, book.steps)
    answers = [(*answer.key, *answer[1:]) for answer in book.answered.values()]
    await copy_rows(connection, "answer", ("source", "id", *Answer._fields[1:]), answers)
    await execute_rows(connection, _QUERIES.upsert_survey_answers, list(book.survey_answers.values()))


# --- What windows owe ---


async def record_affected(connection: Connection, affected: Sequence[Affected]) -> None:
    """Remember whose transfers windows held or refused, once each."""
    await execute_rows(connection, _QUERIES.insert_affected, affected)


async def grant_compensation(
    connection: Connection, window_id: UUID, now: datetime, expires_at: datetime, limit: int
) -> list[Grant]:
    """Grant the next customers what a window owes them; fewer than `limit` are the last."""
    rows = await connection.fetch(_QUERIES.grant_compensation, window_id, now, expires_at, limit)
    return [Grant(*row) for row in rows]


async def use_compensation(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, Grant]:
    """Count what was used, an id for each use; return what is known of them."""
    rows = await connection.fetch(_QUERIES.use_compensation, list(ids))
    return {row["compensation_id"]: Grant(*row) for row in rows}


# --- Banks that do not answer ---


async def record_silent(connection: Connection, payouts: Mapping[UUID, str], now: datetime) -> None:
    """Note the payouts, by id, that their banks have left without an answer."""
    await execute_rows(connection, _QUERIES.insert_silent_payouts, [(id_, bank, now) for id_, bank in payouts.items()])


async def take_answered(connection: Connection, ids: Collection[UUID]) -> set[str]:
    """Forget the payouts that were answered; return the banks that answered late."""
    rows = await connection.fetch(_QUERIES.take_answered_payouts, list(ids))
    return {row["bank"] for row in rows}


async def count_silent(connection: Connection, banks: Collection[str]) -> dict[str, tuple[int, UUID | None]]:
    """Return how many payouts each bank has left without an answer, and the window that it has made."""
    rows = await connection.fetch(_QUERIES.count_silent_payouts, sorted(banks))
    return {row["bank"]: (row["payouts"], row["window_id"]) for row in rows}


async def record_tripped(connection: Connection, windows: Mapping[str, UUID]) -> None:
    """Remember the window that each bank has made."""
    await execute_rows(connection, _QUERIES.insert_tripped_rails, sorted(windows.items()))


async def take_tripped(connection: Connection, banks: Collection[str]) -> list[UUID]:
    """Forget and return the windows that these banks have made, and what else they left without an answer."""
    return [row["window_id"] for row in await connection.fetch(_QUERIES.take_tripped_rails, sorted(banks))]
