"""Text messages over SMPP 3.4: bound to a message centre, and bound to it again whenever the connection is lost."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Annotated, Final, Literal
from zoneinfo import ZoneInfo

import structlog
from aiosmpplib.codec import GSM7BitCodec, UCS2Codec
from aiosmpplib.protocol import BindTransceiver, SubmitSm
from aiosmpplib.state import NPI, TON, PhoneNumber, SmppCommandStatus
from pydantic import Field, SecretStr

from services.notify.gateways.gateway import Answer, OnReceipts, Outcome, Receipt, Sms
from services.notify.gateways.meaning import Meaning
from services.notify.gateways.segments import Alphabet, split_text
from services.notify.gateways.smpp_session import (
    Address,
    BindRefused,
    Limits,
    Lost,
    NotSent,
    Response,
    Session,
    describe_status,
    name_of_status,
    open_session,
)
from services.notify.gateways.smpp_wire import BadPdu, normalise_message_id, read_message_id, read_receipt
from services.runtime.checked_files import Strict
from services.runtime.clock import Clock, RealClock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_log = structlog.get_logger(__name__)

_UDHI: Final = 0b01000000
_FINAL_RECEIPT: Final = 0b01
_NO_RECEIPT: Final = 0b00
_REFERENCE_OCTETS: Final = 256
_MOST_PARTS: Final = 10

_STATUSES: Final[dict[int, Outcome]] = {
    SmppCommandStatus.ESME_RTHROTTLED: Outcome.TEMPORARY,
    SmppCommandStatus.ESME_RMSGQFUL: Outcome.TEMPORARY,
    SmppCommandStatus.ESME_RX_T_APPN: Outcome.TEMPORARY,
    SmppCommandStatus.ESME_RINVDSTADR: Outcome.PERMANENT,
    SmppCommandStatus.ESME_RINVDSTTON: Outcome.PERMANENT,
    SmppCommandStatus.ESME_RINVDSTNPI: Outcome.PERMANENT,
    SmppCommandStatus.ESME_RINVMSGLEN: Outcome.PERMANENT,
    SmppCommandStatus.ESME_RX_P_APPN: Outcome.PERMANENT,
    SmppCommandStatus.ESME_RX_R_APPN: Outcome.PERMANENT,
}
"""What refusals mean; one that is not here is about the provider or about how it is set up here: TECHNICAL."""

_STATES: Final = {
    "DELIVRD": Outcome.DELIVERED,
    "ACCEPTD": Outcome.ACCEPTED,
    "ENROUTE": Outcome.ACCEPTED,
    "EXPIRED": Outcome.TEMPORARY,
    "UNDELIV": Outcome.PERMANENT,
    "REJECTD": Outcome.PERMANENT,
    "DELETED": Outcome.PERMANENT,
}


class SmppConfig(Strict):
    """A message centre. `codes` says what the provider's own codes mean, and is asked before the specification.

    Its keys are a status by name (`ESME_RSUBMITFAIL`) or number (`0x00000411`), and the `err` of a receipt (`069`).
    A long text goes in parts, each an SMS of its own, or as one payload that the centre cuts itself. `zone` is where
    the centre's dates are.
    """

    name: Annotated[str, Field(min_length=1)]
    host: Annotated[str, Field(min_length=1)]
    port: Annotated[int, Field(ge=1, le=65_535)] = 2775
    tls: bool = False
    system_id: Annotated[str, Field(min_length=1, max_length=15)]
    password: Annotated[SecretStr, Field(max_length=8)]
    system_type: Annotated[str, Field(max_length=12)] = ""
    source: Annotated[str, Field(max_length=20)] = ""
    long_texts: Literal["parts", "payload"] = "parts"
    batch_size: Annotated[int, Field(ge=1)] = 20
    window: Annotated[int, Field(ge=1)] = 50
    connect_timeout_s: Annotated[float, Field(gt=0)] = 5
    response_timeout_s: Annotated[float, Field(gt=0)] = 10
    enquire_link_s: Annotated[float, Field(gt=0)] = 30
    first_reconnect_s: Annotated[float, Field(gt=0)] = 0.2
    last_reconnect_s: Annotated[float, Field(gt=0)] = 30
    zone: ZoneInfo = ZoneInfo("UTC")
    codes: dict[str, Meaning] = Field(default={})


class SmppGateway:
    """A client of a message centre; `start` it inside an event loop, for receipts come without being asked for."""

    def __init__(self, config: SmppConfig, on_receipts: OnReceipts, clock: Clock | None = None) -> None:
        self._config = config
        self._on_receipts = on_receipts
        self._clock = clock or RealClock()
        self._references = count()
        self._session: Session | None = None
        self._why_not = "not started"
        self._has_tried = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The provider's name."""
        return self._config.name

    @property
    def batch_size(self) -> int:
        """How many messages one call of `send` takes at most."""
        return self._config.batch_size

    @property
    def can_inquire(self) -> bool:
        """Never: query_sm asks by the centre's id, which is not known where the answer was lost."""
        return False

    @property
    def is_bound(self) -> bool:
        """Whether the centre listens at present."""
        return self._session is not None

    async def start(self) -> None:
        """Begin to keep the connection; return when the first try has succeeded or failed."""
        if self._keeping is None:
            self._keeping = asyncio.create_task(self._keep_bound())
        await self._has_tried.wait()

    @property
    def longest_s(self) -> float:
        """As many timeouts as a text has parts at the most."""
        return self._config.response_timeout_s * _MOST_PARTS

    async def send(self, messages: Sequence[Sms], until: float = math.inf) -> list[Answer]:
        """Submit messages, as many at once as the window has room for."""
        await self.start()
        return list(await asyncio.gather(*(self._send(message, until) for message in messages)))

    async def inquire(self, references: Sequence[str]) -> list[Answer]:
        """Answer UNKNOWN: SMPP cannot ask by our references."""
        return [Answer(reference, Outcome.UNKNOWN, why="SMPP cannot be asked") for reference in references]

    async def close(self) -> None:
        """Unbind and end."""
        if self._session is not None:
            await self._session.close()
        if self._keeping is not None:
            self._keeping.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeping

    # --- The connection ---

    async def _keep_bound(self) -> None:
        delay_s = self._config.first_reconnect_s
        while True:
            session = await self._open()
            self._session = session
            self._has_tried.set()
            if session is not None:
                delay_s = self._config.first_reconnect_s
                await self._run(session)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, self._config.last_reconnect_s)

    async def _open(self) -> Session | None:
        config = self._config
        request = BindTransceiver(
            system_id=config.system_id, password=config.password.get_secret_value(), system_type=config.system_type
        )
        limits = Limits(config.window, config.response_timeout_s, config.enquire_link_s)
        try:
            async with asyncio.timeout(config.connect_timeout_s):
                address = Address(config.host, config.port, config.tls)
                return await open_session(address, request, limits, self._on_deliveries)
        except TimeoutError:
            self._why_not = f"not bound within {config.connect_timeout_s:g} s"
        except (BindRefused, OSError, asyncio.IncompleteReadError, ValueError) as error:
            self._why_not = f"not bound: {error}"
        _log.warning("smpp_not_bound", gateway=config.name, why=self._why_not)
        return None

    async def _run(self, session: Session) -> None:
        try:
            await session.run()
        except Exception:  # noqa: BLE001 - whatever the centre sends or we do wrong, texts must go on
            _log.exception("smpp_session_failed", gateway=self._config.name)
        finally:
            self._session = None
            self._why_not = "the connection was lost"

    # --- Messages ---

    async def _send(self, message: Sms, until: float) -> Answer:
        """Submit a message's parts one after the other; the first that is not taken answers for the whole.

        A phone shows nothing of a text that lacks a part, so that it may be sent again.
        """
        answer = Answer(message.reference, Outcome.PERMANENT, why="there is nothing to say")
        try:
            for pdu in self._pdus(message):
                answer = await self._submit(message.reference, pdu, until)
                # What is begun is brought to its end.
                until = math.inf
                if answer.outcome is not Outcome.ACCEPTED:
                    break
        except ValueError as error:
            why = "it cannot be written as an SMS"
            return Answer(message.reference, Outcome.PERMANENT, why=why, said=str(error))
        return answer

    async def _submit(self, reference: str, pdu: SubmitSm, until: float) -> Answer:
        if self._session is None:
            return Answer(reference, Outcome.TECHNICAL, why=self._why_not)
        try:
            response = await self._session.submit(pdu, until)
        except NotSent as error:
            return Answer(reference, Outcome.TECHNICAL, why=str(error))
        except Lost as error:
            return Answer(reference, Outcome.UNKNOWN, why=str(error))
        return self._answer(reference, response)

    def _answer(self, reference: str, response: Response) -> Answer:
        if response.status == SmppCommandStatus.ESME_ROK:
            return Answer(reference, Outcome.ACCEPTED, normalise_message_id(read_message_id(response.body)))
        code = name_of_status(response.status)
        meaning = self._config.codes.get(code) or Meaning(
            outcome=_STATUSES.get(response.status, Outcome.TECHNICAL),
            is_dead=response.status == SmppCommandStatus.ESME_RINVDSTADR,
        )
        why = meaning.why or describe_status(response.status)
        return Answer(reference, meaning.outcome, code=code, why=why, is_dead=meaning.is_dead)

    def _pdus(self, message: Sms) -> Iterator[SubmitSm]:
        alphabet, parts = split_text(message.text)
        if not message.text:
            return
        if len(parts) == 1 or self._config.long_texts == "payload":
            yield self._pdu(message, alphabet, message.text)
            return
        # A phone tells long texts of one sender apart by this number.
        number = next(self._references) % _REFERENCE_OCTETS
        for place, part in enumerate(parts, start=1):
            pdu = self._pdu(message, alphabet, part)
            pdu.esm_class = _UDHI
            pdu.set_encoded_message(bytes((5, 0, 3, number, len(parts), place)) + _encode(alphabet, part))
            # One message has one receipt: it is the last part's id that stands for the whole.
            pdu.registered_delivery = _FINAL_RECEIPT if place == len(parts) else _NO_RECEIPT
            yield pdu

    def _pdu(self, message: Sms, alphabet: Alphabet, text: str) -> SubmitSm:
        is_long = self._config.long_texts == "payload" and len(split_text(text).parts) > 1
        return SubmitSm(
            short_message="" if is_long else text,
            message_payload=text if is_long else "",
            source=_sender(self._config.source),
            destination=PhoneNumber(message.to.removeprefix("+"), TON.INTERNATIONAL, NPI.ISDN),
            registered_delivery=_FINAL_RECEIPT,
            encoding="gsm0338" if alphabet is Alphabet.GSM_7 else "ucs2",
        )

    # --- Receipts ---

    async def _on_deliveries(self, bodies: Sequence[bytes]) -> None:
        if receipts := [receipt for body in bodies if (receipt := self._receipt(body)) is not None]:
            await self._on_receipts(receipts)

    def _receipt(self, body: bytes) -> Receipt | None:
        try:
            said = read_receipt(body, self._config.zone)
        except BadPdu as error:
            # It would be no better the next time; the centre is told that it was taken.
            _log.warning("smpp_receipt_not_understood", gateway=self._config.name, why=str(error))
            return None
        if said is None:
            return None
        outcome = _STATES.get(said.stat, Outcome.UNKNOWN)
        code = None if outcome is Outcome.DELIVERED else said.err or said.stat
        if code is not None and (meaning := self._config.codes.get(code)) is not None:
            outcome = meaning.outcome
        now = self._clock.now()
        at = min(said.at or now, now)
        return Receipt(self.name, normalise_message_id(said.id), None, outcome, code, at)


def _encode(alphabet: Alphabet, text: str) -> bytes:
    codec = GSM7BitCodec() if alphabet is Alphabet.GSM_7 else UCS2Codec()
    return codec.encode(text)[0]


def _sender(source: str) -> PhoneNumber:
    """Return a sender: a number when it is one, else a name."""
    if not source:
        return PhoneNumber("")
    if source.removeprefix("+").isdecimal():
        return PhoneNumber(source.removeprefix("+"), TON.INTERNATIONAL, NPI.ISDN)
    return PhoneNumber(source, TON.ALPHANUMERIC, NPI.UNKNOWN)
