"""The rail family: what banks' connectors are told, and what they answer."""

from __future__ import annotations

from uuid import UUID

from schemas.fields import BankAccount, Currency, Minor, Name, Reference, ShortText, Text, Wire


class PayoutInstructed(Wire):
    """Pay money out; `return_of` names the transfer whose money goes back to the bank it came from."""

    transfer_id: UUID
    payee: BankAccount
    payee_name: Name | None = None
    amount_minor: Minor
    currency: Currency
    reference: Reference
    return_of: UUID | None = None


class PayoutInquired(Wire):
    """Say what became of a payout."""

    transfer_id: UUID


class PayoutSettled(Wire):
    """The payee has the money."""

    transfer_id: UUID


class PayoutFailed(Wire):
    """The bank did not pay out; the code is its own."""

    transfer_id: UUID
    rail_code: ShortText
    detail: Text | None = None


class PayoutReturned(Wire):
    """The money came back."""

    transfer_id: UUID
    rail_code: ShortText | None = None
    detail: Text | None = None


class PayoutUnknown(Wire):
    """The bank has no record of the payout."""

    transfer_id: UUID
