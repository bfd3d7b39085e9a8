"""Text messages over a provider's HTTP interface with JSON, whose field names and codes are settings."""

from __future__ import annotations

import asyncio
import math
import re
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

import aiohttp
import orjson
from pydantic import AnyHttpUrl, Field, SecretStr, model_validator

from services.notify.gateways.gateway import TOO_LATE, Answer, Outcome, Receipt, Sms
from services.notify.gateways.meaning import Meaning
from services.notify.gateways.signatures import check_signature, sign
from services.runtime.checked_files import Strict
from services.runtime.clock import RealClock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MISSING: Final = "the provider's answer does not speak of this message"
_STATUSES: Final = {
    "accepted": Outcome.ACCEPTED,
    "delivered": Outcome.DELIVERED,
    "rejected": Outcome.PERMANENT,
    "failed": Outcome.PERMANENT,
    "expired": Outcome.TEMPORARY,
    "absent": Outcome.ABSENT,
}
_HTTP_OUTCOMES: Final = {
    400: Outcome.PERMANENT,
    422: Outcome.PERMANENT,
    429: Outcome.TEMPORARY,
    503: Outcome.TEMPORARY,
}


class BadReceipts(Exception):
    """A callback's body is not what the settings say receipts look like; the text says what is wrong."""


class AuthKind(StrEnum):
    """How the provider knows that a request is ours."""

    NONE = "none"
    BEARER = "bearer"
    HMAC = "hmac"


class Auth(Strict):
    """How requests are authenticated; `secret` is the token or the key."""

    kind: AuthKind = AuthKind.NONE
    secret: SecretStr | None = None

    @model_validator(mode="after")
    def _has_secret(self) -> Self:
        if (self.kind is AuthKind.NONE) != (self.secret is None):
            raise ValueError("bearer and hmac need a secret, and none has no use for one")
        return self


class RequestFields(Strict):
    """Where a request says what; `fixed` is added to every request (a sender's name, a template)."""

    messages: str = "messages"
    reference: str = "reference"
    to: str = "to"
    body: str = "body"
    callback_url: str = "callback_url"
    fixed: dict[str, str | int | bool] = Field(default={})


class AnswerFields(Strict):
    """Where an answer says what of each message; `results` is the field that holds the list."""

    results: str = "results"
    reference: str = "reference"
    id: str = "id"
    status: str = "status"
    code: str = "code"
    detail: str = "detail"


class ReceiptFields(AnswerFields):
    """Where a callback says what; `at` is the moment in RFC 3339."""

    results: str = "receipts"
    at: str = "at"


class Inquiry(Strict):
    """Where the provider is asked what became of messages; `references` is the field that holds the list."""

    url: AnyHttpUrl
    references: str = "references"


class Callback(Strict):
    """Where the provider posts receipts, and the secret that it signs them with."""

    url: AnyHttpUrl
    secret: SecretStr
    fields: ReceiptFields = ReceiptFields()


class HttpSmsConfig(Strict):
    """A provider; `statuses` and `codes` are its words, a code outweighs a status; a status without code may be enough.

    `http_outcomes` says what answers other than 200 to 299 mean; what it does not name, the class of the code says:
    300 to 499 that we ask wrongly, so that it has nothing (TECHNICAL), 500 and above that nobody can tell (UNKNOWN).
    """

    name: Annotated[str, Field(min_length=1)]
    url: AnyHttpUrl
    batch_size: Annotated[int, Field(ge=1)] = 500
    timeout_s: Annotated[float, Field(gt=0)] = 10
    connect_timeout_s: Annotated[float, Field(gt=0)] = 3
    auth: Auth = Auth()
    request: RequestFields = RequestFields()
    answer: AnswerFields = AnswerFields()
    inquiry: Inquiry | None = None
    callback: Callback | None = None
    statuses: dict[str, Outcome] = Field(default=_STATUSES)
    codes: dict[str, Meaning] = Field(default={})
    http_outcomes: dict[int, Outcome] = Field(default=_HTTP_OUTCOMES)


class _NoAnswer(Exception):
    """A request came to nothing that can be read; what may have become of its messages."""

    def __init__(self, outcome: Outcome, why: str, said: str | None = None, code: str | None = None) -> None:
        super().__init__(why)
        self.outcome, self.why, self.said, self.code = outcome, why, said, code


