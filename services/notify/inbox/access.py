"""Who may read, and how much at once: tokens are taken from requests, and connections are lent for moments only."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import structlog

from services.notify.inbox.tokens import NotGranted, check
from services.runtime.database import TRANSIENT
from services.runtime.log import error_fields

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from aiohttp import web

    from services.notify.inbox.tokens import Grant
    from services.runtime.database import Connection, Pool

COOKIE: Final = "sluice_inbox"
PRIVATE: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers of every answer: nothing is kept by anybody between us and the reader, nor told to others."""
CONNECTIONS: Final = 2
"""How many readers are served by the database at once; a page takes it about a millisecond."""
_MOST_WAITING: Final = 200
_MOST_OF_ONE: Final = 4
_WITHIN_S: Final = 5.0
_LARGEST_BODY: Final = 16_384

_LOG = structlog.stdlib.get_logger(__name__)


class Refused(Exception):
    """A request is not done: the status of the answer, and the sentence in it."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence

    @property
    def headers(self) -> Mapping[str, str]:
        """What besides the sentence helps the client."""
        if self.status == 401:
            return PRIVATE | {"WWW-Authenticate": "Bearer"}
        return PRIVATE | {"Retry-After": "2"} if self.status in {429, 503} else PRIVATE


def nothing_here() -> Refused:
    """Return the answer to whoever is not known, or not any more."""
    return Refused(404, "There is nothing here.")


def grant_of(request: web.Request, master_key: bytes, *, may_be_in_query: bool = False) -> Grant:
    """Return what the request's token grants: of the header, the query where it may be there, or the page's cookie.

    Raises:
        Refused: there is no token, or it grants nothing.
    """
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer":
        token = (request.query.get("token", "") if may_be_in_query else "") or request.cookies.get(COOKIE, "")
    if not token:
        raise Refused(401, "A token is missing: send it as Authorization: Bearer.")
    try:
        # Tokens are made for the world's time, whatever ours is moved to.
        return check(master_key, token.strip(), datetime.now(UTC))
    except NotGranted as error:
        raise Refused(401, str(error)) from None


def check_size(request: web.Request) -> None:
    """Refuse a body that is longer than what a reader has to say, or does not tell its length."""
    if request.content_length is None or request.content_length > _LARGEST_BODY:
        raise Refused(413, f"The body must have a Content-Length of at most {_LARGEST_BODY} bytes.")


@asynccontextmanager
async def reading() -> AsyncIterator[None]:
    """Read a body in this context; Refused when it does not come in time."""
    try:
        async with asyncio.timeout(_WITHIN_S):
            yield
    except (TimeoutError, ConnectionError) as error:
        raise Refused(408, "The body did not come in time.") from error


@dataclass(slots=True)
class Lender:
    """Lends connections to readers: some at once, few of them to one customer, none for long."""

    pool: Pool
    _asking: Counter[str] = field(default_factory=Counter)
    _free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CONNECTIONS))

    @asynccontextmanager
    async def lend(self, customer_id: str) -> AsyncIterator[Connection]:
        """Lend a connection; Refused when too many wait for one, or the database does not answer in time."""
        if self._asking.total() >= _MOST_WAITING:
            raise Refused(503, "Too many are reading just now; please try again.")
        if self._asking[customer_id] >= _MOST_OF_ONE:
            raise Refused(429, f"No more than {_MOST_OF_ONE} requests at once, please.")
        self._asking[customer_id] += 1
        try:
            async with asyncio.timeout(_WITHIN_S), self._free, self.pool.acquire() as connection:
                yield connection
        except TRANSIENT as error:
            _LOG.warning("inbox_not_read", **error_fields(error))
            raise Refused(503, "The inbox cannot be read just now; please try again.") from error
        finally:
            self._asking -= Counter({customer_id: 1})
