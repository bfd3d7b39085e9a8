"""Puts a worker's inbox together: its page, its API, its streams, and what looks after them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from services.notify.inbox import access, live
from services.notify.inbox.access import Lender
from services.notify.inbox.api import Api
from services.notify.inbox.events import Events
from services.notify.inbox.live import Live
from services.notify.inbox.pages import Pages

if TYPE_CHECKING:
    from aiohttp import web

    from services.notify.sealed import Keys
    from services.runtime.clock import Clock
    from services.runtime.database import Pool

CONNECTIONS: Final = access.CONNECTIONS + live.CONNECTIONS
"""How many connections to the database the inbox needs."""


@dataclass(frozen=True, slots=True)
class Inbox:
    """What a worker answers to readers; `live` has to run beside the server."""

    live: Live
    routes: list[web.RouteDef]


def open_inbox(keys: Keys, pool: Pool, clock: Clock) -> Inbox:
    """Return an inbox that reads with these keys, through this pool."""
    lender, streams = Lender(pool), Live(pool)
    desks = (Pages(keys, lender, clock), Api(keys, lender, clock), Events(keys, streams))
    return Inbox(streams, [route for desk in desks for route in desk.routes()])
