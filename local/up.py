"""`sluice up`: the engines, the topics, the migrations, every service's workers and the sandbox bank."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import aiohttp
import psutil
import typer
from rich.markup import escape

from local.console_users import ensure_user
from local.daemon import EngineError
from local.engines import Engines, start_engines
from local.lifeline import die_with_parent
from local.private_files import write_privately
from local.processes import Keeper, Slot
from local.sandboxes import BANK, MAIL, MODULES, MONITOR, SMS, find_places
from local.secrets import keys_of
from local.settings import LocalSettings, load_local_settings
from local.settings_check import check_settings
from local.setup import WORKERS, set_up
from local.temporary import temporary_folder
from ops.errors import UserError
from ops.running import is_alive
from ops.terminal import terminal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from local.kafka import Kafka
    from local.postgres import Postgres

_READY_WITHIN_S: Final = 90.0
_LOOK_EVERY_S: Final = 0.1
_WATCH_EVERY_S: Final = 0.5
_REVIVE_AGAIN_AFTER_S: Final = 5.0
_STOPS_WITHIN_S: Final = 120.0
_MOST_WORKERS: Final = 64
_CONSOLE: Final = "console"
_MODULES: Final = {name: f"services.{name}" for name in WORKERS} | {_CONSOLE: "ops.web"} | MODULES


_PAGES: Final = {"insight": "/metrics, /outcomes, /deliveries"}
"""What a service answers besides its health, where that is more than its metrics."""


class AlreadyRunning(UserError):
    """Something runs in this place; the text says what, and where its endpoints are."""


class NotReady(UserError):
    """The services did not become ready in time; the text says which and why."""


class WrongPlace(UserError):
    """A file cannot be written where it should be; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start: `workers` are processes by service, one each where it says nothing.

    Without `bank` there is no such one, without `console` nobody looks by a browser, without `monitor` no Prometheus.
    """

    endpoints: Path | None = None
    workers: Mapping[str, int] = field(default_factory=dict)
    movable_clock: bool = False
    bank: bool = True
    console: bool = True
    monitor: bool = True

    @property
    def notifies(self) -> bool:
        """Whether people are told, so that mail and SMS have somewhere to go."""
        return self.workers.get("notify", 1) > 0


def up(
    endpoints: Annotated[
        Path | None, typer.Option(help="Also write the endpoints to this file.", dir_okay=False)
    ] = None,
    workers: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=COUNT", help="Processes of a service, such as transfer=2; notify=0 has none."),
    ] = None,
    movable_clock: Annotated[
        bool, typer.Option("--movable-clock", help="A file moves all clocks: seconds to add, in .sluice/clock.")
    ] = False,
    bank: Annotated[
        bool, typer.Option("--bank/--no-bank", help="Run the sandbox bank; not where a bank's own connector answers.")
    ] = True,
    console: Annotated[bool, typer.Option("--console/--no-console", help="Serve the console.")] = True,
    monitor: Annotated[
        bool, typer.Option("--monitor/--no-monitor", help="Serve the system's lag and state to Prometheus.")
    ] = True,
) -> None:
    """Start everything: engines, topics, tables, services, console, monitor, the sandboxes of bank, mail and SMS."""
    run(Plan(endpoints, _counts(workers or []), movable_clock, bank, console, monitor))


def _counts(words: list[str]) -> dict[str, int]:
    counts = {}
    for word in words:
        name, _, number = word.partition("=")
        if name not in WORKERS or not number.isdecimal() or not 0 <= int(number) <= _MOST_WORKERS:
            raise typer.BadParameter(
                f"{word!r}: say NAME=COUNT with one of {', '.join(WORKERS)} and 0 to {_MOST_WORKERS}",
                param_hint="--workers",
            )
        counts[name] = int(number)
    return counts


def run(plan: Plan) -> None:
    """Run everything until SIGTERM or SIGINT; raises a UserError when it does not come up, or not stay up."""
    settings = load_local_settings()
    home = settings.home.resolve()
    _check_places(home, plan.endpoints)
    places = [path for path in (home / "run.json", plan.endpoints) if path is not None]
    with _only_one(home):
        # Before the engines make any data: keys that are missing beside data are lost.
        check_settings(settings, keys_of(home))
        # What a killed run left behind is not true any more.
        _forget(places)
        try:
            _run(plan, settings, home, places)
        except KeyboardInterrupt:
            _say("Stopped before it was up.")
            raise SystemExit(130) from None
        finally:
            _forget(places)


def _check_places(home: Path, endpoints: Path | None) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WrongPlace(f"{home} cannot be made: {error.strerror}; set SLUICE_HOME to another place.") from error
    folder = home if endpoints is None else endpoints.resolve().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise WrongPlace(f"Nothing can be written to {folder}: make that folder, or name another file.")


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    with (home / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(_who_runs(home)) from None
        yield


def _who_runs(home: Path) -> str:
    with suppress(OSError, ValueError, KeyError):
        said = json.loads((home / "run.json").read_text())
        if is_alive(said):
            return f"Sluice already runs here, as process {said['pid']}; its endpoints are in {home / 'run.json'}."
    return f"Sluice is starting or stopping here just now; its data are in {home}."


def _forget(places: list[Path]) -> None:
    for path in places:
        path.unlink(missing_ok=True)


def _run(plan: Plan, settings: LocalSettings, home: Path, places: list[Path]) -> None:
    # Until the event loop takes over, both signals interrupt whatever is being waited for.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    dsn = settings.dsn.get_secret_value() if settings.dsn else None
    progress = _Progress()
    engines = start_engines(home / "data", settings.bootstrap, dsn, progress)
    progress(None)
    # A thread that outlives the engines that it starts again: the kernel ties an engine to its thread.
    with ThreadPoolExecutor(1) as thread:
        try:
            with asyncio.Runner() as runner:
                came_up = runner.run(_System(plan, settings, home, places, engines, thread).run())
            if not came_up:
                raise KeyboardInterrupt
        finally:
            # Impatience now would only leave engines that stop without being waited for.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            engines.stop()
            _say("Stopped.")


class _Progress:
    """Tells what is being started, and how long what came before it took."""

    def __init__(self) -> None:
        self._doing: str | None = None
        self._since = 0.0

    def __call__(self, what: str | None) -> None:
        """Begin something; None when everything is done."""
        now = time.monotonic()
        if self._doing is not None:
            _say(f"  ready after {now - self._since:.1f} s", style="green")
        self._doing, self._since = what, now
        if what is not None:
            _say(f"Starting {what} …")


class _System:
    """The processes of one run, and what is written of them."""

    def __init__(
        self,
        plan: Plan,
        settings: LocalSettings,
        home: Path,
        places: list[Path],
        engines: Engines,
        thread: ThreadPoolExecutor,
    ) -> None:
        self._plan = plan
        self._settings = settings
        self._home = home
        self._places = places
        self._engines = engines
        self._thread = thread
        self._logs = home / "logs"
        self._ports = find_places()
        self._slots: list[Slot] = []
        self._keepers: list[Keeper] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._is_ready = False
        self._signing_in = ""
        self._prefix = os.environ.get("SLUICE_TOPIC_PREFIX", "")
        self._clock = os.environ.get("SLUICE_CLOCK") or "real"

    async def run(self) -> bool:
        """Start every process and keep all running until told to stop; then stop them, the sandboxes last.

        Returns whether all had come up before.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stopping.set)
        try:
            self._logs.mkdir(exist_ok=True)
            self._set_clock()
            progress = _Progress()
            progress("topics and tables")
            await set_up(self._settings, self._engines.bootstrap, self._engines.dsn)
            if self._stopping.is_set():
                return False
            progress(", ".join(WORKERS) + " and the sandboxes")
            self._start_processes()
            await self._wait_until_ready()
            if self._is_ready:
                progress(None)
                self._say_where_to_look()
                await self._stand_by()
            return self._is_ready
        finally:
            await self._stop()

    def _set_clock(self) -> None:
        if self._plan.movable_clock and self._clock == "real":
            path = self._home / "clock"
            if not path.exists():
                path.write_text("0")
            self._clock = f"file:{path}"

    def _start_processes(self) -> None:
        keys = keys_of(self._home)
        environment = dict(os.environ) | keys
        if self._plan.console:
            self._signing_in = ensure_user(self._home)
        environment |= self._ports.environment(self._home, keys["SLUICE_SMS_SANDBOX_SECRET"])
        environment |= {
            "KAFKA_BOOTSTRAP_SERVERS": self._engines.bootstrap,
            "DATABASE_URL": self._engines.dsn,
            "SLUICE_CLOCK": self._clock,
            "SLUICE_BANK_HOME": str(self._home),
            "SLUICE_HOME": str(self._home),
            # Done above, once for all workers.
            "SLUICE_MIGRATE": "false",
            # Workers cannot share a port; the endpoints say which they have.
            "SLUICE_HTTP_PORT": "0",
            "PYTHONUNBUFFERED": "1",
        }
        for name, module in _MODULES.items():
            if not self._is_wanted(name):
                continue
            count = self._plan.workers.get(name, 1)
            for number in range(1, count + 1):
                self._keep(name if count == 1 else f"{name}-{number}", [module], environment)
        if self._plan.monitor:
            self._keep(MONITOR, ["ops.cli", "monitor", "--port", str(self._ports.monitor)], environment)
        self._tasks = [asyncio.create_task(keeper.run()) for keeper in self._keepers]
        self._tasks.append(asyncio.create_task(self._watch_engines()))

    def _is_wanted(self, name: str) -> bool:
        if name in (MAIL, SMS):
            return self._plan.notifies
        return {BANK: self._plan.bank, _CONSOLE: self._plan.console}.get(name, True)

    def _keep(self, label: str, words: list[str], environment: Mapping[str, str]) -> None:
        slot = Slot(label, [sys.executable, "-m", *words], environment, self._logs / f"{label}.log")
        self._slots.append(slot)
        self._keepers.append(Keeper(slot, self._write_endpoints, _say))

    async def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_WITHIN_S
        async with aiohttp.ClientSession() as client:
            while waiting := [said for slot in self._slots if (said := await _why_not(client, slot))]:
                self._raise_failures()
                if await self._is_told_to_stop_within(_LOOK_EVERY_S):
                    return
                if time.monotonic() > deadline:
                    raise NotReady(f"Not ready after {_READY_WITHIN_S:g} s: {'; '.join(waiting)}. See {self._logs}.")
        self._is_ready = True
        self._write_endpoints()

    async def _stand_by(self) -> None:
        while not await self._is_told_to_stop_within(_WATCH_EVERY_S):
            self._raise_failures()

    async def _is_told_to_stop_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        return self._stopping.is_set()

    def _raise_failures(self) -> None:
        for task in self._tasks:
            if task.done() and (error := task.exception()):
                raise error

    async def _watch_engines(self) -> None:
        """Start engines again that die."""
        ours = (("Kafka", self._engines.kafka), ("PostgreSQL", self._engines.postgres))
        while not await self._is_told_to_stop_within(_WATCH_EVERY_S):
            for name, engine in ours:
                if engine is not None and not engine.is_alive():
                    await self._revive(name, engine)

    async def _revive(self, name: str, engine: Kafka | Postgres) -> None:
        _say(f"{name} ended; it is started again", style="yellow")
        began = time.monotonic()
        try:
            await asyncio.wrap_future(self._thread.submit(engine.restart))
        except (EngineError, OSError) as error:
            # A full disk, too, has room again some time.
            _say(str(error), style="red")
            await self._is_told_to_stop_within(_REVIVE_AGAIN_AFTER_S)
        else:
            _say(f"{name} is back after {time.monotonic() - began:.1f} s", style="green")
            self._write_endpoints()

    async def _stop(self) -> None:
        self._stopping.set()
        if self._keepers:
            _say("Stopping …")
        # The sandboxes last, so that what the services still send is answered.
        for is_sandbox in (False, True):
            async with asyncio.TaskGroup() as stops:
                for slot, keeper in zip(self._slots, self._keepers, strict=True):
                    if (slot.name in MODULES) == is_sandbox:
                        stops.create_task(keeper.stop(self._settings.shutdown_timeout_s + 5))
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- What others need to know ---

    def _write_endpoints(self) -> None:
        if self._is_ready and not self._stopping.is_set():
            text = json.dumps(self._endpoints(), indent=2) + "\n"
            for path in self._places:
                try:
                    write_privately(path, text)
                except OSError as error:
                    # Written again at the next change; what runs is not to end of it.
                    _say(f"{path} cannot be written: {error.strerror}", style="red")

    def _endpoints(self) -> dict[str, Any]:
        # A process that just ended stays listed until the next takes its place.
        announced = [slot.announced for slot in self._slots if slot.announced is not None]
        sandboxes = {said["service"]: said for said in announced if said["service"] in MODULES}
        consoles = [said["http"] for said in announced if said["service"] == _CONSOLE]
        bank = sandboxes.get(BANK)
        kafka, postgres = self._engines.kafka, self._engines.postgres
        return {
            "pid": os.getpid(),
            "started": psutil.Process().create_time(),
            "kafka": self._engines.bootstrap,
            "database": self._engines.dsn,
            "engines": {
                "kafka_pid": kafka.pid if kafka else None,
                "postgres_pid": postgres.pid if postgres else None,
            },
            "services": [
                {"name": said["service"], "pid": said["pid"], "health": said["health"]}
                for said in announced
                if "health" in said
            ],
            "bank": {"pid": bank["pid"], "behaviour": bank["behaviour"]} if bank else None,
            **{name: sandboxes[name]["http"] for name in (MAIL, SMS) if name in sandboxes},
            **({"inbox": self._ports.public_url} if self._plan.notifies else {}),
            **({_CONSOLE: consoles[0]} if consoles else {}),
            **{said["service"]: said["http"] for said in announced if said["service"] == MONITOR},
            "sandboxes": {name: sandboxes[name] for name in (MAIL, SMS) if name in sandboxes},
            "topic_prefix": self._prefix,
            "clock": self._clock,
            "logs": str(self._logs),
        }

    def _say_where_to_look(self) -> None:
        found = self._endpoints()
        _say("\nSluice is up.", style="bold green")
        rows = [("Kafka", found["kafka"])]
        rows += [
            (
                service["name"],
                f"{service['health']}/readyz and {_PAGES.get(service['name'], '/metrics')}, process {service['pid']}",
            )
            for service in found["services"]
        ]
        if found["bank"]:
            rows.append(("sandbox bank", f"settles everything unless {found['bank']['behaviour']} says otherwise"))
            if self._engines.kafka is None:
                rows.append(("", "and answers every payout on these brokers: --no-bank where a bank's connector does"))
        for name, what in ((MAIL, "mails"), (SMS, "text messages")):
            if name in found:
                rows.append((name.replace("_", " "), f"{found[name]}/messages shows the {what} that people got"))
        if MONITOR in found:
            rows.append((MONITOR, f"{found[MONITOR]}/metrics and /lag tell the lag of every group"))
        if "inbox" in found:
            rows.append(("inbox", f"{found['inbox']} is where people read what they are told in the app"))
        if _CONSOLE in found:
            rows.append((_CONSOLE, f"{found[_CONSOLE]} for people on call, {found[_CONSOLE]}/status for customers"))
            rows.append(("", self._signing_in))
        if self._clock != "real":
            rows.append(("clock", f"{self._clock.removeprefix('file:')} holds the seconds to add"))
        rows += [("endpoints", f"{self._places[-1]}, with the database's address"), ("logs", str(self._logs))]
        for name, text in rows:
            _say(f"  {name:<14}{text}")
        _say("In another terminal try `sluice offsets show`, or `sluice replay DIR`, then `sluice audit`.")
        _say("Ctrl-C stops everything; what it did stays for the next time.")


