"""The obligation family: what customers owe, from the lending systems."""

from __future__ import annotations

from typing import Literal

from schemas.fields import Currency, CustomerId, Minor, ShortText, Wallet, Wire


class ObligationPosition(Wire):
    """What is owed on a loan or card now; amounts decide, not the status. A null value in its place removes it."""

    obligation_id: ShortText
    customer_id: CustomerId
    account: Wallet | None = None
    kind: Literal["loan", "credit_card"]
    principal_minor: Minor
    interest_minor: Minor
    penalty_minor: Minor
    currency: Currency
    status: Literal["open", "overdue", "settled"]
