"""`sluice monitor`: the lag of every group for Prometheus at `/metrics`, and as JSON at `/lag`."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, Annotated, Final

import typer
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily

from local.settings import runtime_settings
from ops.console import console, plain_json
from ops.lag.collector import Collector
from ops.lag.expected import expected_groups
from ops.lag.watching import Watch
from ops.running import find_running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client import Metric

    from ops.lag.model import Row

_LABELS: Final = ("group", "topic", "partition")
_OLD_AFTER_S: Final = 60.0


class LagMetrics:
    """The newest look as metrics, made when they are asked for: a group that is gone leaves nothing behind."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def describe(self) -> Iterable[Metric]:
        """Say that the metrics are only known when they are asked for."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Yield a gauge for each figure, with a sample a position."""
        looked = self._watch.newest
        rows = () if looked is None else looked.rows
        yield _gauge("sluice_group_lag_records", "Records that a group has not processed.", rows, lambda row: row.lag)
        yield _gauge(
            "sluice_group_lag_seconds",
            "Age of the oldest record that a group has not processed.",
            rows,
            lambda row: row.lag_seconds,
        )
        yield _gauge(
            "sluice_group_verdict",
            "0 ok, 1 behind, 2 falling behind, 3 stalled, 4 stopped, 5 gap.",
            rows,
            lambda row: row.verdict.rank,
        )
        yield GaugeMetricFamily(
            "sluice_lag_look_age_seconds",
            "How long ago the brokers last told all of this; NaN before the first time.",
            value=float("nan") if looked is None else time.time() - looked.at,
        )
        yield GaugeMetricFamily(
            "sluice_lag_look_seconds",
            "How long the last look took; NaN before the first time.",
            value=float("nan") if looked is None else looked.took_s,
        )


def _gauge(name: str, text: str, rows: Iterable[Row], value: Callable[[Row], float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=_LABELS)
    for row in rows:
        family.add_metric((row.group, row.topic, str(row.partition)), value(row))
    return family


def monitor(
    port: Annotated[int, typer.Option(help="Where to listen; 0 takes a free one.", min=0, max=65_535)] = 9308,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    every: Annotated[float, typer.Option(help="Seconds from one look to the next.", min=1, max=60)] = 5,
) -> None:
    """Look at every group's lag, and serve /metrics, /lag and /healthz until told to stop."""
    running = find_running()
    settings = runtime_settings(running.kafka, running.database)
    with Watch(Collector(settings, expected_groups(running.topic_prefix)), every) as watch:
        asyncio.run(_serve(watch, host, port))


async def _serve(watch: Watch, host: str, port: int) -> None:
    registry = CollectorRegistry()
    registry.register(LagMetrics(watch))
    application = web.Application()
    application.add_routes(
        [
            web.get("/metrics", lambda _request: _metrics(registry)),
            web.get("/lag", lambda _request: _lag(watch)),
            web.get("/healthz", lambda _request: _healthz(watch)),
        ]
    )
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        console().print(f"http://{host}:{runner.addresses[0][1]}/metrics", soft_wrap=True)
        told = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, told.set)
        await told.wait()
    finally:
        await runner.cleanup()


async def _metrics(registry: CollectorRegistry) -> web.Response:
    return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _lag(watch: Watch) -> web.Response:
    rows = [] if watch.newest is None else watch.newest.rows
    return web.Response(text=plain_json(rows), content_type="application/json")


async def _healthz(watch: Watch) -> web.Response:
    looked = watch.newest
    is_old = looked is None or time.time() - looked.at > _OLD_AFTER_S
    body = {"status": "the brokers have not answered for a minute" if is_old else "alive"}
    return web.json_response(body, status=503 if is_old else 200)
