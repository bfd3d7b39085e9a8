"""The values that messages are made of: money, times, party references, bounded text."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, FailFast, Field

_INT64 = 2**63
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_TIME_EXPECTED = "must be an RFC 3339 time with an offset, as 2026-11-23T08:30:00Z"
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(9999, 1, 1, tzinfo=UTC)

NO_NUL: Final = r"^[^\u0000]*$"
"""The pattern of every text: what PostgreSQL can store."""


_Item = TypeVar("_Item")
Items = Annotated[tuple[_Item, ...], FailFast()]
"""An array, read as far as its first wrong item: a value may hold 80,000 of them, with several findings each."""


class Wire(BaseModel):
    """A message body: strict types, unknown fields ignored, unchangeable once read."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


def parse_time(text: str) -> datetime:
    """Return the moment, in UTC, that an RFC 3339 time with offset names; finer than microseconds is cut off.

    Raises:
        ValueError: It is no such time, or not between the years 1970 and 9998; says so without quoting it.
    """
    if not _RFC_3339.fullmatch(text):
        raise ValueError(_TIME_EXPECTED)
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        # Not chained: it would quote the text.
        raise ValueError(_TIME_EXPECTED) from None
    return _within_range(moment)


def as_text(moment: datetime) -> str:
    """Return a moment as RFC 3339 in UTC, to the microsecond."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def _within_range(moment: datetime) -> datetime:
    # A zone's offset must not push a moment out of the years that can be stored.
    if not _EARLIEST <= moment < _LATEST:
        message = "must lie between the years 1970 and 9998"
        raise ValueError(message)
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)


def _parsed(value: Any) -> Any:
    # By hand, since a strict model takes no text for a time, and a lax one takes numbers and bare dates.
    if isinstance(value, str):
        return parse_time(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return _within_range(value)
    raise ValueError(_TIME_EXPECTED)


Minor = Annotated[
    int, Field(ge=-_INT64, lt=_INT64, description="An amount in the currency's minor unit.", examples=[1250])
]
NonNegativeMinor = Annotated[
    int, Field(ge=0, lt=_INT64, description="An amount of at least 0 in the currency's minor unit.", examples=[0])
]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$", description="ISO 4217 code.", examples=["CNY"])]
Moment = Annotated[
    AwareDatetime,
    BeforeValidator(_parsed),
    Field(description="RFC 3339 time with offset.", examples=["2026-11-23T08:30:00Z"]),
]
BusinessDate = Annotated[
    str,
    Field(pattern=r"^\d{4}-\d{2}-\d{2}$", description="A business day in Asia/Shanghai.", examples=["2026-11-26"]),
]

_WALLET = r"wallet:[!-~]{1,128}"
_BANK = r"bank:[A-Za-z0-9]{2,16}:[!-~]{1,64}"
_PLATFORM = r"platform:[a-z][a-z0-9_-]{0,63}"
_LOAN = r"loan:[!-~]{1,128}"
Wallet = Annotated[
    str, Field(pattern=rf"^{_WALLET}$", description="A wallet: `wallet:<id>`.", examples=["wallet:alice"])
]
Party = Annotated[
    str,
    Field(
        pattern=rf"^({_WALLET}|{_BANK}|{_PLATFORM})$",
        description="`wallet:<id>`, `bank:<bank code>:<account number>` or `platform:<name>`.",
        examples=["wallet:bob"],
    ),
]
BankAccount = Annotated[
    str,
    Field(
        pattern=rf"^{_BANK}$",
        description="`bank:<bank code>:<account number>`.",
        examples=["bank:ICBC:6222020000000001"],
    ),
]
BankCode = Annotated[str, Field(pattern=r"^[A-Za-z0-9]{2,16}$", description="A bank's code.", examples=["ICBC"])]
Subject = Annotated[
    str,
    Field(
        pattern=rf"^({_WALLET}|{_LOAN})$",
        description="What is closed: `wallet:<id>` or `loan:<obligation id>`.",
        examples=["wallet:alice"],
    ),
]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 in lower-case hexadecimal digits.")]
CustomerId = Annotated[str, Field(min_length=1, max_length=128, pattern=NO_NUL, examples=["customer-1"])]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=NO_NUL, examples=["王小明"])]
Reference = Annotated[str, Field(max_length=140, pattern=NO_NUL, description="A line for the payee.")]
ShortText = Annotated[str, Field(min_length=1, max_length=140, pattern=NO_NUL)]
Text = Annotated[str, Field(max_length=2000, pattern=NO_NUL)]
LocaleName = Literal["zh-CN", "en"]
MessageId = Annotated[str, Field(min_length=1, max_length=256, pattern=NO_NUL)]
Count = Annotated[int, Field(ge=0, lt=_INT64)]
Revision = Annotated[int, Field(ge=1, lt=_INT64, description="Counts the changes from 1; a lower one is out of date.")]
TierName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$", examples=["standard"])]
"""The name of a tier in the policy."""


class Translation(Wire):
    """A text in one more language; who reads a language that is missing is told it only if the text is in theirs."""

    locale: LocaleName
    text: Text


Translations = Items[Translation]
