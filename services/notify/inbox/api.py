"""Inboxes as JSON: read page by page, and noted as read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Final, Self, TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from schemas.fields import as_text
from services.notify.inbox import store
from services.notify.inbox.access import PRIVATE, Refused, check_size, grant_of, nothing_here, reading

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from services.notify.inbox.access import Lender
    from services.notify.inbox.store import Message
    from services.notify.sealed import Keys
    from services.runtime.clock import Clock

    Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]

_MOST_AT_ONCE: Final = 500
Number = Annotated[int, Field(ge=0, lt=2**63)]
"""The number of a message in its inbox; they begin at 1."""


class Order(BaseModel):
    """What a reader asks for; a name that is not known is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PageOrder(Order):
    """Which part of an inbox: the newest messages below a number."""

    before: Number | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 50


class ReadOrder(Order):
    """What was read: some messages, or all up to one."""

    numbers: Annotated[tuple[Number, ...], Field(min_length=1, max_length=_MOST_AT_ONCE)] = ()
    up_to: Number | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if bool(self.numbers) == (self.up_to is not None):
            raise ValueError("say either numbers or up_to")
        return self


_Order = TypeVar("_Order", bound=Order)


def order_in_query(model: type[_Order], request: web.Request) -> _Order:
    """Return what the query asks for, its token aside; Refused says what is wrong with it."""
    return checked_order(model.model_validate, {name: said for name, said in request.query.items() if name != "token"})


def checked_order(validate: Callable[[Any], _Order], said: Any) -> _Order:
    """Return what was said as an order; Refused says what is wrong with it."""
    try:
        return validate(said)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        sentence = first["msg"].removeprefix("Value error, ")
        raise Refused(400, f"{where}: {sentence}." if where else f"{sentence}.") from None


def in_json(handler: Answering) -> Answering:
    """Answer a refusal as JSON."""

    @wraps(handler)
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refused as refused:
            return _json({"error": refused.sentence}, refused.status, refused.headers)

    return answer


def _json(body: Any, status: int = 200, headers: Mapping[str, str] = PRIVATE) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, headers=headers, content_type="application/json")


def as_json(message: Message) -> dict[str, Any]:
    """Return a message as the app gets it."""
    return {
        "number": message.number,
        "notice_id": str(message.notice_id),
        "title": message.title,
        "body": message.body,
        "locale": message.locale,
        "arrived_at": as_text(message.arrived_at),
        "read_at": None if message.read_at is None else as_text(message.read_at),
    }


@dataclass(frozen=True, slots=True)
class Api:
    """The desk that apps talk to."""

    keys: Keys
    lender: Lender
    clock: Clock

    def routes(self) -> list[web.RouteDef]:
        """Return what it answers."""
        return [web.get("/inbox", in_json(self.list)), web.post("/inbox/read", in_json(self.mark_read))]

    async def list(self, request: web.Request) -> web.Response:
        """Answer a page of the inbox, newest first."""
        customer_id = grant_of(request, self.keys.master_key).customer_id
        order = order_in_query(PageOrder, request)
        async with self.lender.lend(customer_id) as connection:
            # One more tells whether there are more.
            page = await store.load_page(connection, customer_id, order.before, order.limit + 1)
        if page is None:
            raise nothing_here()
        shown = page.messages[: order.limit]
        messages = [as_json(store.open_message(self.keys, customer_id, page.wrapped_key, one)) for one in shown]
        next_before = shown[-1].number if len(page.messages) > order.limit else None
        return _json({"unread": page.unread, "messages": messages, "next_before": next_before})

    async def mark_read(self, request: web.Request) -> web.Response:
        """Note what was read."""
        customer_id = grant_of(request, self.keys.master_key).customer_id
        check_size(request)
        if request.content_type != "application/json":
            # No form of another site can say this by itself.
            raise Refused(415, "The body must be of type application/json.")
        async with reading():
            body = await request.read()
        order = checked_order(ReadOrder.model_validate_json, body)
        async with self.lender.lend(customer_id) as connection:
            now = self.clock.now()
            unread = await store.mark_read(connection, customer_id, order.numbers, order.up_to, now)
        if unread is None:
            raise nothing_here()
        return _json({"unread": unread})
