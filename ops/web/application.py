"""Puts the console together: every page behind the gate."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.routing import Route

from ops.web.gate import broken, guarded, no_such_page
from ops.web.table import PAGES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ops.web.site import Site

_NOTE_EVERY_S: Final = 0.5


def build(site: Site) -> Starlette:
    """Return the application; while it runs it notes what the lag is."""

    @asynccontextmanager
    async def noting(_application: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(_note(site))
        try:
            yield
        finally:
            await site.audits.stop()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    routes: list[Route] = [guarded(site, page) for page in PAGES]
    handlers = {404: no_such_page(site), 405: no_such_page(site), 500: broken}
    application = Starlette(routes=routes, exception_handlers=handlers, lifespan=noting)
    # To an address that it would make of the request's `Host`, and without our headers.
    application.router.redirect_slashes = False
    return application


async def _note(site: Site) -> None:
    while True:
        if (looked := site.watch.newest) is not None:
            site.history.note(looked)
        await asyncio.sleep(_NOTE_EVERY_S)
