"""Says events in people's own words: templates by event, role and language; amounts, dates and reasons as they read."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from zoneinfo import ZoneInfo

from babel.dates import format_date, format_time, get_datetime_format
from babel.lists import format_list
from babel.numbers import format_currency, get_currency_name, get_currency_precision
from jinja2 import DictLoader, StrictUndefined, TemplateError, TemplateNotFound
from jinja2.meta import find_referenced_templates, find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import Field

from services.notify.gateways.segments import count_segments
from services.notify.model import Locale, Role, Text
from services.runtime.checked_files import FileError, Strict, read_toml

if TYPE_CHECKING:
    from jinja2 import Template

DEFAULT_WORDING: Final = Path(__file__).with_name("words")

BABEL: Final = {Locale.CHINESE: "zh_Hans_CN", Locale.ENGLISH: "en"}
"""What the library that writes amounts and moments calls the languages."""

_STOP: Final = {Locale.CHINESE: "。", Locale.ENGLISH: "."}
_ENDS: Final = (".", "!", "?", "。", "！", "？")
_SHOWN: Final = 4
_HAN: Final = re.compile("[\u3400-\u9fff]")
_TRANSLATED: Final = frozenset(("text", "reason", "change_reason"))
"""Texts that publishers write themselves; beside each, `…_in` may say it in other languages."""
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


class _Ending(Strict):
    """A party by the last of its number, and by itself where nothing of the number may be shown."""

    ending: _Line
    plain: _Line


class Leaving(Strict):
    """How marketing says that a person can get no more of it: by a link, a text sent back, or in the app."""

    link: _Line
    reply: Annotated[str, Field(pattern=r"^[^{}]*\{word\}[^{}]*$")]
    in_app: _Line


class _File(Strict):
    """A language's file; `terms` are a field's values in words, `phrases` what several notices say alike."""

    support: _Line
    sms_signature: _Line
    sms_short: _Line
    leaving: Leaving
    platform: _Line
    account: _Ending
    own: dict[str, _Ending]
    phrases: dict[str, _Line]
    terms: dict[str, dict[str, _Line]]
    reasons: dict[str, _Reason]
    payee_reasons: dict[str, _Reason]
    notices: dict[str, dict[Role, _Words]]
    messages: dict[str, _Words]
    digest: _Words


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
    digest: _Templates


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

    def terms(self, locale: Locale, name: str) -> frozenset[str]:
        """Return the values of a field that a language has words for."""
        return frozenset(self._languages[locale].words.terms.get(name, ()))

    def term(self, locale: Locale, name: str, value: str) -> str:
        """Return a field's value in words; as it is where there are none."""
        return self._languages[locale].words.terms.get(name, {}).get(value, value)

    def because(self, locale: Locale, code: str) -> tuple[str, str]:
        """Return why something did not happen and what to do, by the reason's code; empty where there are no words."""
        told = self._languages[locale].words.reasons.get(code)
        return ("", "") if told is None else (told.words, told.next)

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
        templates = language.messages[template]
        needed = [name for name in data if name.removesuffix("_minor") in templates.needs and name != "support"]
        try:
            writer = _Writer(language.words, locale, data.get("currency"), "UTC")
            facts = {name.removesuffix("_minor"): _in_language(writer, name, data[name], locale) for name in needed}
            facts["support"] = language.words.support
            text = Text(templates.title.render(facts), templates.body.render(facts))
        except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            message = f"{template} in {locale}: {error}"
            raise WordingError(message) from error
        if not text.title.isprintable():
            message = f"{template} in {locale}: the title is more than a line"
            raise WordingError(message)
        return text

    def digest(self, texts: Sequence[Text], locale: Locale) -> Text:
        """Return one text that lists several, in the order given."""
        language = self._languages[locale]
        facts = {"count": len(texts), "titles": [text.title for text in texts], "support": language.words.support}
        return Text(language.digest.title.render(facts), language.digest.body.render(facts))

    def leaving(self, locale: Locale) -> Leaving:
        """Return how marketing says that a person can get no more of it."""
        return self._languages[locale].words.leaving

    def as_sms(self, text: Text, locale: Locale, segments: int, ending: str = "") -> str:
        """Return what a text says in at most so many segments: all of it, or its title and how to learn more.

        The ending is always there. A title that is too long by itself, as others may write it, is cut.
        """
        words = self._languages[locale].words
        short = words.sms_short.format(title=text.title, stop="" if text.title.endswith(_ENDS) else _STOP[locale])
        said = [_plain_spaces(f"{words.sms_signature}{one}{ending}") for one in (text.body, short, text.title)]
        fitting = next((one for one in said if count_segments(one) <= segments), None)
        return fitting or _cut(_plain_spaces(f"{words.sms_signature}{text.title}"), segments, _plain_spaces(ending))


