"""Texts over HTTP against the sandbox's gateways: what is sent once, what is refused, and what nobody can tell."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from pydantic import ValidationError

from services.notify.gateways.gateway import Outcome
from services.notify.gateways.http_sms import BadReceipts, HttpSmsConfig, HttpSmsGateway, read_receipts
from services.notify.gateways.signatures import BadSignature, StaleTimestamp, sign
from tests.notify.gateways.conftest import SECRET, Sandbox, start_sandbox, texts
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from services.notify.gateways.gateway import Answer, Receipt

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def config(url: str, gateway: str = "g", **settings: Any) -> HttpSmsConfig:
    usual = {
        "name": gateway,
        "url": f"{url}/gateways/{gateway}/messages",
        "auth": {"kind": "hmac", "secret": SECRET},
        "inquiry": {"url": f"{url}/gateways/{gateway}/messages/inquire"},
        "codes": {
            "throttled": {"outcome": "temporary", "why": "too many at once"},
            "invalid_number": {"outcome": "permanent", "why": "no such number"},
        },
    }
    return HttpSmsConfig.model_validate({**usual, **settings})


@asynccontextmanager
async def opened(url: str, gateway: str = "g", **settings: Any) -> AsyncIterator[HttpSmsGateway]:
    made = HttpSmsGateway(config(url, gateway, **settings))
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def served(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """A server that answers every request in one way."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def outcomes(answers: list[Answer]) -> list[Outcome]:
    return [answer.outcome for answer in answers]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


# --- What is sent ---


@pytest.mark.parametrize("kind", ["bearer", "hmac"])
async def test_a_text_is_taken_and_later_delivered(sandbox: Sandbox, gateway: str, kind: str) -> None:
    (sms,) = texts()
    async with opened(sandbox.http, gateway, auth={"kind": kind, "secret": SECRET}) as sms_gateway:
        (answer,) = await sms_gateway.send([sms])
        assert answer.outcome is Outcome.ACCEPTED
        (standing, other) = await wait_until(lambda: delivered(sms_gateway, sms.reference))
    assert (standing.provider_message_id, other.outcome) == (answer.provider_message_id, Outcome.ABSENT)
    (shown,) = await sandbox.messages(gateway)
    assert (shown["to"], shown["body"], shown["reference"]) == (sms.to, sms.text, sms.reference)


async def delivered(sms_gateway: HttpSmsGateway, reference: str) -> list[Answer] | None:
    answers = await sms_gateway.inquire([reference, "never sent"])
    return answers if answers[0].outcome is Outcome.DELIVERED else None


async def test_five_hundred_go_at_once_and_answers_keep_their_order(sandbox: Sandbox, gateway: str) -> None:
    messages = texts(500)
    await sandbox.behave(gateway, rules=[{"to": "9", "outcome": "permanent"}, {"to": "8", "outcome": "temporary"}])
    async with opened(sandbox.http, gateway) as sms_gateway:
        answers = await sms_gateway.send(messages)
    assert [answer.reference for answer in answers] == [message.reference for message in messages]
    expected = {"9": Outcome.PERMANENT, "8": Outcome.TEMPORARY}
    assert outcomes(answers) == [expected.get(message.to[-1], Outcome.ACCEPTED) for message in messages]
    assert {answer.why for answer in answers if answer.code == "invalid_number"} == {"no such number"}
    assert len(await sandbox.messages(gateway)) == 400


async def test_what_is_sent_twice_arrives_twice(sandbox: Sandbox, gateway: str) -> None:
    messages = texts()
    async with opened(sandbox.http, gateway) as sms_gateway:
        await sms_gateway.send(messages)
        await sms_gateway.send(messages)
    assert len(await sandbox.messages(gateway)) == 2


# --- What is not, and what may have been ---


@pytest.mark.parametrize(
    ("behaviour", "outcome", "code"),
    [
        ({"down": True}, Outcome.TEMPORARY, "503"),
        ({"limit_per_s": 0}, Outcome.TEMPORARY, "429"),
        ({"failure_rate": 1}, Outcome.PERMANENT, "invalid_number"),
        ({"failure_rate": 1, "failure_is_permanent": False}, Outcome.TEMPORARY, "throttled"),
        ({"failure_rate": 1, "failure_code": "new to us"}, Outcome.PERMANENT, "new to us"),
    ],
)
async def test_a_refusal_says_whether_to_try_again(
    sandbox: Sandbox, gateway: str, behaviour: dict[str, Any], outcome: Outcome, code: str
) -> None:
    await sandbox.behave(gateway, **behaviour)
    async with opened(sandbox.http, gateway) as sms_gateway:
        (answer,) = await sms_gateway.send(texts())
    assert (answer.outcome, answer.code) == (outcome, code)
    assert answer.why or answer.said
    assert await sandbox.messages(gateway) == []


