"""Posts the sandbox's delivery receipts to whoever asked for them, again and again until they are taken."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import orjson

from local.sms_mailbox import Mailbox, id_of, moment
from services.notify.gateways.signatures import sign

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_BATCH: Final = 500
_MOST_WAITING: Final = 1_000_000
"""For one address; when more wait, the oldest are lost, as a real gateway's are after some days."""
_FIRST_DELAY_S: Final = 0.1
_LAST_DELAY_S: Final = 5.0
_TIMEOUT_S: Final = 10


class Callbacks:
    """One worker an address, while receipts wait for it."""

    def __init__(self, mailbox: Mailbox, secret: str) -> None:
        self._mailbox = mailbox
        self._secret = secret
        self._waiting: dict[str, deque[int]] = {}
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))

    def add(self, url: str, places: Iterable[int]) -> None:
        """Have receipts posted for messages at these places."""
        waiting = self._waiting.setdefault(url, deque(maxlen=_MOST_WAITING))
        waiting.extend(places)
        if waiting and url not in self._workers:
            worker = asyncio.create_task(self._post_all(url, waiting))
            self._workers[url] = worker
            worker.add_done_callback(lambda _: self._workers.pop(url))

    async def _post_all(self, url: str, waiting: deque[int]) -> None:
        delay_s = _FIRST_DELAY_S
        while waiting:
            batch = list(islice(waiting, _BATCH))
            if await self._post(url, batch):
                for _ in batch:
                    waiting.popleft()
                delay_s = _FIRST_DELAY_S
            else:
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, _LAST_DELAY_S)

    async def _post(self, url: str, places: Sequence[int]) -> bool:
        """Post receipts; return whether they were taken."""
        body = orjson.dumps({"receipts": [self._receipt(place) for place in places]})
        headers = {"Content-Type": "application/json", **sign(self._secret, body, datetime.now(UTC))}
        try:
            async with self._http.post(url, data=body, headers=headers) as response:
                return response.ok
        except (aiohttp.ClientError, TimeoutError):
            return False

    def _receipt(self, place: int) -> dict[str, Any]:
        status, code = self._mailbox.standing(place)
        reference = self._mailbox[place].reference
        return {
            "id": id_of(place),
            "reference": reference,
            "status": status,
            "code": code,
            "at": moment(time.time()),
        }
