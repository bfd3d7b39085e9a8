"""Apache Kafka's own jars: fetched once from Maven Central or its mirror, checked against pinned checksums."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

from local.daemon import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from rich.progress import Progress

VERSION: Final = "4.3.1"
# Resolved one by one: together, the second's parent would choose versions for the first's dependencies.
_ENDPOINTS: Final = (
    f"org.apache.kafka:kafka_2.13:{VERSION}",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.2",
)
_CHECKSUMS: Final = Path(__file__).with_name("kafka_jars.sha256")
_MIRRORS_OF_CENTRAL: Final = frozenset({"*", "central", "external:*"})


def jars() -> Path:
    """Return the folder of Kafka's jars, fetching them the first time; an interrupted fetch starts over.

    Raises EngineError when they cannot be had, or one is not the file that was pinned.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sluice"
    complete = home / f"kafka-{VERSION}"
    if not complete.exists():
        home.mkdir(parents=True, exist_ok=True)
        with _locked(home / "kafka.lock"):
            if not complete.exists():
                _fetch(home / f"{complete.name}.part", complete)
    return complete


def _fetch(half: Path, complete: Path) -> None:
    shutil.rmtree(half, ignore_errors=True)
    folder = half / "jars"
    folder.mkdir(parents=True)
    try:
        _download(half, folder)
    except Exception as error:
        raise EngineError(f"Kafka's jars could not be fetched from Maven Central: {error}") from error
    _check(folder)
    folder.rename(complete)
    shutil.rmtree(half)


def _download(half: Path, folder: Path) -> None:
    # Imported here: they take a moment, and are needed once.
    import truststore
    from jgo.env import EnvironmentBuilder
    from jgo.maven import MavenContext, PythonResolver
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    # The system's certificates, like pip's: a network with an authority of its own works without a setting.
    truststore.inject_into_ssl()
    sys.stderr.write(f"Fetching Apache Kafka {VERSION} from Maven Central, about 45 MB: less than a minute …\n")
    columns = (TextColumn("  {task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        # A repository of its own: what an interrupted download leaves behind goes with the half folder.
        context = MavenContext(
            resolver=PythonResolver(progress_callback=_bars(progress)),
            repo_cache=half / "repository",
            remote_repos=_mirror(Path.home() / ".m2" / "settings.xml"),
            timeout=60,
        )
        builder = EnvironmentBuilder(context=context, cache_dir=half / "environments")
        for endpoint in _ENDPOINTS:
            for jar in Path(builder.from_endpoint(endpoint=endpoint).path).rglob("*.jar"):
                jar.replace(folder / jar.name)


def _bars(progress: Progress) -> Callable[[str, int], AbstractContextManager[Callable[[int], None]]]:
    @contextmanager
    def bar(filename: str, size: int) -> Iterator[Callable[[int], None]]:
        task = progress.add_task(filename, total=size)
        yield lambda count: progress.advance(task, count)
        progress.remove_task(task)

    return bar


def _mirror(settings: Path) -> dict[str, str] | None:
    """Return the mirror of Maven Central that the user's Maven settings name, if any.

    What it serves is checked like everything else.
    """
    if not settings.exists():
        return None
    try:
        root = ET.parse(settings).getroot()  # noqa: S314 - the user's own file
    except ET.ParseError as error:
        raise EngineError(f"{settings} is not well formed: {error}") from None
    for mirror in root.iterfind("{*}mirrors/{*}mirror"):
        names = {name.strip() for name in mirror.findtext("{*}mirrorOf", "").split(",")}
        url = mirror.findtext("{*}url", "").strip()
        if url and names & _MIRRORS_OF_CENTRAL and "!central" not in names:
            return {"central": url.rstrip("/")}
    return None


def _check(folder: Path) -> None:
    pinned = {name: checksum for checksum, name in (line.split() for line in _CHECKSUMS.read_text().splitlines())}
    found = {jar.name: jar for jar in folder.glob("*.jar")}
    if missing := pinned.keys() - found.keys():
        raise EngineError(f"Kafka's jars are not complete: {', '.join(sorted(missing))} missing")
    for name, jar in found.items():
        if pinned.get(name) != hashlib.sha256(jar.read_bytes()).hexdigest():
            raise EngineError(f"{name} is not the file whose checksum stands in {_CHECKSUMS.name}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    try:
        jars()
    except EngineError as error:
        sys.exit(str(error))
