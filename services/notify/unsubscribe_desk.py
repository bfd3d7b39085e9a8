"""Lets people want no marketing any more: by a click in their mail program (RFC 8058), or on a page with one button."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web

from services.notify.inbox.tokens import UNSUBSCRIBE, NotGranted, check, issue
from services.runtime.database import TRANSIENT, load_queries

if TYPE_CHECKING:
    from services.runtime.database import Pool

PATH: Final = "/unsubscribe"
_GOOD_FOR: Final = timedelta(days=90)
_QUERIES: Final = load_queries(Path(__file__).with_name("queries.sql"))
_PAGE: Final = """<!doctype html>
<html lang="{language}"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><main style="font: 1.1rem/1.6 system-ui; max-width: 32rem; margin: 4rem auto; padding: 0 1rem">
{content}</main></html>
"""
_BUTTON: Final = (
    '<form method="post"><button style="font: inherit; padding: .5rem 1rem">退订 · Unsubscribe</button></form>'
)
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


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
        self._customer_of(request)
        return _page("<p>不再接收营销信息？</p><p>No more marketing messages?</p>" + _BUTTON)

    async def take(self, request: web.Request) -> web.Response:
        """Take note of it; a second time changes nothing."""
        customer_id = self._customer_of(request)
        try:
            await self.pool.execute(_QUERIES.unsubscribe, customer_id)
        except TRANSIENT as error:
            raise web.HTTPServiceUnavailable(text="Please try again.") from error
        return _page("<p>已退订，您将不再收到营销信息。</p><p>Done: you will get no more marketing messages.</p>")

    def _customer_of(self, request: web.Request) -> str:
        try:
            return check(self.master_key, request.query.get("token", ""), datetime.now(UTC), UNSUBSCRIBE).customer_id
        except NotGranted as error:
            raise web.HTTPUnauthorized(text=escape(str(error))) from error


def _page(content: str) -> web.Response:
    text = _PAGE.format(language="zh-CN", title="退订 · Unsubscribe", content=content)
    return web.Response(text=text, content_type="text/html", headers=_HEADERS)
