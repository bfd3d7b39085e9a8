"""The public port on real sockets: whoever says too little, too much or takes nothing keeps nobody else out."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from services.notify.inbox.access import reading
from services.notify.inbox.api import in_json
from services.notify.public import Bounds, serve_public
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LARGE = b"x" * 40_000_000
HELLO = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
_DEADLINE_S = 10


class Desk:
    """Answers at once, much, or when it is let."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.waiting = 0

    def routes(self) -> list[web.RouteDef]:
        answers = {"/hello": self.hello, "/wait": self.wait, "/large": self.large}
        return [*(web.get(path, answer) for path, answer in answers.items()), web.post("/body", in_json(self.body))]

    async def hello(self, _request: web.Request) -> web.Response:
        return web.Response(text="hello")

    async def wait(self, _request: web.Request) -> web.Response:
        self.waiting += 1
        await self.may_answer.wait()
        return web.Response(text="waited")

    async def large(self, _request: web.Request) -> web.Response:
        return web.Response(body=LARGE)

    async def body(self, request: web.Request) -> web.Response:
        async with reading():
            return web.Response(body=await request.read())


@asynccontextmanager
async def serving(desk: Desk, **bounds: float) -> AsyncIterator[int]:
    async with serve_public("127.0.0.1", 0, desk.routes(), Bounds(**bounds)) as address:  # type: ignore[arg-type]
        yield int(address.rpartition(":")[2])
        desk.may_answer.set()


class Caller:
    """A bare connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def status(self) -> int:
        async with asyncio.timeout(_DEADLINE_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
        return int(head.split()[1])

    async def is_left(self) -> bool:
        """Return once the other side has closed; whatever it says before is passed over."""
        async with asyncio.timeout(_DEADLINE_S):
            try:
                while await self.reader.read(65_536):
                    pass
            except ConnectionError:
                pass
        return True


async def call(stack: AsyncExitStack, port: int) -> Caller:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    stack.callback(writer.close)
    return Caller(reader, writer)


async def test_headers_that_do_not_end_are_waited_for_so_long() -> None:
    async with AsyncExitStack() as stack, serving(Desk(), idle_s=0.3) as port:
        silent, slow = await call(stack, port), await call(stack, port)
        await slow.say(HELLO + b"GET /hello HTTP/1.1\r\nHost: ")
        assert await slow.status() == 200
        assert await silent.is_left()
        assert await slow.is_left()


async def test_a_new_connection_takes_the_place_of_the_oldest_that_says_nothing() -> None:
    desk = Desk()
    async with AsyncExitStack() as stack, serving(desk, connections=3) as port:
        busy = await call(stack, port)
        await busy.say(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        slow = [await call(stack, port) for _ in range(2)]
        for one in slow:
            await one.say(b"GET /hello HTTP/1.1\r\nX-Slow: ")
        for one in slow:
            newer = await call(stack, port)
            await newer.say(HELLO)
            assert await newer.status() == 200
            assert await one.is_left()
        desk.may_answer.set()
        assert await busy.status() == 200


async def test_where_everybody_is_being_answered_a_new_connection_is_turned_away() -> None:
    desk = Desk()
    async with AsyncExitStack() as stack, serving(desk, connections=3) as port:
        busy = [await call(stack, port) for _ in range(3)]
        for one in busy:
            await one.say(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")

        async def are_busy() -> bool:
            return desk.waiting == 3

        await wait_until(are_busy)
        late = await call(stack, port)
        assert await late.status() == 503
        assert await late.is_left()
        desk.may_answer.set()
        assert [await one.status() for one in busy] == [200] * 3


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 5_000 + b" HTTP/1.1\r\nHost: a\r\n",
        b"GET /hello HTTP/1.1\r\nHost: a\r\nX-Long: " + b"a" * 5_000 + b"\r\n",
        b"GET /hello HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: a\r\n" % number for number in range(70)),
    ],
    ids=["line", "header", "headers"],
)
async def test_a_head_that_is_too_large_is_refused(head: bytes) -> None:
    async with AsyncExitStack() as stack, serving(Desk()) as port:
        caller = await call(stack, port)
        await caller.say(head + b"\r\n")
        assert await caller.status() == 400
        assert await caller.is_left()


async def test_a_body_that_does_not_come_is_waited_for_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.notify.inbox.access._WITHIN_S", 0.2)
    async with AsyncExitStack() as stack, serving(Desk()) as port:
        caller = await call(stack, port)
        await caller.say(b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345")
        assert await caller.status() == 408
        assert await caller.is_left()


async def test_who_does_not_take_an_answer_does_not_keep_its_place() -> None:
    async with AsyncExitStack() as stack, serving(Desk(), connections=1, write_s=0.5) as port:
        taker = socket.create_connection(("127.0.0.1", port))
        stack.callback(taker.close)
        taker.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")

        async def is_free() -> bool:
            caller = await call(stack, port)
            await caller.say(HELLO)
            try:
                return await caller.status() == 200
            except (ConnectionError, asyncio.IncompleteReadError):
                return False

        async with asyncio.timeout(_DEADLINE_S):
            assert await asyncio.to_thread(taker.recv, 1)
        await wait_until(is_free)
