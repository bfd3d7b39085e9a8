"""The sandbox's SMS gateways: any number by name, over HTTP and SMPP, as good or as bad as they are told.

They keep what they take until they end; `local.sms_behaviour` says how to have them behave otherwise, in a file that
SLUICE_SMS_SANDBOX names.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import signal
import sys
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import orjson
import uvloop
from aiohttp import web
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from local.behaviour import BehaviourFile
from local.sms_behaviour import PREFIX, Behaviour, GatewayBehaviour, SmsBehaviours
from local.sms_callbacks import Callbacks
from local.sms_desk import Desk
from local.sms_mailbox import Mailbox, Status, id_of
from local.sms_smpp import MessageCentre
from services.notify.gateways.signatures import NotGenuine, check_signature
from services.runtime.settings import SettingsError, describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local.sms_behaviour import Conduct

_HOST: Final = "127.0.0.1"
_LARGEST_BODY: Final = 16_000_000
_PAGE: Final = 1_000
_LARGEST_PAGE: Final = 1_000_000


class SandboxSettings(BaseSettings):
    """Where the gateways listen (0 is any free port) and what opens them; all begin with SLUICE_SMS_SANDBOX_."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_prefix=PREFIX, env_ignore_empty=True)

    http_port: Annotated[int, Field(ge=0, le=65_535)] = 0
    smpp_port: Annotated[int, Field(ge=0, le=65_535)] = 0
    secret: SecretStr = SecretStr("sandbox-secret")
    smpp_password: Annotated[SecretStr, Field(max_length=8)] = SecretStr("sandbox")


class _Sms(msgspec.Struct):
    reference: str
    to: str
    body: str


class _Submission(msgspec.Struct):
    messages: Annotated[list[_Sms], msgspec.Meta(min_length=1, max_length=500)]
    callback_url: str | None = None


class _Inquiry(msgspec.Struct):
    references: list[str]


class HttpGateways:
    """The gateways' HTTP interface, and what tests and people read and set."""

    def __init__(self, desk: Desk, callbacks: Callbacks, secret: str) -> None:
        self._desk = desk
        self._callbacks = callbacks
        self._secret = secret

    def app(self) -> web.Application:
        """Return the routes."""
        app = web.Application(client_max_size=_LARGEST_BODY)
        app.add_routes(
            [
                web.post("/gateways/{name}/messages", self._submit),
                web.get("/gateways/{name}/messages", self._inquire_few),
                web.post("/gateways/{name}/messages/inquire", self._inquire),
                web.put("/gateways/{name}/behaviour", self._set_behaviour),
                web.get("/messages", self._list),
                web.get("/messages/count", self._count),
            ]
        )
        return app

    # --- What a provider offers ---

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        body = await self._body_of(request)
        if self._desk.behaviour_of(name).down:
            return _json({"error": "down"}, 503)
        submission = _decoded(body, _Submission)
        if not self._desk.has_room(name, len(submission.messages)):
            return web.Response(status=429, headers={"Retry-After": "1"})
        behaviour = self._desk.behaviour_of(name)
        conducts = [behaviour.conduct_of(sms.reference, sms.to) for sms in submission.messages]
        results = self._take(name, submission, conducts)
        if delay_s := max(conduct.delay_s for conduct in conducts):
            await asyncio.sleep(delay_s)
        if not results and request.transport is not None:
            request.transport.abort()
        return _json({"results": results})

    def _take(self, name: str, submission: _Submission, conducts: Sequence[Conduct]) -> list[dict[str, Any]]:
        """Take what is not refused; what is met with silence has no result."""
        results: list[dict[str, Any]] = []
        taken: list[tuple[int, Conduct]] = []
        for sms, conduct in zip(submission.messages, conducts, strict=True):
            if conduct.code is not None:
                results.append(_rejected(sms.reference, conduct))
                continue
            place = self._desk.mailbox.take(name, sms.to, sms.body, sms.reference)
            taken.append((place, conduct))
            if not conduct.is_silent:
                results.append({"reference": sms.reference, "id": id_of(place), "status": Status.ACCEPTED})
        url = submission.callback_url
        self._desk.settle_later(name, taken, lambda places: self._callbacks.add(url, places) if url else None)
        return results

    async def _inquire(self, request: web.Request) -> web.Response:
        inquiry = _decoded(await self._body_of(request), _Inquiry)
        return self._standings(request, inquiry.references)

    async def _inquire_few(self, request: web.Request) -> web.Response:
        await self._body_of(request)
        return self._standings(request, request.query.getall("reference", []))

    def _standings(self, request: web.Request, references: Sequence[str]) -> web.Response:
        name = request.match_info["name"]
        if self._desk.behaviour_of(name).down:
            return _json({"error": "down"}, 503)
        return _json({"results": [self._standing(name, reference) for reference in references]})

    def _standing(self, name: str, reference: str) -> dict[str, Any]:
        place = self._desk.mailbox.find(name, reference)
        if place is None:
            return {"reference": reference, "status": "absent"}
        status, code = self._desk.mailbox.standing(place)
        return {"reference": reference, "id": id_of(place), "status": status, "code": code}

    async def _body_of(self, request: web.Request) -> bytes:
        """Return the body of a request by somebody who knows the secret."""
        body = await request.read()
        authorization = request.headers.get("Authorization")
        if authorization is not None:
            if hmac.compare_digest(authorization.encode(), f"Bearer {self._secret}".encode()):
                return body
            raise web.HTTPUnauthorized
        try:
            check_signature(self._secret, request.headers, body, datetime.now(UTC))
        except NotGenuine as error:
            raise web.HTTPUnauthorized(text=str(error)) from error
        return body

    # --- What is only a sandbox's ---

    async def _set_behaviour(self, request: web.Request) -> web.Response:
        try:
            behaviour = GatewayBehaviour.model_validate_json(await request.read())
        except ValidationError as error:
            raise web.HTTPBadRequest(text=describe(error)) from error
        self._desk.tell(request.match_info["name"], behaviour)
        return web.Response(status=204)

    async def _list(self, request: web.Request) -> web.Response:
        try:
            since = max(int(request.query.get("since", 0)), 0)
            limit = min(int(request.query.get("limit", _PAGE)), _LARGEST_PAGE)
        except ValueError as error:
            raise web.HTTPBadRequest(text="since and limit are numbers") from error
        listed = self._desk.mailbox.listed(since, request.query.get("to"), request.query.get("gateway"))
        return _json(list(islice(listed, limit)))

    async def _count(self, _request: web.Request) -> web.Response:
        return _json({"count": len(self._desk.mailbox)})


