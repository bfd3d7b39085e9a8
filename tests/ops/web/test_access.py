"""Who may have which page of the console, by the table of pages itself; forms, cookies and sessions."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from ops.lag.watching import Looked
from ops.web import gate
from ops.web.application import build
from ops.web.gate import guarded
from ops.web.pages import lag
from ops.web.sessions import Session
from ops.web.table import PAGES
from ops.web.tries import FOR_A_NAME, FROM_AN_ADDRESS_FOR_A_NAME, IN_A_BROWSER, WITHIN_S, Tries, Trying
from ops.web.users import Role
from ops.web.visit import Visit
from services.notify.model import Locale
from tests.ops.web.console import NAMES, PASSWORD, ROWS, browser, make_console, signed_in, token_in

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.responses import Response
    from starlette.testclient import TestClient

    from ops.web.gate import Page
    from ops.web.site import Site

HTTPS = "https://console.test"
HEADERS = ("Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy", "Cache-Control")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_console(tmp_path)


async def _reached(_visit: Visit) -> Response:
    return PlainTextResponse("reached")


@pytest.fixture
def behind_the_gate(site: Site) -> Starlette:
    """Every page of the table, each answered by one word."""
    return Starlette(routes=[guarded(site, replace(page, answer=_reached)) for page in PAGES])


def path_of(page: Page) -> str:
    path = page.path
    for name in ("window:uuid", "case:uuid"):
        path = path.replace(f"{{{name}}}", str(uuid.UUID(int=1)))
    return path.replace("{change}", "end").replace("{decision}", "approve").replace("{", "").replace("}", "")


def ask(client: TestClient, site: Site, page: Page) -> tuple[int, str]:
    if page.method == "GET":
        answer = client.get(path_of(page))
    else:
        cookie = client.cookies.get("sluice_session") or ""
        session = site.sessions.read(cookie)
        client.cookies.set("sluice_door", "door")
        token = site.sessions.form_token("door" if session is None else session.nonce)
        answer = client.post(path_of(page), data={"form_token": token})
    assert all(name in answer.headers for name in HEADERS)
    return answer.status_code, answer.text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.method} {page.path}")
def test_every_page_lets_in_whom_the_table_says_and_nobody_else(
    site: Site, behind_the_gate: Starlette, page: Page
) -> None:
    for role in (None, *Role):
        status, text = ask(signed_in(site, role, behind_the_gate), site, page)
        is_let_in = page.role is None or (role is not None and role.may(page.role))
        assert (text == "reached") == is_let_in
        assert status == (200 if is_let_in else 303 if role is None else 403)


def test_only_what_customers_need_is_open() -> None:
    opened = {(page.method, page.path) for page in PAGES if page.role is None}
    assert opened == {
        ("GET", "/static/{name}"),
        ("GET", "/status"),
        ("GET", "/follow/{token}"),
        ("GET", "/sign-in"),
        ("POST", "/sign-in"),
    }
    acting = {page.path for page in PAGES if page.method == "POST" and page.role is Role.VIEWER}
    assert acting == {"/sign-out"}
    assert {page.role for page in PAGES if page.path.startswith("/cases/") and page.method == "POST"} == {Role.REVIEWER}


@pytest.mark.parametrize(
    ("form", "headers", "status"),
    [
        ({"none": ""}, {}, 403),
        ({}, {}, 415),
        ({"form_token": "0" * 64}, {}, 403),
        ({"form_token": "another's"}, {}, 403),
        ({"form_token": "own"}, {"Origin": "https://elsewhere.test"}, 403),
        ({"form_token": "own"}, {"Origin": "null"}, 403),
        ({"form_token": "own"}, {"Origin": "http://["}, 403),
        ({"form_token": "own"}, {"Content-Type": "text/plain"}, 415),
        ({"form_token": "own", "more": "x" * 200_000}, {}, 413),
        ({"form_token": "own"}, {}, 200),
        ({"form_token": "own"}, {"Origin": "http://console.test"}, 200),
    ],
)
def test_a_form_that_was_not_made_for_this_browser_does_nothing(
    site: Site, behind_the_gate: Starlette, form: dict[str, str], headers: dict[str, str], status: int
) -> None:
    mine, others = (signed_in(site, Role.OPERATOR, behind_the_gate) for _ in range(2))
    tokens = {}
    for name, client in (("own", mine), ("another's", others)):
        session = site.sessions.read(client.cookies["sluice_session"])
        assert session is not None
        tokens[name] = site.sessions.form_token(session.nonce)
    given = form.get("form_token")
    data = form if given is None else form | {"form_token": tokens.get(given, given)}
    answer = mine.post("/audit", data=data, headers=headers)
    assert answer.status_code == status
    assert (answer.text == "reached") == (status == 200)


def test_a_form_that_says_to_be_short_and_is_long_is_not_kept(site: Site, behind_the_gate: Starlette) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": "5"}
    answer = browser(site, behind_the_gate).post("/sign-in", content=iter([b"x" * 60_000] * 2), headers=headers)
    assert answer.status_code == 413


async def test_a_form_that_comes_slowly_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "_FORM_WITHIN_S", 0.0)
    never: Any = asyncio.Event().wait
    with pytest.raises(gate.NotOurs) as refused:
        await gate._body_of(Request({"type": "http"}, never))
    assert refused.value.status == 408


def sign_in(client: TestClient, name: str, password: str, there: str = "/acts") -> Response:
    token = token_in(client.get("/sign-in").text)
    form = {"form_token": token, "name": name, "password": password, "next": there}
    return client.post("/sign-in", data=form)


@pytest.mark.parametrize(("url", "name"), [("", "sluice_session"), (HTTPS, "__Host-sluice_session")])
def test_a_session_is_a_cookie_that_scripts_cannot_read_and_other_sites_cannot_send(
    tmp_path: Path, url: str, name: str
) -> None:
    site = make_console(tmp_path, url=url)
    client = browser(site)
    answer = sign_in(client, "li", PASSWORD)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/acts")
    (cookie,) = [each for each in answer.headers.get_list("set-cookie") if each.startswith(name)]
    flags = {flag.strip().lower() for flag in cookie.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/"} <= flags
    assert ("secure" in flags) == bool(url)
    assert ("Strict-Transport-Security" in answer.headers) == bool(url)
    assert client.get("/lag").status_code == 200


def test_what_signs_nobody_in(site: Site) -> None:
    client = browser(site)
    for name, password in (("li", "wrong"), ("nobody", PASSWORD), ("li", ""), ("LI", PASSWORD)):
        assert sign_in(client, name, password).status_code == 403
    assert client.get("/lag").status_code == 303


def test_a_session_ends_with_sign_out_a_new_password_and_its_user(site: Site) -> None:
    clients = {role: signed_in(site, role) for role in Role}
    assert {client.get("/lag").status_code for client in clients.values()} == {200}
    viewer = clients[Role.VIEWER]
    copied = viewer.cookies["sluice_session"]
    token = token_in(viewer.get("/lag").text)
    assert viewer.post("/sign-out", data={"form_token": token}).headers["Location"] == "/sign-in"
    viewer.cookies.set("sluice_session", copied)
    site.users.put(NAMES[Role.OPERATOR], Role.OPERATOR, "another password")
    site.users.remove(NAMES[Role.REVIEWER])
    assert {client.get("/lag").status_code for client in clients.values()} == {303}


async def test_a_stream_ends_with_the_session_of_whoever_reads_it(site: Site) -> None:
    user = site.users.find(NAMES[Role.VIEWER])
    assert user is not None
    request = Request({"type": "http", "path": "/lag/live", "query_string": b"", "headers": [], "server": ("x", 80)})
    answer: Any = await lag.live(Visit(request, site, Locale.ENGLISH, Session(user, "nonce"), "nonce"))
    assert (await anext(answer.body_iterator)).startswith("event: board")
    site.users.remove(user.name)
    site.watch.newest = Looked(time.time() + 1, 0.1, ROWS)
    assert [each async for each in answer.body_iterator] == []


def test_a_cookie_that_was_changed_is_nobodys(site: Site) -> None:
    client = signed_in(site, Role.VIEWER)
    cookie = client.cookies["sluice_session"]
    client.cookies.set("sluice_session", cookie[:-1] + ("A" if cookie[-1] != "A" else "B"))
    assert client.get("/lag").headers["Location"] == "/sign-in?next=%2Flag"


def test_a_file_of_users_that_cannot_be_read_is_said_and_keeps_nobody_from_public_pages(site: Site) -> None:
    client = signed_in(site, Role.VIEWER)
    site.settings.users_file.write_text("{")
    answer = client.get("/lag")
    assert answer.status_code == 503
    assert "is not what `sluice console user add` writes." in answer.text
    assert client.get("/follow/none").status_code == 404


def test_a_role_that_is_taken_away_is_away_at_once(site: Site, behind_the_gate: Starlette) -> None:
    client = signed_in(site, Role.REVIEWER, behind_the_gate)
    path = f"/cases/{uuid.UUID(int=1)}/approve"
    session = site.sessions.read(client.cookies["sluice_session"])
    assert session is not None
    form = {"form_token": site.sessions.form_token(session.nonce)}
    assert client.post(path, data=form).status_code == 200
    text = site.settings.users_file.read_text().replace('"reviewer"', '"viewer"')
    site.settings.users_file.write_text(text)
    assert client.post(path, data=form).status_code == 403


def test_after_some_wrong_passwords_even_the_right_one_has_to_wait_but_in_a_browser_that_is_known(site: Site) -> None:
    application = build(site)
    known, client = browser(site, application), browser(site, application)
    assert sign_in(known, "wen", PASSWORD).status_code == 303
    for _ in range(FROM_AN_ADDRESS_FOR_A_NAME):
        assert sign_in(client, "wen", "wrong").status_code == 403
    answer = sign_in(client, "wen", PASSWORD)
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= WITHIN_S + 1
    assert sign_in(client, "li", PASSWORD).status_code == 303, "another name may"
    known.cookies.delete("sluice_session")
    for number in range(IN_A_BROWSER + 1):
        assert sign_in(known, "wen", "wrong").status_code == (403 if number < IN_A_BROWSER else 429)


def test_nobody_is_kept_out_by_the_tries_of_others() -> None:
    tries, other = Tries(), Trying("a", "2")
    for second in range(FROM_AN_ADDRESS_FOR_A_NAME):
        assert tries.wait_s(Trying("a", "1"), second) == 0
        tries.begin(Trying("a", "1"), second)
    assert tries.wait_s(Trying("a", "1"), 10) == WITHIN_S - 10
    assert tries.wait_s(other, 10) == tries.wait_s(Trying("b", "1"), 10) == 0
    for address in range(FOR_A_NAME):
        tries.begin(Trying("a", f"of many {address}"), 10)
    assert tries.wait_s(other, 10) > 0
    assert tries.wait_s(Trying("a", "1", "its own"), 10) == 0


def test_tries_are_forgotten_in_time_and_when_one_was_good() -> None:
    tries, who = Tries(), Trying("a", "1")
    for second in range(FROM_AN_ADDRESS_FOR_A_NAME):
        tries.begin(who, second)
    assert tries.wait_s(who, WITHIN_S + 1) == 0
    tries.forget(who)
    assert tries.wait_s(who, 10) == 0


def test_a_browser_is_known_for_the_name_that_has_signed_in_there_alone(site: Site) -> None:
    cookie = site.sessions.know_browser("wen")
    assert site.sessions.known_browser(cookie, "wen")
    assert site.sessions.known_browser(cookie, "li") is None
    assert site.sessions.known_browser(cookie[:-2] + "AA", "wen") is None


def test_a_session_that_was_ended_stays_so_when_the_console_is_started_again(site: Site, tmp_path: Path) -> None:
    client = signed_in(site, Role.VIEWER)
    copied = client.cookies["sluice_session"]
    client.post("/sign-out", data={"form_token": token_in(client.get("/lag").text)})
    later = make_console(tmp_path)
    assert later.sessions.read(copied) is None
    assert later.sessions.read(signed_in(later, Role.VIEWER).cookies["sluice_session"]) is not None
    (file,) = tmp_path.glob("console_ended_sessions")
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("7 of-long-ago\n" + file.read_text() + "half a li")
    assert make_console(tmp_path).sessions.read(copied) is None
    assert "of-long-ago" not in file.read_text()
    file.unlink()
    file.mkdir()
    answer = signed_in(site, Role.VIEWER).get("/lag")
    assert answer.status_code == 503
    assert "console_ended_sessions cannot be used" in answer.text.replace("</bdi>", "")


@pytest.mark.parametrize("there", ["https://elsewhere.test/", "//elsewhere.test", "/\\elsewhere.test", "", "lag"])
def test_signing_in_leads_to_no_other_site(site: Site, there: str) -> None:
    assert sign_in(browser(site), "wen", PASSWORD, there).headers["Location"] == "/lag"


def test_an_address_that_is_none_is_a_page_with_the_same_headers(site: Site) -> None:
    answer = browser(site).get("/nothing")
    assert all(name in answer.headers for name in HEADERS)
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.status_code == 404
    assert "There is no such page." in answer.text
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert browser(site).get("/lag/").headers["Content-Security-Policy"] == answer.headers["Content-Security-Policy"]
    elsewhere = browser(site).get("http://testserver//evil.example/")
    assert elsewhere.status_code == 404
    assert 'href="//' not in elsewhere.text
