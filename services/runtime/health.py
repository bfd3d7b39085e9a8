"""What a supervisor and a monitor ask over HTTP: `/healthz`, `/readyz` and `/metrics`."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from services.runtime.database import TRANSIENT
from services.runtime.metrics import REGISTRY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from services.runtime.database import Pool

_DATABASE_TIMEOUT_S = 2.0


@asynccontextmanager
async def serve(
    host: str,
    port: int,
    pool: Pool | None,
    reasons_not_ready: Callable[[], Sequence[str]],
    pages: Sequence[web.RouteDef] = (),
) -> AsyncIterator[str]:
    """Answer while the context lasts; yields the address, with the port that was free when `port` is 0.

    Who has no database is not asked about one; `pages` are answered besides.
    """
    application = web.Application()
    application.add_routes(
        [
            web.get("/healthz", _healthz),
            web.get("/readyz", lambda _request: _readyz(pool, reasons_not_ready)),
            web.get("/metrics", _metrics),
            *pages,
        ]
    )
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield f"http://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _healthz(_request: web.Request) -> web.Response:
    return web.json_response({"status": "alive"})


async def _readyz(pool: Pool | None, reasons_not_ready: Callable[[], Sequence[str]]) -> web.Response:
    reasons = list(reasons_not_ready())
    if pool is not None and not await _is_reachable(pool):
        reasons.append("the database does not answer")
    body = {"status": "not ready", "reasons": reasons} if reasons else {"status": "ready"}
    return web.json_response(body, status=503 if reasons else 200)


async def _is_reachable(pool: Pool) -> bool:
    try:
        async with asyncio.timeout(_DATABASE_TIMEOUT_S):
            await pool.execute("select 1")
    except TRANSIENT:
        return False
    return True


async def _metrics(_request: web.Request) -> web.Response:
    return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})
