"""The HTTP server by which the notifier is reached from the outside: by gateways, apps and browsers."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

_LARGEST_BODY: Final = 4_000_000
_KEPT_OPEN_S: Final = 75.0
_SHUTDOWN_S: Final = 5.0


@asynccontextmanager
async def serve_public(host: str, port: int, routes: Iterable[web.RouteDef]) -> AsyncIterator[str]:
    """Answer while the context lasts; yields the address. Workers of one machine share a port that is not 0."""
    application = web.Application(client_max_size=_LARGEST_BODY)
    application.add_routes(routes)
    runner = web.AppRunner(
        application,
        access_log=None,
        handle_signals=False,
        keepalive_timeout=_KEPT_OPEN_S,
        shutdown_timeout=_SHUTDOWN_S,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, reuse_port=port != 0).start()
        yield f"http://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
