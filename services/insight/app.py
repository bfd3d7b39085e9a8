"""A worker of insight from its first line to its exit code."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import faust
import structlog
from confluent_kafka import KafkaException

from services.insight.engine import make_app
from services.insight.pages import pages
from services.insight.settings import load_insight
from services.insight.streams import Streams
from services.insight.topics import TopicsWrong, make_topics
from services.insight.watch import Watch
from services.runtime.app import EXIT_DONE, EXIT_FAILED, EXIT_MISCONFIGURED, prepare_database
from services.runtime.clock import clock_from_setting
from services.runtime.database import TRANSIENT, MigrationError, create_pool
from services.runtime.health import serve
from services.runtime.log import configure_logging, error_fields
from services.runtime.pausing import Pausing
from services.runtime.settings import SettingsError, load_settings

if TYPE_CHECKING:
    from services.insight.policy import Policy
    from services.runtime.settings import RuntimeSettings

NAME: Final = "insight"
MIGRATIONS: Final = Path(__file__).with_name("migrations")
_LOG = structlog.stdlib.get_logger(__name__)


def run() -> int:
    """Run a worker until SIGTERM or SIGINT; return the process's exit code, as other workers do."""
    try:
        settings, policy = load_settings(), load_insight()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_MISCONFIGURED
    configure_logging(settings.log_level, settings.log_format)
    for noisy in ("faust", "mode", "services.insight.engine"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    with asyncio.Runner() as runner:
        return runner.run(_work(settings, policy))


async def _work(settings: RuntimeSettings, policy: Policy) -> int:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    try:
        await prepare_database(settings, NAME, [MIGRATIONS])
        pool = await create_pool(settings.database_url.get_secret_value(), NAME, f"sluice.{NAME}", size=1)
    except MigrationError as error:
        sys.stderr.write(f"The schema {NAME} can not be migrated: {error}.\n")
        return EXIT_MISCONFIGURED
    except TRANSIENT as error:
        _LOG.error("database_unreachable", **error_fields(error))
        return EXIT_FAILED
    try:
        return await _work_unless_paused(settings, policy, Pausing(pool), stopping)
    except TopicsWrong as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_MISCONFIGURED
    except KafkaException as error:
        _LOG.error("brokers_unreachable", **error_fields(error))
        return EXIT_FAILED
    finally:
        pool.terminate()


async def _work_unless_paused(
    settings: RuntimeSettings, policy: Policy, pausing: Pausing, stopping: asyncio.Event
) -> int:
    shapes = await asyncio.to_thread(make_topics, settings, policy)
    # Before anything is taken: a pause outlives the worker that it stopped.
    await pausing.look()
    app = make_app(settings)
    streams = Streams(app, policy, clock_from_setting(settings.clock), settings.topic_prefix, shapes, pausing)
    app.on_rebalance_complete.connect(_told(streams), weak=False)
    watch = Watch(app, streams, settings, pausing)
    async with serve(settings.http_host, settings.http_port, None, watch, pages(streams)) as address:
        sys.stdout.write(json.dumps({"service": NAME, "pid": os.getpid(), "health": address}) + "\n")
        sys.stdout.flush()
        return await _run_until_told(app, watch, pausing, stopping, settings.shutdown_timeout_s)


def _told(streams: Streams) -> Any:
    async def on_rebalanced(*_: Any, **__: Any) -> None:
        await streams.look_again()

    return on_rebalanced


async def _run_until_told(
    app: faust.App, watch: Watch, pausing: Pausing, stopping: asyncio.Event, deadline_s: float
) -> int:
    app.finalize()
    told, following = asyncio.create_task(stopping.wait()), asyncio.create_task(pausing.follow())
    running = asyncio.create_task(_run(app, watch))
    await asyncio.wait([told, running, following], return_when=asyncio.FIRST_COMPLETED)
    failure = next((task.exception() for task in (running, following) if task.done()), None)
    for task in (told, following, running):
        task.cancel()
    try:
        async with asyncio.timeout(deadline_s):
            await app.stop()
    except TimeoutError:
        _LOG.error("not_stopped_in_time", deadline_s=deadline_s)
        return EXIT_FAILED
    if failure is not None:
        _LOG.error("crashed", exc_info=failure)
        return EXIT_FAILED
    _LOG.info("stopped")
    return EXIT_DONE


async def _run(app: faust.App, watch: Watch) -> None:
    await app.maybe_start()
    await watch.run()
