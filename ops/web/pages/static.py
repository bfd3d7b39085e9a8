"""The style sheet, and the scripts that were fetched at installation."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.responses import PlainTextResponse, Response

if TYPE_CHECKING:
    from ops.web.visit import Visit

_FOLDER: Final = Path(__file__).parents[1] / "static"
_STYLE: Final = "console.css"
_CACHED: Final = {"Cache-Control": "public, max-age=300"}


async def give(visit: Visit) -> Response:
    """Answer one of the few files that there are."""
    name = visit.request.path_params["name"]
    if name == _STYLE:
        return Response(_style(), media_type="text/css", headers=_CACHED)
    if (script := visit.site.scripts.get(name)) is not None:
        return Response(script, media_type="text/javascript", headers=_CACHED)
    return PlainTextResponse("There is no such file.", 404)


@cache
def _style() -> bytes:
    return (_FOLDER / _STYLE).read_bytes()
