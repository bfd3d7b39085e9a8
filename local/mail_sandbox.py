"""The sandbox mail server: takes mails, as well or as badly as it is told, and shows over HTTP what it took.

    GET /messages[?to=…]   what arrived, oldest first   GET /messages/count   how many did, and what goes on
    GET /behaviour         how it behaves now           PUT /behaviour        have it otherwise

By default every mail is taken at once; `local.mail_behaviour` says how to have it otherwise. Mails are kept in memory,
the newest megabytes of them; `X-Messages-Dropped` says how many older ones are gone. `handed_over_at` is the
machine's time, whatever the services' clock says.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import secrets
import signal
import ssl
import sys
from collections import OrderedDict, deque
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.utils import parseaddr
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple, Never, cast

from aiohttp import web
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from local.behaviour import BehaviourFile
from local.mail_behaviour import PREFIX, Behaviour
from services.runtime.settings import SettingsError, describe

if TYPE_CHECKING:
    from collections.abc import Callable
    from email.message import EmailMessage

    from aiosmtpd.smtp import Envelope, Session

    from local.mail_behaviour import Conduct

HOST: Final = "127.0.0.1"
_OVERHEAD_BYTES: Final = 500
_GREYLISTED: Final = 100_000
_CERTIFICATE_DAYS: Final = 30
_REFERENCE: Final = re.compile(rb"^X-Reference:[ \t]*([^\r\n]+)", re.IGNORECASE | re.MULTILINE)
_NOT_YET: Final = "451 4.7.1 Greylisted, please try again later"


class SandboxSettings(BaseSettings):
    """Where the sandbox listens and what it keeps; a port of 0 is any that is free."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, env_ignore_empty=True)

    home: Annotated[Path, Field(validation_alias="SLUICE_HOME")] = Path(".sluice")
    behaviour: Annotated[Path | None, Field(validation_alias="SLUICE_MAIL_SANDBOX")] = None
    smtp_port: Annotated[int, Field(validation_alias=f"{PREFIX}SMTP_PORT", ge=0, le=65_535)] = 0
    smtps_port: Annotated[int, Field(validation_alias=f"{PREFIX}SMTPS_PORT", ge=0, le=65_535)] = 0
    http_port: Annotated[int, Field(validation_alias=f"{PREFIX}HTTP_PORT", ge=0, le=65_535)] = 0
    username: Annotated[str | None, Field(validation_alias=f"{PREFIX}USERNAME")] = None
    password: Annotated[SecretStr | None, Field(validation_alias=f"{PREFIX}PASSWORD")] = None
    smtputf8: Annotated[bool, Field(validation_alias=f"{PREFIX}SMTPUTF8")] = True
    keep_mb: Annotated[int, Field(validation_alias=f"{PREFIX}KEEP_MB", ge=1, le=4_096)] = 64


# --- What it took ---


class Kept(NamedTuple):
    """A mail as it came; `to` and `from_` are who the envelope names."""

    id: str
    to: str
    from_: str
    content: bytes
    at: datetime


class Mailroom:
    """The mails that were taken, the newest up to a size."""

    def __init__(self, keep_bytes: int) -> None:
        self._kept: deque[Kept] = deque()
        self._room = keep_bytes
        self.taken = 0

    @property
    def kept(self) -> tuple[Kept, ...]:
        """Those that are still here, oldest first."""
        return tuple(self._kept)

    def take(self, envelope: Envelope, content: bytes) -> str:
        """Keep a mail, once for each recipient; return the queue's id for it."""
        id_ = secrets.token_hex(6).upper()
        for to in envelope.rcpt_tos:
            self._kept.append(Kept(id_, to, envelope.mail_from or "", content, datetime.now(UTC)))
            self._room -= len(content) + _OVERHEAD_BYTES
            self.taken += 1
        while self._room < 0:
            self._room += len(self._kept.popleft().content) + _OVERHEAD_BYTES
        return id_

    def count(self) -> dict[str, int]:
        """Return how many came, are here, and are gone."""
        return {"taken": self.taken, "kept": len(self._kept), "dropped": self.taken - len(self._kept)}


