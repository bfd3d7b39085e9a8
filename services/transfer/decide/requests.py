"""Decides what becomes of a transfer that is asked for: refused, verified first, scheduled, sent or settled."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from schemas.fields import as_text
from services.transfer.calendar import first_of_next_month, start_of
from services.transfer.decide.drafts import draft_request
from services.transfer.decide.ledger import as_reason
from services.transfer.decide.payouts import instruct_payout, return_to_bank
from services.transfer.model import (
    FEES_ACCOUNT,
    LARGEST_AMOUNT_MINOR,
    LARGEST_BALANCE_MINOR,
    OPEN_END,
    SUSPENSE_ACCOUNT,
    Account,
    AccountStatus,
    ClosedWindow,
    Hold,
    Kind,
    Purpose,
    Refusal,
    Status,
    Transfer,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.transfer import TransferRequest
    from services.runtime.message import Lane, Message
    from services.transfer.decide.ledger import Ledger
    from services.transfer.policy import Limits, Tier

_PARTIES: Final[Mapping[str, tuple[str, str]]] = {
    Kind.P2P: ("wallet:", "wallet:"),
    Kind.WITHDRAWAL: ("wallet:", "bank:"),
    Kind.TOP_UP: ("bank:", "wallet:"),
    Kind.FEE: ("wallet:", "platform:"),
    Kind.INTEREST: ("platform:", "wallet:"),
}
_LIMITED: Final = frozenset({Kind.P2P, Kind.WITHDRAWAL})
_MOST_USE_MINOR: Final = 4 * LARGEST_BALANCE_MINOR
"""Beyond every limit that can be set, within what can be stored."""


class Check(NamedTuple):
    """The outcome of the ladder: the first rule that refuses, or the fee that the transfer will cost."""

    refusal: Refusal | None
    fee_minor: int
    tier: Tier | None


def decide_request(
    ledger: Ledger, message: Message, request: TransferRequest, draft: Transfer | None = None
) -> Refusal | None:
    """Decide a `transfer.request`: a new transfer, a repeat, or another content under a known id."""
    draft = draft or draft_request(message, request, ledger.rules, ledger.now)
    known = ledger.transfers.get(request.transfer_id)
    if known is None and request.kind == "withdrawal" and request.transfer_id in ledger.refunds:
        # A bank knows payouts and refunds by one id each.
        refusal = Refusal("duplicate_id_conflict", field="transfer_id", detail="a refund has this id")
        ledger.refuse(message, refusal, transfer_id=request.transfer_id)
        return refusal
    if known is None:
        name_customers(ledger, draft)
        return _start(ledger, message.lane, draft, request.payee_name)
    if known.content_hash != draft.content_hash:
        refusal = Refusal("duplicate_id_conflict", field="transfer_id")
        ledger.refuse(message, refusal, transfer=known)
        return refusal
    ledger.publish_transfer(message.lane, known)
    return Refusal("state_conflict") if known.status in _ENDED_BADLY else None


_ENDED_BADLY: Final = frozenset({Status.FAILED, Status.CANCELLED, Status.EXPIRED})


def _start(ledger: Ledger, lane: Lane, transfer: Transfer, payee_name: str | None) -> Refusal | None:
    if is_late(ledger, transfer) and _refuse_request(transfer) is None:
        expired = Refusal("expired", field="expires_at")
        ledger.advance(lane, transfer, "transfer.expired", Status.EXPIRED, {"reason": as_reason(expired)})
        return expired
    is_later = _is_later(ledger, transfer)
    check = climb(ledger, transfer, payee_name, today=not is_later)
    transfer.fee_minor = check.fee_minor
    refusal = check.refusal or refuse_cooling(ledger, transfer, check.tier)
    if refusal is not None:
        fail(ledger, lane, transfer, refusal)
        return refusal
    if needs_verification(transfer, check.tier):
        _ask_for_verification(ledger, lane, transfer, payee_name, check.tier)
    elif is_later:
        schedule(ledger, lane, transfer, payee_name)
    else:
        return _pass_gate(ledger, lane, transfer, payee_name)
    return None


def is_late(ledger: Ledger, transfer: Transfer) -> bool:
    """Tell whether a transfer's time has passed; the money of a top-up is here already, and neither early nor late."""
    return transfer.kind != Kind.TOP_UP and transfer.expires_at is not None and transfer.expires_at <= ledger.now


