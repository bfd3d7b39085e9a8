"""Kafka's jars: where they are asked for, and what is left when they can not be had."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from local.daemon import EngineError
from local.jars import VERSION, jars

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SETTINGS = """\
<settings xmlns="http://maven.apache.org/SETTINGS/1.0.0">
  <mirrors><mirror><id>ours</id><mirrorOf>{of}</mirrorOf><url>{url}</url></mirror></mirrors>
</settings>
"""


class Mirror(ThreadingHTTPServer):
    """A mirror that has nothing and remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/central"


class _Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with Mirror() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / ".m2").mkdir()
    return tmp_path


@pytest.mark.parametrize("of", ["central", "*", "*,!internal"])
def test_the_users_mirror_is_asked_and_a_failed_fetch_leaves_no_half_cache(home: Path, mirror: Mirror, of: str) -> None:
    (home / ".m2" / "settings.xml").write_text(SETTINGS.format(of=of, url=mirror.url))
    with pytest.raises(EngineError, match="could not be fetched"):
        jars()
    assert any(f"/kafka_2.13/{VERSION}/" in path for path in mirror.asked)
    assert not (home / "cache" / "sluice" / f"kafka-{VERSION}").exists()
    assert not (home / ".m2" / "repository").exists(), "the user's own repository is left alone"


def test_settings_that_are_not_well_formed_are_named(home: Path) -> None:
    (home / ".m2" / "settings.xml").write_text("<settings>")
    with pytest.raises(EngineError, match=r"settings\.xml is not well formed"):
        jars()


def test_a_complete_cache_is_used_as_it_is(home: Path) -> None:
    complete = home / "cache" / "sluice" / f"kafka-{VERSION}"
    complete.mkdir(parents=True)
    assert jars() == complete
