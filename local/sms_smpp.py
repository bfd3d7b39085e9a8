"""The SMPP 3.4 side of the sandbox's SMS gateways: a message centre that a client binds to under a gateway's name."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from aiosmpplib.codec import GSM7BitCodec
from aiosmpplib.protocol import (
    DEFAULT_ENCODING,
    MESSAGE_TYPE_MAP,
    PDU_HEADER_LENGTH,
    BindTransceiver,
    BindTransceiverResp,
    DeliverSm,
    EnquireLinkResp,
    GenericNack,
    SmppMessage,
    SubmitSm,
    SubmitSmResp,
    UnbindResp,
)
from aiosmpplib.state import (
    MESSAGE_STATE,
    RECEIPTED_MESSAGE_ID,
    OptionalParam,
    PduHeader,
    PhoneNumber,
    SmppCommand,
    SmppCommandStatus,
)

from local.sms_mailbox import Status, id_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from local.sms_behaviour import Conduct
    from local.sms_desk import Desk

_IS_RECEIPT: Final = 0b100
_WINDOW: Final = 100
_AGAIN_S: Final = 0.2
_LONGEST_PDU: Final = 70_000
_STATES: Final = {Status.DELIVERED: ("DELIVRD", 2), Status.EXPIRED: ("EXPIRED", 3), Status.FAILED: ("UNDELIV", 5)}
_ROOM: Final = {(False, False): 160, (False, True): 153, (True, False): 70, (True, True): 67}
"""How long a short message may be, in septets or UCS-2 characters: by whether it is UCS-2, and a part."""


class _Due(NamedTuple):
    """A receipt to be delivered: the id it names, and the place of its message."""

    id: str
    place: int


class MessageCentre:
    """Listens for clients, puts their parts together, and has receipts ready for whoever is bound."""

    def __init__(self, desk: Desk, password: str) -> None:
        self.desk = desk
        self.password = password
        self.receipts: defaultdict[str, asyncio.Queue[_Due]] = defaultdict(asyncio.Queue)
        self._parts: defaultdict[tuple[str, str, int, int], dict[int, str]] = defaultdict(dict)
        self._part_ids = 0
        self._server: asyncio.Server | None = None

    async def listen(self, host: str, port: int) -> int:
        """Listen; return the port."""
        self._server = await asyncio.start_server(self._serve, host, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # It may go away, or speak something else.
        with suppress(OSError, asyncio.IncompleteReadError, ValueError):
            await _Session(self, reader, writer).run()
        writer.close()

    def take(self, gateway: str, message: SubmitSm, conduct: Conduct) -> str:
        """Take a message or a part of one; return its id. A part that completes its message has the message's id."""
        text = self._join(gateway, message) if message.is_segmented() else message.short_message
        if text is None:
            self._part_ids += 1
            return f"0C{self._part_ids:06X}"
        place = self.desk.mailbox.take(gateway, _number(message), text or message.message_payload, None)
        wants_receipt = bool(message.registered_delivery & 0b11)
        self.desk.settle_later(
            gateway, [(place, conduct)], lambda places: self._add(gateway, places) if wants_receipt else None
        )
        return id_of(place)

    def _join(self, gateway: str, message: SubmitSm) -> str | None:
        """Keep a part; return the whole text once all are there."""
        number, place, total = message.get_segmentation_data()
        key = (gateway, message.destination.number, number, total)
        self._parts[key][place] = message.short_message
        if len(self._parts[key]) < total:
            return None
        parts = self._parts.pop(key)
        return "".join(parts[place] for place in sorted(parts))

    def _add(self, gateway: str, places: Iterable[int]) -> None:
        for place in places:
            self.receipts[gateway].put_nowait(_Due(id_of(place), place))