def _is_later(ledger: Ledger, transfer: Transfer) -> bool:
    return transfer.kind != Kind.TOP_UP and transfer.execute_at is not None and transfer.execute_at > ledger.now


def name_customers(ledger: Ledger, transfer: Transfer) -> None:
    """Say whose wallets a transfer is between."""
    payer, payee = ledger.accounts.get(transfer.payer), ledger.accounts.get(transfer.payee)
    transfer.payer_customer_id = payer.customer_id if payer else None
    transfer.payee_customer_id = payee.customer_id if payee else None


# --- The ladder of refusals: one rule, one name, the cheap ones first; after it nothing can fail ---


def climb(ledger: Ledger, transfer: Transfer, payee_name: str | None, *, today: bool) -> Check:
    """Try every rule; without `today`, those of the day of execution (balance, days' limits) wait for it."""
    payer = ledger.accounts.get(transfer.payer)
    payee = ledger.accounts.get(transfer.payee)
    refusal = _refuse_request(transfer) or _refuse_accounts(ledger, transfer, payer, payee, payee_name)
    if refusal is not None:
        return Check(refusal, 0, None)
    if payer is None:
        return Check(None, 0, None)
    tier = ledger.tier_for(transfer, payer)
    fee_minor = tier.fee_minor(transfer.kind, transfer.amount_minor)
    if fee_minor and ledger.waivers and ledger.waiver_for(payer.customer_id) is not None:
        fee_minor = 0
    if transfer.kind in _LIMITED:
        refusal = _refuse_limits(ledger, transfer, payer, tier.limits, today=today)
    if refusal is None and today:
        refusal = _refuse_balance(payer, transfer.amount_minor + fee_minor)
    return Check(refusal, fee_minor, tier)


def _refuse_request(transfer: Transfer) -> Refusal | None:
    if transfer.payer == transfer.payee:
        return Refusal("same_account", field="payee")
    if not 0 < transfer.amount_minor <= LARGEST_AMOUNT_MINOR:
        return Refusal("amount_invalid", field="amount_minor", limit_minor=LARGEST_AMOUNT_MINOR)
    payer, payee = _PARTIES[transfer.kind]
    if not transfer.payer.startswith(payer):
        return Refusal("payer_unknown", field="payer", detail=f"the payer of a {transfer.kind} is a {payer[:-1]}")
    if not transfer.payee.startswith(payee):
        return Refusal("payee_unknown", field="payee", detail=f"the payee of a {transfer.kind} is a {payee[:-1]}")
    return None


def _refuse_accounts(
    ledger: Ledger, transfer: Transfer, payer: Account | None, payee: Account | None, payee_name: str | None
) -> Refusal | None:
    if payer is None and transfer.payer.startswith("wallet:"):
        return Refusal("payer_unknown", field="payer")
    if payee is None and transfer.payee.startswith("wallet:"):
        return Refusal("payee_unknown", field="payee")
    for account in (payer, payee):
        if account is not None and account.currency != transfer.currency:
            return Refusal("currency_mismatch", field="currency", detail=f"the wallet holds {account.currency}")
    if payer is not None:
        refusal = (
            _refuse_status(transfer, payer, "payer")
            or _refuse_restriction(ledger, payer, "debit", "payer")
            or _refuse_flagged(ledger, transfer, payer)
        )
        if refusal is not None:
            return refusal
    if payee is None:
        return None
    if payee.posted_minor + transfer.amount_minor > LARGEST_BALANCE_MINOR:
        return Refusal(
            "amount_invalid", field="amount_minor", detail="the payee's balance would leave the ledger's range"
        )
    return (
        _refuse_status(transfer, payee, "payee")
        or _refuse_restriction(ledger, payee, "credit", "payee")
        or (_refuse_name(ledger, payee, payee_name) if payee_name is not None else None)
    )