async def test_a_throttled_text_says_when_to_try_again(sandbox: Sandbox, gateway: str) -> None:
    await sandbox.behave(gateway, limit_per_s=0)
    async with opened(sandbox.http, gateway) as sms_gateway:
        (answer,) = await sms_gateway.send(texts())
    assert answer.why is not None
    assert "try again after 1 s" in answer.why


@pytest.mark.parametrize("kind", ["bearer", "hmac"])
async def test_a_wrong_secret_is_ours_to_mend(sandbox: Sandbox, gateway: str, kind: str) -> None:
    async with opened(sandbox.http, gateway, auth={"kind": kind, "secret": "wrong"}) as sms_gateway:
        (answer,) = await sms_gateway.send(texts())
        assert (answer.outcome, answer.code) == (Outcome.TECHNICAL, "401")
        assert outcomes(await sms_gateway.inquire(["a"])) == [Outcome.UNKNOWN]


@pytest.mark.parametrize("url", ["http://127.0.0.1:{free}", "http://nowhere.invalid", "https://127.0.0.1:{http}"])
async def test_without_a_connection_nothing_was_sent(sandbox: Sandbox, gateway: str, url: str) -> None:
    where = url.format(free=free_port(), http=sandbox.http.rpartition(":")[2])
    async with opened(where, gateway) as sms_gateway:
        assert outcomes(await sms_gateway.send(texts(2))) == [Outcome.TECHNICAL] * 2
        assert outcomes(await sms_gateway.inquire(["a"])) == [Outcome.UNKNOWN]
    assert await sandbox.messages(gateway) == []


async def test_silence_leaves_it_open_until_it_is_asked_about(sandbox: Sandbox, gateway: str) -> None:
    await sandbox.behave(gateway, silence_rate=1)
    (sms,) = texts()
    async with opened(sandbox.http, gateway) as sms_gateway:
        assert outcomes(await sms_gateway.send([sms])) == [Outcome.UNKNOWN]
        assert await wait_until(lambda: delivered(sms_gateway, sms.reference))
    assert len(await sandbox.messages(gateway)) == 1


async def test_silence_about_one_leaves_only_that_one_open(sandbox: Sandbox, gateway: str) -> None:
    await sandbox.behave(gateway, rules=[{"to": "1", "outcome": "silent"}])
    async with opened(sandbox.http, gateway) as sms_gateway:
        answers = await sms_gateway.send(texts(3))
    assert outcomes(answers) == [Outcome.ACCEPTED, Outcome.UNKNOWN, Outcome.ACCEPTED]


async def test_a_late_answer_leaves_it_open(sandbox: Sandbox, gateway: str) -> None:
    await sandbox.behave(gateway, delay_rate=1, delay_s=60)
    async with opened(sandbox.http, gateway, timeout_s=0.3) as sms_gateway:
        (answer,) = await sms_gateway.send(texts())
    assert (answer.outcome, answer.why) == (Outcome.UNKNOWN, "no answer within 0.3 s")


async def test_a_connection_killed_in_the_middle_leaves_it_open(gateway: str) -> None:
    with start_sandbox(delay_rate=1, delay_s=60) as own:
        async with opened(own.http, gateway) as sms_gateway:
            sending = asyncio.create_task(sms_gateway.send(texts()))
            await wait_until(lambda: own.messages(gateway))
            own.kill()
            assert outcomes(await sending) == [Outcome.UNKNOWN]
            assert outcomes(await sms_gateway.send(texts())) == [Outcome.TECHNICAL]


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, b"not JSON", Outcome.UNKNOWN),
        (200, b"[]", Outcome.UNKNOWN),
        (200, b'{"results": {}}', Outcome.UNKNOWN),
        (200, b'{"results": [1]}', Outcome.UNKNOWN),
        (200, b'{"results": []}', Outcome.UNKNOWN),
        (200, b'{"results": [{"reference": "other", "status": "accepted"}]}', Outcome.UNKNOWN),
        (302, b"", Outcome.TECHNICAL),
        (400, b"", Outcome.PERMANENT),
        (403, b"", Outcome.TECHNICAL),
        (404, b"", Outcome.TECHNICAL),
        (500, b"", Outcome.UNKNOWN),
        (502, b"", Outcome.UNKNOWN),
    ],
)
async def test_an_answer_that_says_nothing_is_no_success(status: int, body: bytes, outcome: Outcome) -> None:
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.method)
        return web.Response(status=status, body=body, headers={"Location": "/elsewhere"})

    async with served(answer) as url, opened(url) as sms_gateway:
        assert outcomes(await sms_gateway.send(texts(2))) == [outcome] * 2
    assert asked == ["POST"]


