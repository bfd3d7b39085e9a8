"""Which message types each topic carries, and their models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schemas import account, closure, customer, erasure, maintenance, notify, rail, risk, transfer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

TOPICS: Final[Mapping[str, Mapping[str, type[BaseModel]]]] = {
    "transfer.commands": {
        "transfer.request": transfer.TransferRequest,
        "transfer.batch": transfer.TransferBatch,
        "transfer.quote": transfer.TransferQuote,
        "transfer.verify": transfer.TransferVerify,
        "transfer.verification_resend": transfer.TransferVerificationResend,
        "transfer.cancel": transfer.TransferCancel,
        "transfer.refund": transfer.TransferRefund,
        "transfer.resolve": transfer.TransferResolve,
        "account.open": account.AccountOpen,
        "account.configure": account.AccountConfigure,
        "account.restrict": account.AccountRestrict,
        "account.release": account.AccountRelease,
    },
    "transfer.events": {
        "transfer.settled": transfer.TransferSettled,
        "transfer.failed": transfer.TransferFailed,
        "transfer.held": transfer.TransferHeld,
        "transfer.scheduled": transfer.TransferScheduled,
        "transfer.verification_required": transfer.TransferVerificationRequired,
        "transfer.sent": transfer.TransferSent,
        "transfer.delayed": transfer.TransferDelayed,
        "transfer.refund_started": transfer.TransferRefundStarted,
        "transfer.refunded": transfer.TransferRefunded,
        "transfer.refund_overdue": transfer.TransferRefundOverdue,
        "transfer.cancelled": transfer.TransferCancelled,
        "transfer.expired": transfer.TransferExpired,
        "transfer.discrepancy": transfer.TransferDiscrepancy,
        "fee.waived": transfer.FeeWaived,
        "transfer.quoted": transfer.TransferQuoted,
        "transfer.command_refused": transfer.TransferCommandRefused,
        "account.opened": account.AccountOpened,
        "account.configured": account.AccountConfigured,
        "account.low_balance": account.AccountLowBalance,
        "account.restricted": account.AccountRestricted,
        "account.released": account.AccountReleased,
        "account.closing": account.AccountClosing,
        "account.drained": account.AccountDrained,
        "account.reinstated": account.AccountReinstated,
        "account.closed": account.AccountClosed,
        "account.reopened": account.AccountReopened,
    },
    "account.states": {
        "account.opened": account.AccountOpened,
        "account.configured": account.AccountConfigured,
        "account.restricted": account.AccountRestricted,
        "account.released": account.AccountReleased,
        "account.closing": account.AccountClosing,
        "account.reinstated": account.AccountReinstated,
        "account.closed": account.AccountClosed,
        "account.reopened": account.AccountReopened,
    },
    "rail.instructions": {
        "payout.instructed": rail.PayoutInstructed,
        "payout.inquired": rail.PayoutInquired,
    },
    "rail.results": {
        "payout.settled": rail.PayoutSettled,
        "payout.failed": rail.PayoutFailed,
        "payout.returned": rail.PayoutReturned,
        "payout.unknown": rail.PayoutUnknown,
    },
    "maintenance.commands": {
        "window.schedule": maintenance.WindowSchedule,
        "window.reschedule": maintenance.WindowReschedule,
        "window.start_now": maintenance.WindowStartNow,
        "window.extend": maintenance.WindowExtend,
        "window.end": maintenance.WindowEnd,
        "window.cancel": maintenance.WindowCancel,
        "survey.answer": maintenance.SurveyAnswer,
    },
    "maintenance.events": {
        "window.scheduled": maintenance.WindowScheduled,
        "window.rescheduled": maintenance.WindowRescheduled,
        "window.reminder": maintenance.WindowReminder,
        "window.started": maintenance.WindowStarted,
        "window.extended": maintenance.WindowExtended,
        "window.overrun": maintenance.WindowOverrun,
        "window.escalated": maintenance.WindowEscalated,
        "window.ended": maintenance.WindowEnded,
        "window.cancelled": maintenance.WindowCancelled,
        "window.refused": maintenance.WindowRefused,
        "survey.requested": maintenance.SurveyRequested,
        "compensation.granted": maintenance.CompensationGranted,
        "compensation.used": maintenance.CompensationUsed,
    },
    "closure.commands": {
        "closure.request": closure.ClosureRequest,
        "closure.correct": closure.ClosureCorrect,
        "closure.documents": closure.ClosureDocuments,
        "closure.payout_account": closure.ClosurePayoutAccount,
        "closure.review": closure.ClosureReview,
        "closure.confirm": closure.ClosureConfirm,
        "closure.cancel": closure.ClosureCancel,
        "closure.reopen": closure.ClosureReopen,
        "assessment.answered": closure.AssessmentAnswered,
        "clearance.start": closure.ClearanceStart,
        "clearance.pause": closure.ClearancePause,
        "clearance.resume": closure.ClearanceResume,
    },
    "closure.events": {
        "closure.received": closure.ClosureReceived,
        "closure.documents_required": closure.ClosureDocumentsRequired,
        "closure.rejected": closure.ClosureRejected,
        "closure.in_review": closure.ClosureInReview,
        "closure.approved": closure.ClosureApproved,
        "closure.confirmed": closure.ClosureConfirmed,
        "closure.draining": closure.ClosureDraining,
        "closure.paying_out": closure.ClosurePayingOut,
        "closure.payout_failed": closure.ClosurePayoutFailed,
        "closure.erasing": closure.ClosureErasing,
        "closure.closed": closure.ClosureClosed,
        "closure.cancelled": closure.ClosureCancelled,
        "closure.expired": closure.ClosureExpired,
        "closure.discrepancy": closure.ClosureDiscrepancy,
        "closure.reopened": closure.ClosureReopened,
        "closure.reopen_refused": closure.ClosureReopenRefused,
        "assessment.requested": closure.AssessmentRequested,
        "clearance.announced": closure.ClearanceAnnounced,
        "clearance.progress": closure.ClearanceProgress,
        "clearance.finished": closure.ClearanceFinished,
        "credit.status_changed": closure.CreditStatusChanged,
        "loan.disabled": closure.LoanDisabled,
    },
    "erasure.events": {
        "customer.erase": erasure.CustomerErase,
        "customer.erased": erasure.CustomerErased,
    },
    "customer.profiles": {
        "customer.profile": customer.CustomerProfile,
    },
    "notify.commands": {
        "notification.request": notify.NotificationRequest,
        "broadcast.pause": notify.BroadcastPause,
        "broadcast.resume": notify.BroadcastResume,
        "broadcast.cancel": notify.BroadcastCancel,
    },
    "notify.receipts": {
        "message.delivered": notify.MessageDelivered,
        "message.failed": notify.MessageFailed,
        "message.expired": notify.MessageExpired,
    },
    "notify.events": {
        "notification.sent": notify.NotificationSent,
        "notification.delivered": notify.NotificationDelivered,
        "notification.failed": notify.NotificationFailed,
        "notification.suppressed": notify.NotificationSuppressed,
        "broadcast.progress": notify.BroadcastProgress,
        "broadcast.finished": notify.BroadcastFinished,
    },
    "risk.events": {
        "risk.flagged": risk.RiskFlagged,
        "risk.cleared": risk.RiskCleared,
    },
}

MODELS: Final[Mapping[str, type[BaseModel]]] = {
    name: model for types in TOPICS.values() for name, model in types.items()
}
"""The model of each type, whichever topic carries it."""
