"""Makes of a request what needs no facts, so that it is done before the accounts are locked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.transfer import TransferRequest
from services.transfer.model import Status, Transfer

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from schemas.transfer import Order
    from services.runtime.message import Message
    from services.transfer.decide.rules import Rules


def draft_message(message: Message, rules: Rules, now: datetime) -> Transfer | None:
    """Return the transfer that a `transfer.request` asks for; None for every other message."""
    if message.type != "transfer.request" or not isinstance(message.data, TransferRequest):
        return None
    return draft_request(message, message.data, rules, now)


def draft_request(message: Message, request: TransferRequest, rules: Rules, now: datetime) -> Transfer:
    """Return the transfer that a request, alone or an item of a batch, asks for."""
    return draft_transfer(message, request, request.transfer_id, rules.hash_content(request), now)


def draft_transfer(message: Message, order: Order, transfer_id: UUID, content_hash: bytes, now: datetime) -> Transfer:
    """Return a transfer that has no event yet, and whose customers are not known yet."""
    return Transfer(
        transfer_id=transfer_id,
        content_hash=content_hash,
        kind=order.kind,
        payer=order.payer,
        payee=order.payee,
        payer_customer_id=None,
        payee_customer_id=None,
        amount_minor=order.amount_minor,
        fee_minor=0,
        currency=order.currency,
        reference=order.reference,
        case_id=order.case_id,
        correlation_id=message.correlation_id,
        traceparent=message.traceparent,
        requested_at=now,
        execute_at=order.execute_at,
        expires_at=order.expires_at,
        occurred_at=now,
        status=Status.FAILED,
        may_be_held=order.on_maintenance == "hold",
    )
