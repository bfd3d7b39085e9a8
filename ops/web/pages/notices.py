"""What a customer was told, what became of it, and every attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ops.notices import read_notices

if TYPE_CHECKING:
    from starlette.responses import Response

    from ops.web.visit import Visit

_SHOWN: Final = 100


async def show(visit: Visit) -> Response:
    """Show how many notices stand where, of a customer or of all, and the latest."""
    customer = visit.asked("customer") or None
    said = await read_notices(visit.site.running, None, customer, _SHOWN)
    return visit.page("notices.html.j2", customer=customer or "", said=said)
