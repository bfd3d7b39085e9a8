"""`sluice monitor`: the lag of every group and the state of the system, at /metrics, /lag and /healthz."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Final

import typer
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from ops.errors import UserError
from ops.lag.metrics import LagText
from ops.lag.system import make_collector_apart
from ops.lag.watching import Watch
from ops.monitor.metrics import StateMetrics
from ops.monitor.state import State
from ops.pausing import paused_groups
from ops.running import find_running
from ops.terminal import plain_json
from services.runtime.log import configure_logging

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ops.running import Running

_OLD_AFTER_S: Final = 60.0
_AT_ONCE: Final = 64 * 1024


class NotServed(UserError):
    """The address cannot be listened at; the text says why."""


def monitor(
    port: Annotated[int, typer.Option(help="Where to listen; 0 takes a free one.", min=0, max=65_535)] = 9308,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    every: Annotated[float, typer.Option(help="Seconds from one look at the lag to the next.", min=1, max=60)] = 5,
    audit_every: Annotated[
        float, typer.Option(help="Seconds from one audit to the next; 0 never audits.", min=0)
    ] = 900,
) -> None:
    """Look at every group's lag and at the system's state; serve /metrics, /lag and /healthz until told to stop."""
    configure_logging("info", "json")
    asyncio.run(_run_until_told(find_running(), host, port, every, audit_every))


async def _run_until_told(running: Running, host: str, port: int, every: float, audit_every: float) -> None:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    async with monitoring(running, host=host, port=port, every_s=every, audit_every_s=audit_every) as address:
        line = json.dumps({"service": "monitor", "pid": os.getpid(), "http": address})
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        await told.wait()


@asynccontextmanager
async def monitoring(
    running: Running, *, host: str = "127.0.0.1", port: int = 0, every_s: float = 5, audit_every_s: float = 900
) -> AsyncIterator[str]:
    """Look and serve while the context lasts; yields the address, with the port that was free when `port` is 0."""
    state = State(running)
    collector = make_collector_apart(running, paused=lambda: paused_groups(running.topic_prefix, state.pauses))
    following = asyncio.create_task(state.follow(audit_every_s))
    try:
        with Watch(collector, every_s) as watch:
            async with _served(_application(watch, state), host, port) as address:
                yield address
    finally:
        following.cancel()
        await asyncio.wait([following])


def _application(watch: Watch, state: State) -> web.Application:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StateMetrics(state))
    lag_text = LagText()

    async def metrics(request: web.Request) -> web.StreamResponse:
        parts = generate_latest(registry), *lag_text.of(watch.newest)
        response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE_LATEST})
        response.content_length = sum(map(len, parts))
        await response.prepare(request)
        # Bit by bit: the page may have megabytes, and who reads slowly has no copy of his own.
        for part in parts:
            for first in range(0, len(part), _AT_ONCE):
                await response.write(part[first : first + _AT_ONCE])
        return response

    async def lag(_request: web.Request) -> web.Response:
        rows = [] if watch.newest is None else watch.newest.rows
        return web.Response(text=plain_json(rows), content_type="application/json")

    async def healthz(_request: web.Request) -> web.Response:
        looked = watch.newest
        is_old = looked is None or time.time() - looked.at > _OLD_AFTER_S
        why = f": {watch.problem}" if watch.problem else ""
        since = "yet" if looked is None else "for a minute"
        body = {"status": f"nothing was seen {since}{why}" if is_old else "alive"}
        return web.json_response(body, status=503 if is_old else 200)

    application = web.Application()
    application.add_routes([web.get("/metrics", metrics), web.get("/lag", lag), web.get("/healthz", healthz)])
    return application


@asynccontextmanager
async def _served(application: web.Application, host: str, port: int) -> AsyncIterator[str]:
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            why = str(error.strerror).rpartition(": ")[2]
            raise NotServed(f"Nothing can listen at {host}:{port}: {why}. See --port and --host.") from error
        yield f"http://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
