"""A gateway that speaks SMTP: mails go over a pool of connections to one server, and its answers become ours.

How far a mail has got decides what a failure means: until the server is sent the content it cannot have the mail;
from then on only its answer tells. No mail is sent a second time here, whatever happens.
"""

from __future__ import annotations

import asyncio
import math
import re
import ssl
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final, Literal, NamedTuple, Self

from aiosmtplib import SMTP, SMTPDataError, SMTPException, SMTPResponse, SMTPResponseException
from pydantic import Field, FilePath, SecretStr, field_validator, model_validator

from services.notify.gateways.gateway import TOO_LATE, Answer, Outcome
from services.notify.gateways.mail import NotComposed, Sender, compose, domain_of, mailbox
from services.runtime.checked_files import Strict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from services.notify.gateways.gateway import Email
    from services.runtime.clock import Clock

_MAILS_A_CONNECTION: Final = 2
"""Of a batch that its sender is killed with nobody knows which mails had left: it is small."""
_STEPS: Final = 5
"""A mail waits for a connection, and for answers to MAIL, RCPT, DATA and its content."""
_REST_S: Final = 1.0
"""How long a connection that cannot be made leaves the mails to the others."""
_FAILURES: Final = (SMTPException, OSError, ValueError)
"""All that a lost, late or wrong server raises: TLS raises an OSError, a malformed name or challenge a ValueError."""

_QUEUE_IDS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"queued (?:mail for delivery )?as:? ?<?([\w.@+=-]+)",  # Postfix, SendGrid
        r"\bid=([\w.-]+)",  # Exim
        r"^ok:? +\d+ +([\w.-]+) - gsmtp",  # Google
        r"^([\w.-]+) message accepted",  # Sendmail
        r"^<([^>\s]+)>",  # Exchange
        r"^ok:? +([\w.-]{16,})$",  # Amazon SES
    )
)
_ENHANCED: Final = re.compile(r"([245]\.\d{1,3}\.\d{1,3})\s+")

_EXCEPTIONS: Final = {
    "5.2.2": Outcome.TEMPORARY,
    "5.3.1": Outcome.TEMPORARY,
    "5.3.2": Outcome.TECHNICAL,
    "530": Outcome.TECHNICAL,
    "534": Outcome.TECHNICAL,
    "535": Outcome.TECHNICAL,
    "538": Outcome.TECHNICAL,
}
"""Refusals that say "never" of something that passes: a full mailbox or disk, a server or a login that fails."""

_DEAD: Final = frozenset(("5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1", "550", "551", "553"))
"""Codes that say that nobody is reached by the address; a plain one only where a server has no enhanced ones."""

_WORDS: Final = {
    "1.1": "there is no such mailbox",
    "1.2": "there is no such mail domain",
    "1.3": "the address is malformed",
    "1.6": "the mailbox has moved",
    "1.10": "the domain takes no mail",
    "2.1": "the mailbox is disabled",
    "2.2": "the mailbox is full",
    "2.3": "the mail is too large",
    "3.1": "the mail server's disk is full",
    "3.4": "the mail is too large",
    "4.1": "the recipient's mail server does not answer",
    "4.4": "the recipient's mail server cannot be found",
    "7.0": "the mail server refuses for its security",
    "7.1": "the mail server's policy refuses it",
    "7.8": "the mail server does not accept the login",
    "550": "the mailbox is not available",
    "551": "the recipient is not at this server",
    "552": "the mailbox is full or the mail too large",
    "553": "the address is not allowed",
    "554": "the mail server refuses the mail",
}
"""What codes mean: the subject and detail of an enhanced one (RFC 3463), else the plain one (RFC 5321)."""


class SmtpSettings(Strict):
    """A mail server and how mails are handed to it; times in seconds.

    `tls` is `starttls` (587), `tls` from the first byte (465) or `none`; certificates are checked against `ca_file`,
    or else against the system's. `from_address` and `from_name` are who mails are from. `connections` should be no
    more than the server allows; those that nobody needs for `idle_s` are closed.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
    host: Annotated[str, Field(min_length=1)]
    port: Annotated[int, Field(ge=1, le=65_535)] = 587
    tls: Literal["none", "starttls", "tls"] = "starttls"
    ca_file: FilePath | None = None
    username: Annotated[str, Field(min_length=1)] | None = None
    password: SecretStr | None = None
    from_address: str
    from_name: str = ""
    reply_to: str | None = None
    connections: Annotated[int, Field(ge=1, le=100)] = 8
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 10
    idle_s: Annotated[float, Field(gt=0, le=3_600)] = 30

    @property
    def sender(self) -> Sender:
        """Who mails are from."""
        return Sender(self.from_address, self.from_name, self.reply_to)

    @field_validator("from_address", "reply_to")
    @classmethod
    def _is_an_address(cls, address: str | None) -> str | None:
        if address is not None:
            mailbox(address)
        return address

    @field_validator("from_name")
    @classmethod
    def _is_one_line(cls, name: str) -> str:
        if not name.isprintable():
            raise ValueError("it holds a control character")
        return name

    @field_validator("ca_file")
    @classmethod
    def _holds_certificates(cls, path: FilePath | None) -> FilePath | None:
        try:
            ssl.create_default_context(cafile=path)
        except OSError as error:
            raise ValueError(f"it holds no certificates: {error}") from None
        return path

    @model_validator(mode="after")
    def _keeps_the_password(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        if self.password is not None and self.tls == "none":
            raise ValueError("a password is not sent without TLS")
        return self


class _Mail(NamedTuple):
    """A mail made ready: who it is from and for as the server takes it, and its bytes."""

    reference: str
    sender: str
    to: str
    content: bytes

    @property
    def needs_smtputf8(self) -> bool:
        return not (self.sender.isascii() and self.to.isascii())


class _Failure(NamedTuple):
    """That no connection could be had, when that was seen on the loop's clock, and what was said."""

    at: float
    said: str


