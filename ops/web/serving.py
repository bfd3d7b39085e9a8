"""`sluice console`: serves the console until told to stop."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import structlog
import typer
import uvicorn

from local.jars import SCRIPTS, fetched_scripts
from ops.errors import UserError
from ops.lag.system import make_collector_apart
from ops.lag.watching import Watch
from ops.running import find_running
from ops.terminal import terminal
from ops.web.application import build
from ops.web.settings import load_console
from ops.web.site import Site, make_site
from services.runtime.log import configure_logging
from services.runtime.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from ops.web.settings import ConsoleSettings

_LOG = structlog.stdlib.get_logger(__name__)
_LOOK_EVERY_S: Final = 2.0
_STOPS_WITHIN_S: Final = 5


class _Server(uvicorn.Server):
    """Says where it listens once it does, and has streams end when it is told to stop."""

    def __init__(self, config: uvicorn.Config, site: Site, tell: Callable[[str], None]) -> None:
        super().__init__(config)
        self._site = site
        self._tell = tell

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            self._tell(self._site.settings.url or f"http://{self._site.settings.host}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._site.stopping.set()
        super().handle_exit(sig, frame)


def show(
    context: typer.Context,
    port: Annotated[int | None, typer.Option(help="Where to listen; 0 takes a free one.", min=0, max=65_535)] = None,
    host: Annotated[str | None, typer.Option(help="The address to listen at.")] = None,
) -> None:
    """Serve the console until told to stop, and print its address."""
    if context.invoked_subcommand is not None:
        return
    said = {"port": port, "host": host}
    given = {name: value for name, value in said.items() if value is not None}
    configure_logging("warning", "console")
    _serve(load_console().model_copy(update=given), lambda url: terminal().print(url, soft_wrap=True))


def main() -> None:
    """Serve as a process that another keeps: announce the address as JSON, log to standard error."""
    configure_logging("info", "json")
    try:
        _serve(load_console(), _announce)
    except (UserError, SettingsError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


def _announce(url: str) -> None:
    sys.stdout.write(json.dumps({"service": "console", "pid": os.getpid(), "http": url}) + "\n")
    sys.stdout.flush()


def _serve(settings: ConsoleSettings, tell: Callable[[str], None]) -> None:
    running = find_running()
    scripts = fetched_scripts()
    if missing := set(SCRIPTS) - set(scripts):
        _LOG.warning("scripts_missing", names=sorted(missing), mend="python -m local.jars fetches them")
    with Watch(make_collector_apart(running), _LOOK_EVERY_S) as watch:
        site = make_site(running, settings, watch, scripts)
        if site.users.is_empty():
            _LOG.warning("nobody_may_sign_in", mend="sluice console user add NAME --role ROLE")
        config = uvicorn.Config(
            build(site),
            host=settings.host,
            port=settings.port,
            log_config=None,
            log_level="warning",
            access_log=False,
            # Who asks is who connects: a header that says otherwise is anybody's to write.
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_STOPS_WITHIN_S,
        )
        _Server(config, site, tell).run()
