"""Decides the commands about an account: opening, configuring, restricting, and whose name it carries."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from schemas.fields import as_text
from services.transfer.model import LARGEST_BALANCE_MINOR, OPEN_END, Account, AccountStatus, Refusal

if TYPE_CHECKING:
    from schemas.account import AccountConfigure, AccountOpen, AccountRelease, AccountRestrict
    from services.runtime.message import Lane, Message
    from services.transfer.decide.ledger import Ledger


def decide_open(ledger: Ledger, message: Message, command: AccountOpen) -> None:
    """Decide an `account.open`: a new wallet, a repeat, or `account_exists` when it says something else."""
    content_hash = ledger.rules.hash_content(command)
    account = ledger.accounts.get(command.account_id)
    if account is not None:
        if account.opening_hash == content_hash:
            ledger.publish_account(message.lane, ledger.account_events[account.account_id])
        else:
            ledger.refuse(message, Refusal("account_exists", field="account_id"))
        return
    if command.tier not in ledger.policy.tiers:
        ledger.refuse(message, Refusal("tier_unknown", field="tier"))
        return
    if command.overdraft_limit_minor > LARGEST_BALANCE_MINOR:
        refusal = Refusal("amount_invalid", field="overdraft_limit_minor", limit_minor=LARGEST_BALANCE_MINOR)
        ledger.refuse(message, refusal)
        return
    account = _new_account(ledger, command, content_hash)
    ledger.accounts[account.account_id] = ledger.opened[account.account_id] = account
    ledger.announce_account(message.lane, account, "account.opened", _settings_of(account))


def _new_account(ledger: Ledger, command: AccountOpen, content_hash: bytes) -> Account:
    return Account(
        account_id=command.account_id,
        customer_id=command.customer_id,
        currency=command.currency,
        tier=command.tier,
        status=AccountStatus.OPEN,
        overdraft_limit_minor=command.overdraft_limit_minor,
        low_balance_threshold_minor=command.low_balance_threshold_minor,
        # An empty wallet has not crossed its threshold: it has yet to rise above it.
        low_balance_warned=True,
        debit_restricted_until=None,
        credit_restricted_until=None,
        verification_blocked_until=None,
        posted_minor=0,
        reserved_minor=0,
        entry_count=0,
        version=0,
        used_on=ledger.today,
        used_day_minor=0,
        used_day_count=0,
        used_month_minor=0,
        opened_at=ledger.now,
        opening_hash=content_hash,
    )


def _settings_of(account: Account) -> dict[str, Any]:
    settings: dict[str, Any] = {"overdraft_limit_minor": account.overdraft_limit_minor}
    if account.low_balance_threshold_minor is not None:
        settings["low_balance_threshold_minor"] = account.low_balance_threshold_minor
    return settings


def decide_configure(ledger: Ledger, message: Message, command: AccountConfigure) -> None:
    """Decide an `account.configure`: another warning threshold, another tier."""
    account = _find(ledger, message, command.account_id)
    if account is None:
        return
    if command.tier is not None and command.tier not in ledger.policy.tiers:
        ledger.refuse(message, Refusal("tier_unknown", field="tier"))
        return
    if command.tier is not None:
        account.tier = command.tier
    if "low_balance_threshold_minor" in command.model_fields_set:
        account.low_balance_threshold_minor = command.low_balance_threshold_minor
        threshold = account.low_balance_threshold_minor
        # Whoever sets a threshold sees the balance: only a later crossing is news.
        account.low_balance_warned = threshold is None or account.available_minor < threshold
    ledger.announce_account(message.lane, account, "account.configured", _settings_of(account))


def decide_restrict(ledger: Ledger, message: Message, command: AccountRestrict) -> None:
    """Decide an `account.restrict`: no debits, no credits, or neither, until a moment or a release."""
    account = _find(ledger, message, command.account_id)
    if account is None:
        return
    until = command.until or OPEN_END
    for side in _sides(command.scope):
        _set_restriction(account, side, until)
        _set_release(ledger, message.lane, account, side, until)
    extra = {"scope": command.scope, "restriction_reason": command.reason}
    if command.until is not None:
        extra["until"] = as_text(command.until)
    ledger.announce_account(message.lane, account, "account.restricted", extra)


def decide_release(ledger: Ledger, message: Message, command: AccountRelease) -> None:
    """Decide an `account.release`: the restriction of that scope ends."""
    account = _find(ledger, message, command.account_id)
    if account is None:
        return
    for side in _sides(command.scope):
        _set_restriction(account, side, None)
        ledger.clear_timer(f"release_{side}", account.account_id)
    extra = {"scope": command.scope, "restriction_reason": command.reason}
    ledger.announce_account(message.lane, account, "account.released", extra)


def decide_restriction_ended(ledger: Ledger, lane: Lane, account: Account, side: str) -> None:
    """End a restriction whose time has come."""
    _set_restriction(account, side, None)
    ledger.reconfigured[account.account_id] = account
    # Of a closed wallet nothing is said after its closing, which a repeated command is answered with.
    if account.status != AccountStatus.CLOSED:
        ledger.announce_account(lane, account, "account.released", {"scope": side})


def _find(ledger: Ledger, message: Message, account_id: str) -> Account | None:
    account = ledger.accounts.get(account_id)
    if account is None:
        ledger.refuse(message, Refusal("account_unknown", field="account_id"))
    elif account.status == AccountStatus.CLOSED:
        ledger.refuse(message, Refusal("account_closed", field="account_id"))
        return None
    else:
        ledger.reconfigured[account_id] = account
    return account


def _sides(scope: str) -> tuple[str, ...]:
    return ("debit", "credit") if scope == "all" else (scope,)


def _set_restriction(account: Account, side: str, until: datetime | None) -> None:
    if side == "debit":
        account.debit_restricted_until = until
    else:
        account.credit_restricted_until = until


def _set_release(ledger: Ledger, lane: Lane, account: Account, side: str, until: datetime) -> None:
    if until == OPEN_END:
        ledger.clear_timer(f"release_{side}", account.account_id)
    else:
        ledger.set_timer(lane, f"release_{side}", account.account_id, until)