def _refuse_status(transfer: Transfer, account: Account, field: str) -> Refusal | None:
    if account.status == AccountStatus.OPEN:
        return None
    if account.status == AccountStatus.CLOSED:
        return Refusal("account_closed", field=field)
    return None if transfer.case_id == account.case_id else Refusal("account_closing", field=field)


def _refuse_restriction(ledger: Ledger, account: Account, scope: str, field: str) -> Refusal | None:
    until = account.debit_restricted_until if scope == "debit" else account.credit_restricted_until
    if until is None or until <= ledger.now:
        return None
    return Refusal("account_restricted", field=field, available_at=None if until == OPEN_END else until)


def _refuse_flagged(ledger: Ledger, transfer: Transfer, payer: Account) -> Refusal | None:
    """Refuse what somebody sends while a risk flag restricts them; what they get, pay back or owe goes on."""
    if not ledger.flags or transfer.kind not in _LIMITED:
        return None
    until = ledger.flags.get(payer.customer_id)
    if until is None or until <= ledger.now:
        return None
    return Refusal("risk_restricted", field="payer", available_at=until)


def _refuse_name(ledger: Ledger, payee: Account, name: str) -> Refusal | None:
    known = ledger.holders.get(payee.customer_id)
    if known is None:
        return Refusal("payee_name_unverified", field="payee_name")
    if known != ledger.rules.hash_name(name):
        return Refusal("payee_name_mismatch", field="payee_name")
    return None


def _refuse_limits(
    ledger: Ledger, transfer: Transfer, payer: Account, limits: Limits, *, today: bool
) -> Refusal | None:
    amount = transfer.amount_minor
    if limits.single_minor is not None and amount > limits.single_minor:
        return Refusal("limit_single", field="amount_minor", limit_minor=limits.single_minor)
    if not today:
        return None
    renew_use(ledger, payer)
    if limits.daily_minor is not None and payer.used_day_minor + amount > limits.daily_minor:
        return Refusal("limit_daily_amount", limit_minor=limits.daily_minor, available_at=_tomorrow(ledger))
    if limits.daily_count is not None and payer.used_day_count >= limits.daily_count:
        detail = f"{limits.daily_count} transfers a day"
        return Refusal("limit_daily_count", detail=detail, available_at=_tomorrow(ledger))
    if limits.monthly_minor is not None and payer.used_month_minor + amount > limits.monthly_minor:
        next_month = start_of(first_of_next_month(ledger.today))
        return Refusal("limit_monthly_amount", limit_minor=limits.monthly_minor, available_at=next_month)
    return None


def _tomorrow(ledger: Ledger) -> Any:
    return start_of(ledger.today + timedelta(days=1))


def _refuse_balance(payer: Account, total_minor: int) -> Refusal | None:
    shortfall = total_minor - payer.spendable_minor
    return Refusal("insufficient_balance", field="amount_minor", shortfall_minor=shortfall) if shortfall > 0 else None


def _refuse_forgotten_name(ledger: Ledger, transfer: Transfer) -> Refusal | None:
    if transfer.transfer_id not in ledger.forgotten_names:
        return None
    return Refusal("payee_name_unverified", field="payee_name", detail="the name was erased with its payer's data")


def refuse_cooling(ledger: Ledger, transfer: Transfer, tier: Tier | None) -> Refusal | None:
    """Refuse a transfer that needs proof while its payer cools down after too many failed tries."""
    if not needs_verification(transfer, tier):
        return None
    until = ledger.accounts[transfer.payer].verification_blocked_until
    if until is None or until <= ledger.now:
        return None
    return Refusal("verification_failed", detail="too many failed tries", available_at=until)


# --- What a day's limits have been used for ---


