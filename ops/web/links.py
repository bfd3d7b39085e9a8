"""Links by which a customer follows one transfer or closing without signing in: signed, and good until a day."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from services.notify.inbox import tokens
from services.notify.inbox.tokens import NotGranted

if TYPE_CHECKING:
    from datetime import timedelta

_PURPOSE: Final = b"sluice follow link v1"


class Kind(StrEnum):
    """What a link is about."""

    TRANSFER = "transfer"
    CASE = "case"


class Followed(NamedTuple):
    """What a link lets somebody follow."""

    kind: Kind
    id: uuid.UUID


def make_link(key: bytes, url: str, followed: Followed, lasts: timedelta) -> str:
    """Return the address that a customer is given; `url` is the console's own, without a slash at its end."""
    expires_at = datetime.now(UTC) + lasts
    return f"{url}/follow/{tokens.issue(key, f'{followed.kind}/{followed.id}', expires_at, _PURPOSE)}"


def read_link(key: bytes, token: str) -> Followed | None:
    """Return what a link's token is about; None where it is forged, was changed, or is over."""
    try:
        grant = tokens.check(key, token, datetime.now(UTC), _PURPOSE)
    except NotGranted:
        return None
    kind, _, id_ = grant.customer_id.partition("/")
    return Followed(Kind(kind), uuid.UUID(id_))
