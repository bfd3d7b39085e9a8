"""`sluice follow`: a link by which a customer follows one transfer or closing."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from ops.acts import Who, Why, given_reason, note_act, operator
from ops.errors import UserError
from ops.running import find_running
from ops.terminal import Json, print_json, terminal
from ops.web.following import kind_of
from ops.web.links import make_link
from ops.web.settings import load_console

if TYPE_CHECKING:
    from ops.running import Running
    from ops.web.settings import ConsoleSettings

LONGEST_DAYS = 90


class NothingToFollow(UserError):
    """There is no transfer or case of that id."""

    exit_code = 1


class NoAddress(UserError):
    """It is not known by what address customers reach the console."""


def link(
    id_: Annotated[uuid.UUID, typer.Argument(metavar="ID", help="The id of a transfer or a case.")],
    days: Annotated[int, typer.Option(help="How long it is good.", min=1, max=LONGEST_DAYS)] = 7,
    why: Why = "the customer asked",
    who: Who = None,
    *,
    as_json: Json = False,
) -> None:
    """Print a link for whoever ordered a transfer or closing: where it stands, its steps, what to do; no names."""
    running, settings = find_running(), load_console()
    url = asyncio.run(linked(running, settings, id_, timedelta(days=days), operator(who), given_reason(why)))
    if as_json:
        print_json({"url": url, "days": days})
    else:
        terminal().print(url, soft_wrap=True)


async def linked(
    running: Running, settings: ConsoleSettings, id_: uuid.UUID, lasts: timedelta, who: str, why: str
) -> str:
    """Return a link, having noted who made it; raises NothingToFollow or NoAddress."""
    if not (address := settings.url or running.console):
        raise NoAddress("Set SLUICE_CONSOLE_URL to the address by which customers reach the console.")
    followed = await kind_of(running, id_)
    if followed is None:
        raise NothingToFollow(f"There is no transfer or case {id_}.")
    detail = {"kind": followed.kind, "days": lasts.days}
    await note_act(running, who=who, what="follow link", about=str(id_), why=why, detail=detail)
    return make_link(settings.signing_key(), address, followed, lasts)
