"""Says events in people's own words: templates by event, role and language; amounts, dates and reasons as they read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from zoneinfo import ZoneInfo

from babel.dates import format_date, format_datetime
from babel.numbers import format_currency, get_currency_precision
from jinja2 import StrictUndefined, TemplateError
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import Field

from services.notify.gateways.segments import count_segments
from services.notify.model import Locale, Role, Text
from services.runtime.checked_files import FileError, Strict, read_toml

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jinja2 import Template

DEFAULT_WORDING: Final = Path(__file__).with_name("words")

_BABEL: Final = {Locale.CHINESE: "zh_Hans_CN", Locale.ENGLISH: "en"}
_SHOWN: Final = 4
_Line = Annotated[str, Field(min_length=1)]


class WordingError(ValueError):
    """A file of words cannot be used; the text says which, where and why."""


class _Words(Strict):
    """What one role is told of one event, as templates."""

    title: _Line
    body: _Line


class _Reason(Strict):
    """A reason in the customer's words, and what they can do about it."""

    words: _Line
    next: _Line


class _File(Strict):
    """A language's file."""

    support: _Line
    sms_signature: _Line
    account: _Line
    account_without_digits: _Line
    platform: _Line
    reasons: dict[str, _Reason]
    payee_reasons: dict[str, _Reason]
    notices: dict[str, dict[Role, _Words]]
    messages: dict[str, _Words]


@dataclass(frozen=True, slots=True)
class _Templates:
    """What one role is told of one event, and the names of the facts that it needs: others are not put into words."""

    title: Template
    body: Template
    needs: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Language:
    """A language's templates, and the words that all of them share."""

    locale: Locale
    words: _File
    templates: Mapping[tuple[str, Role], _Templates]
    messages: Mapping[str, _Templates]


class Wording:
    """Every notice in every language, checked when it is read."""

    def __init__(self, languages: Mapping[Locale, _Language]) -> None:
        self._languages = languages

    def tells(self, event_type: str, role: Role) -> bool:
        """Tell whether there are words for an event's role, in every language."""
        return all((event_type, role) in language.templates for language in self._languages.values())

    def reasons(self, locale: Locale) -> frozenset[str]:
        """Return the codes that a language has words for."""
        return frozenset(self._languages[locale].words.reasons)

    def told(self) -> frozenset[tuple[str, Role]]:
        """Return the event types and roles that at least one language has words for."""
        return frozenset(key for language in self._languages.values() for key in language.templates)

    def tell(self, event_type: str, role: Role, event: Mapping[str, Any], locale: Locale, time_zone: str) -> Text:
        """Say an event, given as the fields of its message, to a person.

        Raises:
            WordingError: a field that the words need is missing from the event.
        """
        language = self._languages[locale]
        templates = language.templates[event_type, role]
        facts = _facts(language, event, role, time_zone, templates.needs)
        try:
            return Text(templates.title.render(facts), templates.body.render(facts))
        except TemplateError as error:
            message = f"{event_type} for the {role} in {locale}: {error}"
            raise WordingError(message) from error

    def compose(self, template: str, data: Mapping[str, Any], locale: Locale) -> Text:
        """Fill a template that other systems may ask for; a text of the data may be said in each language.

        Raises:
            WordingError: there is no such template, something that it needs is missing, or the title is not a line.
        """
        language = self._languages[locale]
        if template not in language.messages:
            message = f"there is no template {template}: there are {', '.join(sorted(language.messages))}"
            raise WordingError(message)
        writer = _Writer(_BABEL[locale], data.get("currency"), "UTC")
        facts = {name.removesuffix("_minor"): _in_language(writer, name, data[name], locale) for name in data}
        templates = language.messages[template]
        try:
            text = Text(templates.title.render(support=language.words.support, **facts), "")
            text = text._replace(body=templates.body.render(support=language.words.support, **facts))
        except (TemplateError, TypeError, ValueError) as error:
            message = f"{template} in {locale}: {error}"
            raise WordingError(message) from error
        if not text.title.isprintable():
            message = f"{template} in {locale}: the title is more than a line"
            raise WordingError(message)
        return text

    def as_sms(self, text: Text, locale: Locale, segments: int) -> str:
        """Return what a text says as one of at most so many segments: all of it, or else its title alone."""
        words = self._languages[locale].words
        whole = _plain_spaces(f"{words.sms_signature}{text.body}")
        if count_segments(whole) <= segments:
            return whole
        return _plain_spaces(f"{words.sms_signature}{text.title}")


def _in_language(writer: _Writer, name: str, value: Any, locale: Locale) -> Any:
    if not isinstance(value, dict):
        return writer.write(name, value)
    if locale not in value:
        message = f"{name} is not said in {locale}"
        raise WordingError(message)
    return value[locale]


