"""What people on call did, to what, and why."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from ops.acts import newest_acts

if TYPE_CHECKING:
    from starlette.responses import Response

    from ops.web.visit import Visit

_SHOWN: Final = 200


async def show(visit: Visit) -> Response:
    """List the newest acts."""
    acts = await newest_acts(visit.site.running, _SHOWN)
    return visit.page("acts.html.j2", acts=[{**act, "detail": json.dumps(act["detail"], indent=1)} for act in acts])
