"""Finds out what an id is, asks every service about it, and follows what that leads to, one step far."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from ops.brokers import NoAnswer, asking
from ops.database import connect
from ops.errors import UserError
from ops.trace import closings, notices, topics, transfers, windows
from ops.trace.story import Chapter, Line, Look, Story, Subject, as_uuid
from schemas.topics import DEAD_LETTER_SUFFIX, TOPICS
from services.runtime.clock import clock_from_setting
from services.transfer import trail as ledger

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ops.running import Running
    from services.runtime.database import Connection


class NothingKnown(UserError):
    """No service and no topic knows the id; the text says where was looked."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked: an id, since when a customer's life is told, and how far back topics are searched for the id."""

    id: str
    since: datetime
    within: timedelta


def asked_for(running: Running, id_: str, life: timedelta, within: timedelta) -> Asked:
    """Return what is asked, a customer's life as far back by the clock that the services go by."""
    return Asked(id_, clock_from_setting(running.clock).now() - life, within)


_OWN_ID: Final = re.compile(
    r"(?:(?:case|reopening|clearance)\.)?([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\.[a-z0-9_.-]+"
)
"""The ids of our own events: what they are about, and which of them."""
_WALLET_EVENT: Final = re.compile(r"(wallet:.+)\.\d+")


async def trace(running: Running, asked: Asked) -> Story:
    """Return everything that happened to what has this id; raises NothingKnown."""
    async with AsyncExitStack() as stack:
        found_by = {
            name: await stack.enter_async_context(connect(running, name))
            for name in (transfers.SERVICE, closings.SERVICE, windows.SERVICE, notices.SERVICE)
        }
        services = _Services(found_by, asked.since)
        found = await services.know(asked.id)
        seen = topics.Seen([], [], [])
        if not found:
            seen = await _search(running, asked)
            found = await services.know_all(_named(seen.values))
            if found:
                # What the services say themselves they know better.
                seen = replace(seen, lines=[line for line in seen.lines if line.what != "event"])
        if not found and not seen.lines:
            raise NothingKnown(
                f"Nothing is known of {asked.id!r}: no service has it, and no record of the last "
                f"{_hours(asked.within)} has it as its id or its correlation."
            )
        chapter, followed = await services.tell(found)
    return await _story(running, asked, found, followed, chapter, seen)


async def _story(
    running: Running, asked: Asked, found: list[Subject], followed: list[Subject], chapter: Chapter, seen: topics.Seen
) -> Story:
    also = await _look(running, chapter.looks)
    lines = [*chapter.lines, *seen.lines, *also.lines]
    ordered = sorted(_each_once(lines), key=lambda line: (line.at, _ORDER.index(line.what)))
    correlations = dict.fromkeys(line.correlation for line in ordered if line.correlation is not None)
    notes = dict.fromkeys([*chapter.notes, *seen.notes, *also.notes])
    return Story(asked.id, found, followed, list(correlations), ordered, list(notes))


_ORDER: Final = (
    "command", "answer", "decision", "event", "instruction", "entry", "attempt", "notice", "dead letter", "timer"
)  # fmt: skip
"""In which order things of one moment are told."""


def _each_once(lines: Iterable[Line]) -> list[Line]:
    """Return each thing once: what the database and a topic both know of an event is told by the database."""
    kept: dict[object, Line] = {}
    for line in lines:
        is_named = line.what in {"event", "command", "instruction", "answer"} and line.event_id
        moment = (line.at, line.service, line.what, line.name, line.about, line.status, line.detail, repr(line.said))
        kept.setdefault((line.what, line.source, line.event_id) if is_named else moment, line)
    return list(kept.values())


async def _look(running: Running, looks: Sequence[Look]) -> topics.Seen:
    """Read topics; where the brokers do not answer, say what is missing instead."""
    if not looks:
        return topics.Seen([], [], [])
    try:
        with asking(running):
            settings, logs = await topics.look(running, looks)
            return await asyncio.to_thread(topics.read, running, settings, logs, looks)
    except NoAnswer as error:
        return topics.Seen([], [], [f"Without what only topics know, such as commands and dead letters: {error}"])


async def _search(running: Running, asked: Asked) -> topics.Seen:
    """Look for an id that no service knows in the latest records of every topic: as their id or correlation."""
    since = datetime.now(UTC) - asked.within
    compact = {topic.name for topic in TOPICS if topic.compact}
    names = [topic.name for topic in TOPICS if topic.name.removesuffix(DEAD_LETTER_SUFFIX) not in compact]
    return await _look(running, [Look(name, None, frozenset({asked.id}), frozenset(), since=since) for name in names])


def _named(values: Iterable[dict[str, Any]]) -> list[str]:
    """Return the ids that records are about, each once, a few of them."""
    named = dict.fromkeys(str(value[name]) for value in values for name in topics.IDS[:-1] if value.get(name))
    return list(named)[:_MOST_NAMED]


_MOST_NAMED: Final = 10