def _in_language(writer: _Writer, name: str, value: Any, locale: Locale) -> Any:
    if not isinstance(value, dict):
        return writer.write(name, value)
    if locale not in value:
        message = f"{name} is not said in {locale}"
        raise WordingError(message)
    return value[locale]


def _cut(text: str, segments: int, ending: str) -> str:
    """Return as much of a text as so many segments hold with its ending; longer texts have no fewer segments."""
    ending = f"...{ending}"
    fits = bisect_right(range(len(text)), segments, key=lambda length: count_segments(f"{text[:length]}{ending}")) - 1
    return f"{text[:fits]}{ending}"


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
    environment, phrases = _environment(locale, words.phrases), words.phrases
    templates = {
        (event_type, role): _compile_at(f"{path}: notices.{event_type}.{role}", environment, lines, phrases)
        for event_type, roles in words.notices.items()
        for role, lines in roles.items()
    }
    messages = {
        name: _compile_at(f"{path}: messages.{name}", environment, lines, phrases)
        for name, lines in words.messages.items()
    }
    digest = _compile_at(f"{path}: digest", environment, words.digest, phrases)
    return _Language(locale, words, templates, messages, digest)


def _compile_at(
    place: str, environment: ImmutableSandboxedEnvironment, lines: _Words, phrases: Mapping[str, str]
) -> _Templates:
    try:
        return _compile(environment, lines, phrases)
    except TemplateError as error:
        message = f"{place}: {error}"
        raise WordingError(message) from error


def _environment(locale: Locale, phrases: Mapping[str, str]) -> ImmutableSandboxedEnvironment:
    # Plain text: what is markup to a browser is escaped where pages and mails are made.
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False, loader=DictLoader(phrases))
    environment.filters |= {"listed": partial(_listed, BABEL[locale]), "sentence": partial(_sentence, _STOP[locale])}
    return environment


def _sentence(stop: str, text: str) -> str:
    # Others' texts come with a full stop or without.
    return text if text.endswith(_ENDS) else f"{text}{stop}"


def _listed(locale: str, items: list[str], style: str = "standard") -> str:
    return format_list(items, style, locale)  # type: ignore[arg-type]  # the words name a style of babel's


def _compile(environment: ImmutableSandboxedEnvironment, lines: _Words, phrases: Mapping[str, str]) -> _Templates:
    title, body = lines.title.strip(), lines.body.strip()
    needs = _needs(environment, f"{title}{body}", phrases)
    return _Templates(environment.from_string(title), environment.from_string(body), frozenset(needs))


def _needs(environment: ImmutableSandboxedEnvironment, template: str, phrases: Mapping[str, str]) -> set[str]:
    """Return the names of the facts that a template needs, those of its phrases too; no phrase may hold itself."""
    tree = environment.parse(template)
    needs = find_undeclared_variables(tree)
    for name in find_referenced_templates(tree):
        if name is None or name not in phrases:
            raise TemplateNotFound(name)
        needs |= _needs(environment, phrases[name], {other: phrases[other] for other in phrases if other != name})
    return needs


def _facts(
    language: _Language, event: Mapping[str, Any], role: Role, time_zone: str, needs: frozenset[str]
) -> dict[str, Any]:
    """Return those of an event's fields that are needed, as a person reads them; `has_fee` is whether it is not 0."""
    words = language.words
    writer = _Writer(words, language.locale, event.get("currency"), time_zone, role)
    facts: dict[str, Any] = {"support": words.support}
    event = _in_own_language(event, language.locale)
    for name in (need for need in needs if need.startswith("has_")):
        facts[name] = role != Role.PAYEE and bool(event.get(f"{name.removeprefix('has_')}_minor"))
    own_balance = f"{role}_available_minor"
    for name, value in event.items():
        fact = "available" if name == own_balance else name.removesuffix("_minor")
        if _is_nothing(value) or (fact not in needs and name != "reason"):
            continue
        if name == "reason" and isinstance(value, Mapping):
            facts |= {"refused": _refused(words, value)} if "refused" in needs else _reason(words, value, writer)
        else:
            facts[fact] = writer.write(name, value)
    return facts


