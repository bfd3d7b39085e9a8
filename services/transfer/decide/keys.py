"""Which key the contract gives a message; another one costs its publisher the order between its own messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from services.transfer.model import ordering_wallet

if TYPE_CHECKING:
    from services.runtime.message import Message
    from services.transfer.decide.ledger import Ledger


def is_mis_keyed(ledger: Ledger, message: Message) -> bool:
    """Tell whether a message's key is missing or not its wallet; what is about an unknown transfer has no right key."""
    key, type_, data = message.key, message.type, message.data
    wallets = _wallets_of(ledger, type_, data)
    own = None if key is None else key.decode("utf-8", "replace")
    return any(wallet != own for wallet in wallets)


def _wallets_of(ledger: Ledger, type_: str, data: Any) -> tuple[str, ...]:
    if type_ in {"transfer.request", "transfer.quote"}:
        return (ordering_wallet(data.payer, data.payee),)
    if type_ == "transfer.batch":
        return tuple(ordering_wallet(item.payer, item.payee) for item in data.items)
    if type_.startswith("account."):
        return (data.account_id,)
    if type_ == "accounts.report":
        # It may be about any wallets.
        return ()
    refund = ledger.refunds.get(data.transfer_id)
    transfer = ledger.transfers.get(refund.transfer_id if refund else data.transfer_id)
    return () if transfer is None else (transfer.key,)
