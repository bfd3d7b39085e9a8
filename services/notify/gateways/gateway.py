"""What a gateway is to the dispatcher: it takes messages, says what became of each, and may be asked again."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from datetime import datetime

TOO_LATE: Final = "its turn did not come in time"
"""Why a message was not begun after `until`."""


class Outcome(StrEnum):
    """What became of a message at a gateway, whatever code it uses for it."""

    ACCEPTED = "accepted"
    """The gateway has it; a receipt tells the rest."""
    DELIVERED = "delivered"
    """It reached the person's phone or mailbox."""
    TEMPORARY = "temporary"
    """Not now; the same message may be taken later."""
    PERMANENT = "permanent"
    """Never: this address or this message."""
    TECHNICAL = "technical"
    """The gateway itself fails and has not got it; another gateway may be tried at once."""
    UNKNOWN = "unknown"
    """There was no answer: it may have it."""
    ABSENT = "absent"
    """An inquiry's answer: it has never seen it."""
    UNUSABLE = "unusable"
    """It was not tried at all: the person's address may not be used any more."""


class Sms(NamedTuple):
    """A text for a phone. `reference` is ours, one an attempt; `to` is in E.164 form, with the plus."""

    reference: str
    to: str
    text: str


class Email(NamedTuple):
    """A mail. `unsubscribe` is the address behind List-Unsubscribe, for mails that may be unsubscribed from."""

    reference: str
    to: str
    subject: str
    text: str
    html: str
    unsubscribe: str | None = None


class Answer(NamedTuple):
    """What a gateway said of one message: its own id and code, and a reason that a person can read.

    `is_dead` says that nobody is reached by the address any more, whatever the message. `why` is in our words, `said`
    in the provider's, which may quote the message: only what `quoting.kept` leaves of an answer is recorded.
    """

    reference: str
    outcome: Outcome
    provider_message_id: str | None = None
    code: str | None = None
    why: str | None = None
    is_dead: bool = False
    said: str | None = None


class Receipt(NamedTuple):
    """What a gateway says of a message later, by itself; it names it by its own id, often by our reference too."""

    provider: str
    provider_message_id: str
    reference: str | None
    outcome: Outcome
    code: str | None
    at: datetime


M_contra = TypeVar("M_contra", contravariant=True)


class Gateway(Protocol, Generic[M_contra]):
    """A connection to a provider. Its calls answer for every message, in their order, and raise nothing."""

    @property
    def name(self) -> str:
        """The provider's name in settings, attempts and receipts."""

    @property
    def batch_size(self) -> int:
        """How many messages one call of `send` takes at most."""

    @property
    def can_inquire(self) -> bool:
        """Whether the provider can be asked about our references."""

    @property
    def longest_s(self) -> float:
        """How many seconds handing over one message takes at the longest, once it is begun."""

    async def start(self) -> None:
        """Be reached by the provider, where it speaks by itself."""

    async def send(self, messages: Sequence[M_contra], until: float = math.inf) -> list[Answer]:
        """Hand messages over; none is begun after `until` on the loop's clock: that answers TECHNICAL.

        UNKNOWN where it cannot be told whether the provider has it; never sends one again.
        """

    async def inquire(self, references: Sequence[str]) -> list[Answer]:
        """Ask what became of messages; UNKNOWN where there is no answer, ABSENT where it never came."""

    async def close(self) -> None:
        """Give connections back."""


OnReceipts: TypeAlias = Callable[[Sequence[Receipt]], Awaitable[None]]
"""Keeps receipts; the provider is told that they were taken only after it has returned."""