class SmtpGateway:
    """Hands mails to one server; a connection carries one mail at a time, and is made when a mail needs it."""

    batch_size: int
    longest_s: float
    can_inquire: Final = False

    def __init__(self, settings: SmtpSettings, clock: Clock) -> None:
        self.name = settings.name
        self.batch_size = settings.connections * _MAILS_A_CONNECTION
        self.longest_s = settings.timeout_s * _STEPS
        self._sender = settings.sender
        self._clock = clock
        self._pool = _Pool(settings)

    async def start(self) -> None:
        """Nothing: a mail server does not speak by itself."""

    async def send(self, messages: Sequence[Email], until: float = math.inf) -> list[Answer]:
        """Hand mails over, each by itself; a mail that cannot be composed is refused for good."""
        return await asyncio.gather(*(self._send_one(message, until) for message in messages))

    async def _send_one(self, email: Email, until: float) -> Answer:
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        async with self._pool.lease() as client:
            if loop.time() > until:
                return Answer(email.reference, Outcome.TECHNICAL, code="too-late", why=TOO_LATE)
            try:
                content = compose(email, self._sender, self._clock.now())
                mail = _Mail(email.reference, mailbox(self._sender.address), mailbox(email.to), content)
            except NotComposed as error:
                return Answer(email.reference, Outcome.PERMANENT, code="not-composed", why=str(error))
            if (said := await self._pool.connect(client, asked_at)) is not None:
                why = "no connection to the mail server"
                return Answer(email.reference, Outcome.TECHNICAL, code="no-connection", why=why, said=said)
            return await _hand_over(client, mail)

    async def inquire(self, references: Sequence[str]) -> list[Answer]:
        """Mail servers cannot be asked: UNKNOWN for each."""
        return [Answer(reference, Outcome.UNKNOWN) for reference in references]

    async def close(self) -> None:
        """Say goodbye on every connection; they are made again should a mail come."""
        await self._pool.close()


# --- Connections ---


class _Pool:
    """A fixed number of clients, each used by one task at a time; the one used last is used first."""

    def __init__(self, settings: SmtpSettings) -> None:
        self._idle_s = settings.idle_s
        context = None if settings.tls == "none" else ssl.create_default_context(cafile=settings.ca_file)
        self._clients = [_client(settings, context) for _ in range(settings.connections)]
        self._closing: dict[SMTP, asyncio.TimerHandle] = {}
        self._failure: _Failure | None = None
        self._unable: set[SMTP] = set()
        self._at_work = 0
        self._free: asyncio.LifoQueue[SMTP] = asyncio.LifoQueue()
        for client in self._clients:
            self._free.put_nowait(client)

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[SMTP]:
        """Lend a client, connected or not, and close it when nobody needs it for a while."""
        client = await self._free.get()
        if (closing := self._closing.pop(client, None)) is not None:
            closing.cancel()
        self._at_work += 1
        try:
            yield client
        except BaseException:
            # Nobody knows where in its dialogue it stopped.
            client.close()
            raise
        finally:
            self._at_work -= 1
            self._give_back(client)

    def _give_back(self, client: SMTP) -> None:
        loop = asyncio.get_running_loop()
        if client.is_connected:
            self._closing[client] = loop.call_later(self._idle_s, client.close)
        elif client in self._unable and self._at_work:
            # A server that allows fewer connections than we may make: this one must not use up the mails that wait.
            loop.call_later(_REST_S, self._free.put_nowait, client)
            return
        self._free.put_nowait(client)

    async def connect(self, client: SMTP, asked_at: float) -> str | None:
        """Connect a client that is not; return what was said where it cannot be.

        Who has waited since before a failure fails with it, so that a server that is silent costs a batch one
        timeout and not one for each mail.
        """
        if client.is_connected:
            return None
        self._unable.add(client)
        if self._failure is not None and self._failure.at >= asked_at:
            return self._failure.said
        try:
            await client.connect()
            if client.is_ehlo_or_helo_needed:
                await client.ehlo()
        except _FAILURES as error:
            client.close()
            self._failure = _Failure(asyncio.get_running_loop().time(), _said(error))
            return self._failure.said
        self._unable.discard(client)
        return None

    async def close(self) -> None:
        await asyncio.gather(*(_quit(client) for client in self._clients))


