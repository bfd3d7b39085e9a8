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
_REPORT: Final = "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f50e"
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

_OTHER_CARD: Final[Body] = {
    "kind": "withdrawal",
    "text": "Withdraw to a card of another bank.",
    "text_in": [{"locale": "zh-CN", "text": "提现到其他银行的卡。"}],
}
_PLAN: Final[Body] = {
    "window_id": _WINDOW,
    "title": "Core banking upgrade",
    "reason": "Upgrade of the core banking system",
    "reason_in": [{"locale": "zh-CN", "text": "核心银行系统升级"}],
    "starts_at": "2026-11-29T01:00:00+08:00",
    "ends_at": "2026-11-29T05:00:00+08:00",
    "functions": ["transfer", "withdrawal"],
    "scope": {"banks": ["ICBC", "CCB"], "currencies": ["CNY"]},
    "treatment": "hold",
    "alternatives": [_OTHER_CARD],
    "compensation": {
        "kind": "fee_waiver",
        "value": 1,
        "text": "Your next withdrawal costs no fee.",
        "text_in": [{"locale": "zh-CN", "text": "下一笔提现免手续费。"}],
    },
}
_EVERYTHING: Final[Body] = {
    "window_id": _WINDOW,
    "title": "Emergency repair",
    "reason": "Emergency repair of the network",
    "starts_at": "2026-11-29T01:00:00+08:00",
    "ends_at": "2026-11-29T02:00:00+08:00",
    "ends": "confirmed",
    "functions": ["transfer", "withdrawal", "top_up", "closure_payout"],
    "treatment": "reject",
}
_DRILL: Final[Body] = {**_PLAN, "title": "Rehearsal", "reason": "Rehearsal", "drill": True}
_GRANTED: Final[Body] = {
    "compensation_id": "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f50d",
    "customer_id": "customer-1",
    "window_id": _WINDOW,
    "compensation": {
        "kind": "coupon",
        "value": 500,
        "currency": "CNY",
        "text": "5 yuan off your next phone bill.",
        "text_in": [{"locale": "zh-CN", "text": "话费立减 5 元。"}],
    },
    "expires_at": "2026-12-31T16:00:00.000000Z",
    "occurred_at": "2026-11-29T22:00:00.000000Z",
}


def _window(**more: Any) -> Sequence[Body]:
    """Return a window's event as it is with everything, and as it is with little."""
    said = {
        "starts_at": "2026-11-28T17:00:00.000000Z",
        "revision": 2,
        "occurred_at": "2026-11-21T02:00:00.000000Z",
        **more,
    }
    long, short = "2026-11-28T21:00:00.000000Z", "2026-11-28T18:00:00.000000Z"
    return [{**_PLAN, "ends_at": long, **said}, {**_EVERYTHING, "ends_at": short, **said}]


_APPLICANT: Final = {"name": "王小明", "id_number": "11010519491231002X", "phone": "+8613800000000"}
_LOAN: Final = "loan:L20240000042"
_REQUESTED: Final = "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f50e"
_CLEARANCE: Final = "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f50f"
_PAYOUT: Final = "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f510"
_DEADLINE: Final = "2026-12-31T16:00:00.000000Z"
_DIGEST: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_PAID: Final[Body] = {"transfer_id": _PAYOUT, "payout_minor": 124_990, "currency": "CNY", "payee": _CARD}
_CLOSING_RECEIPT: Final[Body] = {
    "number": "R-20261123-4F50A",
    "subject": "wallet:alice",
    "balance_minor": 125_990,
    "fee_minor": 1_000,
    **_PAID,
    "finished_at": "2026-11-23T08:30:00.000000Z",
    "retained": [
        {"what": "identity", "why": "money_laundering_law", "until": "2036-11-23"},
        {"what": "transfers", "why": "accounting_law", "until": "2056-11-23"},
    ],
}


def _case(**more: Any) -> Body:
    return {
        "case_id": _CASE,
        "subject": "wallet:alice",
        "customer_id": "customer-1",
        "revision": 3,
        "occurred_at": "2026-11-23T08:30:00.120000Z",
        **more,
    }


def _coming_back(**more: Any) -> Body:
    return _case(request_id=_REQUESTED, **more)


