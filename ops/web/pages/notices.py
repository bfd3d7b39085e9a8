"""What a customer was told, what became of it, and every attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ops.notices import read_notices

if TYPE_CHECKING:
    from starlette.responses import Response

    from ops.web.visit import Visit

_SHOWN: Final = 100


async def show(visit: Visit) -> Response:
    """Show how many notices of a customer stand where, and the latest; of nobody, the form alone."""
    customer = visit.asked("customer")
    said = await read_notices(visit.site.running, None, customer, _SHOWN) if customer else None
    return visit.page("notices.html.j2", customer=customer, said=said)
