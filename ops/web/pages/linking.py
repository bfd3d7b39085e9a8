"""A link by which a customer follows what the page of traces shows."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ops.web.acting import Incomplete, given_why
from ops.web.follow_command import linked

if TYPE_CHECKING:
    from starlette.responses import Response

    from ops.web.visit import Visit

_LASTS: Final = timedelta(days=7)


async def make(visit: Visit) -> Response:
    """Show a link that is good for a week; it is shown once, and nowhere kept."""
    try:
        id_ = uuid.UUID(visit.given("id"))
    except ValueError:
        raise Incomplete(visit.words["trace"]["none"]) from None
    # Reached by the address that the browser used, where no other is set.
    running = visit.site.running
    there = replace(running, console=running.console or str(visit.request.base_url).rstrip("/"))
    url = await linked(there, visit.site.settings, id_, _LASTS, visit.who, given_why(visit))
    return visit.page("link.html.j2", url=url, days=_LASTS.days, id=str(id_))