class HttpSmsGateway:
    """A provider's interface; made inside an event loop, and closed there."""

    def __init__(self, config: HttpSmsConfig) -> None:
        self._config = config
        # A post is never repeated by aiohttp: it repeats only methods that may be (`IDEMPOTENT_METHODS`).
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=config.timeout_s, sock_connect=config.connect_timeout_s)
        )

    @property
    def name(self) -> str:
        """The provider's name."""
        return self._config.name

    @property
    def batch_size(self) -> int:
        """How many messages one post carries at most."""
        return self._config.batch_size

    @property
    def can_inquire(self) -> bool:
        """Whether the settings say where to ask."""
        return self._config.inquiry is not None

    @property
    def longest_s(self) -> float:
        """A post's timeout."""
        return self._config.timeout_s

    async def start(self) -> None:
        """Nothing: the provider posts receipts to us."""

    async def send(self, messages: Sequence[Sms], until: float = math.inf) -> list[Answer]:
        """Post messages once, and read what the provider says of each."""
        references = [message.reference for message in messages]
        if asyncio.get_running_loop().time() > until:
            return _all(references, Outcome.TECHNICAL, _NoAnswer(Outcome.TECHNICAL, TOO_LATE))
        try:
            said = await self._post(str(self._config.url), self._request(messages))
        except _NoAnswer as error:
            return _all(references, error.outcome, error)
        return self._answers(references, said)

    async def inquire(self, references: Sequence[str]) -> list[Answer]:
        """Ask about messages; whatever prevents an answer leaves all UNKNOWN."""
        inquiry = self._config.inquiry
        if inquiry is None:
            return [Answer(reference, Outcome.UNKNOWN, why="the provider cannot be asked") for reference in references]
        try:
            said = await self._post(str(inquiry.url), {inquiry.references: list(references)})
        except _NoAnswer as error:
            return _all(references, Outcome.UNKNOWN, error)
        return self._answers(references, said)

    async def close(self) -> None:
        """Give connections back."""
        await self._http.close()

    def _request(self, messages: Sequence[Sms]) -> dict[str, Any]:
        fields, callback = self._config.request, self._config.callback
        listed = [
            {fields.reference: message.reference, fields.to: message.to, fields.body: message.text}
            for message in messages
        ]
        called_back = {fields.callback_url: str(callback.url)} if callback else {}
        return {**fields.fixed, **called_back, fields.messages: listed}

    async def _post(self, url: str, content: dict[str, Any]) -> list[dict[str, Any]]:
        """Return what the provider says of each message; raises _NoAnswer."""
        body = orjson.dumps(content)
        headers = {"Content-Type": "application/json", **self._authentication(body)}
        try:
            # A redirected post could become a get, or arrive twice.
            async with self._http.post(url, data=body, headers=headers, allow_redirects=False) as response:
                answer = await response.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            # Refused, no such host, no TLS: nothing was sent.
            raise _NoAnswer(Outcome.TECHNICAL, "no connection", str(error)) from error
        except TimeoutError as error:
            raise _NoAnswer(Outcome.UNKNOWN, f"no answer within {self._config.timeout_s:g} s") from error
        except aiohttp.ClientError as error:
            why = "the connection broke before the answer"
            raise _NoAnswer(Outcome.UNKNOWN, why, str(error) or type(error).__name__) from error
        if not 200 <= response.status < 300:
            raise self._refusal(response)
        return _listed(answer, self._config.answer.results)

    def _refusal(self, response: aiohttp.ClientResponse) -> _NoAnswer:
        status = response.status
        outcome = self._config.http_outcomes.get(status, Outcome.TECHNICAL if status < 500 else Outcome.UNKNOWN)
        after = response.headers.get("Retry-After", "")
        why = f"HTTP {status}" + (f", try again after {int(after)} s" if re.fullmatch(r"[0-9]{1,6}", after) else "")
        return _NoAnswer(outcome, why, response.reason, str(status))

    def _authentication(self, body: bytes) -> dict[str, str]:
        auth = self._config.auth
        secret = auth.secret.get_secret_value() if auth.secret else ""
        match auth.kind:
            case AuthKind.BEARER:
                return {"Authorization": f"Bearer {secret}"}
            case AuthKind.HMAC:
                # The provider lives in the world's time, whatever clock is set here.
                return sign(secret, body, RealClock().now())
            case AuthKind.NONE:
                return {}

    def _answers(self, references: Sequence[str], said: list[dict[str, Any]]) -> list[Answer]:
        """Return an answer for every message, in their order, wherever the provider speaks of it."""
        fields = self._config.answer
        by_reference = {str(one.get(fields.reference)): one for one in said}
        return [_answer(self._config, reference, by_reference.get(reference)) for reference in references]


