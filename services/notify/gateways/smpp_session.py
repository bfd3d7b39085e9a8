"""One bound connection to an SMPP message centre: requests go out in a window, answers find whoever waits for them.

aiosmpplib's own client takes messages from a queue and answers through hooks: what is queued while the connection is
down is sent whenever it is up again, what was written to a connection that broke is never answered, nothing bounds
how many are out, and a long text's parts are counted without its escaped characters. Its PDUs are used here.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog
from aiosmpplib.protocol import (
    BindTransceiver,
    DeliverSmResp,
    EnquireLink,
    EnquireLinkResp,
    GenericNack,
    SmppMessage,
    SubmitSm,
    Unbind,
    UnbindResp,
)
from aiosmpplib.state import SmppCommand, SmppCommandStatus

from services.notify.gateways.gateway import TOO_LATE
from services.notify.gateways.smpp_wire import HEADER_LENGTH, Header, read_header

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

_log = structlog.get_logger(__name__)

_IS_ANSWER: Final = 0x80000000
_LAST_SEQUENCE: Final = 0x7FFFFFFF
_DELIVERIES_AT_ONCE: Final = 500
_DELIVERIES_WAITING: Final = 10_000
"""When more wait, the centre is told to try again later, so that answers to submits still come through."""


class NotSent(Exception):
    """The session had ended before the request went out."""


class Lost(Exception):
    """The request went out, and no answer can come any more."""


class BindRefused(Exception):
    """The centre does not let us in; the text says why."""


class Response(NamedTuple):
    """A centre's answer: its status, and what follows the header."""

    status: int
    body: bytes


class Address(NamedTuple):
    """Where a centre listens, and whether behind TLS with a certificate that this machine trusts."""

    host: str
    port: int
    tls: bool


class Limits(NamedTuple):
    """How much may be out at once, and how long anything may take."""

    window: int
    response_timeout_s: float
    enquire_link_s: float


