"""What happened to one thing, across services, in the order of time: what `sluice trace` tells."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ops.trace.following import NothingKnown, asked_for, trace
from ops.web.links import Kind

if TYPE_CHECKING:
    from starlette.responses import Response

    from ops.trace.story import Story
    from ops.web.visit import Visit

_NAMES: Final = ("type", "trace_name", "purpose", "kind", "timer", "case_status")
"""The kinds of codes that name what happened."""
_OF_ALL: Final = ("trace_state", "transfer_status", "account_status", "case_status", "window_status", "notice_status")
_STATES: Final = {
    "transfer": ("transfer_status", "account_status", "refund_status"),
    "closure": ("case_status", "reopening_status", "clearance_status"),
    "maintenance": ("window_status",),
    "notify": ("notice_status", "outcome", "broadcast_status"),
}
"""The kinds of codes that say how something of a service stands."""
_WHYS: Final = {"notify": ("notice_why", "type"), "closure": ("reason", "step_why", "transfer_status")}
"""The kinds of codes that say why, beside those of all."""
_DAYS: Final = timedelta(days=7)
_WITHIN: Final = timedelta(hours=1)


async def show(visit: Visit) -> Response:
    """Show the form, and what is known of what it asks for."""
    wanted = visit.asked("id")
    if not wanted:
        return _page(visit, "", None)
    try:
        story = await trace(visit.site.running, asked_for(visit.site.running, wanted, _DAYS, _WITHIN))
    except NothingKnown:
        return _page(visit, wanted, None)
    return _page(visit, wanted, story)


def _page(visit: Visit, wanted: str, story: Story | None) -> Response:
    lines = [] if story is None else story.lines
    services = {line.service for line in lines}
    return visit.page(
        "trace.html.j2",
        404 if wanted and story is None else 200,
        wanted=wanted,
        story=story,
        followable=[] if story is None else [one for one in story.found if one.kind in set(Kind)],
        names=_NAMES,
        states={service: (*_STATES.get(service, ()), *_OF_ALL) for service in services},
        whys={service: (*_WHYS.get(service, ()), "reason", "letter_reason") for service in services},
    )
