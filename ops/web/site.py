"""What all pages share: the system that they are about, who may sign in, and what the console has seen of it."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ops.web.auditing import Audits
from ops.web.history import History
from ops.web.known import Known
from ops.web.sessions import EndedFile, Sessions
from ops.web.tries import Tries
from ops.web.users import UserFile
from services.runtime.clock import clock_from_setting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ops.lag.watching import Watch
    from ops.running import Running
    from ops.web.settings import ConsoleSettings
    from services.notify.model import Locale
    from services.runtime.clock import Clock

_ENDED = "console_ended_sessions"
"""The file beside that of the users."""


@dataclass(frozen=True)
class Site:
    """One console; `scripts` are those that were fetched at installation, by name: pages work without any."""

    running: Running
    settings: ConsoleSettings
    watch: Watch
    scripts: Mapping[str, bytes]
    users: UserFile
    sessions: Sessions
    clock: Clock
    audits: Audits
    known: Known
    history: History = field(default_factory=History)
    tries: Tries = field(default_factory=Tries)
    boards: dict[Locale, tuple[float, str]] = field(default_factory=dict)
    """The lag board as it is streamed, by language, with the moment of its look."""
    comparing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    """Lets so many passwords be compared at a time: each takes 64 MiB."""
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the console is to end: what streams to browsers ends by itself."""


def make_site(running: Running, settings: ConsoleSettings, watch: Watch, scripts: Mapping[str, bytes]) -> Site:
    """Return a console for a system."""
    users = UserFile(settings.users_file)
    ended = EndedFile(settings.users_file.with_name(_ENDED))
    sessions = Sessions(settings.signing_key(), users, ended)
    clock = clock_from_setting(running.clock)
    return Site(running, settings, watch, scripts, users, sessions, clock, Audits(running), Known(clock))