def describe_mail(kept: Kept) -> dict[str, Any]:
    """Return what a mail says, read as a mail program reads it."""
    message: EmailMessage = message_from_bytes(kept.content, policy=policy.default)
    return {
        "to": kept.to,
        "from": parseaddr(str(message["From"]))[1] or kept.from_,
        "subject": str(message["Subject"] or ""),
        "text": _part(message, "plain"),
        "html": _part(message, "html"),
        "headers": {name: str(value) for name, value in message.items()},
        "message_id": message["Message-ID"],
        "id": kept.id,
        "reference": message["X-Reference"],
        "handed_over_at": kept.at.isoformat(),
    }


def _part(message: EmailMessage, kind: str) -> str | None:
    part = message.get_body((kind,))
    return None if part is None else str(part.get_content()).replace("\r\n", "\n")


# --- SMTP ---


class Listener:
    """What the SMTP server asks at each step of a dialogue; counts its connections and the answers that wait."""

    def __init__(self, mailroom: Mailroom, behaviour: BehaviourFile[Behaviour]) -> None:
        self._mailroom = mailroom
        self._behaviour = behaviour
        self._greylisted: OrderedDict[str, None] = OrderedDict()
        self.connections = 0
        self.delayed = 0

    @property
    def is_down(self) -> bool:
        """Whether to hang up on everybody."""
        return self._behaviour.read().down

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take a sender; hang up when down."""
        if self.is_down:
            await _hang_up(server)
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 Ok"

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Take a recipient, or refuse it."""
        conduct = self._behaviour.read().at_recipient(address)
        if (refusal := await self._refusal(conduct, address)) is not None:
            return refusal
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Take a mail's content, or refuse it, or take it and say nothing."""
        content, to = bytes(envelope.original_content or b""), envelope.rcpt_tos[0]
        conduct = self._behaviour.read().at_content(to, _reference_of(content) or to)
        if (refusal := await self._refusal(conduct, to)) is not None:
            return refusal
        id_ = self._mailroom.take(envelope, content)
        if conduct.outcome == "silence":
            await _hang_up(server)
        return f"250 2.0.0 Ok: queued as {id_}"

    async def _refusal(self, conduct: Conduct, to: str) -> str | None:
        if conduct.delay_s:
            self.delayed += 1
            try:
                await asyncio.sleep(conduct.delay_s)
            finally:
                self.delayed -= 1
        if conduct.outcome == "refuse":
            return conduct.said
        if conduct.outcome == "greylist" and to not in self._greylisted:
            self._greylisted[to] = None
            if len(self._greylisted) > _GREYLISTED:
                self._greylisted.popitem(last=False)
            return _NOT_YET
        return None


class Server(SMTP):
    """One connection; none is taken while the sandbox is down."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet whoever connects, or hang up on them."""
        is_new = self.transport is None
        super().connection_made(transport)
        if is_new:
            self.event_handler.connections += 1
        if self.event_handler.is_down:
            cast("asyncio.Transport", transport).abort()

    def connection_lost(self, error: Exception | None) -> None:
        """Count it as gone; aiosmtpd may say so twice."""
        if self.transport is not None:
            self.event_handler.connections -= 1
        super().connection_lost(error)


def _reference_of(content: bytes) -> str | None:
    found = _REFERENCE.search(content)
    return found[1].decode("utf-8", "replace").strip() if found else None


async def _hang_up(server: SMTP) -> Never:
    cast("asyncio.Transport", server.transport).abort()
    # The dialogue is cancelled because its connection is lost.
    await asyncio.get_running_loop().create_future()
    raise ConnectionResetError


def _dialogue(settings: SandboxSettings, listener: Listener, context: ssl.SSLContext | None) -> Callable[[], SMTP]:
    """Return what makes a connection's server: with a context it offers STARTTLS, and asks for the login if any."""
    login = None
    if settings.username is not None and settings.password is not None:
        login = LoginPassword(settings.username.encode(), settings.password.get_secret_value().encode())

    def authenticate(_server: SMTP, _session: Session, _envelope: Envelope, _how: str, given: Any) -> AuthResult:
        return AuthResult(success=given == login, handled=False)

    return partial(
        Server,
        listener,
        hostname="localhost",
        enable_SMTPUTF8=settings.smtputf8,
        tls_context=context,
        authenticator=authenticate,
        auth_required=login is not None and context is not None,
        auth_exclude_mechanism=("LOGIN",),
    )