async def test_another_providers_names_are_settings() -> None:
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(await request.json())
        said = [{"ref": "r1", "mid": 17, "st": "OK"}, {"ref": "r2", "st": "KO", "err": 112, "msg": "no credit"}]
        return web.json_response({"data": said})

    settings = {
        "request": {"messages": "list", "reference": "ref", "to": "phone", "body": "text", "fixed": {"sign": "Sluice"}},
        "answer": {"results": "data", "reference": "ref", "id": "mid", "status": "st", "code": "err", "detail": "msg"},
        "statuses": {"OK": "accepted", "KO": "permanent"},
        "codes": {"112": {"outcome": "technical"}},
    }
    messages = [sms._replace(reference=f"r{place}") for place, sms in enumerate(texts(2), start=1)]
    async with served(answer) as url, opened(url, **settings) as sms_gateway:
        first, second = await sms_gateway.send(messages)
    assert asked[0]["sign"] == "Sluice"
    assert asked[0]["list"][0] == {"ref": "r1", "phone": messages[0].to, "text": messages[0].text}
    assert (first.outcome, first.provider_message_id) == (Outcome.ACCEPTED, "17")
    assert (second.outcome, second.code, second.said) == (Outcome.TECHNICAL, "112", "no credit")


def test_a_setting_that_cannot_work_is_refused() -> None:
    with pytest.raises(ValidationError, match="need a secret"):
        config("http://127.0.0.1", auth={"kind": "hmac"})
    with pytest.raises(ValidationError):
        config("http://127.0.0.1", colour="red")


# --- Receipts ---


