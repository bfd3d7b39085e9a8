"""A worker of insight from its first line to its exit code: the application of faust, and what is asked of it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

import faust
import structlog
from confluent_kafka import KafkaException

from services.insight.pages import pages
from services.insight.settings import load_insight
from services.insight.streams import Streams
from services.insight.topics import GROUP, TopicsWrong, make_topics
from services.insight.watch import Watch
from services.runtime.app import EXIT_DONE, EXIT_FAILED, EXIT_MISCONFIGURED
from services.runtime.clock import clock_from_setting
from services.runtime.health import serve
from services.runtime.kafka import ssl_context
from services.runtime.log import configure_logging, error_fields
from services.runtime.settings import SettingsError, load_settings

if TYPE_CHECKING:
    from faust.types.auth import CredentialsT

    from services.insight.policy import Policy
    from services.runtime.settings import RuntimeSettings

NAME: Final = "insight"
_LOG = structlog.stdlib.get_logger(__name__)


def run() -> int:
    """Run a worker until SIGTERM or SIGINT; return the process's exit code, as other workers do."""
    try:
        settings, policy = load_settings(), load_insight()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_MISCONFIGURED
    configure_logging(settings.log_level, settings.log_format)
    for noisy in ("faust", "mode"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    with asyncio.Runner() as runner:
        return runner.run(_work(settings, policy))


async def _work(settings: RuntimeSettings, policy: Policy) -> int:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    try:
        shapes = await asyncio.to_thread(make_topics, settings, policy)
    except TopicsWrong as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_MISCONFIGURED
    except KafkaException as error:
        _LOG.error("brokers_unreachable", **error_fields(error))
        return EXIT_FAILED
    app = make_app(settings)
    streams = Streams(app, policy, clock_from_setting(settings.clock), settings.topic_prefix, shapes)
    app.on_rebalance_complete.connect(_told(streams), weak=False)
    watch = Watch(app, streams, settings)
    async with serve(settings.http_host, settings.http_port, None, watch.why_not_ready, pages(streams)) as address:
        sys.stdout.write(json.dumps({"service": NAME, "pid": os.getpid(), "health": address}) + "\n")
        sys.stdout.flush()
        return await _run_until_told(app, watch, stopping, settings.shutdown_timeout_s)


def _told(streams: Streams) -> Any:
    async def on_rebalanced(*_: Any, **__: Any) -> None:
        await streams.look_again()

    return on_rebalanced


async def _run_until_told(app: faust.App, watch: Watch, stopping: asyncio.Event, deadline_s: float) -> int:
    app.finalize()
    told = asyncio.create_task(stopping.wait())
    running = asyncio.create_task(_run(app, watch))
    await asyncio.wait([told, running], return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    failure = running.exception() if running.done() else None
    running.cancel()
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


class _App(faust.App):
    def _create_directories(self) -> None:
        """Make no folders: what is known is in memory, and comes from the changelogs."""


def make_app(settings: RuntimeSettings) -> faust.App:
    """Return the application, with no streams yet: one record at a time, and no pages of its own."""
    return _App(
        f"{settings.topic_prefix}{GROUP}",
        broker=[f"kafka://{place}" for place in settings.kafka_bootstrap_servers.split(",")],
        broker_credentials=_credentials(settings),
        broker_client_id=GROUP,
        broker_session_timeout=6.0,
        broker_heartbeat_interval=2.0,
        broker_rebalance_timeout=20.0,
        broker_request_timeout=30.0,
        broker_commit_interval=1.0,
        consumer_auto_offset_reset="earliest",
        producer_compression_type=None if settings.kafka_compression == "none" else settings.kafka_compression,
        store="memory://",
        stream_wait_empty=False,
        topic_disable_leader=True,
        web_enabled=False,
        autodiscover=False,
    )


def _credentials(settings: RuntimeSettings) -> CredentialsT | None:
    context = ssl_context(settings)
    if settings.kafka_security_protocol.startswith("SASL"):
        password = settings.kafka_sasl_password
        return faust.SASLCredentials(
            username=settings.kafka_sasl_username,
            password=None if password is None else password.get_secret_value(),
            ssl_context=context,
            mechanism=settings.kafka_sasl_mechanism,
        )
    return None if context is None else faust.SSLCredentials(context)
