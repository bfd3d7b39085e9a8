"""Inboxes as streams of server-sent events: each message once, in order, and how many are unread."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiohttp import web

from services.notify.inbox import store
from services.notify.inbox.access import PRIVATE, Refused, grant_of, nothing_here
from services.notify.inbox.api import Number, Order, as_json, in_json, order_in_query

if TYPE_CHECKING:
    from services.notify.inbox.live import Live, Stream
    from services.notify.inbox.store import News
    from services.notify.sealed import Keys

_HEARTBEAT: Final = b": still here\n\n"
_HEARTBEAT_S: Final = 15.0
_RETRY: Final = b"retry: 3000\n\n"
_FIRST_WITHIN_S: Final = 5.0
_WRITE_WITHIN_S: Final = 30.0
_LONGEST_S: Final = 86_400.0
_EVENT_ID: Final = re.compile("[0-9]{1,18}")
_HEADERS: Final = PRIVATE | {"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}
"""The last keeps a proxy from holding events back."""


class LiveOrder(Order):
    """From where on a stream is followed for the first time: above this number, or from now on."""

    after: Number | None = None


@dataclass(frozen=True, slots=True)
class Events:
    """The desk that clients follow their inbox at."""

    keys: Keys
    live: Live
    heartbeat_s: float = _HEARTBEAT_S

    def routes(self) -> list[web.RouteDef]:
        """Return what it answers."""
        return [web.get("/inbox/live", in_json(self.follow), allow_head=False)]

    async def follow(self, request: web.Request) -> web.StreamResponse:
        """Send what is new until the client leaves, its token is over, or its inbox is erased."""
        grant = grant_of(request, self.keys.master_key, may_be_in_query=True)
        with self.live.follow(grant.customer_id, _seen(request), lambda: request.transport is None) as stream:
            await stream.wait(_FIRST_WITHIN_S)
            first = self.live.take(stream)
            if first is None:
                raise Refused(503, "The inbox cannot be read just now; please try again.")
            if first.wrapped_key is None:
                raise nothing_here()
            left_s = (grant.expires_at - datetime.now(UTC)).total_seconds()
            ending = asyncio.get_running_loop().call_later(min(left_s, _LONGEST_S), stream.end)
            try:
                return await self._send(request, stream, first)
            finally:
                ending.cancel()

    async def _send(self, request: web.Request, stream: Stream, first: News) -> web.StreamResponse:
        response = web.StreamResponse(headers=_HEADERS)
        await response.prepare(request)
        try:
            await _write(response, _RETRY + self._events(stream, first, told=None))
            await self._go_on(response, stream, first.unread)
        except OSError:
            # The client has left, or takes nothing: it will come again and say how far it got.
            if request.transport is not None:
                request.transport.abort()
        return response

    async def _go_on(self, response: web.StreamResponse, stream: Stream, unread: int) -> None:
        while not stream.is_over or stream.news is not None:
            await stream.wait(self.heartbeat_s)
            news = self.live.take(stream)
            if news is None:
                await _write(response, _HEARTBEAT)
                continue
            await _write(response, self._events(stream, news, told=unread))
            unread = news.unread

    def _events(self, stream: Stream, news: News, told: int | None) -> bytes:
        """Return what news look like on the wire; every event's id is a number up to which the client has all."""
        if news.wrapped_key is None:
            return _event("gone", None, {})
        messages = [store.open_message(self.keys, stream.customer_id, news.wrapped_key, one) for one in news.messages]
        events = [_event("message", message.number, as_json(message)) for message in messages]
        if news.unread != told:
            events.append(_event("unread", news.last, {"unread": news.unread}))
        return b"".join(events)


def _event(name: str, number: int | None, data: Any) -> bytes:
    id_ = b"" if number is None else b"id: %d\n" % number
    return b"event: %b\n%bdata: %b\n\n" % (name.encode(), id_, orjson.dumps(data))


async def _write(response: web.StreamResponse, data: bytes) -> None:
    """Write, unless there is nothing; TimeoutError when the client does not take it."""
    if data:
        async with asyncio.timeout(_WRITE_WITHIN_S):
            await response.write(data)


def _seen(request: web.Request) -> int | None:
    """Return the number up to which the client has everything: as it says when it comes again, or at first."""
    said = request.headers.get("Last-Event-ID", "")
    if not said:
        return order_in_query(LiveOrder, request).after
    if not _EVENT_ID.fullmatch(said):
        raise Refused(400, "Last-Event-ID: it must be the id of an event of this stream.")
    return int(said)
