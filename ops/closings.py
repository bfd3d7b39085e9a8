"""Asks the closing service to do something, and waits until it has: it writes every answer down with what it does."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ops.brokers import asking
from ops.commands import ANSWER_WITHIN_S, Command, Desk, publish, unanswered
from ops.database import connect
from ops.errors import UserError
from services.closure import records
from services.closure.policy import DEFAULT_POLICY, read_policy
from services.runtime.checked_files import FileError
from services.runtime.settings import SettingsError

if TYPE_CHECKING:
    from ops.running import Running
    from services.closure.policy import Policy

LOOK_EVERY_S: Final = 0.1
_REFUSED: Final = "closure.command_refused"


class Refused(UserError):
    """The closing service refused the command; the text says why."""

    exit_code = 1


def closing_policy() -> Policy:
    """Return the policy of closings that the environment names."""
    try:
        return read_policy(Path(os.environ.get("SLUICE_CLOSURE_POLICY") or DEFAULT_POLICY))
    except FileError as error:
        raise SettingsError(f"SLUICE_CLOSURE_POLICY: {error}.") from None


def ask(running: Running, desk: Desk, command: Command, key: str, value: str) -> None:
    """Publish a command and wait until it is done.

    Raises Refused for what the service refuses, NoAnswer where it does not answer.
    """
    with asking(running):
        id_ = publish(running, desk, command, key, value)
    said = asyncio.run(_await_answer(running, desk.source, id_))
    if said is None:
        raise unanswered(desk, command)
    if said.type == _REFUSED:
        reason = said.body["reason"]
        raise Refused(f"Refused ({reason['code']}): {reason.get('detail', 'see how it stands')}.")


async def _await_answer(running: Running, source: str, id_: str) -> records.Seen | None:
    """Return what the command was answered with.

    Not every command makes an event, the first of two approvals makes none.
    """
    deadline = time.monotonic() + ANSWER_WITHIN_S
    async with connect(running, "closure") as connection:
        while (said := await records.find_answer(connection, source, id_)) is None:
            if time.monotonic() > deadline:
                return None
            await asyncio.sleep(LOOK_EVERY_S)
    return said