def _hours(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return "hour" if hours == 1 else f"{hours:g} hours"


class _Services:
    """Every service's records, and since when a customer's life is told."""

    def __init__(self, connections: dict[str, Connection], since: datetime) -> None:
        self._transfer = connections[transfers.SERVICE]
        self._closure = connections[closings.SERVICE]
        self._maintenance = connections[windows.SERVICE]
        self._notify = connections[notices.SERVICE]
        self._since = since

    async def know_all(self, ids: Iterable[str]) -> list[Subject]:
        """Return what these are the ids of."""
        return list(dict.fromkeys([subject for id_ in ids for subject in await self.know(id_)]))

    async def know(self, id_: str) -> list[Subject]:
        """Return what an id is the id of; more than one service may have it."""
        found: list[Subject] = []
        if (uuid := as_uuid(id_)) is not None:
            found += await self._know_uuid(uuid)
        found += await closings.know_customer(self._closure, id_)
        for wallet in await ledger.read_wallets(self._transfer, [_wallet_of(id_)]):
            found.append(Subject("customer", wallet["customer_id"]))
        if (own := _OWN_ID.fullmatch(id_)) is not None:
            found += await self._know_uuid(UUID(own[1]))
        found += await notices.know_event(self._notify, id_)
        if not found:
            found += await transfers.know_command(self._transfer, id_)
            found += await closings.know_command(self._closure, id_)
            found += await windows.know_command(self._maintenance, id_)
        return list(dict.fromkeys(found))

    async def _know_uuid(self, id_: UUID) -> list[Subject]:
        return [
            *await transfers.know(self._transfer, id_),
            *await closings.know(self._closure, id_),
            *await windows.know(self._maintenance, id_),
            *await notices.know(self._notify, id_),
        ]

    async def tell(self, found: Sequence[Subject]) -> tuple[Chapter, list[Subject]]:
        """Return what is known of these and of what they lead to; of that, topics are not looked at."""
        whole = Chapter()
        for subject in found:
            _add(whole, await self._tell(subject, found))
        followed = [link for link in dict.fromkeys(whole.links) if link not in found]
        told = []
        for link in followed:
            chapter = await self._tell_linked(link, found)
            told += [link] if chapter.lines else []
            whole.lines += chapter.lines
        subjects = [prefix for subject in (*found, *told) if (prefix := _told_of(subject, found)) is not None]
        _add(whole, await notices.tell_notices(self._notify, subjects))
        return whole, told

    async def _tell(self, subject: Subject, found: Sequence[Subject]) -> Chapter:
        match subject.kind:
            case "customer":
                return await self._tell_customer(subject.id)
            case "window":
                chapter = await windows.tell_window(self._maintenance, UUID(subject.id))
                _add(chapter, await transfers.tell_held(self._transfer, UUID(subject.id)))
                _add(chapter, await notices.tell_announcements(self._notify, subject.id))
                return chapter
            case "clearance":
                chapter = await closings.tell_clearance(self._closure, UUID(subject.id))
                _add(chapter, await notices.tell_announcements(self._notify, subject.id))
                return chapter
            case "batch":
                return await transfers.tell_batch(self._transfer, subject.id)
            case "broadcast":
                return await notices.tell_broadcast(self._notify, subject.id)
            case "event" | "notice" | "request":
                return await notices.tell_event(self._notify, subject.id)
            case _:
                return await self._tell_linked(subject, found)

    async def _tell_linked(self, subject: Subject, found: Sequence[Subject]) -> Chapter:
        match subject.kind:
            case "transfer":
                return await transfers.tell_transfer(self._transfer, UUID(subject.id))
            case "case":
                return await closings.tell_case(self._closure, UUID(subject.id))
            case "reopening":
                return await closings.tell_reopening(self._closure, UUID(subject.id))
            case "clearance":
                return await closings.tell_clearance(self._closure, UUID(subject.id))
            case "window":
                return await windows.tell_window(self._maintenance, UUID(subject.id))
            case "waiver":
                named = [one.id for one in found if one.kind == "transfer"]
                return await windows.tell_waiver(self._maintenance, UUID(subject.id), named)
            case _:
                return Chapter()

    async def _tell_customer(self, customer_id: str) -> Chapter:
        chapter, wallets = await closings.tell_customer(self._closure, customer_id)
        _add(chapter, await transfers.tell_wallets(self._transfer, wallets, self._since))
        _add(chapter, await notices.tell_customer(self._notify, customer_id, self._since))
        of_customer = (customer_id, frozenset({customer_id}), frozenset[datetime]())
        chapter.looks += [Look(topic, *of_customer, since=self._since) for topic in ("risk.events", "notify.commands")]
        return chapter


def _add(whole: Chapter, chapter: Chapter) -> None:
    whole.lines += chapter.lines
    whole.links += chapter.links
    whole.looks += chapter.looks
    whole.notes += chapter.notes


def _wallet_of(id_: str) -> str:
    event = _WALLET_EVENT.fullmatch(id_)
    return id_ if event is None else event[1]


def _told_of(subject: Subject, found: Sequence[Subject]) -> str | None:
    """Return what the ids of the events about something begin with, whose notices are told."""
    if subject.kind in {"case", "reopening", "clearance"}:
        return f"{subject.kind}.{subject.id}"
    if subject.kind in {"transfer", "waiver"}:
        return subject.id
    # A window is told to many, which its announcements say; each person's notice is not.
    return None
