"""The risk family: which customers are under suspicion, and until when."""

from __future__ import annotations

from schemas.fields import CustomerId, Moment, ShortText, Wire


class RiskFlagged(Wire):
    """A rule suspects a customer until a moment; said again, the last moment counts.

    `restricted_until` is there where other rules suspect them for longer: until when they do.
    """

    customer_id: CustomerId
    rule: ShortText
    until: Moment
    restricted_until: Moment | None = None


class RiskCleared(Wire):
    """A rule suspects a customer no longer; without a rule, none does.

    `restricted_until` is there where other rules still do: until when.
    """

    customer_id: CustomerId
    rule: ShortText | None = None
    restricted_until: Moment | None = None
