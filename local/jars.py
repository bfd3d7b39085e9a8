"""Apache Kafka's own jars, and the console's scripts: fetched once from Maven Central or its mirror, and checked."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

from local.daemon import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from rich.progress import Progress

VERSION: Final = "4.3.1"
SCRIPTS: Final = {
    "htmx.js": ("htmx.org-2.0.10.jar", "META-INF/resources/webjars/htmx.org/2.0.10/dist/htmx.min.js"),
    "sse.js": ("htmx-ext-sse-2.2.2.jar", "META-INF/resources/webjars/htmx-ext-sse/2.2.2/sse.js"),
}
"""Each script of the console by the name that pages call it: its jar, and where it lies in there."""


@dataclass(frozen=True, slots=True)
class _Bundle:
    """Jars that are fetched together: what they are, the folder that they go to, and where their checksums stand.

    `endpoints` are resolved one by one: together, the first's parent would choose versions for another's dependencies.
    """

    what: str
    folder: str
    endpoints: Sequence[str]
    checksums: Path


_KAFKA: Final = _Bundle(
    f"Apache Kafka {VERSION}",
    f"kafka-{VERSION}",
    (f"org.apache.kafka:kafka_2.13:{VERSION}", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.2"),
    Path(__file__).with_name("kafka_jars.sha256"),
)
_SCRIPTS: Final = _Bundle(
    "the console's scripts",
    "scripts-2.0.10-2.2.2",
    ("org.webjars.npm:htmx.org:2.0.10", "org.webjars.npm:htmx-ext-sse:2.2.2"),
    Path(__file__).with_name("script_jars.sha256"),
)
_MIRRORS_OF_CENTRAL: Final = frozenset({"*", "central", "external:*"})


def jars() -> Path:
    """Return the folder of Kafka's jars, fetching them the first time; an interrupted fetch starts over.

    Raises EngineError when they cannot be had, or one is not the file that was pinned.
    """
    return _fetched(_KAFKA)


def scripts() -> Path:
    """Return the folder of the jars with the console's scripts, fetching them the first time; raises EngineError."""
    return _fetched(_SCRIPTS)


def fetched_scripts() -> dict[str, bytes]:
    """Return the console's scripts by name, without those that were not fetched: pages work without them."""
    found = {}
    for name, (jar, place) in SCRIPTS.items():
        path = _home() / _SCRIPTS.folder / jar
        if path.exists():
            with zipfile.ZipFile(path) as archive:
                found[name] = archive.read(place)
    return found


def _home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sluice"


def _fetched(bundle: _Bundle) -> Path:
    home = _home()
    complete = home / bundle.folder
    if not complete.exists():
        home.mkdir(parents=True, exist_ok=True)
        with _locked(home / f"{bundle.folder.partition('-')[0]}.lock"):
            if not complete.exists():
                _fetch(bundle, home / f"{complete.name}.part", complete)
    return complete


def _fetch(bundle: _Bundle, half: Path, complete: Path) -> None:
    shutil.rmtree(half, ignore_errors=True)
    folder = half / "jars"
    folder.mkdir(parents=True)
    try:
        _download(bundle, half, folder)
    except Exception as error:
        raise EngineError(f"The jars of {bundle.what} could not be fetched from Maven Central: {error}") from error
    _check(bundle, folder)
    folder.rename(complete)
    shutil.rmtree(half)


def _download(bundle: _Bundle, half: Path, folder: Path) -> None:
    # Imported here: they take a moment, and are needed once.
    import truststore
    from jgo.env import EnvironmentBuilder
    from jgo.maven import MavenContext, PythonResolver
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    # The system's certificates, like pip's: a network with an authority of its own works without a setting.
    truststore.inject_into_ssl()
    sys.stderr.write(f"Fetching {bundle.what} from Maven Central: less than a minute …\n")
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
        for endpoint in bundle.endpoints:
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


def _check(bundle: _Bundle, folder: Path) -> None:
    lines = bundle.checksums.read_text().splitlines()
    pinned = {name: checksum for checksum, name in (line.split() for line in lines)}
    found = {jar.name: jar for jar in folder.glob("*.jar")}
    if missing := pinned.keys() - found.keys():
        raise EngineError(f"The jars of {bundle.what} are not complete: {', '.join(sorted(missing))} missing")
    for name, jar in found.items():
        if pinned.get(name) != hashlib.sha256(jar.read_bytes()).hexdigest():
            raise EngineError(f"{name} is not the file whose checksum stands in {bundle.checksums.name}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Fetch everything; the console's scripts are only missed, because its pages work without them."""
    try:
        scripts()
    except EngineError as error:
        sys.stderr.write(f"{error}; the console's pages work without them.\n")
    try:
        jars()
    except EngineError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
