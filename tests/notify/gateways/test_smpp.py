"""Texts over SMPP against the sandbox's message centre: bound, refused, throttled, cut off, and receipts."""

from __future__ import annotations

import asyncio
import struct
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from services.notify.gateways.gateway import Outcome
from services.notify.gateways.smpp import SmppConfig, SmppGateway
from services.notify.gateways.smpp_wire import BadPdu, normalise_message_id, read_header, read_receipt
from tests.notify.gateways.conftest import PASSWORD, Sandbox, start_sandbox, texts
from tests.notify.gateways.test_http_sms import free_port, outcomes
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from services.notify.gateways.gateway import Receipt
    from services.notify.gateways.smpp_wire import Header

LONG_CHINESE = "【Sluice】您的还款计划如下：" + "第一期一百元，" * 40 + "完😀"
LONG_GERMAN = "Grüße: {" + "€ " * 200 + "}"


class Kept:
    """Keeps receipts, after failing to as often as told."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.receipts: list[Receipt] = []

    async def keep(self, receipts: Sequence[Receipt]) -> None:
        if self.failures > 0:
            self.failures -= 1
            raise ConnectionError("the database is away")
        self.receipts.extend(receipts)

    async def until(self, count: int) -> list[Receipt]:
        async def has_enough() -> bool:
            return len(self.receipts) >= count

        await wait_until(has_enough, what=f"{count} receipts")
        return self.receipts


def config(port: int, gateway: str, **settings: Any) -> SmppConfig:
    usual = {"name": gateway, "host": "127.0.0.1", "port": port, "system_id": gateway, "password": PASSWORD}
    return SmppConfig.model_validate({**usual, **settings})


@asynccontextmanager
async def opened(port: int, gateway: str, kept: Kept | None = None, **settings: Any) -> AsyncIterator[SmppGateway]:
    made = SmppGateway(config(port, gateway, **settings), (kept or Kept()).keep)
    try:
        yield made
    finally:
        await made.close()


# --- What is sent ---


@pytest.mark.parametrize("long_texts", ["parts", "payload"])
@pytest.mark.parametrize("text", ["Hello", "您好", LONG_CHINESE, LONG_GERMAN], ids=["gsm", "ucs", "chinese", "german"])
async def test_a_text_arrives_as_it_was(sandbox: Sandbox, gateway: str, long_texts: str, text: str) -> None:
    kept, (sms,) = Kept(), texts(text=text)
    async with opened(sandbox.smpp_port, gateway, kept, long_texts=long_texts) as sms_gateway:
        (answer,) = await sms_gateway.send([sms])
        (receipt,) = await kept.until(1)
    (shown,) = await sandbox.messages(gateway)
    assert (shown["to"], shown["body"], shown["status"]) == (sms.to, text, "delivered")
    assert answer.outcome is Outcome.ACCEPTED
    assert (receipt.outcome, receipt.provider_message_id) == (Outcome.DELIVERED, answer.provider_message_id)
    assert receipt.at <= datetime.now(UTC)


@pytest.mark.parametrize("form", ["same", "lower", "stripped", "padded"])
async def test_an_id_that_comes_back_in_another_form_is_known(sandbox: Sandbox, gateway: str, form: str) -> None:
    await sandbox.behave(gateway, id_form=form)
    kept = Kept()
    async with opened(sandbox.smpp_port, gateway, kept) as sms_gateway:
        (answer,) = await sms_gateway.send(texts())
        (receipt,) = await kept.until(1)
    assert receipt.provider_message_id == answer.provider_message_id


async def test_five_hundred_go_through_a_small_window(sandbox: Sandbox, gateway: str) -> None:
    kept, messages = Kept(), texts(500)
    async with opened(sandbox.smpp_port, gateway, kept, window=10) as sms_gateway:
        answers = await sms_gateway.send(messages)
        receipts = await kept.until(500)
    assert [answer.reference for answer in answers] == [message.reference for message in messages]
    assert {answer.provider_message_id for answer in answers} == {receipt.provider_message_id for receipt in receipts}


async def test_it_cannot_be_asked(sandbox: Sandbox, gateway: str) -> None:
    async with opened(sandbox.smpp_port, gateway) as sms_gateway:
        assert not sms_gateway.can_inquire
        assert outcomes(await sms_gateway.inquire(["a"])) == [Outcome.UNKNOWN]


# --- What is not, and what may have been ---


@pytest.mark.parametrize(
    ("behaviour", "outcome", "code"),
    [
        ({"limit_per_s": 0}, Outcome.TEMPORARY, "ESME_RTHROTTLED"),
        ({"failure_rate": 1, "failure_is_permanent": False}, Outcome.TEMPORARY, "ESME_RTHROTTLED"),
        ({"failure_rate": 1, "failure_code": "ESME_RMSGQFUL"}, Outcome.TEMPORARY, "ESME_RMSGQFUL"),
        ({"failure_rate": 1}, Outcome.PERMANENT, "ESME_RINVDSTADR"),
        ({"failure_rate": 1, "failure_code": "ESME_RSYSERR"}, Outcome.TECHNICAL, "ESME_RSYSERR"),
        ({"failure_rate": 1, "failure_code": "ESME_RSUBMITFAIL"}, Outcome.TEMPORARY, "ESME_RSUBMITFAIL"),
    ],
)
async def test_a_refusal_says_whether_to_try_again(
    sandbox: Sandbox, gateway: str, behaviour: dict[str, Any], outcome: Outcome, code: str
) -> None:
    await sandbox.behave(gateway, **behaviour)
    codes = {"ESME_RSUBMITFAIL": {"outcome": "temporary", "why": "as this provider's manual says"}}
    async with opened(sandbox.smpp_port, gateway, codes=codes) as sms_gateway:
        (answer,) = await sms_gateway.send(texts())
    assert (answer.outcome, answer.code) == (outcome, code)
    assert answer.why
    assert await sandbox.messages(gateway) == []


@pytest.mark.parametrize(
    ("text", "to"), [("", "+8613800000000"), ("\ud800", "+8613800000000"), ("a", "+86" + "1" * 30)]
)
async def test_what_is_no_sms_never_will_be(sandbox: Sandbox, gateway: str, text: str, to: str) -> None:
    async with opened(sandbox.smpp_port, gateway) as sms_gateway:
        assert outcomes(await sms_gateway.send(texts(text=text, to=to))) == [Outcome.PERMANENT]
    assert await sandbox.messages(gateway) == []


async def test_a_centre_that_does_not_let_us_in_has_nothing(sandbox: Sandbox, gateway: str) -> None:
    async with opened(sandbox.smpp_port, gateway, password="wrong") as sms_gateway:
        (answer,) = await sms_gateway.send(texts())
    assert (answer.outcome, answer.why) == (Outcome.TECHNICAL, "not bound: Invalid Password")
    await sandbox.behave(gateway, down=True)
    async with opened(sandbox.smpp_port, gateway) as sms_gateway:
        (answer,) = await sms_gateway.send(texts())
    assert (answer.outcome, answer.why) == (Outcome.TECHNICAL, "not bound: Bind Failed")


async def test_a_centre_that_is_not_there_has_nothing(gateway: str) -> None:
    async with opened(free_port(), gateway) as sms_gateway:
        assert outcomes(await sms_gateway.send(texts(2))) == [Outcome.TECHNICAL] * 2
        assert not sms_gateway.is_bound


async def test_a_centre_without_the_tls_it_should_have_has_nothing(sandbox: Sandbox, gateway: str) -> None:
    async with opened(sandbox.smpp_port, gateway, tls=True) as sms_gateway:
        assert outcomes(await sms_gateway.send(texts())) == [Outcome.TECHNICAL]


async def test_silence_leaves_it_open_and_the_next_goes_through(sandbox: Sandbox, gateway: str) -> None:
    await sandbox.behave(gateway, rules=[{"to": "0", "outcome": "silent"}])
    silent, other = texts(2)
    kept = Kept()
    async with opened(sandbox.smpp_port, gateway, kept, first_reconnect_s=0.01) as sms_gateway:
        assert outcomes(await sms_gateway.send([silent])) == [Outcome.UNKNOWN]
        await wait_until(lambda: bound(sms_gateway))
        assert outcomes(await sms_gateway.send([other])) == [Outcome.ACCEPTED]
        assert len(await kept.until(2)) == 2


async def bound(sms_gateway: SmppGateway) -> bool:
    return sms_gateway.is_bound


async def test_a_late_answer_leaves_it_open(sandbox: Sandbox, gateway: str) -> None:
    await sandbox.behave(gateway, delay_rate=1, delay_s=60)
    async with opened(sandbox.smpp_port, gateway, response_timeout_s=0.3) as sms_gateway:
        (answer,) = await sms_gateway.send(texts())
        assert (answer.outcome, answer.why) == (Outcome.UNKNOWN, "no answer within 0.3 s")


async def test_a_connection_killed_in_the_middle_is_bound_again(gateway: str) -> None:
    port = free_port()
    with start_sandbox(smpp_port=port, delay_rate=1, delay_s=60) as own:
        async with opened(port, gateway, window=2, first_reconnect_s=0.05, last_reconnect_s=0.05) as sms_gateway:
            sending = asyncio.create_task(sms_gateway.send(texts(5)))
            await wait_until(lambda: taken(own, gateway, 2))
            own.kill()
            # Two were out; the window had no room for the others.
            assert sorted(outcomes(await sending)) == [Outcome.TECHNICAL] * 3 + [Outcome.UNKNOWN] * 2
            with start_sandbox(smpp_port=port):
                await wait_until(lambda: bound(sms_gateway))
                assert outcomes(await sms_gateway.send(texts())) == [Outcome.ACCEPTED]


async def taken(sandbox: Sandbox, gateway: str, count: int) -> bool:
    return len(await sandbox.messages(gateway)) >= count


# --- Receipts ---


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        ({"duplicate_receipt_rate": 1}, [(Outcome.DELIVERED, None)] * 2),
        ({"late_failure_rate": 1, "late_failure_code": "069"}, [(Outcome.PERMANENT, "069")]),
        ({"late_failure_rate": 1, "late_failure_code": "expired"}, [(Outcome.TEMPORARY, "001")]),
        ({"late_failure_rate": 1, "late_failure_code": "022"}, [(Outcome.TEMPORARY, "022")]),
    ],
)
async def test_a_receipt_tells_the_rest(
    sandbox: Sandbox, gateway: str, behaviour: dict[str, Any], expected: list[tuple[Outcome, str | None]]
) -> None:
    await sandbox.behave(gateway, **behaviour)
    kept = Kept()
    async with opened(sandbox.smpp_port, gateway, kept, codes={"022": {"outcome": "temporary"}}) as sms_gateway:
        await sms_gateway.send(texts())
        receipts = await kept.until(len(expected))
    assert [(receipt.outcome, receipt.code) for receipt in receipts] == expected


async def test_a_receipt_that_was_not_kept_comes_again(sandbox: Sandbox, gateway: str) -> None:
    kept = Kept(failures=2)
    async with opened(sandbox.smpp_port, gateway, kept) as sms_gateway:
        assert outcomes(await sms_gateway.send(texts())) == [Outcome.ACCEPTED]
        assert len(await kept.until(1)) == 1


async def test_a_receipt_waits_for_whoever_binds_next(sandbox: Sandbox, gateway: str) -> None:
    await sandbox.behave(gateway, receipt_delay_s=0.2)
    async with opened(sandbox.smpp_port, gateway) as sms_gateway:
        (answer,) = await sms_gateway.send(texts())
    kept = Kept()
    async with opened(sandbox.smpp_port, gateway, kept) as sms_gateway:
        await sms_gateway.start()
        (receipt,) = await kept.until(1)
    assert receipt.provider_message_id == answer.provider_message_id


async def test_a_lost_receipt_never_comes(sandbox: Sandbox, gateway: str) -> None:
    await sandbox.behave(gateway, rules=[{"to": "0", "outcome": "no_receipt"}])
    kept = Kept()
    async with opened(sandbox.smpp_port, gateway, kept) as sms_gateway:
        answers = await sms_gateway.send(texts(2))
        (receipt,) = await kept.until(1)
    assert receipt.provider_message_id == answers[1].provider_message_id


# --- What other centres send ---


BIND, SUBMIT, ENQUIRE, UNBIND, NACK, ANSWER = 0x9, 0x4, 0x15, 0x6, 0x80000000, 0x80000000


def pdu(command: int, status: int, sequence: int, body: bytes = b"") -> bytes:
    return struct.pack("!4I", 16 + len(body), command, status, sequence) + body


@asynccontextmanager
async def centre(answer: Callable[[Header], bytes]) -> AsyncIterator[int]:
    """A centre that lets everybody in, and then answers in one way; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                header = read_header(await reader.readexactly(16))
                await reader.readexactly(header.length - 16)
                is_bind = header.command == BIND
                writer.write(pdu(ANSWER | BIND, 0, header.sequence, b"other\0") if is_bind else answer(header))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield int(server.sockets[0].getsockname()[1])


