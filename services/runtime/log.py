"""Structured logs on standard error that never show account numbers or personal data."""

from __future__ import annotations

import logging
import re
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping
    from types import TracebackType

PERSONAL_KEYS = frozenset(
    {
        "address",
        "applicant",
        "birth_date",
        "contact",
        "email",
        "holder",
        "id_number",
        "name",
        "payee_name",
        "payer_name",
        "phone",
    }
)
"""Fields whose values are dropped whatever they look like."""

_MASK = "***"
_LAST_DIGITS = 4
_FRAMES = 8

_ACCOUNT = re.compile(r"\b(wallet|bank:[A-Za-z0-9]{2,16}|card|account):([A-Za-z0-9._-]+)")
# A word is looked at once, address or not: texts of a million characters come from anybody.
_EMAIL = re.compile(r"[\w.+-]++(@[\w-]++(?:\.[\w-]++)++)?")
_ID_NUMBER = re.compile(r"(?<![\w-])\d{6}[ -]?\d{8}[ -]?\d{3}[\dXx](?![\w-])")
_PHONE = re.compile(r"(?<![\w-])(?:\+?86[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}(?![\w-])")
_LONG_NUMBER = re.compile(r"(?<![\w.-])\d{12,19}(?![\w-])")


def configure_logging(level: str, log_format: str) -> None:
    """Send our events and the libraries' to standard error, masked, as `json` or for a `console`."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        summarise_exception,
        mask,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared[:4], _render_arguments, *shared[4:]],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer(log_format)],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # The libraries tell of each reconnection; what matters of it we say ourselves.
    for noisy in ("aiokafka", "asyncio", "aiohttp"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _renderer(log_format: str) -> structlog.typing.Processor:
    if log_format == "json":
        return structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())


def _render_arguments(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["event"] = str(event["event"])
    event.pop("positional_args", None)
    return event


def mask(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask account numbers down to their last four characters, and personal data altogether."""
    return {mask_text(key): _masked(key, value) for key, value in event.items()}


def _masked(key: str, value: object) -> object:
    if key.lower() in PERSONAL_KEYS:
        return None if value is None else _MASK
    return _masked_value(value)


def _masked_value(value: object) -> object:
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return mask_text(value)
        case dict():
            return {mask_text(str(key)): _masked(str(key), item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_masked_value(item) for item in value]
        case bytes():
            return f"{len(value)} bytes"
        case _:
            return mask_text(str(value))


def mask_text(text: str) -> str:
    """Return the text without account numbers, ID numbers, phones and e-mail addresses."""
    text = _ACCOUNT.sub(lambda found: f"{found[1]}:{_last_digits(found[2])}", text)
    if "@" in text:
        text = _EMAIL.sub(lambda found: found[0] if found[1] is None else _MASK, text)
    text = _ID_NUMBER.sub(_MASK, text)
    text = _PHONE.sub(_MASK, text)
    return _LONG_NUMBER.sub(lambda found: _last_digits(found[0]), text)


def _last_digits(number: str) -> str:
    return _MASK + (number[-_LAST_DIGITS:] if len(number) > 2 * _LAST_DIGITS else "")


def summarise_exception(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace an exception by its types and places; its text may hold anybody's data."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event["error"] = summarise(error)
    return event


def summarise(error: BaseException) -> str:
    """Return the types of an exception and its causes and its innermost places, without any text."""
    types = [type(error).__qualname__]
    cause = error.__cause__ or error.__context__
    while cause is not None and len(types) < _FRAMES:
        types.append(type(cause).__qualname__)
        cause = cause.__cause__ or cause.__context__
    return f"{' from '.join(types)} at {' < '.join(_places(error.__traceback__)) or 'no place'}"


def _places(trace: TracebackType | None) -> list[str]:
    frames = list(traceback.walk_tb(trace))[-_FRAMES:]
    return [f"{_short(frame.f_code.co_filename)}:{line} {frame.f_code.co_name}" for frame, line in reversed(frames)]


def _short(file_name: str) -> str:
    return "/".join(Path(file_name).parts[-2:])


def error_fields(error: BaseException) -> Mapping[str, str]:
    """Return what may be logged of an error that is expected: its type and, from PostgreSQL, its code."""
    fields = {"error": type(error).__qualname__}
    code = getattr(error, "sqlstate", None)
    return {**fields, "sqlstate": str(code)} if code else fields
