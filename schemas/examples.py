"""An example of every type's body, for those who read the schemas; all of them could be sent as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Body = dict[str, Any]

_TRANSFER: Final = "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f506"
_REFUND: Final = "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f507"
_QUOTE: Final = "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f508"
_WINDOW: Final = "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f509"
_CASE: Final = "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f50a"
_BATCH: Final = "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f50b"
_CARD: Final = "bank:ICBC:6222020000000001"

_P2P: Final[Body] = {
    "kind": "p2p",
    "payer": "wallet:alice",
    "payee": "wallet:bob",
    "amount_minor": 1250,
    "currency": "CNY",
}
_REQUEST: Final[Body] = {"transfer_id": _TRANSFER, **_P2P, "reference": "Lunch"}
_WITHDRAWAL: Final[Body] = {
    "transfer_id": _TRANSFER,
    **_P2P,
    "kind": "withdrawal",
    "payee": _CARD,
    "payee_name": "王小明",
    "execute_at": "2026-11-24T09:00:00+08:00",
    "expires_at": "2026-11-25T09:00:00+08:00",
    "on_maintenance": "reject",
}
_ACCOUNT: Final[Body] = {
    "account_id": "wallet:alice",
    "customer_id": "customer-1",
    "currency": "CNY",
    "tier": "standard",
    "status": "open",
    "posted_minor": 5000,
    "reserved_minor": 1250,
    "available_minor": 3750,
    "version": 7,
}

_BROADCAST: Final = "3b0a6a57-2f0e-4d6a-8d2b-7f1f0c9f5a11"
_COUNTS: Final = {
    "notification_id": _BROADCAST,
    "accepted": 2000,
    "delivered": 1200,
    "sent": 300,
    "failed": 0,
    "suppressed": 100,
    "pending": 400,
    "occurred_at": "2026-11-23T08:30:05.000000Z",
}
_RECEIPT: Final = {
    "provider": "sms-a",
    "provider_message_id": "0a1b2c3d",
    "client_reference": "8d1f0c52-5b0e-5a52-9a1e-0d6f4c1b2a3e.1",
    "at": "2026-11-23T08:30:05Z",
}
_NOTICE: Final[Body] = {
    "notice_id": "0192f3a4-5b6c-5d8e-9fa0-b1c2d3e4f50c",
    "event_id": f"{_TRANSFER}.1",
    "customer_id": "customer-1",
    "channel": "in_app",
    "template": "transfer.settled",
    "category": "service",
    "occurred_at": "2026-11-23T08:30:00.000000Z",
}


def _reason(code: str, iso20022: str | None, *, retryable: bool, refund: str = "none", **more: Any) -> Body:
    iso: Body = {} if iso20022 is None else {"iso20022": iso20022}
    return {"code": code, **iso, "retryable": retryable, "refund": refund, **more}


def _event(status: str, **more: Any) -> Body:
    return {
        "transfer_id": _TRANSFER,
        "seq": 1,
        **_P2P,
        "payer_customer_id": "customer-1",
        "payee_customer_id": "customer-2",
        "fee_minor": 0,
        "status": status,
        "requested_at": "2026-11-23T08:30:00.000000Z",
        "occurred_at": "2026-11-23T08:30:00.120000Z",
        **more,
    }


def _payout(status: str, **more: Any) -> Body:
    return _event(status, **{"seq": 2, "kind": "withdrawal", "payee": _CARD, "fee_minor": 10, **more})


_SHORT: Final = _reason("insufficient_balance", "AM04", retryable=True, shortfall_minor=250)
_RAIL: Final = _reason("rail_rejected", "MS03", retryable=True, refund="automatic", detail="E51")

EXAMPLES: Final[Mapping[str, Sequence[Body]]] = {
    "transfer.request": [_REQUEST, _WITHDRAWAL],
    "transfer.batch": [{"batch_id": _BATCH, "atomic": True, "items": [_REQUEST]}],
    "transfer.quote": [{"quote_id": _QUOTE, **_P2P}],
    "transfer.verify": [{"transfer_id": _TRANSFER, "method": "sms_otp", "outcome": "passed"}],
    "transfer.verification_resend": [{"transfer_id": _TRANSFER}],
    "transfer.cancel": [{"transfer_id": _TRANSFER, "reason": "Sent by mistake"}],
    "transfer.refund": [
        {"refund_id": _REFUND, "transfer_id": _TRANSFER, "reason": "Goods returned"},
        {"refund_id": _REFUND, "transfer_id": _TRANSFER, "amount_minor": 500, "reason": "One item returned"},
    ],
    "transfer.resolve": [
        {
            "transfer_id": _TRANSFER,
            "outcome": "settled",
            "evidence": "Statement of 2026-11-25, line 12",
            "by": "operator-3",
        }
    ],
    "account.open": [
        {"account_id": "wallet:alice", "customer_id": "customer-1", "currency": "CNY"},
        {
            "account_id": "wallet:shop",
            "customer_id": "customer-9",
            "currency": "CNY",
            "overdraft_limit_minor": 100_000,
            "low_balance_threshold_minor": 5000,
            "tier": "unlimited",
        },
    ],
    "account.configure": [{"account_id": "wallet:alice", "low_balance_threshold_minor": 1000}],
    "account.restrict": [
        {
            "account_id": "wallet:alice",
            "scope": "debit",
            "reason": "Reported stolen",
            "until": "2026-12-01T00:00:00+08:00",
        }
    ],
    "account.release": [{"account_id": "wallet:alice", "scope": "debit", "reason": "Found again"}],
    "transfer.settled": [_event("settled", payer_available_minor=3750, payee_available_minor=1250)],
    "transfer.failed": [_event("failed", reason=_SHORT)],
    "transfer.held": [
        _event(
            "held",
            window_id=_WINDOW,
            resume_at="2026-11-23T20:00:00.000000Z",
            alternatives=[{"kind": "withdrawal", "text": "Withdraw to a card of another bank."}],
        )
    ],
    "transfer.scheduled": [_event("scheduled", execute_at="2026-11-24T01:00:00.000000Z")],
    "transfer.verification_required": [
        _event(
            "verification_required",
            methods=["sms_otp", "face"],
            attempts_left=3,
            expires_at="2026-11-23T08:40:00.000000Z",
        )
    ],
    "transfer.sent": [_payout("sent", seq=1, payer_available_minor=3740)],
    "transfer.delayed": [_payout("delayed", refund_due_on="2026-11-26")],
    "transfer.refund_started": [_payout("refunding", kind="top_up", refund_id=_REFUND, refund_due_on="2026-11-26")],
    "transfer.refunded": [
        _payout("refunded", reason=_RAIL, refunded_total_minor=1250),
        _event("settled", seq=2, amount_minor=500, refund_id=_REFUND, refunded_total_minor=500),
    ],
    "transfer.refund_overdue": [_payout("delayed", seq=3, refund_due_on="2026-11-26")],
    "transfer.cancelled": [_event("cancelled", seq=2)],
    "transfer.expired": [_event("expired", seq=2, reason=_reason("expired", "DS24", retryable=True))],
    "transfer.discrepancy": [_payout("refunded", seq=4, expected="payout.failed", found="payout.settled")],
    "transfer.quoted": [
        {
            "quote_id": _QUOTE,
            "fee_minor": 10,
            "spendable_minor": 3750,
            "limits_left": {"single_minor": 500_000, "daily_minor": 998_750, "daily_count": 99},
            "would": "settle",
            "occurred_at": "2026-11-23T08:30:00.120000Z",
        }
    ],
    "transfer.command_refused": [
        {
            "command_type": "transfer.cancel",
            "command_id": "cancel-17",
            "transfer_id": _TRANSFER,
            "reason": _reason("state_conflict", None, retryable=False),
            "occurred_at": "2026-11-23T08:31:00.000000Z",
        }
    ],
    "account.opened": [
        {
            **_ACCOUNT,
            "posted_minor": 0,
            "reserved_minor": 0,
            "available_minor": 0,
            "version": 1,
            "overdraft_limit_minor": 0,
        }
    ],
    "account.configured": [{**_ACCOUNT, "overdraft_limit_minor": 0, "low_balance_threshold_minor": 1000}],
    "account.low_balance": [{**_ACCOUNT, "threshold_minor": 4000}],
    "account.restricted": [
        {
            **_ACCOUNT,
            "scope": "debit",
            "restriction_reason": "Reported stolen",
            "until": "2026-11-30T16:00:00.000000Z",
        }
    ],
    "account.released": [{**_ACCOUNT, "scope": "debit"}],
    "account.closing": [{**_ACCOUNT, "status": "closing", "case_id": _CASE}],
    "account.drained": [
        {**_ACCOUNT, "status": "closing", "reserved_minor": 0, "available_minor": 5000, "case_id": _CASE}
    ],
    "account.reinstated": [{**_ACCOUNT, "case_id": _CASE}],
    "account.closed": [
        {
            **_ACCOUNT,
            "status": "closed",
            "posted_minor": 0,
            "reserved_minor": 0,
            "available_minor": 0,
            "case_id": _CASE,
        }
    ],
    "account.reopened": [{**_ACCOUNT, "posted_minor": 0, "reserved_minor": 0, "available_minor": 0, "case_id": _CASE}],
    "payout.instructed": [
        {
            "transfer_id": _TRANSFER,
            "payee": _CARD,
            "payee_name": "王小明",
            "amount_minor": 1250,
            "currency": "CNY",
            "reference": "Savings",
        }
    ],
    "payout.inquired": [{"transfer_id": _TRANSFER}],
    "payout.settled": [{"transfer_id": _TRANSFER}],
    "payout.failed": [{"transfer_id": _TRANSFER, "rail_code": "E51", "detail": "No such account"}],
    "payout.returned": [{"transfer_id": _TRANSFER, "rail_code": "R03", "detail": "Account closed"}],
    "payout.unknown": [{"transfer_id": _TRANSFER}],
    "notification.request": [
        {
            "notification_id": _BROADCAST,
            "audience": {"bank": "ICBC"},
            "template": "announcement",
            "data": {
                "title": {"zh-CN": "服务更新", "en": "Service update"},
                "body": {"zh-CN": "工商银行提现将更快到账。", "en": "Withdrawals to ICBC arrive sooner."},
            },
            "channels": ["in_app", "sms"],
            "category": "service",
        },
        {
            "notification_id": "6d0f0d7e-9b0c-4a53-9c1e-5b8f6b0c2a10",
            "customer_id": "customer-1",
            "template": "announcement",
            "data": {"title": {"zh-CN": "您好", "en": "Hello"}, "body": {"zh-CN": "欢迎。", "en": "Welcome."}},
            "category": "service",
            "not_before": "2026-11-23T09:00:00Z",
        },
    ],
    "broadcast.pause": [{"notification_id": _BROADCAST}],
    "broadcast.resume": [{"notification_id": _BROADCAST}],
    "broadcast.cancel": [{"notification_id": _BROADCAST}],
    "broadcast.progress": [{**_COUNTS, "status": "running", "eta": "2026-11-23T08:30:09.000000Z"}],
    "broadcast.finished": [{**_COUNTS, "status": "finished", "sent": 700, "pending": 0}],
    "message.delivered": [_RECEIPT],
    "message.failed": [{**_RECEIPT, "code": "UNDELIV"}],
    "message.expired": [{**_RECEIPT, "code": "EXPIRED"}],
    "notification.sent": [{**_NOTICE, "channel": "sms"}],
    "notification.failed": [{**_NOTICE, "channel": "sms", "why": "undelivered"}],
    "notification.delivered": [_NOTICE],
    "notification.suppressed": [{**_NOTICE, "why": "profile_missing"}],
    "customer.profile": [
        {
            "customer_id": "customer-1",
            "name": "王小明",
            "phone": "+8613800000000",
            "phone_verified": True,
            "email": "xiaoming@example.com",
            "locale": "zh-CN",
            "time_zone": "Asia/Shanghai",
            "tier": "standard",
            "preferences": {
                "channels": {"sms": True, "email": True, "in_app": True},
                "quiet_hours": {"from": "22:00", "to": "07:30"},
                "marketing": False,
            },
        }
    ],
}
