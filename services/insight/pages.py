"""What insight answers besides its health: outcomes by the minute, and how well each gateway delivers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from aiohttp import web

from schemas.fields import as_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.insight.streams import Streams


def pages(streams: Streams) -> Sequence[web.RouteDef]:
    """Return the pages; each worker answers for the partitions that it reads."""

    async def outcomes(_request: web.Request) -> web.Response:
        return web.json_response(outcomes_of(streams))

    async def deliveries(_request: web.Request) -> web.Response:
        return web.json_response(deliveries_of(streams))

    return [web.get("/outcomes", outcomes), web.get("/deliveries", deliveries)]


def outcomes_of(streams: Streams) -> dict[str, Any]:
    """Return how transfers ended, by the minute, the newest first."""
    minutes: dict[str, list[dict[str, Any]]] = {}
    for minute, (outcome, reason, bank), count in streams.outcomes.recent(streams.partitions_of("transfer.events")):
        said = {"outcome": outcome, "reason": reason or None, "bank": bank or None, "count": count}
        minutes.setdefault(as_text(minute), []).append(said)
    return {"minutes": [{"minute": minute, "outcomes": said} for minute, said in minutes.items()]}


def deliveries_of(streams: Streams) -> dict[str, Any]:
    """Return what became of notices in all the minutes that are kept, by gateway and channel.

    `delivery_rate` is the share of those delivered among those of which is known how they ended; None while none is.
    """
    counts: dict[tuple[str, str], Counter[str]] = {}
    for _, (gateway, channel, status), count in streams.deliveries.recent(streams.partitions_of("notify.events")):
        counts.setdefault((gateway, channel), Counter())[status] += count
    return {
        "gateways": [
            {"gateway": gateway or None, "channel": channel, **said, "delivery_rate": _rate(said)}
            for (gateway, channel), said in sorted(counts.items())
        ]
    }


def _rate(said: Counter[str]) -> float | None:
    ended = said["delivered"] + said["failed"]
    return round(said["delivered"] / ended, 4) if ended else None
