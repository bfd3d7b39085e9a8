"""A request to the console as its pages see it: who asks, in which language, and the answer drawn from a template."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, RedirectResponse

from ops.moments import moment_text
from ops.money import amount_text
from ops.web.saying import parts_in, wait_in
from ops.web.words import LANGUAGES, word_for, words_of
from services.runtime.calendar import BUSINESS_ZONE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from ops.errors import UserError
    from ops.web.sessions import Session
    from ops.web.site import Site
    from ops.web.users import Role, User
    from services.notify.model import Locale

_FOLDER: Final = Path(__file__).with_name("templates")


@dataclass(frozen=True, slots=True)
class Visit:
    """A request whose role and form are checked; `nonce` is this browser's, from which its forms' token is made."""

    request: Request
    site: Site
    language: Locale
    session: Session | None
    nonce: str
    form: Mapping[str, Sequence[str]] = field(default_factory=dict)
    problem: UserError | None = None
    """Why it is not known who is signed in."""

    @property
    def user(self) -> User | None:
        """Who is signed in, if anybody is."""
        return None if self.session is None else self.session.user

    @property
    def who(self) -> str:
        """The name that stands in the log of acts; only where somebody has to be signed in."""
        assert self.session is not None  # noqa: S101 - the table of pages sees to it
        return self.session.user.name

    @property
    def words(self) -> dict[str, Any]:
        """What the pages say in the visitor's language."""
        return words_of(self.language)

    def is_still_signed_in(self) -> bool:
        """Tell whether the session that the request came with has not ended since; its role may be another."""
        return self.session is not None and self.site.sessions.is_open(self.session)

    def asked(self, name: str) -> str:
        """Return what the address says under a name, without blanks around it; empty where it says nothing."""
        return _written(self.request.query_params.get(name, ""))

    def given(self, name: str) -> str:
        """Return what a field of the form says, without blanks around it; empty where it says nothing."""
        return _written(next(iter(self.form.get(name, ())), ""))

    def given_all(self, name: str) -> list[str]:
        """Return everything that a field of the form says."""
        return [text for each in self.form.get(name, ()) if (text := _written(each))]

    def may(self, role: Role) -> bool:
        """Tell whether the visitor has this role, so that a page shows no button that would be refused."""
        return self.user is not None and self.user.role.may(role)

    def page(self, template: str, /, status: int = 200, **values: Any) -> Response:
        """Return a page."""
        return HTMLResponse(self.draw(template, **values), status)

    def draw(self, template: str, /, **values: Any) -> str:
        """Return a template's text, with everything that every template may use."""
        return (
            templates()
            .get_template(template)
            .render(
                w=self.words,
                language=str(self.language),
                languages=LANGUAGES,
                here=self.request.url.path,
                parts_of=partial(parts_in, self.language),
                words_of=self._words_of,
                wait_of=partial(wait_in, self.language),
                address_in=self._address_in,
                user=self.user,
                may=self.may,
                form_token=self.site.sessions.form_token(self.nonce),
                scripts=sorted(self.site.scripts),
                done=self.words["done"].get(self.asked("done")),
                **values,
            )
        )

    def see(self, path: str, **query: str) -> Response:
        """Send the browser on to a page, after a form: going back does not send it again."""
        return RedirectResponse(path + (f"?{urlencode(query)}" if query else ""), 303)

    def _words_of(self, codes: str, kinds: Sequence[str]) -> list[str] | None:
        """Return what codes mean, one or several with commas between; None where one of them is none of these kinds."""
        found = [word_for(self.language, code, *kinds) for code in codes.split(", ")]
        words = [word for word in found if word is not None]
        return words if len(words) == len(found) else None

    def _address_in(self, language: Locale) -> str:
        query = [(name, value) for name, value in self.request.query_params.multi_items() if name != "lang"]
        # Of this page, whatever its path: one that begins with two slashes would be another host.
        return f"?{urlencode([*query, ('lang', str(language))])}"


def _written(text: str) -> str:
    """Return what somebody wrote, without blanks around it and what no database keeps."""
    return text.replace("\0", "").strip()


@cache
def templates() -> Environment:
    """Return the templates: what they are given is text, never markup, and a name that is not given is a mistake."""
    found = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"when": moment_text, "iso": _iso, "at": _at, "money": _money, "number": _number, "rate": _rate}
    return found


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _at(seconds: float) -> str:
    """Return the time of day that a moment in seconds since 1970 is."""
    return datetime.fromtimestamp(seconds, BUSINESS_ZONE).strftime("%H:%M:%S")


def _money(minor: int | None, currency: str | None) -> str:
    return "" if minor is None or currency is None else amount_text(minor, currency)


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"
