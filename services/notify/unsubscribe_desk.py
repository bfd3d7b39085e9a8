"""Lets people want no marketing any more: by a click in their mail program (RFC 8058), or on a page with one button."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web

from services.notify.inbox.pages import language_of, render, words_of
from services.notify.inbox.tokens import UNSUBSCRIBE, NotGranted, check, issue
from services.runtime.database import TRANSIENT, load_queries

if TYPE_CHECKING:
    from services.notify.model import Locale
    from services.runtime.database import Pool

PATH: Final = "/unsubscribe"
_GOOD_FOR: Final = timedelta(days=90)
_QUERIES: Final = load_queries(Path(__file__).with_name("queries.sql"))


def unsubscribe_address(base: str, master_key: bytes, customer_id: str) -> str:
    """Return where a person says that they want no marketing any more."""
    token = issue(master_key, customer_id, datetime.now(UTC) + _GOOD_FOR, UNSUBSCRIBE)
    return f"{base}{PATH}?token={token}"


@dataclass(frozen=True, slots=True)
class UnsubscribeDesk:
    """Takes note of who wants no marketing; looking at the page alone changes nothing, because scanners do that."""

    master_key: bytes
    pool: Pool

    def routes(self) -> list[web.RouteDef]:
        """Return what it answers."""
        return [web.get(PATH, self.show), web.post(PATH, self.take)]

    async def show(self, request: web.Request) -> web.Response:
        """Ask whether it is meant."""
        locale = language_of(request)
        if self._customer_of(request) is None:
            return _not_granted(locale)
        return render("leave.html.j2", locale, sentence=words_of(locale).leave_question, asks=True)

    async def take(self, request: web.Request) -> web.Response:
        """Take note of it; a second time changes nothing."""
        locale = language_of(request)
        customer_id = self._customer_of(request)
        if customer_id is None:
            return _not_granted(locale)
        try:
            await self.pool.execute(_QUERIES.unsubscribe, customer_id)
        except TRANSIENT:
            return render("leave.html.j2", locale, 503, sentence=words_of(locale).not_possible, asks=True)
        return render("leave.html.j2", locale, sentence=words_of(locale).left, asks=False)

    def _customer_of(self, request: web.Request) -> str | None:
        try:
            return check(self.master_key, request.query.get("token", ""), datetime.now(UTC), UNSUBSCRIBE).customer_id
        except NotGranted:
            return None


def _not_granted(locale: Locale) -> web.Response:
    return render("leave.html.j2", locale, 401, sentence=words_of(locale).leave_not_granted, asks=False)
