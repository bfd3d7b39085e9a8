"""What happened to a transfer, a case, a window: everything that is known of an id, in the order of time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.web.finding import find_stories

if TYPE_CHECKING:
    from starlette.responses import Response

    from ops.web.visit import Visit


async def show(visit: Visit) -> Response:
    """Show the form, and what was found of what it asks for."""
    wanted = visit.asked("id")
    stories = await find_stories(visit.site.running, wanted) if wanted else []
    return visit.page("trace.html.j2", 404 if wanted and not stories else 200, wanted=wanted, stories=stories)