class Session:
    """Made by `open_session`; `run` must run for as long as it is used."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        limits: Limits,
        on_deliveries: Callable[[Sequence[bytes]], Awaitable[None]],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._limits = limits
        self._on_deliveries = on_deliveries
        self._sequences = count(1)
        self._waiting: dict[int, asyncio.Future[Response]] = {}
        self._room = asyncio.Semaphore(limits.window)
        self._deliveries: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(_DELIVERIES_WAITING)
        self._is_over = False

    async def bind(self, request: BindTransceiver) -> None:
        """Bind; raises BindRefused, OSError, asyncio.IncompleteReadError or BadPdu."""
        request.sequence_num = next(self._sequences)
        self._writer.write(request.pdu())
        header, _ = await self._read()
        if header.status:
            raise BindRefused(describe_status(header.status))

    async def submit(self, message: SubmitSm, until: float) -> Response:
        """Send a message when the window has room, if that is not after `until`; raises NotSent or Lost."""
        async with self._room:
            if asyncio.get_running_loop().time() > until:
                raise NotSent(TOO_LATE)
            return await self._request(message)

    async def run(self) -> None:
        """Read, hand on deliveries and keep the link, until any of them cannot go on; then nobody waits any more."""
        tasks = [asyncio.create_task(work) for work in (self._read_all(), self._hand_on(), self._keep_link())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                with suppress(OSError, asyncio.IncompleteReadError, Lost, NotSent):
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            self._end()

    async def close(self) -> None:
        """Take leave, if the centre still listens, and end."""
        with suppress(NotSent, Lost):
            await self._request(Unbind())
        self._end()

    def _end(self) -> None:
        self._is_over = True
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(Lost("the connection broke before the answer"))
        self._waiting.clear()
        self._writer.close()

    async def _request(self, message: SmppMessage) -> Response:
        if self._is_over:
            raise NotSent("the connection was lost")
        sequence = message.sequence_num = next(self._sequences) & _LAST_SEQUENCE
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        # Not kept before it is written: what cannot be encoded was not sent.
        self._writer.write(message.pdu())
        self._waiting[sequence] = answer
        try:
            async with asyncio.timeout(self._limits.response_timeout_s):
                await self._writer.drain()
                return await answer
        except TimeoutError as error:
            raise Lost(f"no answer within {self._limits.response_timeout_s:g} s") from error
        except OSError as error:
            raise Lost(f"the connection broke before the answer: {error}") from error
        finally:
            self._waiting.pop(sequence, None)

    # --- What the centre says ---

    async def _read(self) -> tuple[Header, bytes]:
        header = read_header(await self._reader.readexactly(HEADER_LENGTH))
        return header, await self._reader.readexactly(header.length - HEADER_LENGTH)

    async def _read_all(self) -> None:
        while True:
            header, body = await self._read()
            if header.command & _IS_ANSWER:
                self._note_answer(header, body)
            elif header.command == SmppCommand.DELIVER_SM:
                self._take_delivery(header, body)
            elif header.command == SmppCommand.ENQUIRE_LINK:
                self._writer.write(EnquireLinkResp(header.sequence).pdu())
            elif header.command == SmppCommand.UNBIND:
                self._writer.write(UnbindResp(header.sequence).pdu())
                return
            else:
                self._writer.write(GenericNack(header.sequence, SmppCommandStatus.ESME_RINVCMDID).pdu())

    def _note_answer(self, header: Header, body: bytes) -> None:
        waiting = self._waiting.get(header.sequence)
        if waiting is not None and not waiting.done():
            waiting.set_result(Response(header.status, body))

    def _take_delivery(self, header: Header, body: bytes) -> None:
        try:
            self._deliveries.put_nowait((header.sequence, body))
        except asyncio.QueueFull:
            self._answer_delivery(header.sequence, SmppCommandStatus.ESME_RX_T_APPN)

    async def _hand_on(self) -> None:
        while True:
            batch = [await self._deliveries.get()]
            while len(batch) < _DELIVERIES_AT_ONCE and not self._deliveries.empty():
                batch.append(self._deliveries.get_nowait())
            status = SmppCommandStatus.ESME_ROK
            try:
                await self._on_deliveries([body for _, body in batch])
            except Exception:  # noqa: BLE001 - whoever keeps receipts may fail in any way
                # Whatever it was, they are not kept: the centre has them still, and will deliver them again.
                _log.exception("receipts_not_kept", count=len(batch))
                status = SmppCommandStatus.ESME_RX_T_APPN
            for sequence, _ in batch:
                self._answer_delivery(sequence, status)
            await self._writer.drain()

    def _answer_delivery(self, sequence: int, status: SmppCommandStatus) -> None:
        self._writer.write(DeliverSmResp(sequence, status).pdu())

    async def _keep_link(self) -> None:
        while True:
            await asyncio.sleep(self._limits.enquire_link_s)
            await self._request(EnquireLink())


async def open_session(
    address: Address,
    request: BindTransceiver,
    limits: Limits,
    on_deliveries: Callable[[Sequence[bytes]], Awaitable[None]],
) -> Session:
    """Connect and bind; raises BindRefused, OSError, asyncio.IncompleteReadError or BadPdu."""
    reader, writer = await asyncio.open_connection(address.host, address.port, ssl=address.tls or None)
    session = Session(reader, writer, limits, on_deliveries)
    try:
        await session.bind(request)
    except BaseException:
        writer.close()
        raise
    return session


def name_of_status(status: int) -> str:
    """Return the specification's name of a status; its number in hex when it is the vendor's own."""
    try:
        return SmppCommandStatus(status).name
    except ValueError:
        return f"0x{status:08X}"


def describe_status(status: int) -> str:
    """Return what a status means, in the specification's words."""
    try:
        return SmppCommandStatus(status).description
    except ValueError:
        return f"the provider's own code 0x{status:08X}"
