"""A worker process from its first line to its exit code: the only wiring of the runtime."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import stamina
import structlog
import uvloop

from services.runtime.clock import clock_from_setting
from services.runtime.consumer import Consumer
from services.runtime.cycles import collect_cycles
from services.runtime.database import TRANSIENT, MigrationError, create_pool, migrate
from services.runtime.health import serve
from services.runtime.liveness import Hopeless
from services.runtime.log import configure_logging, error_fields
from services.runtime.scrubbing import CONNECTIONS as SCRUBBING_CONNECTIONS
from services.runtime.scrubbing import keep_scrubbed
from services.runtime.service import Surroundings
from services.runtime.settings import SettingsError, load_settings
from services.runtime.tracing import start_tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.runtime.service import Companion, Service
    from services.runtime.settings import RuntimeSettings

MIGRATIONS = Path(__file__).with_name("migrations")

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_MISCONFIGURED = 2

_DATABASE_WAIT_S = 60.0

_LOG = structlog.stdlib.get_logger(__name__)


def run(build: Callable[[], Service]) -> int:
    """Build a service and run a worker of it until SIGTERM or SIGINT; return the process's exit code.

    0 after an orderly stop, 1 when it could not go on, 2 for a setting or migration that a person must mend.
    """
    try:
        settings, service = load_settings(), build()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_MISCONFIGURED
    configure_logging(settings.log_level, settings.log_format)
    stamina.instrumentation.set_on_retry_hooks(())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_work(service, settings))


async def _work(service: Service, settings: RuntimeSettings) -> int:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    try:
        await prepare_database(settings, service.schema, [MIGRATIONS, service.migrations])
    except MigrationError as error:
        sys.stderr.write(f"The schema {service.schema} can not be migrated: {error}.\n")
        return EXIT_MISCONFIGURED
    except TRANSIENT as error:
        _LOG.error("database_unreachable", **error_fields(error))
        return EXIT_FAILED
    dsn = settings.database_url.get_secret_value()
    # One connection for the batch, one for the watch, one for the lead, one for the pause, one for `/readyz`.
    size = 5 + SCRUBBING_CONNECTIONS + service.companion_connections
    pool = await create_pool(dsn, service.schema, f"sluice.{service.name}", size=size)
    tracing = start_tracing(settings, service.name)
    try:
        surroundings = Surroundings(settings, pool, clock_from_setting(settings.clock), stopping)
        consumer = Consumer(service, settings, pool, surroundings.clock, stopping, tracing)
        async with serve(settings.http_host, settings.http_port, pool, consumer) as address:
            _announce(service, address)
            return await _run_until_told(surroundings, consumer, (keep_scrubbed, *service.companions))
    finally:
        pool.terminate()
        if tracing is not None:
            tracing.close()


async def prepare_database(settings: RuntimeSettings, schema: str, folders: Sequence[Path]) -> None:
    """Bring a service's schema up to date unless told not to; waits a minute for a starting database."""
    if settings.migrate:
        dsn = settings.database_url.get_secret_value()
        waiting = stamina.retry_context(
            TRANSIENT, attempts=None, timeout=_DATABASE_WAIT_S, wait_initial=0.2, wait_max=3.0
        )
        async for attempt in waiting:
            with attempt:
                await migrate(dsn, schema, folders)


def _announce(service: Service, address: str) -> None:
    line = json.dumps({"service": service.name, "pid": os.getpid(), "health": address})
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def _run_until_told(surroundings: Surroundings, consumer: Consumer, companions: Sequence[Companion]) -> int:
    running = [asyncio.create_task(consumer.run()), asyncio.create_task(collect_cycles(surroundings.stopping))]
    running += [asyncio.ensure_future(companion(surroundings)) for companion in companions]
    told = asyncio.create_task(surroundings.stopping.wait())
    await asyncio.wait([*running, told], return_when=asyncio.FIRST_COMPLETED)
    # Whoever ended without being told failed: the others stop as if they had been told.
    surroundings.stopping.set()
    deadline_s = surroundings.settings.shutdown_timeout_s
    _, late = await asyncio.wait(running, timeout=deadline_s)
    for task in late:
        _LOG.error("not_stopped_in_time", deadline_s=deadline_s)
        task.cancel()
    failures = [error for task in running if task.done() and (error := task.exception()) is not None]
    for error in failures:
        _say_why(error)
    if late or failures:
        return EXIT_FAILED
    _LOG.info("stopped")
    return EXIT_DONE


def _say_why(error: BaseException) -> None:
    if isinstance(error, Hopeless):
        _LOG.error("hopeless", why=str(error))
    else:
        _LOG.error("crashed", exc_info=error)
