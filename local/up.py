"""`sluice up`: the engines, the topics, the migrations, every service's workers and the sandbox bank."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from local.daemon import EngineError
from local.engines import Engines, start_engines
from local.processes import Keeper, Slot
from local.secrets import keys_of
from local.settings import LocalSettings, load_local_settings
from local.setup import SERVICES, set_up

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

_READY_WITHIN_S: Final = 90.0
_LOOK_EVERY_S: Final = 0.1
_WATCH_EVERY_S: Final = 0.5


class AlreadyRunning(Exception):
    """Something runs in this place; the text says what, and where its endpoints are."""


class NotReady(Exception):
    """The services did not become ready in time; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start."""

    endpoints: Path | None = None
    workers: Mapping[str, int] | None = None
    movable_clock: bool = False


def run(plan: Plan) -> None:
    """Run everything until SIGTERM or SIGINT."""
    with asyncio.Runner() as runner:
        runner.run(_run(plan, load_local_settings()))


async def _run(plan: Plan, settings: LocalSettings) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    home = settings.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    with _only_one(home):
        (home / "run.json").unlink(missing_ok=True)
        async with _System(plan, settings, home).running(stopping) as system:
            await system.supervise(stopping)
        (home / "run.json").unlink(missing_ok=True)
        if plan.endpoints is not None:
            plan.endpoints.unlink(missing_ok=True)


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    with (home / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(_who_runs(home)) from None
        yield


def _who_runs(home: Path) -> str:
    with suppress(FileNotFoundError, json.JSONDecodeError):
        pid = json.loads((home / "run.json").read_text())["pid"]
        return f"Sluice already runs here, as process {pid}; its endpoints are in {home / 'run.json'}."
    return f"Sluice is already starting here; its data are in {home}."


class _System:
    """One run: what was started, in the order in which it is stopped again."""

    def __init__(self, plan: Plan, settings: LocalSettings, home: Path) -> None:
        self._plan = plan
        self._settings = settings
        self._home = home
        self._logs = home / "logs"
        self._engines: Engines | None = None
        self._keepers: list[Keeper] = []
        self._slots: list[Slot] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._is_ready = False
        self._prefix = os.environ.get("SLUICE_TOPIC_PREFIX", "")
        self._clock = os.environ.get("SLUICE_CLOCK", "real")

    @asynccontextmanager
    async def running(self, stopping: asyncio.Event) -> AsyncIterator[_System]:
        """Start everything, and at the end stop everything."""
        try:
            self._logs.mkdir(exist_ok=True)
            self._set_clock()
            environment = await self._start_engines()
            self._start_processes(environment)
            await self._wait_until_ready(stopping)
            yield self
        finally:
            await self._stop()

    def _set_clock(self) -> None:
        if self._plan.movable_clock and self._clock == "real":
            path = self._home / "clock"
            if not path.exists():
                path.write_text("0")
            self._clock = f"file:{path}"

    async def _start_engines(self) -> dict[str, str]:
        settings = self._settings
        started = time.monotonic()
        dsn = settings.dsn.get_secret_value() if settings.dsn else None
        self._engines = start_engines(
            self._home / "data", settings.bootstrap, dsn, lambda name: _say(f"Starting {name} …")
        )
        environment = dict(os.environ) | keys_of(self._home)
        environment |= {
            "KAFKA_BOOTSTRAP_SERVERS": self._engines.bootstrap,
            "DATABASE_URL": self._engines.dsn,
            "SLUICE_CLOCK": self._clock,
            "SLUICE_BANK_HOME": str(self._home),
            # Migrated below, once for all workers.
            "SLUICE_MIGRATE": "false",
            "PYTHONUNBUFFERED": "1",
        }
        _say(f"Engines ready after {time.monotonic() - started:.1f} s; preparing topics and tables …")
        await set_up(settings, self._engines.bootstrap, self._engines.dsn)
        return environment

    def _start_processes(self, environment: Mapping[str, str]) -> None:
        commands = {name: f"services.{name}" for name in SERVICES} | {"bank": "local.bank"}
        counts = dict.fromkeys(commands, 1) | dict(self._plan.workers or {})
        for name, module in commands.items():
            for number in range(counts[name]):
                label = name if counts[name] == 1 else f"{name}-{number + 1}"
                log = self._logs / f"{label}.log"
                slot = Slot(label, [sys.executable, "-m", module], environment, log)
                self._slots.append(slot)
                self._keepers.append(Keeper(slot, self._on_change, _say))
        self._tasks = [asyncio.create_task(keeper.run()) for keeper in self._keepers]

    async def _wait_until_ready(self, stopping: asyncio.Event) -> None:
        _say("Starting the services …")
        deadline = time.monotonic() + _READY_WITHIN_S
        async with aiohttp.ClientSession() as client:
            while waiting := [said for slot in self._slots if (said := await _why_not(client, slot))]:
                self._raise_failures()
                if stopping.is_set():
                    return
                if time.monotonic() > deadline:
                    raise NotReady(f"Not ready after {_READY_WITHIN_S:g} s: {'; '.join(waiting)}. See {self._logs}.")
                await asyncio.sleep(_LOOK_EVERY_S)
        self._is_ready = True
        self._on_change()
        self._say_where_to_look()

    def _raise_failures(self) -> None:
        for task in self._tasks:
            if task.done() and (error := task.exception()):
                raise error

    async def supervise(self, stopping: asyncio.Event) -> None:
        """Start engines again that die, until told to stop or a process needs a person."""
        while not stopping.is_set():
            self._raise_failures()
            self._revive_engines()
            with suppress(TimeoutError):
                async with asyncio.timeout(_WATCH_EVERY_S):
                    await stopping.wait()

    def _revive_engines(self) -> None:
        engines = self._engines
        if engines is None:
            return
        for name, engine in (("Kafka", engines.kafka), ("PostgreSQL", engines.postgres)):
            if engine is not None and not engine.is_alive():
                _say(f"{name} ended; it is started again")
                # In this thread: the kernel ties an engine's life to the thread that started it.
                try:
                    engine.restart()
                except EngineError as error:
                    _say(str(error))
                self._on_change()

    async def _stop(self) -> None:
        if self._keepers:
            _say("Stopping …")
        # The bank last, so that what the services still send is answered.
        for is_bank in (False, True):
            async with asyncio.TaskGroup() as stops:
                for slot, keeper in zip(self._slots, self._keepers, strict=True):
                    if (slot.name == "bank") == is_bank:
                        stops.create_task(keeper.stop(self._settings.shutdown_timeout_s + 5))
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._engines is not None:
            self._engines.stop()
            _say("Stopped.")

    # --- What others need to know ---

    def _on_change(self) -> None:
        if self._is_ready:
            text = json.dumps(self._endpoints(), indent=2)
            for path in (self._home / "run.json", self._plan.endpoints):
                if path is not None:
                    _write_privately(path, text)

    def _endpoints(self) -> dict[str, Any]:
        engines = self._engines
        services = [
            {"name": said["service"], "pid": said["pid"], "health": said["health"]}
            for slot in self._slots
            if slot.name != "bank" and (said := slot.announced)
        ]
        bank = next((slot.announced for slot in self._slots if slot.name == "bank"), None)
        return {
            "pid": os.getpid(),
            "kafka": engines.bootstrap if engines else "",
            "database": engines.dsn if engines else "",
            "engines": {
                "kafka_pid": engines.kafka.pid if engines and engines.kafka else None,
                "postgres_pid": engines.postgres.pid if engines and engines.postgres else None,
            },
            "services": services,
            "bank": {"pid": bank["pid"], "behaviour": str(self._home / "bank.json")} if bank else None,
            "topic_prefix": self._prefix,
            "clock": self._clock,
            "logs": str(self._logs),
        }

    def _say_where_to_look(self) -> None:
        found = self._endpoints()
        _say("")
        _say("Sluice is up.")
        _say(f"  Kafka        {found['kafka']}")
        _say(f"  endpoints    {self._plan.endpoints or self._home / 'run.json'} (with the database's address)")
        for service in found["services"]:
            _say(f"  {service['name']:<12} {service['health']}/readyz and /metrics (process {service['pid']})")
        _say(f"  logs         {found['logs']}")
        _say("Try `sluice audit` or `sluice statement wallet:ID` in another terminal; Ctrl-C stops everything.")


async def _why_not(client: aiohttp.ClientSession, slot: Slot) -> str | None:
    """Say why a slot is not ready, or None when it is; without a health page it need only be announced."""
    if slot.announced is None:
        return f"{slot.name} has not started"
    if "health" not in slot.announced:
        return None
    try:
        timeout = aiohttp.ClientTimeout(total=2)
        async with client.get(f"{slot.announced['health']}/readyz", timeout=timeout) as answer:
            return None if answer.ok else f"{slot.name}: {(await answer.text())[:200]}"
    except (aiohttp.ClientError, TimeoutError) as error:
        return f"{slot.name}: {type(error).__name__}"


def _write_privately(path: Path, text: str) -> None:
    # Another reader never sees half a file, nor a stranger the database's password.
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.touch(mode=0o600)
    half.write_text(text + "\n")
    half.replace(path)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


# --- For other programs ---


@contextmanager
def started(
    home: Path | None = None,
    *,
    workers: int = 1,
    movable_clock: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Iterator[dict[str, Any]]:
    """Run `sluice up` in a process of its own for as long as the context; yield its endpoints.

    Without `home` its data are temporary. Raises NotReady with what it said when it does not come up.
    """
    with tempfile.TemporaryDirectory(prefix="sluice-") as temporary:
        place = home or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            place.chmod(0o711)
        command = [sys.executable, "-m", "ops.cli", "up", "--workers", f"transfer={workers}"]
        if movable_clock:
            command.append("--movable-clock")
        said = place / "up.log"
        with said.open("wb") as output:
            child = subprocess.Popen(  # noqa: S603 - our own command line
                command,
                env=os.environ | dict(environment or {}) | {"SLUICE_HOME": str(place)},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield _wait_for_endpoints(child, place / "run.json", said)
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait(120)


def _wait_for_endpoints(child: subprocess.Popen[bytes], path: Path, said: Path) -> dict[str, Any]:
    deadline = time.monotonic() + 2 * _READY_WITHIN_S
    while not path.exists():
        if child.poll() is not None or time.monotonic() > deadline:
            raise NotReady(f"`sluice up` did not come up:\n{said.read_text('utf-8', 'replace')[-2000:]}")
        time.sleep(_LOOK_EVERY_S)
    endpoints: dict[str, Any] = json.loads(path.read_text())
    return endpoints
