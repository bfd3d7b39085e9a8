"""The HTTP server by which the notifier is reached from the outside: by gateways, apps and browsers."""

from __future__ import annotations

import asyncio
import resource
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LARGEST_BODY: Final = 4_000_000
_LONGEST_LINE: Final = 4_096
"""Of a request's first line, and of each header: a token has up to 1,024 characters."""
_MOST_HEADERS: Final = 64
_LINGER_S: Final = 2.0
"""So long the rest of a body is thrown away that nobody wants, so that its sender reads the answer."""
_SHUTDOWN_S: Final = 5.0
_TURNED_AWAY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much the outside may have of a worker at once, and how long it may take about it.

    A connection on which no request is complete, headers and all, is closed after `idle_s`; so is one whose client does
    not take its answer within `write_s`. How long bodies may take is for the desks to say, which know whom they hear.
    """

    connections: int = 2_000
    idle_s: float = 75.0
    write_s: float = 30.0


@asynccontextmanager
async def serve_public(
    host: str, port: int, routes: Iterable[web.RouteDef], bounds: Bounds | None = None
) -> AsyncIterator[str]:
    """Answer while the context lasts; yields the address. Workers of one machine share a port that is not 0."""
    bounds = bounds or Bounds()
    door = _Door(bounds.write_s)
    application = web.Application(client_max_size=_LARGEST_BODY, middlewares=[door.attend])
    application.add_routes(routes)
    runner = web.AppRunner(
        application,
        access_log=None,
        handle_signals=False,
        keepalive_timeout=bounds.idle_s,
        lingering_time=_LINGER_S,
        max_line_size=_LONGEST_LINE,
        max_field_size=_LONGEST_LINE,
        max_headers=_MOST_HEADERS,
        shutdown_timeout=_SHUTDOWN_S,
    )
    await runner.setup()
    try:
        listening = await _listen(runner, door, _room_for(bounds.connections), host, port)
        try:
            yield f"http://{host}:{listening.sockets[0].getsockname()[1]}"
        finally:
            listening.close()
    finally:
        await runner.cleanup()


def _room_for(connections: int) -> int:
    """Return how many connections there is room for: half of the files that this process may open are for others."""
    wanted, (soft, hard) = 2 * connections, resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    allowed = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed // 2


async def _listen(runner: web.AppRunner, door: _Door, most: int, host: str, port: int) -> asyncio.Server:
    server, loop = runner.server, asyncio.get_running_loop()
    if server is None:
        raise RuntimeError("The runner is not set up.")

    def admit() -> asyncio.Protocol:
        present = server.connections
        return server() if len(present) < most or door.make_room(present) else _TurnedAway()

    listening = await loop.create_server(admit, host, port, reuse_port=port != 0, start_serving=False)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # What lies in the kernel's buffers for a client that takes nothing would otherwise stay there for ever.
        for one in listening.sockets:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(door.write_s * 1_000))
    await listening.start_serving()
    return listening


@dataclass(slots=True)
class _Door:
    """Knows on which connections a request is being answered; the others may have to make room."""

    write_s: float
    _attended: set[web.RequestHandler] = field(default_factory=set)

    def make_room(self, present: Iterable[web.RequestHandler]) -> bool:
        """Let the oldest connection go that says nothing; return whether there is one."""
        for connection in present:
            transport = connection.transport
            if connection not in self._attended and transport is not None and not transport.is_closing():
                transport.abort()
                return True
        return False

    @web.middleware
    async def attend(self, request: web.Request, handler: Answering) -> web.StreamResponse:
        """Keep a connection's place until its request is answered and the answer is taken."""
        self._attended.add(request.protocol)
        try:
            response = await handler(request)
            await self._write(request, response)
            return response
        finally:
            self._attended.discard(request.protocol)

    async def _write(self, request: web.Request, response: web.StreamResponse) -> None:
        try:
            async with asyncio.timeout(self.write_s):
                await response.prepare(request)
                await response.write_eof()
        except OSError:
            if request.transport is not None:
                request.transport.abort()


class _TurnedAway(asyncio.Protocol):
    """A connection for which there is no room."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say so."""
        if isinstance(transport, asyncio.WriteTransport):
            transport.write(_TURNED_AWAY)
        transport.close()