@pytest.mark.parametrize(
    ("said", "outcome", "code"),
    [
        (lambda header: pdu(ANSWER | SUBMIT, 0x411, header.sequence), Outcome.PERMANENT, "0x00000411"),
        (lambda header: pdu(ANSWER | SUBMIT, 0x412, header.sequence), Outcome.TECHNICAL, "0x00000412"),
        (lambda header: pdu(NACK, 0x3, header.sequence), Outcome.TECHNICAL, "ESME_RINVCMDID"),
        (lambda _: pdu(UNBIND, 0, 7), Outcome.UNKNOWN, None),
        (lambda _: b"HTTP/1.1 400 Bad Request", Outcome.UNKNOWN, None),
    ],
    ids=["own code that is set", "own code", "generic_nack", "unbind", "no PDU"],
)
async def test_whatever_a_centre_says_is_an_answer(
    gateway: str, said: Callable[[Header], bytes], outcome: Outcome, code: str | None
) -> None:
    codes = {"0x00000411": {"outcome": "permanent"}}
    async with centre(said) as port, opened(port, gateway, codes=codes, response_timeout_s=5) as sms_gateway:
        (answer,) = await sms_gateway.send(texts())
    assert (answer.outcome, answer.code) == (outcome, code)


async def test_a_centre_that_asks_whether_we_are_there_is_told_so(gateway: str) -> None:
    heard = asyncio.Event()

    def answer(header: Header) -> bytes:
        if header.command == ANSWER | ENQUIRE:
            heard.set()
            return b""
        return pdu(ENQUIRE, 0, 9) + pdu(ANSWER | SUBMIT, 0, header.sequence, b"1\0")

    async with centre(answer) as port, opened(port, gateway) as sms_gateway:
        assert outcomes(await sms_gateway.send(texts())) == [Outcome.ACCEPTED]
        await asyncio.wait_for(heard.wait(), 5)


