"""The values that messages are made of: money, times, party references, bounded text."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

_INT64 = 2**63
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


class Wire(BaseModel):
    """A message body: strict types, unknown fields ignored, unchangeable once read."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


def _storable(text: str) -> str:
    if "\x00" in text:
        message = "must not contain the NUL character"
        raise ValueError(message)
    return text


def _parsed(value: Any) -> Any:
    # By hand, since a strict model takes no text for a time, and a lax one takes numbers and bare dates.
    if isinstance(value, datetime):
        return value
    if isinstance(value, str) and _RFC_3339.fullmatch(value):
        with suppress(ValueError):  # which would quote the value
            return datetime.fromisoformat(value.upper())
    message = "must be an RFC 3339 time with an offset, as 2026-11-23T08:30:00Z"
    raise ValueError(message)


def _within_range(moment: datetime) -> datetime:
    # A zone's offset must not push a moment out of the years that can be stored.
    if not datetime(1970, 1, 1, tzinfo=UTC) <= moment <= datetime(9999, 1, 1, tzinfo=UTC):
        message = "must lie between the years 1970 and 9998"
        raise ValueError(message)
    return moment.astimezone(UTC)


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
    AfterValidator(_within_range),
    Field(description="RFC 3339 time with offset.", examples=["2026-11-23T08:30:00Z"]),
]
BusinessDate = Annotated[
    str,
    Field(pattern=r"^\d{4}-\d{2}-\d{2}$", description="A business day in Asia/Shanghai.", examples=["2026-11-26"]),
]

_ID = r"[!-~]{1,120}"
Wallet = Annotated[
    str, Field(pattern=rf"^wallet:{_ID}$", description="A wallet: `wallet:<id>`.", examples=["wallet:alice"])
]
Party = Annotated[
    str,
    Field(
        pattern=rf"^(wallet:{_ID}|bank:[A-Za-z0-9]{{2,16}}:[!-~]{{1,64}}|platform:[a-z][a-z0-9_-]{{0,63}})$",
        description="`wallet:<id>`, `bank:<bank code>:<account number>` or `platform:<name>`.",
        examples=["wallet:bob"],
    ),
]
BankAccount = Annotated[
    str,
    Field(
        pattern=r"^bank:[A-Za-z0-9]{2,16}:[!-~]{1,64}$",
        description="`bank:<bank code>:<account number>`.",
        examples=["bank:ICBC:6222020000000001"],
    ),
]
CustomerId = Annotated[str, AfterValidator(_storable), Field(min_length=1, max_length=128, examples=["customer-1"])]
Name = Annotated[str, AfterValidator(_storable), Field(min_length=1, max_length=200, examples=["王小明"])]
ShortText = Annotated[str, AfterValidator(_storable), Field(min_length=1, max_length=140)]
Text = Annotated[str, AfterValidator(_storable), Field(max_length=2000)]
TierName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$", examples=["standard"])]
"""The name of a tier in the policy."""