def _plain_spaces(text: str) -> str:
    # Narrow and unbreakable spaces would make every character of a text message cost twice as much.
    return text.replace("\u202f", " ").replace("\xa0", " ")


def read_wording(folder: Path) -> Wording:
    """Read a folder with one file a language; WordingError names the file and the place of what is wrong."""
    return Wording({locale: _read_language(folder / f"{locale}.toml", locale) for locale in Locale})


def _read_language(path: Path, locale: Locale) -> _Language:
    try:
        words = read_toml(path, _File)
    except FileError as error:
        raise WordingError(str(error)) from error
    environment = _environment()
    templates = {
        (event_type, role): _compile_at(f"{path}: notices.{event_type}.{role}", environment, lines)
        for event_type, roles in words.notices.items()
        for role, lines in roles.items()
    }
    messages = {
        name: _compile_at(f"{path}: messages.{name}", environment, lines) for name, lines in words.messages.items()
    }
    return _Language(locale, words, templates, messages)


def _compile_at(place: str, environment: ImmutableSandboxedEnvironment, lines: _Words) -> _Templates:
    try:
        return _compile(environment, lines)
    except TemplateError as error:
        message = f"{place}: {error}"
        raise WordingError(message) from error


def _environment() -> ImmutableSandboxedEnvironment:
    # Plain text: what is markup to a browser is escaped where pages and mails are made.
    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)


def _compile(environment: ImmutableSandboxedEnvironment, lines: _Words) -> _Templates:
    title, body = lines.title.strip(), lines.body.strip()
    needs = find_undeclared_variables(environment.parse(title)) | find_undeclared_variables(environment.parse(body))
    return _Templates(environment.from_string(title), environment.from_string(body), frozenset(needs))


def _facts(
    language: _Language, event: Mapping[str, Any], role: Role, time_zone: str, needs: frozenset[str]
) -> dict[str, Any]:
    """Return those of an event's fields that are needed, as a person reads them."""
    words, writer = language.words, _Writer(_BABEL[language.locale], event.get("currency"), time_zone)
    facts: dict[str, Any] = {"support": words.support, "has_fee": role == Role.PAYER and bool(event.get("fee_minor"))}
    own_balance = f"{role}_available_minor"
    for name, value in event.items():
        fact = "available" if name == own_balance else name.removesuffix("_minor")
        if value is None or (fact not in needs and name != "reason"):
            continue
        if name == "reason":
            facts |= _reason(words, value, writer)
        elif name in {"payer", "payee", "account_id"}:
            facts[name] = _account(words, value)
        else:
            facts[fact] = writer.write(name, value)
    return facts


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes values as a person does in their language and time zone."""

    locale: str
    currency: str | None
    time_zone: str

    def write(self, name: str, value: Any) -> Any:
        """Return an amount, a moment or a day as text, and everything else as it is."""
        if name.endswith("_minor") and self.currency is not None:
            return money(value, self.currency, self.locale)
        if isinstance(value, datetime):
            return _moment(value, self.locale, self.time_zone)
        if name.endswith("_on"):
            return format_date(date.fromisoformat(value), "long", locale=self.locale)
        return value


def _reason(words: _File, reason: Mapping[str, Any], writer: _Writer) -> dict[str, Any]:
    is_the_payees = reason.get("field") == "payee" and reason["code"] in words.payee_reasons
    told = (words.payee_reasons if is_the_payees else words.reasons).get(reason["code"])
    if told is None:
        message = f"there are no words for the reason {reason['code']}"
        raise WordingError(message)
    # When the payee's account is free again is the payee's own affair.
    figures = () if is_the_payees else ("shortfall_minor", "limit_minor", "available_at")
    return {"reason": told.words, "next": told.next} | {
        name.removesuffix("_minor"): writer.write(name, reason[name])
        for name in figures
        if reason.get(name) is not None
    }


@lru_cache(maxsize=1_024)
def _moment(moment: datetime, locale: str, time_zone: str) -> str:
    # Most events of a batch are of one moment.
    return format_datetime(moment, "medium", tzinfo=ZoneInfo(time_zone), locale=locale)


def money(minor: int, currency: str, locale: str) -> str:
    """Return an amount in minor units as a person of that language writes it."""
    return format_currency(Decimal(minor).scaleb(-get_currency_precision(currency)), currency, locale=locale)


def _account(words: _File, party: str) -> str:
    """Return a party by the last of its number; the platform itself by name."""
    if party.startswith("platform:"):
        return words.platform
    digits = shown_of(party.rpartition(":")[2])
    return words.account.format(digits=digits) if digits else words.account_without_digits


def shown_of(number: str) -> str:
    """Return the last four characters of an account's number, or at most a third of a short one."""
    return number[len(number) - min(_SHOWN, len(number) // 3) :]