def _in_own_language(fields: Mapping[str, Any], locale: Locale) -> Mapping[str, Any]:
    """Return fields with others' texts in one language; without those that are not said in it.

    A text without a translation is taken for Chinese where it has a Chinese character, and else for English.
    """
    texts = {name: fields[name] for name in _TRANSLATED & fields.keys() if isinstance(fields[name], str)}
    return {**fields, **{name: translated(text, fields.get(f"{name}_in", ()), locale) for name, text in texts.items()}}


def translated(text: str, translations: Sequence[Mapping[str, str]], locale: Locale) -> str | None:
    """Return others' text in a language; None where they have not said it in that."""
    is_in_own = (_HAN.search(text) is not None) == (locale == Locale.CHINESE)
    said = {one["locale"]: one["text"] for one in translations}
    return said.get(locale, text if is_in_own else None)


def _is_nothing(value: Any) -> bool:
    # An empty text is a gap in a sentence, as one that is not there.
    return value is None or (isinstance(value, str) and not value.strip())


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes values as a person does in their language and time zone; `own` is what the event makes of them."""

    words: _File
    language: Locale
    currency: str | None
    time_zone: str
    own: Role = Role.RECIPIENT

    @property
    def locale(self) -> str:
        """The language as babel calls it."""
        return BABEL[self.language]

    def write(self, name: str, value: Any) -> Any:
        """Return a field's amount, moment, day, party or code as text, fields within it too; all else as it is."""
        if isinstance(value, Mapping):
            return self._write_fields(value)
        if isinstance(value, tuple | list):
            return [self.write(name, one) for one in value]
        if (name.endswith("_minor") or name == "value") and self.currency is not None:
            return money(value, self.currency, self.locale)
        if isinstance(value, datetime):
            return moment_in(value, self.locale, self.time_zone)
        if name.endswith("_on") or name == "until":
            return format_date(date.fromisoformat(value), "medium", locale=self.locale)
        if name in {"payer", "payee", "account_id", "subject"}:
            return _party(self.words, value, is_own=name in {"account_id", "subject", self.own})
        if name == "obligation_id":
            return shown_of(value)
        if name in {"currency", "currencies"}:
            return get_currency_name(value, locale=self.locale)
        return self.words.terms.get(name, {}).get(value, value)

    def _write_fields(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        writer = replace(self, currency=fields.get("currency", self.currency))
        fields = _in_own_language(fields, self.language)
        there = {name: value for name, value in fields.items() if not _is_nothing(value)}
        written = {name.removesuffix("_minor"): writer.write(name, value) for name, value in there.items()}
        has = {f"has_{name.removesuffix('_minor')}": value != 0 for name, value in there.items() if "_minor" in name}
        return written | has


def _refused(words: _File, reason: Mapping[str, Any]) -> str:
    """Return why a command about a closing was refused."""
    terms = words.terms["refused"]
    return terms.get(reason["code"], terms["other"])


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
def moment_in(moment: datetime, locale: str, time_zone: str) -> str:
    """Return a moment as people of a language (`zh_Hans_CN` or `en`) in a time zone write it."""
    # Most events of a batch are of one moment.
    local = moment.astimezone(ZoneInfo(time_zone))
    day, time = format_date(local, "medium", locale=locale), format_time(local, "short", locale=locale)
    return str(get_datetime_format("medium", locale=locale)).replace("'", "").format(time, day)


def money(minor: int, currency: str, locale: str) -> str:
    """Return an amount in minor units as a person of that language writes it."""
    return format_currency(Decimal(minor).scaleb(-get_currency_precision(currency)), currency, locale=locale)


def _party(words: _File, party: str, *, is_own: bool) -> str:
    """Return a party by the last of its number, the reader's own wallet or loan as theirs; the platform by name."""
    kind = party.partition(":")[0]
    if kind == "platform":
        return words.platform
    form = words.own.get(kind, words.account) if is_own else words.account
    digits = shown_of(party.rpartition(":")[2])
    return form.ending.format(digits=digits) if digits else form.plain


def shown_of(number: str) -> str:
    """Return the last four characters of an account's number, or at most a third of a short one."""
    return number[len(number) - min(_SHOWN, len(number) // 3) :]
