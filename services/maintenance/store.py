"""Loads the windows of a batch and records what it changed: one function a query."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

import orjson

from services.maintenance.decide import STEPS
from services.maintenance.model import Affected, Answer, AnswerKey, Grant, Step, Window
from services.runtime.database import columns_of, copy_rows, execute_rows, load_queries
from services.runtime.message import Timer

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from services.maintenance.decide import Book
    from services.runtime.database import Connection
    from services.runtime.message import Lane

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
    "traceparent",
)


async def load_windows(connection: Connection, ids: Collection[UUID], *, locks: bool = True) -> dict[UUID, Window]:
    """Load windows, and lock them in the order of their ids for whoever may change them."""
    if not ids:
        return {}
    rows = await connection.fetch(_QUERIES.load_windows if locks else _QUERIES.read_windows, list(ids))
    windows = (Window(row[0], row[1], orjson.loads(row[2]), *row[3:]) for row in rows)
    return {window.window_id: window for window in windows}


async def take_due(connection: Connection, lanes: Mapping[UUID, Lane], now: datetime) -> list[Timer]:
    """Lock the timers of windows, before the windows as all do, and take those that are due into the lane of each."""
    if not lanes:
        return []
    rows = await connection.fetch(_QUERIES.take_due_timers, sorted(map(str, lanes)), sorted(STEPS), now)
    return [Timer(lanes[UUID(row["subject"])], row["kind"], row["subject"], row["due_at"]) for row in rows]


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


async def use_compensation(
    connection: Connection, uses: Collection[tuple[UUID, UUID]]
) -> dict[tuple[UUID, UUID], Grant]:
    """Count what was used, by compensation and transfer; return what is new, with what is known of it."""
    rows = await connection.fetch(_QUERIES.use_compensation, *columns_of(sorted(uses)))
    return {(row["compensation_id"], id_): Grant(*row[:4]) for row in rows for id_ in row["transfers"]}


# --- Whom to forget ---


async def share_customers(connection: Connection) -> None:
    """Let nobody be erased until this transaction has ended; before any row is locked."""
    await connection.execute(_QUERIES.share_customers)


async def erase(connection: Connection, customers: Collection[str], now: datetime) -> None:
    """Forget customers: what they are owed goes, what was counted stays and carries no customer."""
    await connection.execute(_QUERIES.take_customers)
    ordered = sorted(customers)
    await connection.execute(_QUERIES.delete_owed, ordered)
    await connection.execute(_QUERIES.anonymise_granted, ordered)
    await connection.execute(_QUERIES.anonymise_survey_answers, ordered)
    await connection.execute(_QUERIES.upsert_erased, ordered, now)


async def forget_erased(connection: Connection, customers: Sequence[str]) -> None:
    """Forget that customers were erased."""
    await connection.execute(_QUERIES.delete_erased, customers)


# --- Banks that do not answer ---


async def record_silent(connection: Connection, payouts: Sequence[tuple[UUID, str, datetime]]) -> None:
    """Note payouts that their banks have left without an answer: each one's id, bank, and since when."""
    await execute_rows(connection, _QUERIES.insert_silent_payouts, payouts)


async def take_answered(connection: Connection, ids: Collection[UUID]) -> set[str]:
    """Forget the payouts that were answered; return the banks that answered late."""
    rows = await connection.fetch(_QUERIES.take_answered_payouts, list(ids))
    return {row["bank"] for row in rows}


async def find_silent(connection: Connection, banks: Collection[str], since: datetime, at_least: int) -> list[str]:
    """Return the banks among these that have left so many payouts without an answer since a moment."""
    return [row["bank"] for row in await connection.fetch(_QUERIES.find_silent_banks, sorted(banks), since, at_least)]


async def claim_rails(connection: Connection, windows: Mapping[str, UUID]) -> set[str]:
    """Have banks make windows, by bank; return those that do, because they have none that is not over."""
    if not windows:
        return set()
    return {row["bank"] for row in await connection.fetch(_QUERIES.claim_rails, *columns_of(sorted(windows.items())))}


async def load_rails(connection: Connection, banks: Collection[str]) -> list[UUID]:
    """Return the windows that these banks have made."""
    return [row["window_id"] for row in await connection.fetch(_QUERIES.load_rails, sorted(banks))]


async def release_rails(connection: Connection, banks: Collection[str]) -> None:
    """Forget the windows that these banks have made, and what else they left without an answer."""
    await connection.execute(_QUERIES.release_rails, sorted(banks))