def _clearance(**more: Any) -> Body:
    return {
        "clearance_id": _CLEARANCE,
        "revision": 4,
        "cause": "platform_transition",
        "dry_run": False,
        "wallets": 120_000,
        "occurred_at": "2026-11-23T08:30:00.120000Z",
        **more,
    }


def _owed(kind: str, principal: int, interest: int, penalty: int) -> Body:
    return {
        "kind": kind,
        "principal_minor": principal,
        "interest_minor": interest,
        "penalty_minor": penalty,
        "owed_minor": principal + interest + penalty,
        "currency": "CNY",
    }


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
    "account.close": [{"account_id": "wallet:alice", "case_id": _CASE}],
    "account.reinstate": [{"account_id": "wallet:alice", "case_id": _CASE}],
    "account.finish": [{"account_id": "wallet:alice", "case_id": _CASE}],
    "account.reopen": [{"account_id": "wallet:alice", "case_id": _CASE}],
    "accounts.report": [
        {"report_id": _REPORT, "subjects": "all"},
        {"report_id": _REPORT, "subjects": ["wallet:alice", "wallet:shop"]},
    ],
    "transfer.settled": [_event("settled", payer_available_minor=3750, payee_available_minor=1250)],
    "transfer.failed": [_event("failed", reason=_SHORT)],
    "transfer.held": [
        _event(
            "held",
            window_id=_WINDOW,
            resume_at="2026-11-23T20:00:00.000000Z",
            alternatives=[_OTHER_CARD],
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
    "transfer.cancelled": [
        _event("cancelled", seq=2),
        _event("cancelled", seq=2, reason=_reason("account_closing", "AC07", retryable=False)),
    ],
    "transfer.expired": [_event("expired", seq=2, reason=_reason("expired", "DS24", retryable=True))],
    "transfer.discrepancy": [
        _payout("refunded", seq=4, expected="payout.failed", found="payout.settled"),
        _payout("refunded", seq=5, case_id=_CASE, expected="refunded", found="unclaimed"),
    ],
    "fee.waived": [
        {
            "transfer_id": _TRANSFER,
            "customer_id": "customer-1",
            "window_id": _WINDOW,
            "compensation_id": "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f50d",
            "fee_minor": 10,
            "currency": "CNY",
            "occurred_at": "2026-11-29T22:00:00.000000Z",
        }
    ],
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
    "account.reported": [{"report_id": _REPORT, **_ACCOUNT}],
    "accounts.report_finished": [{"report_id": _REPORT, "count": 2, "total_minor": {"CNY": 125_000, "USD": -300}}],
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
    "obligation.position": [
        {
            "obligation_id": "4959",
            "customer_id": "customer-1",
            "account": "wallet:alice",
            "kind": "loan",
            "principal_minor": 8_095_200,
            "interest_minor": 12_030,
            "penalty_minor": 0,
            "currency": "CNY",
            "status": "open",
        },
        {
            "obligation_id": "4959",
            "customer_id": "customer-1",
            "kind": "loan",
            "principal_minor": 0,
            "interest_minor": 0,
            "penalty_minor": 0,
            "currency": "CNY",
            "status": "settled",
        },
    ],
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
    "notification.sent": [{**_NOTICE, "channel": "sms", "gateway": "sms-a"}],
    "notification.failed": [{**_NOTICE, "channel": "sms", "why": "undelivered"}],
    "notification.delivered": [_NOTICE],
    "notification.suppressed": [{**_NOTICE, "why": "profile_missing"}],
    "window.schedule": [_PLAN, _EVERYTHING, _DRILL],
    "window.reschedule": [
        {
            "window_id": _WINDOW,
            "starts_at": "2026-11-30T01:00:00+08:00",
            "ends_at": "2026-11-30T05:00:00+08:00",
            "reason": "The bank asked for another day",
            "reason_in": [{"locale": "zh-CN", "text": "银行要求改期"}],
        }
    ],
    "window.start_now": [{"window_id": _WINDOW}],
    "window.extend": [
        {"window_id": _WINDOW, "ends_at": "2026-11-29T07:00:00+08:00", "reason": "Checks take longer than planned"}
    ],
    "window.end": [{"window_id": _WINDOW}],
    "window.cancel": [{"window_id": _WINDOW, "reason": "The upgrade is not ready"}],
    "survey.answer": [{"window_id": _WINDOW, "customer_id": "customer-1", "score": 4, "text": "Well announced."}],
    "window.scheduled": _window(revision=1),
    "window.rescheduled": _window(
        previous={"starts_at": "2026-11-27T17:00:00.000000Z", "ends_at": "2026-11-27T21:00:00.000000Z"},
        change_reason="The bank asked for another day",
        change_reason_in=[{"locale": "zh-CN", "text": "银行要求改期"}],
    ),
    "window.reminder": [event for before in ("7d", "1d", "1h") for event in _window(before=before)],
    "window.started": _window(),
    "window.extended": _window(
        previous={"starts_at": "2026-11-28T17:00:00.000000Z", "ends_at": "2026-11-28T17:45:00.000000Z"},
        change_reason="Checks take longer than planned",
        change_reason_in=[{"locale": "zh-CN", "text": "检查所需时间较长"}],
    ),
    "window.overrun": _window(ends="confirmed"),
    "window.escalated": _window(ends="confirmed"),
    "window.ended": _window(),
    "window.cancelled": _window(
        change_reason="The upgrade is not ready", change_reason_in=[{"locale": "zh-CN", "text": "升级尚未就绪"}]
    ),
    "window.refused": [
        {
            "window_id": _WINDOW,
            "reason": {"code": "times_invalid", "retryable": False, "refund": "none", "field": "ends_at"},
            "occurred_at": "2026-11-21T02:00:00.000000Z",
        }
    ],
    "survey.requested": _window(answer_by="2026-12-05T16:00:00.000000Z"),
    "compensation.granted": [_GRANTED],
    "compensation.used": [{**_GRANTED, "transfer_id": _TRANSFER}],
    "closure.request": [
        {
            "case_id": _CASE,
            "subject": "wallet:alice",
            "reason": "I no longer need it",
            "applicant": _APPLICANT,
            "claimed_balance_minor": 125_990,
            "payout": {"payee": _CARD, "payee_name": "王小明"},
            "accepts_fee": True,
        },
        {"case_id": _CASE, "subject": _LOAN, "reason": "Paid back", "applicant": _APPLICANT},
    ],
    "closure.correct": [
        {"case_id": _CASE, "applicant": _APPLICANT},
        {"case_id": _CASE, "applicant": _APPLICANT, "claimed_balance_minor": 125_990},
    ],
    "closure.documents": [
        {
            "case_id": _CASE,
            "documents": [{"kind": "id_card", "sha256": _DIGEST, "uri": "s3://documents/0192f3a4/id-card.jpg"}],
        }
    ],
    "closure.payout_account": [{"case_id": _CASE, "payee": _CARD, "payee_name": "王小明"}],
    "closure.review": [{"case_id": _CASE, "decision": "approve", "reviewer": "operator-3", "note": "Documents match"}],
    "closure.confirm": [{"case_id": _CASE}],
    "closure.cancel": [{"case_id": _CASE}],
    "closure.reopen": [{"request_id": _REQUESTED, "subject": "wallet:alice", "applicant": _APPLICANT}],
    "assessment.answered": [
        {"request_id": _REQUESTED, "approved": True, "limit_minor": 500_000, "currency": "CNY"},
        {"request_id": _REQUESTED, "approved": False},
    ],
    "clearance.start": [
        {
            "clearance_id": _CLEARANCE,
            "cause": "platform_transition",
            "subjects": "all",
            "announce_at": "2026-11-23T09:00:00+08:00",
            "starts_at": "2026-12-01T00:00:00+08:00",
            "deadline": "2027-01-01T00:00:00+08:00",
            "rate_per_s": 50,
        },
        {
            "clearance_id": _CLEARANCE,
            "cause": "regulation",
            "subjects": ["wallet:alice", "wallet:bob"],
            "announce_at": "2026-11-23T09:00:00+08:00",
            "starts_at": "2026-12-01T00:00:00+08:00",
            "deadline": "2027-01-01T00:00:00+08:00",
            "rate_per_s": 1,
            "dry_run": True,
        },
    ],
    "clearance.pause": [{"clearance_id": _CLEARANCE}],
    "clearance.resume": [{"clearance_id": _CLEARANCE}],
    "closure.received": [
        _case(revision=1),
        _case(revision=1, clearance_id=_CLEARANCE, cause="platform_transition", deadline=_DEADLINE),
        _case(revision=1, clearance_id=_CLEARANCE, cause="regulation", deadline=_DEADLINE),
        _case(revision=1, clearance_id=_CLEARANCE, cause="termination", deadline=_DEADLINE),
    ],
    "closure.documents_required": [
        _case(
            items=[{"code": "phone_unverified", "field": "phone", "remedy": "verify_phone"}],
            expires_at="2026-11-30T16:00:00.000000Z",
        ),
        _case(
            items=[
                {"code": "name_mismatch", "field": "name", "remedy": "send_name_change_certificate"},
                {"code": "id_number_mismatch", "field": "id_number", "remedy": "send_id_card"},
                {"code": "phone_mismatch", "field": "phone", "remedy": "send_phone_certificate"},
            ],
            expires_at="2026-11-30T16:00:00.000000Z",
        ),
    ],
    "closure.rejected": [
        _case(
            reasons=[{"code": "obligation_open", "remedy": "pay_obligations"}],
            obligations=[
                {**_owed("loan", 100_000, 5_000, 1_200), "obligation_id": "L20240000042"},
                _owed("credit_card", 20_000, 310, 0),
                _owed("negative_balance", 1_250, 0, 0),
            ],
        ),
        _case(subject=_LOAN, reasons=[{"code": "subject_unknown", "remedy": "check_subject"}]),
        _case(reasons=[{"code": "cooling_period", "remedy": "wait", "available_at": _DEADLINE}]),
        _case(
            reasons=[
                {"code": "review_rejected", "remedy": "contact_support", "detail": "Documents are not legible"},
                {"code": "fee_not_accepted", "remedy": "accept_fee"},
            ]
        ),
    ],
    "closure.in_review": [_case()],
    "closure.approved": [
        _case(
            balance_minor=125_990,
            fee_minor=1_000,
            payout_minor=124_990,
            currency="CNY",
            payee=_CARD,
            consequences=["reopening_not_promised", "data_erased"],
            expires_at="2026-11-30T16:00:00.000000Z",
        ),
        _case(
            subject=_LOAN,
            balance_minor=0,
            fee_minor=0,
            payout_minor=0,
            currency="CNY",
            consequences=["credit_record", "reopening_not_promised", "limit_not_promised", "data_erased"],
            expires_at="2026-11-30T16:00:00.000000Z",
        ),
    ],
    "closure.confirmed": [_case(), _case(subject=_LOAN)],
    "closure.draining": [_case()],
    "closure.paying_out": [_case(**_PAID)],
    "closure.payout_failed": [_case(**_PAID, reason=_RAIL, expires_at=_DEADLINE)],
    "closure.payout_account_required": [
        _case(payout_minor=124_990, currency="CNY"),
        _case(payout_minor=124_990, currency="CNY", deadline=_DEADLINE),
    ],
    "closure.erasing": [
        _case(receipt=_CLOSING_RECEIPT),
        _case(
            subject=_LOAN,
            receipt={
                "number": "R-20261123-4F50B",
                "subject": _LOAN,
                "balance_minor": 0,
                "fee_minor": 0,
                "payout_minor": 0,
                "currency": "CNY",
                "finished_at": "2026-11-23T08:30:00.000000Z",
                "retained": [
                    {"what": "loans", "why": "credit_law", "until": "2031-11-23"},
                    {"what": "closing", "why": "contract_law", "until": "2029-11-23"},
                ],
            },
        ),
    ],
    "closure.closed": [
        _case(receipt_sha256=_DIGEST, erasure="done"),
        _case(receipt_sha256=_DIGEST, erasure="deferred", why="loan_open", receipt=_CLOSING_RECEIPT),
        _case(receipt_sha256=_DIGEST, erasure="deferred", why="wallet_open", receipt=_CLOSING_RECEIPT),
        _case(receipt_sha256=_DIGEST, erasure="deferred", why="case_open", receipt=_CLOSING_RECEIPT),
    ],
    "closure.cancelled": [_case(), _case(subject=_LOAN)],
    "closure.expired": [_case(), _case(subject=_LOAN)],
    "closure.command_refused": [
        {
            "command_type": "closure.confirm",
            "command_id": "confirm-1",
            "case_id": _CASE,
            "customer_id": "customer-1",
            "subject": "wallet:alice",
            "reason": {"code": code, "retryable": retryable},
            "occurred_at": "2026-11-23T08:30:00.120000Z",
        }
        for code, retryable in (("state_conflict", False), ("payout_account_missing", True))
    ],
    "closure.discrepancy": [
        _case(subject=_LOAN, expected="nothing owed, settled", found="interest_minor 3, status open")
    ],
    "closure.reopened": [
        _coming_back(),
        _coming_back(subject=_LOAN, limit_minor=500_000, currency="CNY"),
    ],
    "closure.reopen_refused": [
        _coming_back(reasons=[{"code": "cooling_period", "remedy": "wait", "available_at": _DEADLINE}]),
        _coming_back(subject=_LOAN, reasons=[{"code": "name_mismatch", "remedy": "correct_name"}]),
    ],
    "assessment.requested": [_coming_back(subject=_LOAN)],
    "clearance.announced": [
        _clearance(cause=cause, starts_at="2026-11-30T16:00:00.000000Z", deadline=_DEADLINE, **more)
        for cause, more in (
            ("platform_transition", {}),
            ("regulation", {"subjects": "all"}),
            ("termination", {"wallets": 2, "subjects": ["wallet:alice", "wallet:bob"]}),
        )
    ],
    "clearance.progress": [
        _clearance(
            cleared=60_000,
            paid=20_000,
            waiting=1_000,
            blocked=500,
            pending=38_500,
            paused=False,
            money=[
                {
                    "currency": "CNY",
                    "total_minor": 990_000_000,
                    "paid_out_minor": 640_000_000,
                    "fee_minor": 0,
                    "waiting_minor": 340_000_000,
                    "blocked_minor": 9_000_000,
                    "moved_minor": 1_000_000,
                }
            ],
        )
    ],
    "clearance.finished": [
        _clearance(
            cleared=79_200,
            paid=40_000,
            waiting=700,
            blocked=100,
            money=[
                {
                    "currency": "CNY",
                    "total_minor": 990_000_000,
                    "paid_out_minor": 985_431_077,
                    "fee_minor": 0,
                    "waiting_minor": 4_568_923,
                }
            ],
        ),
        _clearance(
            dry_run=True,
            wallets=1,
            cleared=0,
            waiting=0,
            blocked=1,
            money=[
                {
                    "currency": "CNY",
                    "total_minor": 500,
                    "paid_out_minor": 0,
                    "fee_minor": 0,
                    "waiting_minor": 0,
                    "blocked_minor": 500,
                }
            ],
            blockers=[
                {"subject": "wallet:bob", "code": "obligation_open", "owed_minor": 125_000, "currency": "CNY"},
            ],
        ),
    ],
    "credit.status_changed": [_case(subject=_LOAN, status="closed")],
    "loan.disabled": [_case(subject=_LOAN)],
    "customer.erase": [{"customer_id": "customer-1", "case_id": _CASE}, {"customer_id": "customer-2"}],
    "customer.erased": [
        {"customer_id": "customer-1", "service": "notify"},
        {
            "customer_id": "customer-1",
            "service": "transfer",
            "case_id": _CASE,
            "retained": [{"what": "transfers", "why": "accounting_law", "until": "2056-11-23"}],
        },
    ],
    "risk.flagged": [
        {"customer_id": "customer-1", "rule": "many_failures", "until": "2026-11-24T08:30:00Z"},
        {
            "customer_id": "customer-1",
            "rule": "unknown_payees",
            "until": "2026-11-24T08:30:00Z",
            "restricted_until": "2026-11-24T10:30:00Z",
        },
    ],
    "risk.cleared": [
        {"customer_id": "customer-1", "rule": "many_failures"},
        {"customer_id": "customer-1", "rule": "many_failures", "restricted_until": "2026-11-24T10:30:00Z"},
        {"customer_id": "customer-2"},
    ],
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
