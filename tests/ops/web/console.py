"""A console in the test's process: those who may sign in, and a browser for each."""

from __future__ import annotations

import json
import re
import time
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from argon2 import PasswordHasher
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.testclient import TestClient

from ops.lag.model import Row, Verdict
from ops.lag.watching import Looked
from ops.running import Running
from ops.web.application import build
from ops.web.settings import ConsoleSettings
from ops.web.site import Site, make_site
from ops.web.users import Role

if TYPE_CHECKING:
    from pathlib import Path

KEY = "Zm9yIHRlc3RzIG9ubHksIDMyIGJ5dGVzIG9mIGtleSE="
PASSWORD = "correct horse battery"
NAMES = {Role.VIEWER: "wen", Role.OPERATOR: "li", Role.REVIEWER: "wang"}
_WHY = "no member in the group"
ROWS = [
    Row("sluice.transfer", "transfer.commands", 0, 7, 31.5, 2.0, 0.0, None, None, Verdict.STOPPED, _WHY),
    Row("sluice.notify", "notify.commands", 0, 0, 0.0, 0.0, 0.0, 0.0, "a", Verdict.OK, ""),
]


def make_console(folder: Path, running: Running | None = None, url: str = "") -> Site:
    """Return a console with a user for each role, whose brokers were looked at twice."""
    settings = ConsoleSettings(
        SLUICE_CONSOLE_KEY=SecretStr(KEY), SLUICE_CONSOLE_URL=url, SLUICE_CONSOLE_USERS=folder / "users.json"
    )
    watch: Any = SimpleNamespace(newest=Looked(time.time(), 0.1, ROWS))
    site = make_site(running or Running("127.0.0.1:1", "postgresql://nobody/x", "", "real"), settings, watch, {})
    site.history.note(Looked(time.time() - 2, 0.1, ROWS))
    site.history.note(watch.newest)
    settings.users_file.write_text(_users())
    return site


@cache
def _users() -> str:
    """Return the file of users, with hashes that take no time: what they are compared at stands in each."""
    quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    return json.dumps({name: {"role": str(role), "password": quick} for role, name in NAMES.items()})


def browser(site: Site, application: Starlette | None = None, language: str = "en") -> TestClient:
    """Return a browser that has not signed in."""
    base = site.settings.url or "http://console.test"
    return TestClient(
        application or build(site), base_url=base, headers={"Accept-Language": language}, follow_redirects=False
    )


def signed_in(site: Site, role: Role | None, application: Starlette | None = None, language: str = "en") -> TestClient:
    """Return a browser in which somebody of that role is signed in, nobody without one; passwords aside."""
    found = browser(site, application, language)
    if role is not None:
        user = site.users.find(NAMES[role])
        assert user is not None
        name = "__Host-sluice_session" if site.settings.is_behind_https else "sluice_session"
        found.cookies.set(name, site.sessions.begin(user))
    return found


def token_in(page: str) -> str:
    """Return the token that a page's forms carry."""
    found = re.search(r'name="form_token" value="([^"]+)"', page)
    assert found is not None
    return found[1]
