"""Finds what is new for all of a worker's streams at once, whenever PostgreSQL says that there is something."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

import structlog

from services.notify.inbox import store
from services.notify.inbox.access import Refused
from services.notify.inbox.store import Asking
from services.notify.listening import listen, wait_for
from services.runtime.database import TRANSIENT
from services.runtime.log import error_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from services.notify.inbox.store import News
    from services.runtime.database import Connection, Pool

CONNECTIONS: Final = 2
"""One is listened on, and one is for looking."""
_MOST: Final = 1_000
_MOST_OF_ONE: Final = 4
_AT_ONCE: Final = 200
"""How many streams are looked after by one statement."""
_MESSAGES_AT_ONCE: Final = 20
_REST_S: Final = 0.02
"""Between two looks: what many batches bring meanwhile is found by one."""
_AFTER_FAILURE_S: Final = 0.5

_LOG = structlog.stdlib.get_logger(__name__)


@dataclass(eq=False, slots=True)
class Stream:
    """What one client follows; it holds some news at most, and is not looked after until they are taken."""

    customer_id: str
    seen: int | None
    has_left: Callable[[], bool]
    is_over: bool = False
    news: News | None = None
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, news: News) -> None:
        """Leave news for the client; its `last` becomes the number up to which the client has everything."""
        if news.messages:
            last = news.messages[-1].number if len(news.messages) == _MESSAGES_AT_ONCE else news.last
            news = news._replace(last=last)
        self.seen, self.news = news.last, news
        self.is_over = self.is_over or news.wrapped_key is None
        self._wake.set()

    def end(self) -> None:
        """Let the client go, once it has the news that are left for it."""
        self.is_over = True
        self._wake.set()

    async def wait(self, within_s: float) -> None:
        """Return when there are news, when it is over, or after so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._wake.wait()
        self._wake.clear()


@dataclass(slots=True)
class Live:
    """All streams of a worker: `run` it beside the server."""

    pool: Pool
    _streams: dict[str, list[Stream]] = field(default_factory=dict)
    _due: dict[Stream, bool] = field(default_factory=dict)
    """Who has to be looked after, and whether though there be nothing new: somebody may have read something."""
    _work: asyncio.Event = field(default_factory=asyncio.Event)
    _is_closed: bool = False

    @contextmanager
    def follow(self, customer_id: str, seen: int | None, has_left: Callable[[], bool]) -> Iterator[Stream]:
        """Look after a stream while the context lasts; Refused when there are too many."""
        self._make_room(customer_id)
        stream = Stream(customer_id, seen, has_left)
        self._streams.setdefault(customer_id, []).append(stream)
        self._note(stream, is_asked=True)
        try:
            yield stream
        finally:
            self._drop(stream)

    def take(self, stream: Stream) -> News | None:
        """Return the news that are left for a stream, which makes room for more."""
        news, stream.news = stream.news, None
        if stream in self._due:
            self._work.set()
        return news

    def _make_room(self, customer_id: str) -> None:
        if self._is_closed:
            raise Refused(503, "This worker is stopping; please try again.")
        if len(self._streams.get(customer_id, ())) >= _MOST_OF_ONE:
            self._let_go(self._streams[customer_id])
            if len(self._streams.get(customer_id, ())) >= _MOST_OF_ONE:
                raise Refused(429, f"No more than {_MOST_OF_ONE} streams at once, please.")
        if self._count() >= _MOST:
            self._let_go([stream for streams in self._streams.values() for stream in streams])
            if self._count() >= _MOST:
                raise Refused(503, "Too many are following just now; please try again.")

    def _count(self) -> int:
        return sum(map(len, self._streams.values()))

    def _let_go(self, streams: list[Stream]) -> None:
        """Drop those whose clients have gone, which is otherwise found out at the next heartbeat."""
        for stream in [stream for stream in streams if stream.has_left()]:
            stream.end()
            self._drop(stream)

    def _drop(self, stream: Stream) -> None:
        self._due.pop(stream, None)
        of_customer = self._streams.get(stream.customer_id, [])
        if stream in of_customer:
            of_customer.remove(stream)
        if not of_customer:
            self._streams.pop(stream.customer_id, None)

    def _note(self, stream: Stream, *, is_asked: bool) -> None:
        if stream in self._streams.get(stream.customer_id, ()):
            self._due[stream] = self._due.get(stream, False) or is_asked
            self._work.set()

    def _note_all(self, *, is_asked: bool) -> None:
        for streams in self._streams.values():
            for stream in streams:
                self._note(stream, is_asked=is_asked)

    # --- Listening ---

    async def run(self, stopping: asyncio.Event) -> None:
        """Look after the streams until told to stop; then all of them end."""
        async with asyncio.TaskGroup() as group:
            group.create_task(
                listen(self.pool, "inbox", stopping, self._hear, begin=partial(self._note_all, is_asked=True))
            )
            group.create_task(self._look(stopping))
        self._is_closed = True
        for streams in self._streams.values():
            for stream in streams:
                stream.end()

    def _hear(self, _connection: Connection, _pid: int, _channel: str, reader: object) -> None:
        """Note whom a batch may have told something, which is anybody, or who has read something."""
        if not reader:
            self._note_all(is_asked=False)
        for stream in self._streams.get(str(reader), ()):
            self._note(stream, is_asked=True)

    # --- Looking ---

    async def _look(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            await wait_for(self._work, stopping)
            self._work.clear()
            try:
                while not stopping.is_set() and (chosen := self._choose()):
                    await self._tell(chosen)
                    await wait_for(stopping, within_s=_REST_S)
            except TRANSIENT as error:
                _LOG.warning("inbox_not_followed", streams=self._count(), **error_fields(error))
                await wait_for(stopping, within_s=_AFTER_FAILURE_S)
                self._work.set()

    def _choose(self) -> dict[Stream, bool]:
        """Take from those who are due some that have taken their last news."""
        ready = ((stream, is_asked) for stream, is_asked in self._due.items() if stream.news is None)
        chosen = dict(islice(ready, _AT_ONCE))
        for stream in chosen:
            del self._due[stream]
        return chosen

    async def _tell(self, chosen: dict[Stream, bool]) -> None:
        asking = [Asking(stream.customer_id, stream.seen, is_asked) for stream, is_asked in chosen.items()]
        try:
            async with self.pool.acquire() as connection:
                found = await store.load_news(connection, asking, _MESSAGES_AT_ONCE)
        except BaseException:
            for stream, is_asked in chosen.items():
                self._note(stream, is_asked=is_asked)
            raise
        for place, stream in enumerate(chosen):
            if (news := found.get(place)) is not None:
                stream.tell(news)
                if len(news.messages) == _MESSAGES_AT_ONCE:
                    self._note(stream, is_asked=False)
