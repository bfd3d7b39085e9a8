"""What a customer's link shows of a transfer: how it went, and nothing more once they are erased."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import orjson
import pytest

from ops.running import Running
from ops.web.following import follow
from ops.web.links import Followed, Kind
from services.notify.model import Locale

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.runtime.database import Connection

ASKED_AT = datetime(2026, 1, 1, tzinfo=UTC)
ID = uuid.UUID(int=7)

_INSERT = """
    insert into transfer (
        transfer_id, content_hash, kind, payer, payee, payer_customer_id, payee_customer_id, amount_minor, fee_minor,
        currency, status, requested_at, seq, event_type, event_body, occurred_at
    )
    values ($1, '', 'withdrawal', 'wallet:1', 'bank:ICBC:6222020000001234', 'a', 'b', 12345, 0,
            'CNY', 'settled', $2, 1, 'transfer.settled', $3, $2)
"""


@pytest.fixture
async def transfers(database: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(database, server_settings={"search_path": "transfer"})
    await connection.execute(_INSERT, ID, ASKED_AT, orjson.dumps({"status": "settled"}))
    yield connection
    await connection.close()


@pytest.mark.parametrize(
    ("erased", "returned_after", "shown"),
    [
        (None, None, True),
        ("a", None, False),
        # Known again since, as somebody else; and what somebody ordered after they came back.
        ("a", timedelta(days=1), False),
        ("a", timedelta(days=-1), True),
        # The payer ordered it: whose payee is erased is told no less.
        ("b", None, True),
    ],
)
async def test_of_who_is_erased_a_link_shows_how_it_went_and_no_amount_nor_account(
    database: str, transfers: Connection, erased: str | None, returned_after: timedelta | None, *, shown: bool
) -> None:
    if erased is not None:
        returned_at = None if returned_after is None else ASKED_AT + returned_after
        await transfers.execute("insert into erased_customer values ($1, $2)", erased, returned_at)
    course = await follow(Running("", database, "", "real"), Followed(Kind.TRANSFER, ID), Locale.ENGLISH)
    assert course is not None
    assert (course.status, course.steps) == ("settled", [(ASKED_AT, "settled")])
    assert (bool(course.amounts), bool(course.ending), course.is_erased) == (shown, shown, not shown)
