"""The maintenance family: commands that plan and change windows, and the events that say when what is closed."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from schemas.fields import BankCode, Currency, CustomerId, Items, Moment, Revision, ShortText, Text, Translations, Wire
from schemas.reasons import WindowReason
from schemas.transfer import Alternative

Function = Literal["transfer", "withdrawal", "top_up", "closure_payout"]
CompensationKind = Literal["fee_waiver", "coupon"]
Before = Literal["7d", "1d", "1h"]


class Scope(Wire):
    """Which banks and currencies a window closes; an empty list is all of them."""

    banks: Items[BankCode] = ()
    currencies: Items[Currency] = ()


class Compensation(Wire):
    """What makes up for a window: so many fees waived, or a coupon worth so much in the minor unit of `currency`."""

    kind: CompensationKind
    value: Annotated[int, Field(ge=1, lt=2**63)]
    currency: Currency | None = None
    text: Text
    text_in: Translations = ()


class _Outline(Wire):
    """What a plan says of a window, besides what it closes.

    Customers read its texts in their own language alone: say each in every language, in the field beside it, `…_in`.
    """

    title: ShortText
    reason: Text
    reason_in: Translations = ()
    starts_at: Moment
    ends_at: Moment
    ends: Literal["automatic", "confirmed"] = "automatic"
    treatment: Literal["hold", "reject"]
    alternatives: Items[Alternative] = ()
    drill: bool = False
    compensation: Compensation | None = None


class Plan(_Outline):
    """When what is closed, and what becomes of transfers meanwhile; a drill touches no customer."""

    functions: Annotated[Items[Function], Field(min_length=1)]
    scope: Scope = Scope()


# --- Commands ---


class AskedScope(Wire):
    """Which banks and currencies a window is to close; one that is none is refused."""

    banks: Items[ShortText] = ()
    currencies: Items[ShortText] = ()


class WindowSchedule(_Outline):
    """Plan a window; one that starts now is an emergency, and starts without notice.

    `functions` are those of `window.scheduled`; what is none of them is refused by `window.refused`, like every plan
    that cannot be kept.
    """

    window_id: UUID
    functions: Items[ShortText]
    scope: AskedScope = AskedScope()


class WindowReschedule(Wire):
    """Move a window, at any time before its end; one that has started and is to start later opens until then."""

    window_id: UUID
    starts_at: Moment
    ends_at: Moment
    reason: Text | None = None
    reason_in: Translations = ()


class WindowStartNow(Wire):
    """Start a scheduled window at once."""

    window_id: UUID


class WindowExtend(Wire):
    """Let a window that has started end later."""

    window_id: UUID
    ends_at: Moment
    reason: Text
    reason_in: Translations = ()


class WindowEnd(Wire):
    """End a window that has started."""

    window_id: UUID


class WindowCancel(Wire):
    """Call off a window that has not started."""

    window_id: UUID
    reason: Text | None = None
    reason_in: Translations = ()


class SurveyAnswer(Wire):
    """What a customer says of a window afterwards: 1 is bad, 5 is good."""

    window_id: UUID
    customer_id: CustomerId
    score: Annotated[int, Field(ge=1, le=5)]
    text: Text | None = None


# --- Events ---


class Times(Wire):
    """From when to when."""

    starts_at: Moment
    ends_at: Moment


class WindowEvent(Plan):
    """One change of a window, with the whole window as it is after it.

    `skipped` are the reminders that its new times leave no time for.
    """

    window_id: UUID
    revision: Revision
    occurred_at: Moment
    skipped: Items[Before] = ()


class WindowChange(WindowEvent):
    """A change of what was announced: the times before it, and why."""

    previous: Times | None = None
    change_reason: Text | None = None
    change_reason_in: Translations = ()


class WindowScheduled(WindowEvent):
    """A window is planned."""


class WindowRescheduled(WindowChange):
    """A window has moved before it started."""


class WindowReminder(WindowEvent):
    """A window starts soon."""

    before: Before


class WindowStarted(WindowEvent):
    """The functions are closed."""


class WindowExtended(WindowChange):
    """The window ends later."""


class WindowOverrun(WindowEvent):
    """`ends_at` has passed, and nobody has confirmed the end yet: the functions stay closed."""


class WindowEscalated(WindowEvent):
    """The overrun has lasted longer than the policy allows: an operator has to see to it."""


class WindowEnded(WindowEvent):
    """The functions are open again; what was held is released."""


class WindowCancelled(WindowEvent):
    """The window does not take place."""

    change_reason: Text | None = None
    change_reason_in: Translations = ()


class WindowRefused(Wire):
    """A command was refused; the window, if there is one, stays as it is."""

    window_id: UUID
    reason: WindowReason
    occurred_at: Moment


class SurveyRequested(WindowEvent):
    """Those whom the window concerned are asked how it was; answers count until `answer_by`."""

    answer_by: Moment


class CompensationGranted(Wire):
    """A customer gets what makes up for a window, once a window."""

    compensation_id: UUID
    customer_id: CustomerId
    window_id: UUID
    compensation: Compensation
    expires_at: Moment | None = None
    occurred_at: Moment


class CompensationUsed(CompensationGranted):
    """A customer has used it up."""

    transfer_id: UUID | None = None