def _rejected(reference: str, conduct: Conduct) -> dict[str, Any]:
    detail = "never this number" if conduct.is_permanent else "not now"
    return {"reference": reference, "status": "rejected", "code": conduct.code, "detail": detail}


def _decoded(body: bytes, form: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=form)
    except msgspec.MsgspecError as error:
        raise web.HTTPBadRequest(text=str(error)) from error


def _json(content: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(content), status=status, content_type="application/json")


# --- The process ---


async def serve(settings: SandboxSettings, behaviour: SmsBehaviours) -> None:
    """Serve until cancelled, having said where on standard output."""
    desk = Desk(Mailbox(), behaviour)
    secret = settings.secret.get_secret_value()
    http = HttpGateways(desk, Callbacks(desk.mailbox, secret), secret)
    runner = web.AppRunner(http.app(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, _HOST, settings.http_port).start()
    centre = MessageCentre(desk, settings.smpp_password.get_secret_value())
    smpp_port = await centre.listen(_HOST, settings.smpp_port)
    _, http_port = runner.addresses[0][:2]
    announced = {
        "service": "sms_sandbox",
        "pid": os.getpid(),
        "http": f"http://{_HOST}:{http_port}",
        "smpp": f"{_HOST}:{smpp_port}",
        "behaviour": str(behaviour.path),
    }
    sys.stdout.write(json.dumps(announced) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def _settings() -> SandboxSettings:
    try:
        return SandboxSettings()
    except ValidationError as error:
        raise SettingsError(describe(error).replace("setting ", f"setting {PREFIX}", 1)) from None


def main() -> int:
    """Serve until SIGTERM; return the process's exit code when it cannot."""
    # Nothing is kept, so that there is nothing to put in order: the process ends where it is.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    try:
        settings = _settings()
        file = os.environ.get("SLUICE_SMS_SANDBOX")
        behaviour = SmsBehaviours(BehaviourFile(Path(file) if file else None, Behaviour))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    uvloop.run(serve(settings, behaviour))
    return 0


if __name__ == "__main__":
    sys.exit(main())