async def test_a_centre_that_hangs_is_given_up(gateway: str) -> None:
    asked: list[int] = []

    def say_nothing(header: Header) -> bytes:
        asked.append(header.command)
        return b""

    limits = {"enquire_link_s": 0.05, "response_timeout_s": 0.1, "first_reconnect_s": 60, "last_reconnect_s": 60}
    async with centre(say_nothing) as port, opened(port, gateway, **limits) as sms_gateway:
        await sms_gateway.start()
        await wait_until(lambda: unbound(sms_gateway))
    assert asked == [ENQUIRE]


async def unbound(sms_gateway: SmppGateway) -> bool:
    return not sms_gateway.is_bound


def deliver_sm(text: bytes, *, esm_class: int = 4, parameters: bytes = b"") -> bytes:
    head = b"\0" + b"\x01\x01123\0" + b"\0\0\0" + bytes((esm_class, 0, 0)) + b"\0\0" + b"\0\0\0\0"
    return head + bytes((len(text),)) + text + parameters


def parameter(tag: int, value: bytes) -> bytes:
    return struct.pack("!HH", tag, len(value)) + value


USUAL = b"id:0A1F sub:001 dlvrd:001 submit date:2611261200 done date:2611261201 stat:DELIVRD err:000 text:id:9 stat:X"