def read_receipts(config: HttpSmsConfig, headers: Mapping[str, str], body: bytes, now: datetime) -> list[Receipt]:
    """Check and read a callback; nothing of it is returned unless all of it can be read.

    A status that the settings do not name is UNKNOWN: refused, it would hold up the receipts beside it for ever.
    `now` is the world's time, as the provider's timestamp is.

    Raises:
        BadSignature: the provider has not signed this body.
        StaleTimestamp: it has, more than five minutes from `now`.
        BadReceipts: the body is not as the settings say, or receipts are not expected at all.
    """
    if config.callback is None:
        raise BadReceipts(f"no receipts are expected from {config.name}")
    check_signature(config.callback.secret.get_secret_value(), headers, body, now)
    fields = config.callback.fields
    try:
        return [_receipt(config, fields, one) for one in _listed(body, fields.results)]
    except _NoAnswer as error:
        raise BadReceipts(error.why) from error


# --- What a provider's words mean ---


def _all(references: Sequence[str], outcome: Outcome, error: _NoAnswer) -> list[Answer]:
    return [Answer(reference, outcome, code=error.code, why=error.why, said=error.said) for reference in references]


def _listed(body: bytes, field: str) -> list[dict[str, Any]]:
    """Return the objects of a body's list; raises _NoAnswer, UNKNOWN, when there is no such list."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _NoAnswer(Outcome.UNKNOWN, f"not JSON: {error}") from error
    listed = content.get(field) if isinstance(content, dict) else None
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise _NoAnswer(Outcome.UNKNOWN, f"no list of objects called {field!r}")
    return listed


def _answer(config: HttpSmsConfig, reference: str, said: dict[str, Any] | None) -> Answer:
    fields = config.answer
    if said is None:
        return Answer(reference, Outcome.UNKNOWN, why=_MISSING)
    status, code = said.get(fields.status), _text(said.get(fields.code))
    meaning = _meaning(config, status, code)
    id_, detail = _text(said.get(fields.id)), _text(said.get(fields.detail))
    if meaning.why is None and meaning.outcome is Outcome.UNKNOWN:
        return Answer(reference, meaning.outcome, id_, code, "the settings do not name its status", said=str(status))
    return Answer(reference, meaning.outcome, id_, code, meaning.why, meaning.is_dead, detail)


def _receipt(config: HttpSmsConfig, fields: ReceiptFields, said: dict[str, Any]) -> Receipt:
    id_, code = _text(said.get(fields.id)), _text(said.get(fields.code))
    if id_ is None:
        raise BadReceipts(f"a receipt has no {fields.id!r}")
    outcome = _meaning(config, said.get(fields.status), code).outcome
    return Receipt(config.name, id_, _text(said.get(fields.reference)), outcome, code, _moment(said, fields.at))


def _meaning(config: HttpSmsConfig, status: object, code: str | None) -> Meaning:
    # What a code says is closer than a status, except that nothing outweighs a success.
    outcome = config.statuses.get(str(status), Outcome.UNKNOWN)
    meaning = config.codes.get(code) if code is not None else None
    if meaning is None or outcome in {Outcome.ACCEPTED, Outcome.DELIVERED}:
        return Meaning(outcome=outcome)
    return meaning


def _moment(said: dict[str, Any], field: str) -> datetime:
    try:
        moment = datetime.fromisoformat(str(said.get(field)))
    except ValueError as error:
        raise BadReceipts(f"a receipt's {field!r} is no moment") from error
    if moment.tzinfo is None:
        raise BadReceipts(f"a receipt's {field!r} has no offset")
    return moment


def _text(value: object) -> str | None:
    return None if value is None else str(value)
