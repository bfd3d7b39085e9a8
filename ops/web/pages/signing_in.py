"""Signing in and out: a session for who knows a name and its password."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import structlog

from ops.web.gate import cookie_name, set_cookie
from ops.web.sessions import KNOWN_FOR
from ops.web.tries import Trying

if TYPE_CHECKING:
    from starlette.responses import Response

    from ops.web.visit import Visit

_LOG = structlog.stdlib.get_logger(__name__)
_FIRST_PAGE: Final = "/lag"
_KNOWN: Final = "sluice_browser"


async def ask(visit: Visit) -> Response:
    """Show the form; who is signed in already is sent on."""
    if visit.user is not None:
        return visit.see(_own_path(visit.asked("next")))
    return visit.page("sign_in.html.j2", there=_own_path(visit.asked("next")), problem=None, name="")


async def sign_in(visit: Visit) -> Response:
    """Begin a session for a name and password that fit; only so many tries are looked at."""
    name, there = visit.given("name")[:100], _own_path(visit.given("next"))
    address = "" if visit.request.client is None else visit.request.client.host
    tries, now = visit.site.tries, time.monotonic()
    browser = visit.site.sessions.known_browser(visit.request.cookies.get(cookie_name(visit.site, _KNOWN), ""), name)
    who = Trying(name, address, browser)
    if (wait_s := tries.wait_s(who, now)) > 0:
        problem = visit.words["sign_in"]["wait"].format(max(1, round(wait_s / 60)))
        response = visit.page("sign_in.html.j2", 429, there=there, problem=problem, name=name)
        response.headers["Retry-After"] = str(round(wait_s) + 1)
        return response
    tries.begin(who, now)
    password = next(iter(visit.form.get("password", ())), "")
    async with visit.site.comparing:
        user = await asyncio.to_thread(visit.site.users.sign_in, name, password)
    if user is None:
        _LOG.warning("sign_in_refused", address=address)
        return visit.page("sign_in.html.j2", 403, there=there, problem=visit.words["sign_in"]["wrong"], name=name)
    tries.forget(who)
    _LOG.info("signed_in", operator=user.name, role=str(user.role))
    response = visit.see(there)
    sessions = visit.site.sessions
    set_cookie(response, visit.site, "sluice_session", sessions.begin(user))
    if browser is None:
        set_cookie(response, visit.site, _KNOWN, sessions.know_browser(user.name), KNOWN_FOR)
    return response


async def sign_out(visit: Visit) -> Response:
    """End the session, wherever else its cookie may be."""
    if visit.session is not None:
        visit.site.sessions.end(visit.session)
    response = visit.see("/sign-in")
    response.delete_cookie(
        cookie_name(visit.site, "sluice_session"), secure=visit.site.settings.is_behind_https, samesite="strict"
    )
    return response


async def first_page(visit: Visit) -> Response:
    """Send whoever asks for no page in particular on."""
    return visit.see(_FIRST_PAGE)


def _own_path(there: str) -> str:
    """Return a page of this console: an address that leads elsewhere is not followed."""
    is_ours = there.startswith("/") and not there.startswith(("//", "/\\")) and there.isprintable()
    return there if is_ours else _FIRST_PAGE
