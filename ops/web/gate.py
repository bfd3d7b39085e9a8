"""The one place where it is decided who may have which page: roles, forms that are ours, and what browsers are told."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlencode

import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.routing import Route

from ops.brokers import NoAnswer
from ops.database import Unreachable
from ops.errors import UserError
from ops.web.sessions import LASTS
from ops.web.users import WrongUser
from ops.web.visit import Visit
from ops.web.words import language_named, preferred
from services.runtime.log import mask_text
from services.runtime.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import timedelta

    from starlette.requests import Request
    from starlette.responses import Response

    from ops.web.sessions import Session
    from ops.web.site import Site
    from ops.web.users import Role

_LOG = structlog.stdlib.get_logger(__name__)
_LARGEST_FORM: Final = 100_000
_FORM_WITHIN_S: Final = 10.0
_MOST_FIELDS: Final = 2_000
_YEAR_S: Final = 31_536_000
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    # Not `no-referrer`: with that a form's origin is not told either.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


@dataclass(frozen=True, slots=True)
class Page:
    """A line of the table of pages; `role` is the least that it needs, None where nobody has to be signed in."""

    method: str
    path: str
    role: Role | None
    answer: Callable[[Visit], Awaitable[Response]]


class NotOurs(Exception):
    """A form that was not made for this browser, or is none; `status` is the answer's."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


def cookie_name(site: Site, name: str) -> str:
    """Return what a cookie is called: behind https browsers let nobody but this host set one of that name."""
    return f"__Host-{name}" if site.settings.is_behind_https else name


def set_cookie(response: Response, site: Site, name: str, value: str, lasts: timedelta = LASTS) -> None:
    """Have the browser keep something that scripts cannot read and other sites cannot have sent."""
    response.set_cookie(
        cookie_name(site, name),
        value,
        max_age=int(lasts.total_seconds()),
        path="/",
        secure=site.settings.is_behind_https,
        httponly=True,
        samesite="strict",
    )


def guarded(site: Site, page: Page) -> Route:
    """Return the page's route: nothing of it runs for whom the table does not let in."""

    async def endpoint(request: Request) -> Response:
        visit = _begin(site, request)
        response = await _answer(page, visit)
        _finish(site, page, visit, response)
        return response

    return Route(page.path, endpoint, methods=[page.method])


async def _answer(page: Page, visit: Visit) -> Response:
    if page.role is not None and visit.problem is not None:
        return _refused(page, visit, visit.problem)
    if page.role is not None and visit.user is None:
        return _to_sign_in(page, visit)
    if page.role is not None and not visit.may(page.role):
        needed = visit.words["roles"][page.role]
        return visit.page("problem.html.j2", 403, says=visit.words["problem"]["role"].format(needed))
    try:
        if page.method == "POST":
            visit = replace(visit, form=await _form_of(visit))
        return await page.answer(visit)
    except NotOurs as error:
        return visit.page("problem.html.j2", error.status, says=visit.words["problem"]["form"])
    except (UserError, SettingsError) as error:
        return _refused(page, visit, error)


def _refused(page: Page, visit: Visit, error: UserError | SettingsError) -> Response:
    _LOG.info("page_refused", path=page.path, error=type(error).__qualname__)
    status = 503 if isinstance(error, NoAnswer | Unreachable | WrongUser) else 422
    return visit.page("problem.html.j2", status, says=mask_text(str(error)))


def _begin(site: Site, request: Request) -> Visit:
    session, problem = _session_of(site, request)
    known = request.cookies.get(cookie_name(site, "sluice_door"), "")
    nonce = session.nonce if session is not None else known or secrets.token_urlsafe(16)
    asked = language_named(request.query_params.get("lang"))
    kept = language_named(request.cookies.get("sluice_language"))
    language = asked or kept or preferred(request.headers.get("accept-language", ""))
    return Visit(request, site, language, session, nonce, problem=problem)


def _session_of(site: Site, request: Request) -> tuple[Session | None, UserError | None]:
    try:
        return site.sessions.read(request.cookies.get(cookie_name(site, "sluice_session"), "")), None
    except UserError as error:
        # Who is signed in is not known, which the pages for everybody need not know.
        return None, error


def _to_sign_in(page: Page, visit: Visit) -> Response:
    if page.method == "GET":
        query = visit.request.url.query
        there = visit.request.url.path + (f"?{query}" if query else "")
        return RedirectResponse(f"/sign-in?{urlencode({'next': there})}", 303)
    return RedirectResponse("/sign-in", 303)


async def _form_of(visit: Visit) -> dict[str, list[str]]:
    """Return a form's fields; raises NotOurs where another site, or nobody's page, sent it."""
    request = visit.request
    length = request.headers.get("content-length", "")
    if not length.isdecimal():
        raise NotOurs(411)
    if int(length) > _LARGEST_FORM:
        raise NotOurs(413)
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        raise NotOurs(403)
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise NotOurs(415)
    try:
        form = parse_qs((await _body_of(request)).decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise NotOurs(400) from None
    if not visit.site.sessions.is_form_token(visit.nonce, next(iter(form.get("form_token", ())), "")):
        raise NotOurs(403)
    return form


async def _body_of(request: Request) -> bytes:
    """Return what was sent; raises NotOurs where it is too much, whatever its length says, or comes slowly."""
    body = bytearray()
    try:
        async with asyncio.timeout(_FORM_WITHIN_S):
            async for part in request.stream():
                body += part
                if len(body) > _LARGEST_FORM:
                    raise NotOurs(413)
    except TimeoutError:
        raise NotOurs(408) from None
    except ClientDisconnect:
        raise NotOurs(400) from None
    return bytes(body)


def _finish(site: Site, page: Page, visit: Visit, response: Response) -> None:
    _protect(site, response)
    if (asked := language_named(visit.request.query_params.get("lang"))) is not None:
        response.set_cookie(
            "sluice_language", str(asked), _YEAR_S, secure=site.settings.is_behind_https, httponly=True, samesite="lax"
        )
    if page.path == "/sign-in" and visit.session is None and page.method == "GET":
        set_cookie(response, site, "sluice_door", visit.nonce)


def _protect(site: Site, response: Response) -> None:
    response.headers.update(HEADERS)
    # A page for who is signed in, or of one customer's own, is nobody else's to keep.
    response.headers.setdefault("Cache-Control", "no-store")
    if site.settings.is_behind_https:
        response.headers["Strict-Transport-Security"] = f"max-age={_YEAR_S}"


def no_such_page(site: Site) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Return what answers an address that is in no line of the table."""

    async def answer(request: Request, _error: Exception) -> Response:
        visit = _begin(site, request)
        response = visit.page("problem.html.j2", 404, says=visit.words["problem"]["no_page"])
        _protect(site, response)
        return response

    return answer


async def broken(_request: Request, _error: Exception) -> Response:
    """Answer what is a bug: nothing of it is shown; the log has it."""
    return PlainTextResponse("Something is broken here; the log says what.", 500, headers=HEADERS)
