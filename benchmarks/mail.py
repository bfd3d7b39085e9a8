"""Mails handed over by the SMTP gateway, composed and answered, against the bare floor: ready bytes and aiosmtplib.

Both run over eight connections to a sink that takes everything, in turns, on one machine:

    python -m benchmarks.mail [--mails 4000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING, cast

import uvloop
from aiosmtplib import SMTP

from services.notify.gateways.gateway import Email, Outcome
from services.notify.gateways.mail import Sender, compose, html_of
from services.notify.gateways.smtp import SmtpGateway, SmtpSettings
from services.runtime.clock import RealClock

if TYPE_CHECKING:
    from collections.abc import Sequence

CONNECTIONS = 8
SENDER = Sender("no-reply@sluice.example", "流水钱包")


class Sink(asyncio.Protocol):
    """The least that is an SMTP server: it keeps nothing and refuses nothing."""

    def __init__(self) -> None:
        self.heard = b""
        self.is_content = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        # uvloop's are transports in all but name.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(b"220 sink\r\n")

    def data_received(self, data: bytes) -> None:
        """Answer commands, and a content once its end is here; clients wait for each answer."""
        self.heard += data
        if not self.heard.endswith(b"\r\n.\r\n" if self.is_content else b"\r\n"):
            return
        verb, self.heard = self.heard[:4], b""
        if self.is_content or verb != b"DATA":
            self.is_content = False
            self.transport.write(b"250 2.0.0 Ok: queued as 4XyZ1234ab\r\n")
        else:
            self.is_content = True
            self.transport.write(b"354 go on\r\n")


async def sink() -> None:
    """Take mails until killed; says its port."""
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201
    await server.serve_forever()


def a_mail(number: int) -> Email:
    """Return a notice of the usual length, in Chinese."""
    title, text = "转账成功：您的转账已经到账", f"您已向尾号 1234 的账户转账 {number}.00 元。\n如有疑问，请致电客服。\n"
    html = html_of(title, text.splitlines(), language="zh-CN", footer=["流水钱包"])
    return Email(f"n-{number}.email.1", f"user{number}@example.test", title, text, html)


async def floor(port: int, mails: Sequence[Email]) -> float:
    """Return how many mails a second aiosmtplib hands over when they are bytes already."""
    ready = iter([(mail.to, compose(mail, SENDER, datetime.now(UTC))) for mail in mails])
    clients = [
        SMTP(hostname="127.0.0.1", port=port, start_tls=False, local_hostname="floor.example")
        for _ in range(CONNECTIONS)
    ]
    await asyncio.gather(*(client.connect() for client in clients))

    async def work(client: SMTP) -> None:
        for to, content in ready:
            await client.sendmail(SENDER.address, [to], content)

    started = time.perf_counter()
    await asyncio.gather(*map(work, clients))
    rate = len(mails) / (time.perf_counter() - started)
    for client in clients:
        client.close()
    return rate


async def gateway(port: int, mails: Sequence[Email]) -> float:
    """Return how many mails a second the gateway composes, hands over and answers for."""
    settings = SmtpSettings(
        name="sink",
        host="127.0.0.1",
        port=port,
        tls="none",
        from_address=SENDER.address,
        from_name=SENDER.name,
        connections=CONNECTIONS,
    )
    sending = SmtpGateway(settings, RealClock())
    await sending.send(mails[:CONNECTIONS])
    started = time.perf_counter()
    for at in range(0, len(mails), sending.batch_size):
        answers = await sending.send(mails[at : at + sending.batch_size])
        assert {answer.outcome for answer in answers} == {Outcome.ACCEPTED}  # noqa: S101 -- or the figure means nothing
    rate = len(mails) / (time.perf_counter() - started)
    await sending.close()
    return rate


async def compare(port: int, count: int, rounds: int) -> dict[str, object]:
    """Return the medians of both, turn about, and their ratio."""
    mails = [a_mail(number) for number in range(count)]
    turns = [(await floor(port, mails), await gateway(port, mails)) for _ in range(rounds)]
    floors, gateways = (median(rates) for rates in zip(*turns, strict=True))
    ratio = median(ours / bare for bare, ours in turns)
    return {"workload": "mail", "floor": round(floors), "gateway": round(gateways), "ratio": round(ratio, 2)}


def main() -> None:
    """Start a sink of its own and compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mail", description=__doc__)
    parser.add_argument("--mails", type=int, default=4_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sink", action="store_true", help="be the sink")
    options = parser.parse_args()
    if options.sink:
        uvloop.run(sink())
        return
    command = [sys.executable, "-m", "benchmarks.mail", "--sink"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            assert process.stdout is not None  # noqa: S101 -- it was asked for
            port = int(process.stdout.readline())
            print(json.dumps(uvloop.run(compare(port, options.mails, options.rounds))))  # noqa: T201
        finally:
            process.kill()


if __name__ == "__main__":
    main()