class Inbox:
    """Where a provider's callbacks go; the first may be turned away."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.callbacks: list[tuple[dict[str, str], bytes]] = []

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.refusals > 0:
            self.refusals -= 1
            return web.Response(status=500)
        self.callbacks.append((dict(request.headers), body))
        return web.Response()

    def receipts(self, told: HttpSmsConfig) -> list[Receipt]:
        now = datetime.now(UTC)
        return [receipt for headers, body in self.callbacks for receipt in read_receipts(told, headers, body, now)]


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        ({}, [(Outcome.DELIVERED, None)]),
        ({"receipt_delay_s": 0.05}, [(Outcome.DELIVERED, None)]),
        ({"duplicate_receipt_rate": 1}, [(Outcome.DELIVERED, None)] * 2),
        ({"late_failure_rate": 1}, [(Outcome.PERMANENT, "absent_subscriber")]),
        ({"late_failure_rate": 1, "late_failure_code": "expired"}, [(Outcome.TEMPORARY, "expired")]),
        ({"silence_rate": 1}, [(Outcome.DELIVERED, None)]),
    ],
)
async def test_a_receipt_tells_the_rest(
    sandbox: Sandbox, gateway: str, behaviour: dict[str, Any], expected: list[tuple[Outcome, str | None]]
) -> None:
    await sandbox.behave(gateway, **behaviour)
    inbox, (sms,) = Inbox(refusals=1), texts()
    async with (
        served(inbox.take) as url,
        opened(sandbox.http, gateway, callback={"url": url, "secret": SECRET}) as sms_gateway,
    ):
        (answer,) = await sms_gateway.send([sms])
        told = config(sandbox.http, gateway, callback={"url": url, "secret": SECRET})
        receipts = await wait_until(lambda: enough(inbox, told, len(expected)))
    assert [(receipt.outcome, receipt.code) for receipt in receipts] == expected
    assert {(receipt.provider, receipt.reference) for receipt in receipts} == {(gateway, sms.reference)}
    assert answer.provider_message_id in {None, receipts[0].provider_message_id}


async def enough(inbox: Inbox, told: HttpSmsConfig, count: int) -> list[Receipt]:
    receipts = inbox.receipts(told)
    return receipts if len(receipts) >= count else []


async def test_a_lost_receipt_is_found_by_asking(sandbox: Sandbox, gateway: str) -> None:
    await sandbox.behave(gateway, rules=[{"to": "0", "outcome": "no_receipt"}])
    inbox, messages = Inbox(), texts(2)
    callback = {"secret": SECRET}
    async with (
        served(inbox.take) as url,
        opened(sandbox.http, gateway, callback={"url": url, **callback}) as sms_gateway,
    ):
        await sms_gateway.send(messages)
        told = config(sandbox.http, gateway, callback={"url": url, **callback})
        receipts = await wait_until(lambda: enough(inbox, told, 1))
        assert [receipt.reference for receipt in receipts] == [messages[1].reference]
        assert await wait_until(lambda: delivered(sms_gateway, messages[0].reference))


def callback_config() -> HttpSmsConfig:
    return config("http://127.0.0.1", callback={"url": "http://127.0.0.1", "secret": SECRET})


GOOD = {"id": "1", "reference": "r", "status": "delivered", "at": "2026-11-26T12:00:00+08:00"}


def test_a_callback_is_read_by_its_settings() -> None:
    body = orjson.dumps({"receipts": [GOOD]})
    (receipt,) = read_receipts(callback_config(), sign(SECRET, body, NOW), body, NOW + timedelta(minutes=4))
    assert (receipt.provider_message_id, receipt.outcome) == ("1", Outcome.DELIVERED)
    assert receipt.at == datetime(2026, 11, 26, 4, tzinfo=UTC)


def test_a_word_that_is_new_does_not_hold_up_the_others() -> None:
    body = orjson.dumps({"receipts": [{**GOOD, "status": "sideways"}, GOOD]})
    receipts = read_receipts(callback_config(), sign(SECRET, body, NOW), body, NOW)
    assert [receipt.outcome for receipt in receipts] == [Outcome.UNKNOWN, Outcome.DELIVERED]


@pytest.mark.parametrize(
    ("receipt", "named"),
    [
        ({**GOOD, "id": None}, "'id'"),
        ({**GOOD, "at": "noon"}, "'at'"),
        ({**GOOD, "at": "2026-11-26T12:00:00"}, "'at'"),
        ("no object", "'receipts'"),
    ],
)
def test_a_callback_of_another_form_is_refused_whole(receipt: Any, named: str) -> None:
    body = orjson.dumps({"receipts": [GOOD, receipt]})
    with pytest.raises(BadReceipts, match=named):
        read_receipts(callback_config(), sign(SECRET, body, NOW), body, NOW)


def test_a_callback_that_is_not_the_providers_is_refused() -> None:
    body = orjson.dumps({"receipts": []})
    signed = sign(SECRET, body, NOW)
    later = sign(SECRET, body, NOW + timedelta(seconds=1))
    moved = {**signed, "X-Timestamp": later["X-Timestamp"]}
    for headers, read in [({}, body), (sign("other", body, NOW), body), (signed, body + b" "), (moved, body)]:
        with pytest.raises(BadSignature):
            read_receipts(callback_config(), headers, read, NOW)


@pytest.mark.parametrize("minutes", [-6, 6])
def test_a_callback_of_another_time_is_refused(minutes: int) -> None:
    body = orjson.dumps({"receipts": []})
    with pytest.raises(StaleTimestamp):
        read_receipts(callback_config(), sign(SECRET, body, NOW), body, NOW + timedelta(minutes=minutes))


def test_a_callback_that_nobody_expects_is_refused() -> None:
    with pytest.raises(BadReceipts, match="no receipts are expected"):
        read_receipts(config("http://127.0.0.1"), {}, b"", NOW)


# --- The sandbox ---


async def test_a_few_messages_are_asked_about_by_their_address(sandbox: Sandbox, gateway: str) -> None:
    (sms,) = texts()
    async with opened(sandbox.http, gateway) as sms_gateway:
        (answer,) = await sms_gateway.send([sms])
    url = f"{sandbox.http}/gateways/{gateway}/messages?reference={sms.reference}&reference=other"
    headers = {"Authorization": f"Bearer {SECRET}"}
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as response:
        first, second = (await response.json())["results"]
    assert (first["id"], second) == (answer.provider_message_id, {"reference": "other", "status": "absent"})


async def test_the_behaviour_file_is_read_again(gateway: str, tmp_path: Path) -> None:
    file = tmp_path / "sms.json"
    with start_sandbox(file) as own:
        async with opened(own.http, gateway) as sms_gateway:
            assert outcomes(await sms_gateway.send(texts())) == [Outcome.ACCEPTED]
            file.write_text(orjson.dumps({"gateways": {gateway: {"down": True}}}).decode())
            assert outcomes(await sms_gateway.send(texts())) == [Outcome.TEMPORARY]
            file.write_text("no JSON")
            assert outcomes(await sms_gateway.send(texts())) == [Outcome.TEMPORARY]
            file.unlink()
            assert outcomes(await sms_gateway.send(texts())) == [Outcome.ACCEPTED]
        async with aiohttp.ClientSession() as http, http.get(f"{own.http}/messages/count") as response:
            assert await response.json() == {"count": 2}
        own.process.terminate()
        assert own.process.wait(5) == 0
