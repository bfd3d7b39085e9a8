"""`sluice pause` and `sluice resume`: have a service take nothing for a while, and go on; nothing is lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ops.acts import SCHEMA, Who, Why, given_reason, operator, record_act
from ops.database import connect
from ops.errors import UserError
from ops.moments import moment_text
from ops.running import find_running
from ops.terminal import terminal
from services.runtime.pausing import begin_pause, end_pause, load_pause

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ops.running import Running
    from services.runtime.pausing import Pause

PAUSABLE: Final = ("transfer", "maintenance", "closure", "notify", "insight")
"""Every service: each looks for a pause in a table of its schema."""

_Service = Annotated[str, typer.Argument(help=f"One of {', '.join(PAUSABLE)}.", metavar="SERVICE")]


class NotPausable(UserError):
    """There is no such service."""


class AlreadySo(UserError):
    """It is paused already, or runs already."""

    exit_code = 1


def pause(service: _Service, why: Why, who: Who = None) -> None:
    """Have every worker of a service take no record and no timer from its next batch on, until `sluice resume`."""
    began = asyncio.run(begin(find_running(), _checked(service), operator(who), given_reason(why)))
    end = f"sluice resume {service} --why TEXT"
    terminal().print(f"{service} is {began}. It stays in its group, and goes on with `{end}`.")


def resume(service: _Service, why: Why, who: Who = None) -> None:
    """Have a paused service go on where it stood."""
    ended = asyncio.run(end(find_running(), _checked(service), operator(who), given_reason(why)))
    terminal().print(f"{service} goes on. It was {ended}.")


async def begin(running: Running, service: str, who: str, why: str) -> Pause:
    """Pause a service and note the act; return the pause. Raises AlreadySo where it is paused."""
    async with connect(running, service) as connection, connect(running, SCHEMA) as log:
        # The act is noted before the pause can be seen, and is not where the pause fails.
        async with connection.transaction(), log.transaction():
            is_new = await begin_pause(connection, who, why)
            found = await load_pause(connection)
            if is_new:
                await record_act(log, who=who, what="pause", about=service, why=why)
        if found is None:
            raise AlreadySo(f"{service} was resumed at the same moment.")
        if not is_new:
            raise AlreadySo(f"{service} is {found}; since {moment_text(found.since)}. It stays so.")
        return found


async def end(running: Running, service: str, who: str, why: str) -> Pause:
    """Let a paused service go on and note the act; return the pause. Raises AlreadySo where it is not paused."""
    async with connect(running, service) as connection, connect(running, SCHEMA) as log:
        async with connection.transaction(), log.transaction():
            found = await end_pause(connection)
            if found is not None:
                detail = {"paused_by": found.who, "paused_because": found.why}
                await record_act(log, who=who, what="resume", about=service, why=why, detail=detail)
        if found is None:
            raise AlreadySo(f"{service} is not paused.")
        return found


async def load_pauses(running: Running) -> dict[str, Pause]:
    """Return the pauses by service; raises Unreachable."""
    found = {}
    for service in PAUSABLE:
        async with connect(running, service) as connection:
            if (pause := await load_pause(connection)) is not None:
                found[service] = pause
    return found


def paused_groups(prefix: str, pauses: Mapping[str, Pause]) -> dict[str, str]:
    """Return why each group of a paused service stands still."""
    return {f"{prefix}sluice.{service}": str(pause) for service, pause in pauses.items()}


def _checked(service: str) -> str:
    if service not in PAUSABLE:
        raise NotPausable(f"There is no service {service!r}: it is one of {', '.join(PAUSABLE)}.")
    return service