def renew_use(ledger: Ledger, account: Account) -> None:
    """Start the count of a new day, or a new month, when the last use was before it."""
    # Another lane may be past midnight already when this one decides what came before it.
    if account.used_on >= ledger.today:
        return
    account.used_day_minor = account.used_day_count = 0
    if account.used_on.replace(day=1) != ledger.today.replace(day=1):
        account.used_month_minor = 0
    account.used_on = ledger.today


def use_limits(ledger: Ledger, transfer: Transfer) -> None:
    """Count a transfer against its payer's day and month."""
    if transfer.kind not in _LIMITED or ledger.is_closings_own(transfer):
        return
    payer = ledger.accounts[transfer.payer]
    renew_use(ledger, payer)
    transfer.used_on = payer.used_on
    payer.used_day_minor = min(payer.used_day_minor + transfer.amount_minor, _MOST_USE_MINOR)
    payer.used_day_count += 1
    payer.used_month_minor = min(payer.used_month_minor + transfer.amount_minor, _MOST_USE_MINOR)
    ledger.touched[transfer.payer] = payer


# --- The gate: the last check, after all others ---


def refuse_closed(ledger: Ledger, transfer: Transfer) -> Refusal | None:
    """Refuse a transfer that maintenance closes; who may wait instead is told by `waits_for`."""
    if not ledger.gate.closed:
        return None
    window = ledger.gate.closing(transfer, is_closings_own=ledger.is_closings_own(transfer))
    if window is None:
        return None
    return Refusal("maintenance", available_at=window.resumes_after(ledger.now), closed_by=window)


def waits_for(transfer: Transfer, closed: Refusal) -> ClosedWindow | None:
    """Return the window whose end a closed transfer waits for: both the window and the request have to say hold."""
    window = closed.closed_by
    return window if window is not None and window.holds and transfer.may_be_held else None


def _pass_gate(ledger: Ledger, lane: Lane, transfer: Transfer, payee_name: str | None) -> Refusal | None:
    closed = refuse_closed(ledger, transfer)
    window = waits_for(transfer, closed) if closed else None
    if window is not None:
        _hold(ledger, lane, transfer, payee_name, window)
        return None
    if transfer.seq:
        end_waiting(ledger, transfer)
    if closed is None:
        execute(ledger, lane, transfer, payee_name)
    else:
        fail(ledger, lane, transfer, closed)
    return closed


def _hold(ledger: Ledger, lane: Lane, transfer: Transfer, payee_name: str | None, window: ClosedWindow) -> None:
    """Let a transfer wait for a window's end: it reserves nothing and uses up no limit."""
    if transfer.status != Status.HELD:
        _remember_name(ledger, transfer, payee_name)
        # The money of a top-up is here: it never expires.
        if transfer.expires_at is not None and transfer.kind != Kind.TOP_UP:
            ledger.set_timer(lane, "expire", transfer.transfer_id, transfer.expires_at)
    ledger.hold(lane, transfer, window)
    ledger.advance(lane, transfer, "transfer.held", Status.HELD, _closed_by(ledger, window))


def _closed_by(ledger: Ledger, window: ClosedWindow) -> dict[str, Any]:
    resume_at = window.resumes_after(ledger.now)
    said: dict[str, Any] = {"window_id": str(window.window_id), "alternatives": window.alternatives}
    return said if resume_at is None else said | {"resume_at": as_text(resume_at)}


# --- What follows when nothing refuses ---


def fail(ledger: Ledger, lane: Lane, transfer: Transfer, refusal: Refusal) -> None:
    """End a transfer that moved nothing, because something refuses it."""
    extra: dict[str, Any] = {"reason": as_reason(refusal)}
    if refusal.closed_by is not None:
        extra |= _closed_by(ledger, refusal.closed_by)
        ledger.tally(Hold(refusal.closed_by.window_id, lane.partition)).refused += 1
    _end_unmoved(ledger, lane, transfer, "transfer.failed", Status.FAILED, extra)


