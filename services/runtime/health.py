"""What a supervisor and a monitor ask over HTTP: `/healthz`, `/readyz` and `/metrics`."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from services.runtime.database import TRANSIENT
from services.runtime.metrics import REGISTRY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from services.runtime.database import Pool

_DATABASE_TIMEOUT_S = 2.0


class Worker(Protocol):
    """What is asked about a worker."""

    def reasons_not_ready(self) -> Sequence[str]:
        """Say what keeps it from consuming."""

    @property
    def pause(self) -> object | None:
        """The pause that a person has ordered, which can be written as text."""


@asynccontextmanager
async def serve(
    host: str,
    port: int,
    pool: Pool | None,
    worker: Worker,
    pages: Sequence[web.RouteDef] = (),
) -> AsyncIterator[str]:
    """Answer while the context lasts; yields the address, with the port that was free when `port` is 0.

    Who has no database is not asked about one; `pages` are answered besides.
    """

    async def readyz(_request: web.Request) -> web.Response:
        return await _readyz(pool, worker)

    application = web.Application()
    application.add_routes(
        [
            web.get("/healthz", _healthz),
            web.get("/readyz", readyz),
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


async def _readyz(pool: Pool | None, worker: Worker) -> web.Response:
    reasons = list(worker.reasons_not_ready())
    if pool is not None and not await _is_reachable(pool):
        reasons.append("the database does not answer")
    if reasons:
        return web.json_response({"status": "not ready", "reasons": reasons}, status=503)
    if (pause := worker.pause) is not None:
        # Not an error: nobody should put another worker in the place of one that waits for a person.
        return web.json_response({"status": "paused", "why": str(pause)})
    return web.json_response({"status": "ready"})


async def _is_reachable(pool: Pool) -> bool:
    try:
        async with asyncio.timeout(_DATABASE_TIMEOUT_S):
            await pool.execute("select 1")
    except TRANSIENT:
        return False
    return True


async def _metrics(_request: web.Request) -> web.Response:
    return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})