def _client(settings: SmtpSettings, context: ssl.SSLContext | None) -> SMTP:
    password = settings.password
    return SMTP(
        hostname=settings.host,
        port=settings.port,
        username=settings.username,
        password=None if password is None else password.get_secret_value(),
        # Not this machine's name: looking it up may take seconds, and to know it helps nobody.
        local_hostname=domain_of(settings.from_address),
        timeout=settings.timeout_s,
        use_tls=settings.tls == "tls",
        start_tls=settings.tls == "starttls",
        tls_context=context,
    )


async def _quit(client: SMTP) -> None:
    try:
        if client.is_connected:
            await client.quit()
    except _FAILURES:
        client.close()


# --- One mail ---


async def _hand_over(client: SMTP, mail: _Mail) -> Answer:
    """Take a mail through MAIL, RCPT and DATA; the client is ready for the next one, or closed, afterwards."""
    answer = partial(Answer, mail.reference)
    if mail.needs_smtputf8 and not client.supports_extension("smtputf8"):
        why = "the mail server does not take addresses beyond ASCII (SMTPUTF8)"
        return answer(Outcome.PERMANENT, code="5.6.7", why=why)
    try:
        if (refused := await _offer(client, mail)) is not None:
            await _start_over(client)
            return refused
    except _FAILURES as error:
        client.close()
        why = "the connection was lost before the mail was handed over"
        return answer(Outcome.TECHNICAL, code="lost", why=why, said=_said(error))
    try:
        response = await client.data(mail.content)
    except SMTPDataError as error:
        await _start_over(client)
        return _refused(mail, SMTPResponse(error.code, error.message), Outcome.UNKNOWN)
    except _FAILURES as error:
        client.close()
        why = "there was no answer after the mail was handed over"
        return answer(Outcome.UNKNOWN, code="no-answer", why=why, said=_said(error))
    code, said = _code_and_text(response)
    return answer(Outcome.ACCEPTED, _queue_id(said), code)


async def _offer(client: SMTP, mail: _Mail) -> Answer | None:
    """Name sender and recipient; return the answer when one of them is refused."""
    options = (b"BODY=8BITMIME", b"SMTPUTF8") if mail.needs_smtputf8 else ()
    response = await client.execute_command(b"MAIL", b"FROM:<" + mail.sender.encode() + b">", *options)
    if not _is_success(response):
        refused = _refused(mail, response, Outcome.TECHNICAL)
        # It is about us and not about the recipient, unless it is about this mail's size.
        is_ours = refused.outcome == Outcome.PERMANENT and response.code != 552
        return refused._replace(outcome=Outcome.TECHNICAL) if is_ours else refused
    response = await client.execute_command(b"RCPT", b"TO:<" + mail.to.encode() + b">")
    return None if _is_success(response) else _refused(mail, response, Outcome.TECHNICAL)


async def _start_over(client: SMTP) -> None:
    try:
        await client.rset()
    except _FAILURES:
        client.close()


# --- What answers mean ---


def _is_success(response: SMTPResponse) -> bool:
    return 200 <= response.code < 300


def _refused(mail: _Mail, response: SMTPResponse, otherwise: Outcome) -> Answer:
    """Return what a refusal means; `otherwise` where a server says what SMTP does not let it say there."""
    code, said = _code_and_text(response)
    outcome = {4: Outcome.TEMPORARY, 5: Outcome.PERMANENT}.get(response.code // 100, otherwise)
    outcome = _EXCEPTIONS.get(code) or _EXCEPTIONS.get(str(response.code)) or outcome
    is_dead = outcome == Outcome.PERMANENT and code in _DEAD
    why = _WORDS.get(code.partition(".")[2]) or _WORDS.get(str(response.code)) or "the mail server refuses"
    return Answer(mail.reference, outcome, code=code, why=why, is_dead=is_dead, said=said)


def _code_and_text(response: SMTPResponse) -> tuple[str, str]:
    """Split an answer into its enhanced code, or its plain one where there is none, and its text on one line."""
    found = _ENHANCED.match(response.message)
    # A server repeats the code on each line of a longer answer.
    code, said = (found[1], response.message.replace(found[0], "")) if found else (str(response.code), response.message)
    return code, " ".join(said.split())


def _queue_id(said: str) -> str | None:
    return next((found[1] for pattern in _QUEUE_IDS if (found := pattern.search(said))), None)


def _said(error: Exception) -> str:
    text = f"{error.code} {error.message}" if isinstance(error, SMTPResponseException) else str(error)
    return text or type(error).__name__
