"""What happened to one thing, across services, in the order of time: what `sluice trace` tells."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from ops.trace.following import Asked, NothingKnown, trace
from ops.web.links import Kind

if TYPE_CHECKING:
    from starlette.responses import Response

    from ops.web.visit import Visit

_DAYS: Final = timedelta(days=7)
_WITHIN: Final = timedelta(hours=1)


async def show(visit: Visit) -> Response:
    """Show the form, and what is known of what it asks for."""
    wanted = visit.asked("id")
    if not wanted:
        return visit.page("trace.html.j2", wanted="", story=None, followable=[])
    try:
        story = await trace(visit.site.running, Asked(wanted, datetime.now(UTC) - _DAYS, _WITHIN))
    except NothingKnown:
        return visit.page("trace.html.j2", 404, wanted=wanted, story=None, followable=[])
    followable = [subject for subject in story.found if subject.kind in set(Kind)]
    return visit.page("trace.html.j2", wanted=wanted, story=story, followable=followable)
