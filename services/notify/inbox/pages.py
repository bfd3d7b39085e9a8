"""The inbox as a page: it works without scripts, and with them shows what arrives."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from aiohttp import web
from babel.dates import format_date, format_time, get_datetime_format
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import Field

from schemas.fields import as_text
from services.notify.inbox import store
from services.notify.inbox.access import COOKIE, PRIVATE, Refused, check_size, grant_of, nothing_here, reading
from services.notify.inbox.api import PageOrder, ReadOrder, checked_order, order_in_query
from services.notify.model import Locale
from services.runtime.checked_files import Strict, read_toml

if TYPE_CHECKING:
    from services.notify.inbox.access import Lender
    from services.notify.inbox.api import Answering
    from services.notify.inbox.store import Message, Page
    from services.notify.inbox.tokens import Grant
    from services.notify.sealed import Keys
    from services.runtime.clock import Clock

_SHOWN: Final = 50
_BABEL: Final = {Locale.CHINESE: "zh_Hans_CN", Locale.ENGLISH: "en"}
_POLICY: Final = (
    "default-src 'none'; style-src 'nonce-{0}'; script-src 'nonce-{0}'; connect-src 'self'; img-src data:;"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class Words(Strict):
    """What the page says in one language."""

    inbox: str
    unread: str
    new: str
    earlier: str
    mark_all: str
    none: str
    more_unread: str
    older: str
    newest: str
    stopped: str
    reload: str
    opening: str
    nothing_here: str
    not_granted: str
    not_possible: str
    leave_title: str
    leave_question: str
    leave: str
    left: str
    leave_not_granted: str


class _Languages(Strict):
    """The file of words."""

    en: Words
    zh_cn: Words = Field(alias="zh-CN")


class _Shown(NamedTuple):
    """A message in the page."""

    title: str
    body: str
    locale: str
    moment: str
    arrived: str


def in_page(handler: Answering) -> Answering:
    """Answer a refusal as a page, in the browser's language."""

    @wraps(handler)
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refused as refused:
            locale = language_of(request)
            words = words_of(locale)
            sentence = {401: words.not_granted, 404: words.nothing_here}.get(refused.status, words.not_possible)
            response = render("note.html.j2", locale, refused.status, hop=False, sentence=sentence)
            response.headers.update(refused.headers)
            return response

    return answer


@dataclass(frozen=True, slots=True)
class Pages:
    """The desk that people read at."""

    keys: Keys
    lender: Lender
    clock: Clock

    def routes(self) -> list[web.RouteDef]:
        """Return what it answers."""
        return [web.get("/", in_page(self.show)), web.post("/read", in_page(self.mark_all))]

    async def show(self, request: web.Request) -> web.Response:
        """Answer a page of the inbox; a token in the address becomes a cookie first."""
        grant = grant_of(request, self.keys.master_key, may_be_in_query=True)
        if token := request.query.get("token"):
            return _hop(request, grant, token)
        before = order_in_query(PageOrder, request).before
        async with self.lender.lend(grant.customer_id) as connection:
            page = await store.load_page(connection, grant.customer_id, before, _SHOWN + 1)
        if page is None:
            raise nothing_here()
        messages = [
            store.open_message(self.keys, grant.customer_id, page.wrapped_key, one) for one in page.messages[:_SHOWN]
        ]
        return _page(page, messages, is_newest=before is None)

    async def mark_all(self, request: web.Request) -> web.Response:
        """Note that all messages up to one were read, and go back to the inbox."""
        customer_id = grant_of(request, self.keys.master_key).customer_id
        if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            raise Refused(403, "The form is another site's.")
        check_size(request)
        async with reading():
            form = dict(await request.post())
        order = checked_order(ReadOrder.model_validate, form)
        async with self.lender.lend(customer_id) as connection:
            await store.mark_read(connection, customer_id, order.numbers, order.up_to, self.clock.now())
        return web.Response(status=303, headers=PRIVATE | {"Location": "/"})


def _hop(request: web.Request, grant: Grant, token: str) -> web.Response:
    """Leave the token with the browser, and go where it does not stand in the address.

    A page of our own has to send the browser there: after a redirect from another site's link, a strict cookie would
    stay behind.
    """
    response = render("note.html.j2", language_of(request), hop=True)
    response.set_cookie(
        COOKIE,
        token,
        max_age=int((grant.expires_at - datetime.now(UTC)).total_seconds()),
        httponly=True,
        samesite="Strict",
        secure="https" in {request.scheme, request.headers.get("X-Forwarded-Proto")},
    )
    return response


def _page(page: Page, messages: list[Message], *, is_newest: bool) -> web.Response:
    locale = Locale(page.locale)
    fresh = [_shown(message, locale, page.time_zone) for message in messages if message.read_at is None]
    return render(
        "page.html.j2",
        locale,
        unread=page.unread,
        fresh=fresh,
        seen=[_shown(message, locale, page.time_zone) for message in messages if message.read_at is not None],
        more_unread=page.unread - len(fresh) if is_newest else 0,
        last=page.last,
        older=messages[-1].number if len(page.messages) > _SHOWN else None,
        is_newest=is_newest,
        time_zone=page.time_zone,
    )


def _shown(message: Message, locale: Locale, time_zone: str) -> _Shown:
    arrived = moment_in_words(message.arrived_at, locale, time_zone)
    return _Shown(message.title, message.body, message.locale, as_text(message.arrived_at), arrived)


def moment_in_words(moment: datetime, locale: Locale, time_zone: str) -> str:
    """Return a moment to the minute, as a person of that language and zone writes it."""
    local, babel = moment.astimezone(ZoneInfo(time_zone)), _BABEL[locale]
    day, time = format_date(local, "medium", locale=babel), format_time(local, "short", locale=babel)
    return str(get_datetime_format("medium", locale=babel)).format(time, day)


def language_of(request: web.Request) -> Locale:
    """Return the language that a browser asks for first."""
    return Locale.CHINESE if request.headers.get("Accept-Language", "").startswith("zh") else Locale.ENGLISH


def render(name: str, locale: Locale, status: int = 200, **facts: Any) -> web.Response:
    """Return a page in that language, as private as every answer to a reader."""
    nonce = secrets.token_urlsafe(16)
    text = _templates().get_template(name).render(language=str(locale), words=words_of(locale), nonce=nonce, **facts)
    headers = PRIVATE | {"Content-Security-Policy": _POLICY.format(nonce)}
    return web.Response(text=text, status=status, headers=headers, content_type="text/html")


@lru_cache(maxsize=1)
def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@lru_cache(maxsize=2)
def words_of(locale: Locale) -> Words:
    """Return what pages say in that language."""
    languages = read_toml(Path(__file__).with_name("words.toml"), _Languages)
    return languages.zh_cn if locale == Locale.CHINESE else languages.en
