"""Takes the receipts that gateways bring over HTTP."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

from services.notify.delivery.receipt_topic import NotKept
from services.notify.gateways.http_sms import BadReceipts, HttpSmsConfig, read_receipts
from services.notify.gateways.signatures import SIGNATURE_HEADER, NotGenuine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.notify.delivery.receipt_topic import ReceiptTopic

_READ_WITHIN_S: Final = 15.0
_READING: Final = asyncio.Semaphore(16)
"""So many bodies are read at once: what nobody has checked yet must not fill the memory."""

_LOG = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReceiptDesk:
    """Keeps receipts on their topic, once they are known to be from their gateway."""

    gateways: Mapping[str, HttpSmsConfig]
    topic: ReceiptTopic

    def routes(self) -> list[web.RouteDef]:
        """Return what it answers."""
        return [web.post("/receipts/{gateway}", self.take_receipts)]

    async def take_receipts(self, request: web.Request) -> web.Response:
        """Keep a gateway's receipts: 204 once they are kept, 503 when it must bring them again."""
        gateway = self.gateways.get(request.match_info["gateway"])
        if gateway is None:
            raise web.HTTPNotFound(text="There is no such gateway.")
        if SIGNATURE_HEADER not in request.headers:
            # Before its body is read: whoever cannot sign need not be listened to.
            raise web.HTTPUnauthorized(text="The signature is missing.")
        try:
            async with asyncio.timeout(_READ_WITHIN_S), _READING:
                body = await request.read()
        except (TimeoutError, ConnectionError) as error:
            raise web.HTTPRequestTimeout(text="The body did not come in time.") from error
        try:
            # Gateways sign with the world's time, whatever ours is moved to.
            receipts = read_receipts(gateway, request.headers, body, datetime.now(UTC))
        except NotGenuine as error:
            _LOG.warning("receipts_not_genuine", gateway=gateway.name, why=str(error))
            raise web.HTTPUnauthorized(text=f"{error}.") from error
        except BadReceipts as error:
            _LOG.warning("receipts_not_understood", gateway=gateway.name, why=str(error))
            raise web.HTTPBadRequest(text=f"{error}.") from error
        try:
            await self.topic.keep(receipts)
        except NotKept as error:
            raise web.HTTPServiceUnavailable(text="Not kept; please send it again.") from error
        return web.Response(status=204)
