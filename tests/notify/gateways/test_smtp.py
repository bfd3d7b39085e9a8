"""Mails handed over by SMTP to the sandbox: what arrives, and what every way of failing is called."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from pydantic import SecretStr, ValidationError

from services.notify.gateways.gateway import Answer, Email, Outcome
from services.notify.gateways.mail import html_of
from services.notify.gateways.quoting import kept
from services.notify.gateways.smtp import SmtpGateway, SmtpSettings
from services.runtime.clock import RealClock
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

USERNAME, PASSWORD = "sluice", "correct horse"


@dataclass(frozen=True)
class Sandbox:
    """A running sandbox as a test sees it."""

    process: subprocess.Popen[str]
    said: dict[str, Any]

    async def behave(self, **behaviour: Any) -> None:
        async with aiohttp.ClientSession() as http, http.put(f"{self.said['http']}/behaviour", json=behaviour) as got:
            assert got.status == 200, await got.text()

    async def get(self, path: str) -> Any:
        async with aiohttp.ClientSession() as http, http.get(self.said["http"] + path) as got:
            return await got.json()

    async def mails_to(self, to: str) -> list[dict[str, Any]]:
        mails: list[dict[str, Any]] = await self.get(f"/messages?to={to}")
        return mails


@contextmanager
def running(home: Path, **environment: str) -> Iterator[Sandbox]:
    # The sandbox is a process: what is tested must not share its loop.
    with subprocess.Popen(
        [sys.executable, "-m", "local.mail_sandbox"],
        env=os.environ | {"SLUICE_HOME": str(home)} | environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield Sandbox(process, json.loads(process.stdout.readline()))
        finally:
            process.kill()


@pytest.fixture(scope="module")
def shared_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with running(tmp_path_factory.mktemp("mail")) as started:
        yield started


@pytest.fixture
async def sandbox(shared_sandbox: Sandbox) -> Sandbox:
    await shared_sandbox.behave()
    return shared_sandbox


@asynccontextmanager
async def gateway_to(sandbox: Sandbox, **settings: Any) -> AsyncIterator[SmtpGateway]:
    host, _, port = sandbox.said["smtp"].partition(":")
    asked = {"name": "sandbox", "host": host, "port": int(port), "tls": "none", "timeout_s": 5}
    asked |= {"from_address": "no-reply@sluice.example", "from_name": "流水钱包"}
    gateway = SmtpGateway(SmtpSettings.model_validate(asked | settings), RealClock())
    try:
        yield gateway
    finally:
        await gateway.close()


@asynccontextmanager
async def answering(answers: dict[str, str], most: int = 100) -> AsyncIterator[int]:
    """A server that says to each command what it is told, hangs up where that is nothing, and takes the rest."""
    greeted: set[asyncio.StreamWriter] = set()
    usual = {"HELLO": "220 hello", "EHLO": "250 here", "DATA": "354 go on", ".": "250 ok"} | answers
    usual["TOO MANY"] = "421 too many connections"

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        command, is_content = "HELLO" if len(greeted) < most else "TOO MANY", False
        greeted.add(writer)
        while answer := usual.get(command, "250 ok"):
            writer.write(answer.replace("\n", "\r\n").encode() + b"\r\n")
            is_content = command == "DATA" and answer.startswith("354")
            try:
                line = await reader.readuntil(b"\r\n.\r\n" if is_content else b"\r\n")
            except asyncio.IncompleteReadError:
                break
            command = "." if is_content else line.decode().strip()[:4].upper()
        greeted.discard(writer)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def a_mail(to: str = "li@example.test", reference: str = "n-1.email.1", **other: Any) -> Email:
    subject, text = other.pop("subject", "Transfer settled"), other.pop("text", "You have received CNY 5.00.\n")
    return Email(reference, to, subject, text, html_of(subject, [text], language="en"), **other)


async def test_a_mail_in_chinese_and_one_in_english_arrive_with_both_parts(sandbox: Sandbox) -> None:
    text = "您已向尾号 1234 的账户转账 100.00 元。\n如有疑问，请致电客服。\n"
    title = "转账成功：您的转账已经到账，请注意查收，感谢您使用流水钱包"
    html = html_of(title, text.splitlines(), language="zh-CN", footer=["流水钱包"])
    chinese = Email("zh.1", "zh@example.test", title, text, html, "https://sluice.example/u?t=1")
    english = a_mail("en@example.test", "en.1")
    async with gateway_to(sandbox) as gateway:
        answers = await gateway.send([chinese, english])
    for mail, answer in zip([chinese, english], answers, strict=True):
        [arrived] = await sandbox.mails_to(mail.to)
        assert (answer.reference, answer.outcome, answer.code) == (mail.reference, Outcome.ACCEPTED, "2.0.0")
        assert answer.provider_message_id == arrived["id"]
        assert (arrived["reference"], arrived["to"], arrived["subject"]) == (mail.reference, mail.to, mail.subject)
        assert (arrived["text"], arrived["html"].strip()) == (mail.text, mail.html)
        assert arrived["from"] == "no-reply@sluice.example"
        assert arrived["headers"]["From"] == "流水钱包 <no-reply@sluice.example>"


@pytest.mark.parametrize(("tls", "where"), [("starttls", "smtp"), ("tls", "smtps")])
async def test_mail_goes_over_tls_with_the_certificate_checked(sandbox: Sandbox, tls: str, where: str) -> None:
    port, ca_file = int(sandbox.said[where].partition(":")[2]), sandbox.said["certificate"]
    async with gateway_to(sandbox, tls=tls, port=port, ca_file=ca_file) as gateway:
        assert [a.outcome for a in await gateway.send([a_mail()] * 2)] == [Outcome.ACCEPTED] * 2
    async with gateway_to(sandbox, tls=tls, port=port) as gateway:
        [answer] = await gateway.send([a_mail()])
    assert answer.outcome == Outcome.TECHNICAL
    assert answer.said is not None
    assert "certificate" in answer.said


async def test_a_server_that_wants_a_login_gets_one(tmp_path: Path) -> None:
    login = {"SLUICE_MAIL_SANDBOX_USERNAME": USERNAME, "SLUICE_MAIL_SANDBOX_PASSWORD": PASSWORD}
    with running(tmp_path, **login) as sandbox:
        tls: dict[str, Any] = {"tls": "starttls", "ca_file": sandbox.said["certificate"]}
        outcomes = []
        for given in (
            {"username": USERNAME, "password": PASSWORD},
            {"username": USERNAME, "password": "wrong"},
            {},
        ):
            async with gateway_to(sandbox, **tls, **given) as gateway:
                [answer] = await gateway.send([a_mail()])
            outcomes.append((answer.outcome, answer.code))
            assert "wrong" not in str(answer)
        # Without a login it is refused at MAIL, which is not the recipient's fault.
        assert outcomes == [
            (Outcome.ACCEPTED, "2.0.0"),
            (Outcome.TECHNICAL, "no-connection"),
            (Outcome.TECHNICAL, "5.7.0"),
        ]


@pytest.mark.parametrize("stage", ["rcpt", "data"])
@pytest.mark.parametrize(
    ("code", "text", "outcome", "said"),
    [
        (451, "", Outcome.TEMPORARY, "4.0.0"),
        (452, "4.2.2 <li@example.test> is over quota", Outcome.TEMPORARY, "4.2.2"),
        (421, "busy", Outcome.TEMPORARY, "421"),
        (550, "5.1.1 <li@example.test>: no such user", Outcome.PERMANENT, "5.1.1"),
        (551, "not here", Outcome.PERMANENT, "551"),
        (553, "not here", Outcome.PERMANENT, "553"),
        (552, "5.2.2 Over quota", Outcome.TEMPORARY, "5.2.2"),
        (552, "5.3.4 Too large", Outcome.PERMANENT, "5.3.4"),
        (554, "5.7.1 Looks like spam", Outcome.PERMANENT, "5.7.1"),
        (554, "5.3.2 Not now", Outcome.TECHNICAL, "5.3.2"),
    ],
)
async def test_a_refusal_has_its_outcome_its_code_and_a_reason(
    sandbox: Sandbox, stage: str, code: int, text: str, outcome: Outcome, said: str
) -> None:
    rule = {"to": "li@example.test", "outcome": "refuse", "code": code, "text": text, "stage": stage}
    await sandbox.behave(rules=[rule])
    async with gateway_to(sandbox, connections=1) as gateway:
        refused, taken = await gateway.send([a_mail(), a_mail("wang@example.test")])
    assert (refused.outcome, refused.code) == (outcome, said)
    assert refused.why
    assert "li@example.test" not in str(kept(refused, a_mail()))
    assert taken.outcome == Outcome.ACCEPTED


async def test_a_greylisted_recipient_is_taken_the_second_time(sandbox: Sandbox) -> None:
    await sandbox.behave(greylist=True)
    async with gateway_to(sandbox) as gateway:
        answers = [(await gateway.send([a_mail("grey@example.test")]))[0] for _ in range(2)]
    assert [a.outcome for a in answers] == [Outcome.TEMPORARY, Outcome.ACCEPTED]
    assert answers[0].code == "4.7.1"


async def test_silence_after_the_content_is_unknown_and_the_mail_is_not_sent_twice(sandbox: Sandbox) -> None:
    await sandbox.behave(rules=[{"to": "silent@example.test", "outcome": "silence"}])
    async with gateway_to(sandbox, connections=1) as gateway:
        silent, after = await gateway.send([a_mail("silent@example.test"), a_mail()])
        assert (silent.outcome, after.outcome) == (Outcome.UNKNOWN, Outcome.ACCEPTED)
        assert await gateway.inquire(["n-1.email.1"]) == [Answer("n-1.email.1", Outcome.UNKNOWN)]
    assert len(await sandbox.mails_to("silent@example.test")) == 1


async def test_no_answer_in_time_is_technical_before_the_content_and_unknown_after(sandbox: Sandbox) -> None:
    rules = [
        {"to": "early@example.test", "outcome": "refuse", "delay_s": 30},
        {"to": "late@example.test", "outcome": "accept", "delay_s": 30},
    ]
    await sandbox.behave(rules=rules)
    async with gateway_to(sandbox, timeout_s=0.3) as gateway:
        answers = await gateway.send([a_mail("early@example.test"), a_mail("late@example.test")])
    assert [a.outcome for a in answers] == [Outcome.TECHNICAL, Outcome.UNKNOWN]


@pytest.mark.parametrize(
    ("at", "said", "outcome", "code"),
    [
        ("HELLO", "554 5.7.1 your address is blocked", Outcome.TECHNICAL, "no-connection"),
        ("HELLO", "what?", Outcome.TECHNICAL, "no-connection"),
        ("EHLO", "502 what", Outcome.TECHNICAL, "no-connection"),
        ("EHLO", "", Outcome.TECHNICAL, "no-connection"),
        ("MAIL", "", Outcome.TECHNICAL, "lost"),
        ("MAIL", "450 4.3.2 busy", Outcome.TEMPORARY, "4.3.2"),
        ("MAIL", "553 5.7.1 not your address", Outcome.TECHNICAL, "5.7.1"),
        ("MAIL", "552 5.3.4 too large", Outcome.PERMANENT, "5.3.4"),
        ("RCPT", "", Outcome.TECHNICAL, "lost"),
        ("RCPT", "what?", Outcome.TECHNICAL, "lost"),
        ("DATA", "", Outcome.UNKNOWN, "no-answer"),
        ("DATA", "503 no", Outcome.PERMANENT, "503"),
        ("DATA", "250 ok", Outcome.UNKNOWN, "250"),
        (".", "", Outcome.UNKNOWN, "no-answer"),
        (".", "what?", Outcome.UNKNOWN, "no-answer"),
        (".", "399 what", Outcome.UNKNOWN, "399"),
        (".", "550-5.7.1 no\n550 5.7.1 never", Outcome.PERMANENT, "5.7.1"),
    ],
)
async def test_how_far_a_mail_got_decides_what_a_failure_means(
    at: str, said: str, outcome: Outcome, code: str, sandbox: Sandbox
) -> None:
    async with answering({at: said}) as port, gateway_to(sandbox, port=port) as gateway:
        [answer] = await gateway.send([a_mail()])
    assert (answer.outcome, answer.code) == (outcome, code)
    assert answer.why
    assert str(kept(answer, a_mail()).why).isprintable()


@pytest.mark.parametrize(
    ("said", "id_"),
    [
        ("250 2.0.0 Ok: queued as 4XyZ1234ab", "4XyZ1234ab"),
        ("250 OK id=1rXyZa-0001Ab-CD", "1rXyZa-0001Ab-CD"),
        ("250 2.0.0 OK  1700000000 a1-20020a05.12 - gsmtp", "a1-20020a05.12"),
        ("250 2.0.0 3AB1CD2e004711 Message accepted for delivery", "3AB1CD2e004711"),
        ("250 2.6.0 <a.b@c.example> [InternalId=1] Queued mail for delivery", "a.b@c.example"),
        ("250 Ok 0100018f0a1b2c3d-1234-000000", "0100018f0a1b2c3d-1234-000000"),
        ("250-2.0.0 Ok:\n250 2.0.0 queued as 4XyZ", "4XyZ"),
        ("250 Great success", None),
        ("250", None),
    ],
)
async def test_the_servers_own_id_is_found_in_its_answer(said: str, id_: str | None, sandbox: Sandbox) -> None:
    async with answering({".": said}) as port, gateway_to(sandbox, port=port) as gateway:
        [answer] = await gateway.send([a_mail()])
    assert (answer.outcome, answer.provider_message_id) == (Outcome.ACCEPTED, id_)


async def test_a_server_that_is_down_has_nothing_and_is_found_again_when_it_is_up(sandbox: Sandbox) -> None:
    async with gateway_to(sandbox, connections=2) as gateway:
        assert [a.outcome for a in await gateway.send([a_mail()])] == [Outcome.ACCEPTED]
        await sandbox.behave(down=True)
        answers = await gateway.send([a_mail()] * 20)
        assert {a.outcome for a in answers} == {Outcome.TECHNICAL}
        assert all(a.why for a in answers)
        await sandbox.behave()
        assert [a.outcome for a in await gateway.send([a_mail()])] == [Outcome.ACCEPTED]


async def test_a_host_that_is_no_name_is_no_connection(sandbox: Sandbox) -> None:
    async with gateway_to(sandbox, host="mail..example") as gateway:
        assert [a.outcome for a in await gateway.send([a_mail()])] == [Outcome.TECHNICAL]


async def test_mails_that_are_called_back_leave_the_pool_in_order(sandbox: Sandbox) -> None:
    await sandbox.behave(rules=[{"to": "slow@example.test", "outcome": "accept", "delay_s": 30}])
    async with gateway_to(sandbox, connections=2) as gateway:
        sending = asyncio.create_task(gateway.send([a_mail("slow@example.test")] * 5))

        async def is_at_work() -> bool:
            return bool((await sandbox.get("/messages/count"))["delayed"])

        await wait_until(is_at_work, what="the content is there")
        sending.cancel()
        answers = await gateway.send([a_mail(reference=f"after.{number}") for number in range(5)])
    assert [a.outcome for a in answers] == [Outcome.ACCEPTED] * 5


async def test_a_server_that_allows_fewer_connections_gets_the_mails_over_those(sandbox: Sandbox) -> None:
    async with answering({}, most=2) as port, gateway_to(sandbox, port=port, connections=4) as gateway:
        answers = await gateway.send([a_mail(reference=f"few.{number}") for number in range(100)])
    outcomes = [a.outcome for a in answers]
    assert set(outcomes) == {Outcome.ACCEPTED, Outcome.TECHNICAL}
    assert outcomes.count(Outcome.ACCEPTED) > 90


async def test_a_silent_server_costs_a_batch_one_timeout(sandbox: Sandbox) -> None:
    # It takes connections and never greets.
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with gateway_to(sandbox, port=port, timeout_s=0.5, connections=2) as gateway, asyncio.timeout(5):
        answers = await gateway.send([a_mail()] * 50)
    server.close()
    assert {a.outcome for a in answers} == {Outcome.TECHNICAL}


async def test_a_connection_that_was_killed_is_made_again(tmp_path: Path) -> None:
    with running(tmp_path) as first:
        port = first.said["smtp"].partition(":")[2]
        async with gateway_to(first, connections=1) as gateway:
            await gateway.send([a_mail()])
            first.process.kill()
            first.process.wait()
            [answer] = await gateway.send([a_mail()])
            assert answer.outcome == Outcome.TECHNICAL
            with running(tmp_path, SLUICE_MAIL_SANDBOX_SMTP_PORT=port):
                [answer] = await gateway.send([a_mail()])
                assert answer.outcome == Outcome.ACCEPTED


async def test_a_connection_killed_after_the_content_leaves_it_unknown(tmp_path: Path) -> None:
    with running(tmp_path) as sandbox:
        await sandbox.behave(rules=[{"to": "*", "outcome": "accept", "delay_s": 30}])
        async with gateway_to(sandbox) as gateway, asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(gateway.send([a_mail()]))

            async def is_at_work() -> bool:
                return bool((await sandbox.get("/messages/count"))["delayed"])

            await wait_until(is_at_work, what="the content is there")
            sandbox.process.kill()
            [answer] = await sending
    assert answer.outcome == Outcome.UNKNOWN


async def test_connections_that_nobody_needs_are_closed(sandbox: Sandbox) -> None:
    async with gateway_to(sandbox, idle_s=0.05, connections=4) as gateway:
        await gateway.send([a_mail()] * 20)
        assert (await sandbox.get("/messages/count"))["connections"] > 0

        async def are_gone() -> bool:
            return not (await sandbox.get("/messages/count"))["connections"]

        await wait_until(are_gone, what="idle connections are closed")
        assert [a.outcome for a in await gateway.send([a_mail()])] == [Outcome.ACCEPTED]


async def test_two_hundred_mails_over_the_pool_are_answered_in_order(sandbox: Sandbox) -> None:
    await sandbox.behave(rules=[{"to": "1*@pool.test", "outcome": "refuse"}])
    mails = [a_mail(f"{number}@pool.test", f"pool.{number}") for number in range(200)]
    async with gateway_to(sandbox) as gateway:
        assert gateway.batch_size == 16
        answers = await gateway.send(mails)
        assert (await sandbox.get("/messages/count"))["connections"] <= 8
    assert [a.reference for a in answers] == [mail.reference for mail in mails]
    for mail, answer in zip(mails, answers, strict=True):
        assert answer.outcome == (Outcome.PERMANENT if mail.to.startswith("1") else Outcome.ACCEPTED)
    arrived = await sandbox.get("/messages")
    references = [mail["reference"] for mail in arrived if mail["to"].endswith("@pool.test")]
    assert sorted(references) == sorted(mail.reference for mail in mails if not mail.to.startswith("1"))


async def test_the_same_mail_meets_the_same_luck(sandbox: Sandbox) -> None:
    await sandbox.behave(failure_rate=0.4, code=451, stage="data", silence_rate=0.3)
    mails = [a_mail(reference=f"luck.{number}") for number in range(60)]
    async with gateway_to(sandbox) as gateway:
        first, second = await gateway.send(mails), await gateway.send(mails)
    assert [a.outcome for a in first] == [a.outcome for a in second]
    assert {a.outcome for a in first} == {Outcome.TEMPORARY, Outcome.UNKNOWN, Outcome.ACCEPTED}


async def test_a_mail_that_would_break_out_of_its_headers_is_refused_for_good(sandbox: Sandbox) -> None:
    bad = [
        a_mail(subject="Hello\r\nBcc: all@example.test"),
        a_mail("li@example.test\r\nRCPT TO:<wang@example.test>"),
        a_mail(reference="n-1\r\nX-Other: 1"),
        a_mail(unsubscribe="https://a.test/>\r\nBcc: x@example.test"),
    ]
    async with gateway_to(sandbox) as gateway:
        *refused, taken = await gateway.send([*bad, a_mail("safe@example.test")])
    assert {(a.outcome, a.code) for a in refused} == {(Outcome.PERMANENT, "not-composed")}
    assert taken.outcome == Outcome.ACCEPTED


async def test_an_international_address_is_taken_where_the_server_knows_them(sandbox: Sandbox) -> None:
    async with gateway_to(sandbox) as gateway:
        answers = await gateway.send([a_mail("李@例子.test", "int.1"), a_mail("li@例子.test", "int.2")])
    assert [a.outcome for a in answers] == [Outcome.ACCEPTED] * 2
    [one], [other] = [await sandbox.mails_to(f"{who}@xn--fsqu00a.test") for who in ("李", "li")]
    assert one["headers"]["To"] == "李@xn--fsqu00a.test"
    assert other["headers"]["To"] == "li@xn--fsqu00a.test"


async def test_an_international_address_is_refused_for_good_where_it_does_not(tmp_path: Path) -> None:
    with running(tmp_path, SLUICE_MAIL_SANDBOX_SMTPUTF8="false") as sandbox:
        async with gateway_to(sandbox) as gateway:
            answers = await gateway.send([a_mail("李@example.test"), a_mail("li@例子.test")])
    assert [(a.outcome, a.code) for a in answers] == [(Outcome.PERMANENT, "5.6.7"), (Outcome.ACCEPTED, "2.0.0")]


async def test_the_sandbox_keeps_the_newest_and_ends_at_once(tmp_path: Path) -> None:
    with running(tmp_path, SLUICE_MAIL_SANDBOX_KEEP_MB="1") as sandbox:
        async with gateway_to(sandbox) as gateway:
            mails = [a_mail(reference=f"big.{number}", text=("x" * 800 + "\n") * 200) for number in range(12)]
            await gateway.send(mails)
            counts = await sandbox.get("/messages/count")
            assert (counts["taken"], counts["kept"] + counts["dropped"]) == (12, 12)
            assert 0 < counts["kept"] < 12
            sandbox.process.terminate()
            assert sandbox.process.wait(5) == 0


async def test_the_sandbox_behaves_as_its_file_says_and_else_as_its_environment(tmp_path: Path) -> None:
    environment = {"SLUICE_MAIL_SANDBOX": str(tmp_path / "mine.json"), "SLUICE_MAIL_SANDBOX_FAILURE_RATE": "1"}
    with running(tmp_path, **environment) as sandbox:
        async with gateway_to(sandbox) as gateway:

            async def outcome_after(text: str) -> Outcome:
                half = tmp_path / "half"
                half.write_text(text)
                half.replace(tmp_path / "mine.json")
                return (await gateway.send([a_mail()]))[0].outcome

            assert (await gateway.send([a_mail()]))[0].outcome == Outcome.PERMANENT
            assert await outcome_after('{"failure_rate": 0}') == Outcome.ACCEPTED
            assert await outcome_after('{"code": 451, "stage": "data"}') == Outcome.TEMPORARY
            # What is no behaviour changes nothing.
            assert await outcome_after("{") == Outcome.TEMPORARY
            assert await outcome_after('{"rate": 1}') == Outcome.TEMPORARY
        async with aiohttp.ClientSession() as http, http.put(f"{sandbox.said['http']}/behaviour", data="[]") as got:
            assert got.status == 422


def test_the_sandbox_says_which_setting_is_wrong(tmp_path: Path) -> None:
    environment = os.environ | {"SLUICE_HOME": str(tmp_path), "SLUICE_MAIL_SANDBOX_FAILURE_RATE": "2"}
    command = [sys.executable, "-m", "local.mail_sandbox"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 2
    assert "SLUICE_MAIL_SANDBOX_FAILURE_RATE" in ended.stderr


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"port": 0}, "port"),
        ({"tls": "maybe"}, "tls"),
        ({"tls": "none", "username": "a", "password": SecretStr("b")}, "without TLS"),
        ({"username": "a"}, "together"),
        ({"from_address": "nobody"}, "from_address"),
        ({"from_name": "a\r\nb"}, "from_name"),
        ({"reply_to": "a@b.test\nc"}, "reply_to"),
        ({"ca_file": __file__}, "certificates"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any], says: str) -> None:
    right = {"name": "provider", "host": "mail.example.test", "from_address": "a@b.test"}
    SmtpSettings.model_validate(right)
    with pytest.raises(ValidationError, match=says):
        SmtpSettings.model_validate(right | wrong)