@pytest.mark.parametrize(
    ("body", "id_", "stat", "err"),
    [
        (deliver_sm(USUAL), "0A1F", "DELIVRD", "000"),
        (deliver_sm(b"ID:7 STAT:undeliv ERR:1a2f"), "7", "UNDELIV", "1a2f"),
        (deliver_sm(b"stat:EXPIRED", parameters=parameter(0x1E, b"77\0")), "77", "EXPIRED", None),
        (deliver_sm(b"", parameters=parameter(0x0424, USUAL)), "0A1F", "DELIVRD", "000"),
        (deliver_sm(USUAL + b"\xff\xfe", parameters=parameter(0x0423, b"\x03\xff\xff")), "0A1F", "DELIVRD", "000"),
    ],
)
def test_receipts_of_many_forms_are_read(body: bytes, id_: str, stat: str, err: str | None) -> None:
    receipt = read_receipt(body, ZoneInfo("UTC"))
    assert receipt is not None
    assert receipt[:3] == (id_, stat, err)


@pytest.mark.parametrize(
    ("done", "moment"),
    [
        (b"2611261201", datetime(2026, 11, 26, 4, 1, 59, tzinfo=UTC)),
        (b"261126120130", datetime(2026, 11, 26, 4, 1, 30, tzinfo=UTC)),
        (b"yesterday", None),
    ],
)
def test_a_receipts_date_is_in_the_centres_zone(done: bytes, moment: datetime | None) -> None:
    receipt = read_receipt(deliver_sm(b"id:1 done date:" + done + b" stat:DELIVRD"), ZoneInfo("Asia/Shanghai"))
    assert receipt is not None
    assert receipt.at == moment


def test_somebodys_own_message_is_no_receipt() -> None:
    assert read_receipt(deliver_sm(b"STOP", esm_class=0), ZoneInfo("UTC")) is None


@pytest.mark.parametrize("body", [b"", b"\0", deliver_sm(b"id:1"), deliver_sm(b"stat:DELIVRD")])
def test_a_receipt_of_nothing_is_not_believed(body: bytes) -> None:
    with pytest.raises(BadPdu):
        read_receipt(body, ZoneInfo("UTC"))


def test_a_header_has_any_status_and_a_length_that_can_be() -> None:
    assert read_header(struct.pack("!4I", 16, 0x80000004, 0x411, 1)).status == 0x411
    for length in (15, 1_000_000):
        with pytest.raises(BadPdu):
            read_header(struct.pack("!4I", length, 0, 0, 0))


@pytest.mark.parametrize(("id_", "normal"), [("0A1F", "a1f"), ("a1f", "a1f"), (" 000a1F ", "a1f"), ("000", "0")])
def test_one_id_has_one_form(id_: str, normal: str) -> None:
    assert normalise_message_id(id_) == normal
