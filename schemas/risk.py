"""The risk family: which customers are under suspicion, and until when."""

from __future__ import annotations

from schemas.fields import CustomerId, Moment, ShortText, Wire


class RiskFlagged(Wire):
    """A rule suspects a customer until a moment; said again, the last moment counts."""

    customer_id: CustomerId
    rule: ShortText
    until: Moment


class RiskCleared(Wire):
    """A rule suspects a customer no longer; without a rule, none does."""

    customer_id: CustomerId
    rule: ShortText | None = None