class _Session:
    """One client's connection."""

    def __init__(self, centre: MessageCentre, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._centre = centre
        self._reader = reader
        self._writer = writer
        self._gateway = ""
        self._sequence = 0
        self._unanswered: dict[int, _Due] = {}
        self._room = asyncio.Semaphore(_WINDOW)

    async def run(self) -> None:
        """Bind the client, and serve it until it goes."""
        if not await self._bind():
            return
        delivering = asyncio.create_task(self._deliver())
        try:
            while await self._serve_one():
                await self._writer.drain()
        finally:
            delivering.cancel()
            # What was not acknowledged is delivered again to whoever binds next.
            for due in self._unanswered.values():
                self._centre.receipts[self._gateway].put_nowait(due)

    async def _bind(self) -> bool:
        header, pdu = await self._read()
        request = BindTransceiver.from_pdu(pdu, header)
        if header.smpp_command is not SmppCommand.BIND_TRANSCEIVER or not isinstance(request, BindTransceiver):
            return False
        status = SmppCommandStatus.ESME_ROK
        if request.password != self._centre.password:
            status = SmppCommandStatus.ESME_RINVPASWD
        elif self._centre.desk.behaviour_of(request.system_id).down:
            status = SmppCommandStatus.ESME_RBINDFAIL
        self._gateway = request.system_id
        self._write(BindTransceiverResp(header.sequence_num, status, "sandbox"))
        await self._writer.drain()
        return status is SmppCommandStatus.ESME_ROK

    async def _serve_one(self) -> bool:
        """Answer one request; return whether to go on."""
        header, pdu = await self._read()
        match header.smpp_command:
            case SmppCommand.SUBMIT_SM:
                return self._submit(header, pdu)
            case SmppCommand.DELIVER_SM_RESP:
                self._note_answer(header)
            case SmppCommand.ENQUIRE_LINK:
                self._write(EnquireLinkResp(header.sequence_num))
            case SmppCommand.UNBIND:
                self._write(UnbindResp(header.sequence_num))
                await self._writer.drain()
                return False
            case _:
                self._write(GenericNack(header.sequence_num, SmppCommandStatus.ESME_RINVCMDID))
        return True

    def _submit(self, header: PduHeader, pdu: bytes) -> bool:
        try:
            message = MESSAGE_TYPE_MAP[header.smpp_command].from_pdu(pdu, header, DEFAULT_ENCODING)
        except ValueError:
            self._refuse(header, SmppCommandStatus.ESME_RSYSERR)
            return True
        assert isinstance(message, SubmitSm)  # noqa: S101  for the type checker: the command says so
        desk = self._centre.desk
        behaviour = desk.behaviour_of(self._gateway)
        number = _number(message)
        conduct = behaviour.conduct_of(number + message.short_message + message.message_payload, number)
        if behaviour.down:
            self._refuse(header, SmppCommandStatus.ESME_RSYSERR)
            return False
        if not _fits(message):
            self._refuse(header, SmppCommandStatus.ESME_RINVMSGLEN)
        elif not desk.has_room(self._gateway, 1):
            self._refuse(header, SmppCommandStatus.ESME_RTHROTTLED)
        elif conduct.code is not None:
            self._refuse(header, _status_for(conduct))
        else:
            id_ = self._centre.take(self._gateway, message, conduct)
            if conduct.is_silent:
                return False
            answer = SubmitSmResp(header.sequence_num, message_id=id_)
            asyncio.get_running_loop().call_later(conduct.delay_s, self._write, answer)
        return True

    def _refuse(self, header: PduHeader, status: SmppCommandStatus) -> None:
        self._write(SubmitSmResp(header.sequence_num, status))

    async def _deliver(self) -> None:
        while True:
            await self._room.acquire()
            due = await self._centre.receipts[self._gateway].get()
            self._sequence += 1
            self._unanswered[self._sequence] = due
            self._write(self._receipt(due))

    def _receipt(self, due: _Due) -> DeliverSm:
        mailbox = self._centre.desk.mailbox
        message = mailbox[due.place]
        status, code = mailbox.standing(due.place)
        word, state = _STATES[status]
        id_ = _in_form(due.id, self._centre.desk.behaviour_of(self._gateway).id_form)
        error = "000" if code is None else code if code.isdecimal() else "001"
        text = message.body[:20].encode("ascii", "replace").decode()
        return DeliverSm(
            sequence_num=self._sequence,
            source=PhoneNumber(message.to.removeprefix("+")),
            esm_class=_IS_RECEIPT,
            short_message=f"id:{id_} sub:001 dlvrd:{int(code is None):03d} submit date:{_minute(message.arrived_at)} "
            f"done date:{_minute(time.time())} stat:{word} err:{error} text:{text}",
            optional_params=[OptionalParam(RECEIPTED_MESSAGE_ID, id_), OptionalParam(MESSAGE_STATE, state)],
        )

    def _note_answer(self, header: PduHeader) -> None:
        due = self._unanswered.pop(header.sequence_num, None)
        if due is None:
            return
        self._room.release()
        if header.command_status is not SmppCommandStatus.ESME_ROK:
            put = self._centre.receipts[self._gateway].put_nowait
            asyncio.get_running_loop().call_later(_AGAIN_S, put, due)

    async def _read(self) -> tuple[PduHeader, bytes]:
        head = await self._reader.readexactly(PDU_HEADER_LENGTH)
        header = SmppMessage.parse_header(head)
        if not PDU_HEADER_LENGTH <= header.pdu_length <= _LONGEST_PDU:
            raise ValueError("no PDU is so long")
        return header, head + await self._reader.readexactly(header.pdu_length - PDU_HEADER_LENGTH)

    def _write(self, message: SmppMessage) -> None:
        # The client may be gone by the time of a late answer.
        with suppress(OSError):
            if not self._writer.is_closing():
                self._writer.write(message.pdu())


def _number(message: SubmitSm) -> str:
    return f"+{message.destination.number.removeprefix('+')}"


def _fits(message: SubmitSm) -> bool:
    """Tell whether a short message fits into one SMS; a payload may be as long as it likes."""
    is_ucs2 = message.encoding == "ucs2"
    text = message.short_message
    length = len(text.encode("utf-16-be")) // 2 if is_ucs2 else len(GSM7BitCodec().encode(text, "replace")[0])
    return length <= _ROOM[is_ucs2, message.is_segmented()]


def _status_for(conduct: Conduct) -> SmppCommandStatus:
    """Return the status that a code names, else the usual one."""
    usual = SmppCommandStatus.ESME_RINVDSTADR if conduct.is_permanent else SmppCommandStatus.ESME_RTHROTTLED
    return SmppCommandStatus.__members__.get(conduct.code or "", usual)


def _in_form(id_: str, form: str) -> str:
    match form:
        case "lower":
            return id_.lower()
        case "stripped":
            return id_.lstrip("0")
        case "padded":
            return id_.zfill(12)
        case _:
            return id_


def _minute(seconds: float) -> str:
    return time.strftime("%y%m%d%H%M", time.gmtime(seconds))
