"""The account family: commands that open and govern wallets, and the events that say how they stand."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from schemas.fields import (
    Count,
    Currency,
    CustomerId,
    Minor,
    Moment,
    NonNegativeMinor,
    Text,
    TierName,
    Wallet,
    Wire,
)

Scope = Literal["debit", "credit", "all"]
AccountStatus = Literal["open", "closing", "closed"]
Total = Annotated[int, Field(description="A sum of amounts in the currency's minor unit.", examples=[125000])]


# --- Commands ---


class AccountOpen(Wire):
    """Open a wallet; needs no customer profile."""

    account_id: Wallet
    customer_id: CustomerId
    currency: Currency
    overdraft_limit_minor: NonNegativeMinor = 0
    low_balance_threshold_minor: NonNegativeMinor | None = None
    tier: TierName = "standard"


class AccountConfigure(Wire):
    """Change when a holder is warned, or the wallet's tier; what is absent stays."""

    account_id: Wallet
    low_balance_threshold_minor: NonNegativeMinor | None = None
    tier: TierName | None = None


class AccountRestrict(Wire):
    """Refuse debits, credits or both, until a moment or a release."""

    account_id: Wallet
    scope: Scope
    reason: Text
    until: Moment | None = None


class AccountRelease(Wire):
    """End a restriction."""

    account_id: Wallet
    scope: Scope
    reason: Text | None = None
    until: Moment | None = None


class AccountClose(Wire):
    """Begin to close a wallet for a case: what waits is cancelled, what is sent is awaited, what is new is refused."""

    account_id: Wallet
    case_id: UUID


class AccountReinstate(Wire):
    """Call a closing off: the wallet takes movements again."""

    account_id: Wallet
    case_id: UUID


class AccountFinish(Wire):
    """End a closing; refused unless nothing is posted, reserved or under way."""

    account_id: Wallet
    case_id: UUID


class AccountReopen(Wire):
    """Have a closed wallet take movements again."""

    account_id: Wallet
    case_id: UUID


class AccountsReport(Wire):
    """Ask how wallets stand: those named, or all, in slices that let other commands through."""

    report_id: UUID
    subjects: Literal["all"] | Annotated[tuple[Wallet, ...], Field(min_length=1, max_length=1000)]


# --- Events ---


class AccountState(Wire):
    """How a wallet stands: the body of every account event, and the value in `account.states`."""

    account_id: Wallet
    customer_id: CustomerId
    currency: Currency
    tier: TierName
    status: AccountStatus
    posted_minor: Minor
    reserved_minor: NonNegativeMinor
    available_minor: Minor
    version: Annotated[int, Field(ge=1)]


class AccountOpened(AccountState):
    """The wallet takes movements."""

    overdraft_limit_minor: NonNegativeMinor | None = None
    low_balance_threshold_minor: NonNegativeMinor | None = None


class AccountConfigured(AccountState):
    """The threshold or the tier changed."""

    overdraft_limit_minor: NonNegativeMinor | None = None
    low_balance_threshold_minor: NonNegativeMinor | None = None


class AccountLowBalance(AccountState):
    """The available balance fell below the holder's threshold; said once a crossing."""

    threshold_minor: NonNegativeMinor


class AccountRestricted(AccountState):
    """Debits, credits or both are refused."""

    scope: Scope
    restriction_reason: Text | None = None
    until: Moment | None = None


class AccountReleased(AccountState):
    """A restriction ended."""

    scope: Scope
    restriction_reason: Text | None = None


class AccountClosing(AccountState):
    """No new movements, except the closing's own and what comes back; what is under way is awaited."""

    case_id: UUID | None = None


class AccountDrained(AccountState):
    """Nothing is under way any more in a wallet that is closing."""

    case_id: UUID | None = None


class AccountReinstated(AccountState):
    """The closing was called off; the wallet takes movements again."""

    case_id: UUID | None = None


class AccountClosed(AccountState):
    """The wallet is empty and takes no movements."""

    case_id: UUID | None = None


class AccountReopened(AccountState):
    """A closed wallet takes movements again."""

    case_id: UUID | None = None


class AccountReported(AccountState):
    """How a wallet stood when a report came to it; each wallet once a report."""

    report_id: UUID


class AccountsReportFinished(Wire):
    """A report is complete: how many wallets it told of, and what they had posted, by currency."""

    report_id: UUID
    count: Count
    total_minor: dict[Currency, Total]
