"""What anybody may read: maintenance now and to come, and by a signed link how one transfer or closing goes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ops.database import connect
from ops.web.following import follow, wording
from ops.web.links import read_link
from services.maintenance import records
from services.maintenance.model import CLOSING, Status
from services.notify.wording import translated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response

    from ops.web.visit import Visit


async def status(visit: Visit) -> Response:
    """Show what is closed now, and what will be, as it was known when the database answered last."""
    seen = await visit.site.known.windows(partial(_read, visit))
    windows = () if seen is None else seen.windows
    now = [_told(visit, window) for window in windows if window["status"] in CLOSING]
    coming = [_told(visit, window) for window in windows if window["status"] == Status.SCHEDULED]
    response = visit.page("status.html.j2", 503 if seen is None else 200, seen=seen, now=now, coming=coming)
    response.headers["Cache-Control"] = "no-cache"
    response.headers["Vary"] = "Accept-Language, Cookie"
    return response


async def follow_one(visit: Visit) -> Response:
    """Show how the transfer or closing goes that a link is about; one sentence for a link that is not good."""
    followed = read_link(visit.site.settings.signing_key(), visit.request.path_params["token"])
    course = None if followed is None else await follow(visit.site.running, followed, visit.language)
    return visit.page("follow.html.j2", 200 if course is not None else 404, course=course)


async def _read(visit: Visit) -> list[dict[str, Any]]:
    async with connect(visit.site.running, "maintenance") as connection:
        return await records.list_open(connection)


def _told(visit: Visit, window: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the visitor is told of a window, others' texts only in their language."""
    language = visit.language
    said = [translated(way["text"], way.get("text_in", ()), language) for way in window["alternatives"]]
    return {
        "starts_at": window["starts_at"],
        "ends_at": window["ends_at"],
        "is_overrun": window["status"] == Status.OVERRUN,
        "confirmed": window["ends"] == "confirmed",
        "treatment": window["treatment"],
        "functions": [wording().term(language, "functions", name) for name in window["functions"]],
        "scope": [
            *(wording().term(language, "banks", bank) for bank in window["scope"].get("banks", ())),
            *window["scope"].get("currencies", ()),
        ],
        "reason": translated(window["reason"], window["reason_in"], language),
        "alternatives": [text for text in said if text],
    }
