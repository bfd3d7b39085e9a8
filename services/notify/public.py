"""What the notifier answers to the outside over HTTP: the receipts that gateways bring."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

from services.notify.delivery.receipt_topic import NotKept
from services.notify.gateways.http_sms import BadReceipts, HttpSmsConfig, read_receipts
from services.notify.gateways.signatures import NotGenuine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from services.notify.delivery.receipt_topic import ReceiptTopic

_LARGEST_BODY: Final = 4_000_000
_LOG = structlog.stdlib.get_logger(__name__)


@asynccontextmanager
async def serve_public(
    host: str, port: int, gateways: Mapping[str, HttpSmsConfig], topic: ReceiptTopic
) -> AsyncIterator[str]:
    """Answer while the context lasts; yields the address. Workers of one machine share a port that is not 0."""
    desk = _Desk(gateways, topic)
    application = web.Application(client_max_size=_LARGEST_BODY)
    application.add_routes([web.post("/receipts/{gateway}", desk.take_receipts)])
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, reuse_port=port != 0).start()
        yield f"http://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class _Desk:
    def __init__(self, gateways: Mapping[str, HttpSmsConfig], topic: ReceiptTopic) -> None:
        self._gateways = gateways
        self._topic = topic

    async def take_receipts(self, request: web.Request) -> web.Response:
        """Keep a gateway's receipts: 204 once they are kept, 503 when it must bring them again."""
        gateway = self._gateways.get(request.match_info["gateway"])
        if gateway is None:
            raise web.HTTPNotFound(text="There is no such gateway.")
        body = await request.read()
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
            await self._topic.keep(receipts)
        except NotKept as error:
            raise web.HTTPServiceUnavailable(text="Not kept; please send it again.") from error
        return web.Response(status=204)