async def _why_not(client: aiohttp.ClientSession, slot: Slot) -> str | None:
    """Say why a slot is not ready, or None when it is; without a health page it need only be announced."""
    if not slot.is_up or slot.announced is None:
        words = slot.quote()
        return f"{slot.name} has not started" + (f" (it says: {words})" if words else "")
    if "health" not in slot.announced:
        return None
    try:
        timeout = aiohttp.ClientTimeout(total=2)
        async with client.get(f"{slot.announced['health']}/readyz", timeout=timeout) as answer:
            return None if answer.ok else f"{slot.name}: {(await answer.text())[:200]}"
    except (aiohttp.ClientError, TimeoutError) as error:
        return f"{slot.name}: {type(error).__name__}"


def _say(text: str, *, style: str | None = None) -> None:
    terminal().print(escape(text), style=style, soft_wrap=True)


# --- For other programs ---


@contextmanager
def started(
    home: Path | None = None,
    *,
    workers: int = 1,
    notifiers: int = 1,
    maintainers: int = 1,
    closers: int = 1,
    insights: int = 0,
    movable_clock: bool = False,
    console: bool = False,
    monitor: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Iterator[dict[str, Any]]:
    """Run `sluice up` in a process of its own for as long as the context; yield its endpoints.

    Without `home` its data are temporary. Without `insights` nobody is flagged, whatever fails. Raises NotReady with
    what it said when it does not come up.
    """
    with temporary_folder() as temporary:
        place = home or temporary
        place.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            # The database server runs as nobody, and its data lie below.
            place.chmod(0o711)
        command = [sys.executable, "-m", "ops.cli", "up"]
        counts = {
            "transfer": workers,
            "maintenance": maintainers,
            "closure": closers,
            "notify": notifiers,
            "insight": insights,
        }
        for name, count in counts.items():
            command += ["--workers", f"{name}={count}"]
        if movable_clock:
            command.append("--movable-clock")
        if not console:
            command.append("--no-console")
        if not monitor:
            command.append("--no-monitor")
        said = place / "up.log"
        with said.open("wb") as output:
            child = subprocess.Popen(  # noqa: S603 - our own command line
                command,
                env=os.environ | dict(environment or {}) | {"SLUICE_HOME": str(place)},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(),  # noqa: PLW1509 - one system call, nothing else
            )
        try:
            yield _wait_for_endpoints(child, place / "run.json", said)
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                _await_end(child)
            except KeyboardInterrupt:
                # Told to stop meanwhile: whoever is still stopping uses the folder that goes next.
                _await_end(child)
                raise


def _await_end(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait(_STOPS_WITHIN_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _wait_for_endpoints(child: subprocess.Popen[bytes], path: Path, said: Path) -> dict[str, Any]:
    deadline = time.monotonic() + 2 * _READY_WITHIN_S
    while child.poll() is None and time.monotonic() < deadline:
        with suppress(FileNotFoundError):
            endpoints: dict[str, Any] = json.loads(path.read_text())
            # Those of an earlier run may still lie there.
            if endpoints["pid"] == child.pid:
                return endpoints
        time.sleep(_LOOK_EVERY_S)
    raise NotReady(f"`sluice up` did not come up:\n{said.read_text('utf-8', 'replace')[-2000:].rstrip()}")