def cancel(ledger: Ledger, lane: Lane, transfer: Transfer, refusal: Refusal | None = None) -> None:
    """Cancel a transfer that waits, for a reason where it was not asked for."""
    end_waiting(ledger, transfer)
    extra = None if refusal is None else {"reason": as_reason(refusal)}
    _end_unmoved(ledger, lane, transfer, "transfer.cancelled", Status.CANCELLED, extra)


def _end_unmoved(
    ledger: Ledger, lane: Lane, transfer: Transfer, type_: str, status: str, extra: dict[str, Any] | None
) -> None:
    """End a transfer that moved nothing; money that a bank already handed over goes into suspense and back."""
    must_return = transfer.kind == Kind.TOP_UP and _came_from_a_bank(transfer)
    if must_return:
        ledger.move(lane, transfer, Purpose.SUSPENSE, transfer.amount_minor, transfer.payer, SUSPENSE_ACCOUNT)
    ledger.advance(lane, transfer, type_, status, extra)
    if must_return:
        return_to_bank(ledger, lane, transfer)


def _came_from_a_bank(transfer: Transfer) -> bool:
    return transfer.payer.startswith("bank:") and 0 < transfer.amount_minor <= LARGEST_AMOUNT_MINOR


def schedule(ledger: Ledger, lane: Lane, transfer: Transfer, payee_name: str | None) -> None:
    """Let a transfer wait for the moment it was asked for."""
    _remember_name(ledger, transfer, payee_name)
    if transfer.execute_at is None:
        message = "only a transfer with execute_at can be scheduled"
        raise ValueError(message)
    ledger.set_timer(lane, "execute", transfer.transfer_id, transfer.execute_at)
    if transfer.expires_at is not None:
        ledger.set_timer(lane, "expire", transfer.transfer_id, transfer.expires_at)
    extra = {"execute_at": as_text(transfer.execute_at)}
    ledger.advance(lane, transfer, "transfer.scheduled", Status.SCHEDULED, extra)


def execute(ledger: Ledger, lane: Lane, transfer: Transfer, payee_name: str | None) -> None:
    """Move the money, or set it aside and tell the bank; the ladder has been climbed."""
    use_limits(ledger, transfer)
    if transfer.kind == Kind.WITHDRAWAL:
        ledger.reserve(lane, transfer.payer, transfer.amount_minor + transfer.fee_minor)
        ledger.advance(lane, transfer, "transfer.sent", Status.SENT)
        instruct_payout(ledger, lane, transfer, payee_name)
    else:
        settle(ledger, lane, transfer)
    _use_waiver(ledger, lane, transfer)
    ledger.payee_names.pop(transfer.transfer_id, None)
    ledger.watch_balance(lane, transfer.payer, transfer.payee)


def _use_waiver(ledger: Ledger, lane: Lane, transfer: Transfer) -> None:
    payer = ledger.accounts.get(transfer.payer)
    if transfer.fee_minor or payer is None or not ledger.waivers:
        return
    fee_minor = ledger.tier_for(transfer, payer).fee_minor(transfer.kind, transfer.amount_minor)
    waiver = ledger.waiver_for(payer.customer_id) if fee_minor else None
    if waiver is not None:
        ledger.waive_fee(lane, transfer, waiver, fee_minor)


def settle(ledger: Ledger, lane: Lane, transfer: Transfer) -> None:
    """Post a transfer and its fee."""
    ledger.move(lane, transfer, Purpose.TRANSFER, transfer.amount_minor, transfer.payer, transfer.payee)
    if transfer.fee_minor:
        ledger.move(lane, transfer, Purpose.FEE, transfer.fee_minor, transfer.payer, FEES_ACCOUNT)
    ledger.advance(lane, transfer, "transfer.settled", Status.SETTLED)


def needs_verification(transfer: Transfer, tier: Tier | None) -> bool:
    """Tell whether a transfer's payer has yet to prove who they are."""
    return (
        tier is not None
        and tier.verification is not None
        and transfer.kind in _LIMITED
        and not transfer.verified
        and transfer.amount_minor >= tier.verification.from_minor
    )