def tls_context(certificate_file: Path) -> ssl.SSLContext:
    """Make a certificate that vouches for itself, write it down for clients, and return a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address(HOST))])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=_CERTIFICATE_DAYS))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    # The key is in a file only while it is read.
    with TemporaryDirectory() as directory:
        key_file = Path(directory) / "key.pem"
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        context.load_cert_chain(certificate_file, key_file)
    return context


# --- HTTP ---


def application(mailroom: Mailroom, listener: Listener, behaviour: BehaviourFile[Behaviour]) -> web.Application:
    """Return what answers over HTTP."""

    async def messages(request: web.Request) -> web.Response:
        to = request.query.get("to")
        described = []
        for kept in mailroom.kept:
            if to is None or kept.to == to:
                described.append(describe_mail(kept))
                # Mails arrive meanwhile.
                await asyncio.sleep(0)
        return web.json_response(described, headers={"X-Messages-Dropped": str(mailroom.count()["dropped"])})

    async def count(_request: web.Request) -> web.Response:
        going_on = {"connections": listener.connections, "delayed": listener.delayed}
        return web.json_response(mailroom.count() | going_on)

    async def show(_request: web.Request) -> web.Response:
        return web.json_response(behaviour.read().model_dump(mode="json"))

    async def change(request: web.Request) -> web.Response:
        try:
            behaviour.write(await request.read())
        except SettingsError as error:
            return web.json_response({"detail": str(error)}, status=422)
        return await show(request)

    app = web.Application()
    app.add_routes(
        [
            web.get("/messages", messages),
            web.get("/messages/count", count),
            web.get("/behaviour", show),
            web.put("/behaviour", change),
        ]
    )
    return app


# --- The process ---


async def serve(settings: SandboxSettings, behaviour: BehaviourFile[Behaviour]) -> None:
    """Listen, say where, and go on until SIGTERM."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    data = settings.home.resolve() / "data"
    data.mkdir(parents=True, exist_ok=True)
    certificate = data / "mail_sandbox.pem"
    context = tls_context(certificate)
    mailroom = Mailroom(settings.keep_mb * 1_000_000)
    listener = Listener(mailroom, behaviour)
    async with AsyncExitStack() as stack:
        smtp = await loop.create_server(_dialogue(settings, listener, context), HOST, settings.smtp_port)
        stack.callback(smtp.close)
        smtps = await loop.create_server(_dialogue(settings, listener, None), HOST, settings.smtps_port, ssl=context)
        stack.callback(smtps.close)
        runner = web.AppRunner(application(mailroom, listener, behaviour), access_log=None, handle_signals=False)
        await runner.setup()
        await web.TCPSite(runner, HOST, settings.http_port).start()
        announced = {
            "service": "mail_sandbox",
            "pid": os.getpid(),
            "smtp": f"{HOST}:{smtp.sockets[0].getsockname()[1]}",
            "smtps": f"{HOST}:{smtps.sockets[0].getsockname()[1]}",
            "http": f"http://{HOST}:{runner.addresses[0][1]}",
            "certificate": str(certificate),
            "behaviour": str(behaviour.path),
        }
        sys.stdout.write(json.dumps(announced) + "\n")
        sys.stdout.flush()
        await stopping.wait()


def main() -> int:
    """Take mails until SIGTERM; return the process's exit code."""
    try:
        settings = SandboxSettings()
        behaviour = BehaviourFile((settings.behaviour or settings.home / "mail.json").resolve(), Behaviour)
    except ValidationError as error:
        return _misconfigured(describe(error))
    except SettingsError as error:
        return _misconfigured(str(error))
    # It warns of what it does itself at every login.
    logging.getLogger("mail.log").setLevel(logging.ERROR)
    asyncio.run(serve(settings, behaviour))
    return 0


def _misconfigured(why: str) -> int:
    sys.stderr.write(f"{why}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