def _ask_for_verification(
    ledger: Ledger, lane: Lane, transfer: Transfer, payee_name: str | None, tier: Tier | None
) -> None:
    if tier is None or tier.verification is None:
        message = "only a tier with a verification policy asks for one"
        raise ValueError(message)
    _remember_name(ledger, transfer, payee_name)
    transfer.attempts_left = tier.verification.attempts
    transfer.resends_left = tier.verification.resends
    require_verification(ledger, lane, transfer, renewed=True)


def require_verification(ledger: Ledger, lane: Lane, transfer: Transfer, *, renewed: bool) -> None:
    """Ask the payer to prove who they are; `renewed` starts their time again."""
    policy = ledger.tier_of(ledger.accounts[transfer.payer]).verification
    methods = policy.methods if policy else ("sms_otp",)
    if renewed or transfer.verification_expires_at is None:
        seconds = policy.expires_after_s if policy else 0
        transfer.verification_expires_at = ledger.now + timedelta(seconds=seconds)
        ledger.set_timer(lane, "verification", transfer.transfer_id, transfer.verification_expires_at)
    extra = {
        "methods": methods,
        "attempts_left": transfer.attempts_left,
        "expires_at": as_text(transfer.verification_expires_at),
    }
    ledger.advance(lane, transfer, "transfer.verification_required", Status.VERIFICATION_REQUIRED, extra)


def _remember_name(ledger: Ledger, transfer: Transfer, payee_name: str | None) -> None:
    if payee_name is not None:
        ledger.payee_names[transfer.transfer_id] = payee_name


# --- Going on after a wait ---


def go_on(ledger: Ledger, lane: Lane, transfer: Transfer) -> None:
    """Take up a transfer that waited: check everything again, now, and do it, schedule it or end it."""
    payee_name = ledger.payee_names.get(transfer.transfer_id)
    if is_late(ledger, transfer):
        expire(ledger, lane, transfer)
        return
    is_later = _is_later(ledger, transfer)
    check = climb(ledger, transfer, payee_name, today=not is_later)
    transfer.fee_minor = check.fee_minor
    refusal = check.refusal or _refuse_forgotten_name(ledger, transfer) or refuse_cooling(ledger, transfer, check.tier)
    if refusal is not None:
        end_waiting(ledger, transfer)
        fail(ledger, lane, transfer, refusal)
    elif needs_verification(transfer, check.tier):
        # Its payer's tier is another by now.
        _ask_for_verification(ledger, lane, transfer, payee_name, check.tier)
    elif is_later:
        schedule(ledger, lane, transfer, payee_name)
    else:
        _pass_gate(ledger, lane, transfer, payee_name)


def expire(ledger: Ledger, lane: Lane, transfer: Transfer) -> None:
    """End a transfer whose time passed while it waited."""
    end_waiting(ledger, transfer)
    reason = as_reason(Refusal("expired", field="expires_at"))
    ledger.advance(lane, transfer, "transfer.expired", Status.EXPIRED, {"reason": reason})


def end_waiting(ledger: Ledger, transfer: Transfer) -> None:
    """Clear what would wake a waiting transfer, and forget the payee's name."""
    for kind in ("execute", "expire", "verification"):
        ledger.clear_timer(kind, transfer.transfer_id)
    ledger.payee_names.pop(transfer.transfer_id, None)
    ledger.forgotten_names.discard(transfer.transfer_id)


# --- Quotes ---


def limits_left(ledger: Ledger, payer: Account, limits: Limits) -> dict[str, int]:
    """Return what a payer may still send: at once, today, this month."""
    renew_use(ledger, payer)
    left = {
        "single_minor": limits.single_minor,
        "daily_minor": _left(limits.daily_minor, payer.used_day_minor),
        "daily_count": _left(limits.daily_count, payer.used_day_count),
        "monthly_minor": _left(limits.monthly_minor, payer.used_month_minor),
    }
    return {name: value for name, value in left.items() if value is not None}


def _left(limit: int | None, used: int) -> int | None:
    return None if limit is None else max(0, limit - used)
