"""`sluice clearance`: how far clearances are, their money, which wallets they cannot end; begins and pauses them."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer
from rich.table import Table

from ops.brokers import NoAnswer, asking
from ops.closings import LOOK_EVERY_S, Refused, ask, closing_policy
from ops.commands import ANSWER_WITHIN_S, Command, Desk, encode, publish, unanswered
from ops.counts import count_text
from ops.database import connect
from ops.errors import UserError
from ops.moments import moment_of, moment_text
from ops.money import amount_text
from ops.running import find_running
from ops.terminal import Fitted, Json, print_json, terminal
from schemas.closure import ClearancePause, ClearanceResume, ClearanceStart
from schemas.fields import as_text
from services.closure import clearance_records
from services.closure.decide.clearance import check_times
from services.closure.model import ClearanceStatus
from services.runtime.clock import clock_from_setting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from rich.console import Console

    from ops.running import Running
    from services.runtime.database import Connection

_COUNTS: Final = ("cleared", "paid", "waiting", "blocked", "pending")
_AMOUNTS: Final = ("total", "paid_out", "fee", "waiting", "blocked", "moved")
_LISTED: Final = 20
_WHEN: Final = "2026-11-23T22:00, in the zone of Asia/Shanghai, or with an offset of its own"
_DESK: Final = Desk(
    service="closing",
    topic="closure.commands",
    source="sluice.clearance",
    about="clearance_id",
    models={
        "clearance.start": ClearanceStart,
        "clearance.pause": ClearancePause,
        "clearance.resume": ClearanceResume,
    },
    options={
        "subjects": "--wallet",
        "announce_at": "--announce",
        "starts_at": "--from",
        "deadline": "--to",
        "rate_per_s": "--rate",
    },
)

ClearanceId = Annotated[uuid.UUID, typer.Argument(metavar="CLEARANCE_ID", help="As `sluice clearance` lists it.")]


class NoSuchClearance(UserError):
    """There is no clearance of that id."""

    exit_code = 1


class NotNamed(UserError):
    """It is not said which wallets a clearance is about."""


# --- Looking ---


def show(
    context: typer.Context,
    clearance: Annotated[
        uuid.UUID | None, typer.Option(help="Only this one, with its statement; the option may be left out.")
    ] = None,
    limit: Annotated[
        int, typer.Option(help="List so many: clearances, or of one the wallets that stay.", min=0, max=100_000)
    ] = _LISTED,
    *,
    as_json: Json = False,
) -> None:
    """Print clearances; of one how far it is, its money, and what stands against the wallets that stay."""
    if context.invoked_subcommand is not None:
        return
    running = find_running()
    found = asyncio.run(_list(running, limit)) if clearance is None else _read_known(running, clearance, limit)
    if as_json:
        print_json(found)
    elif isinstance(found, list):
        _print_all(terminal(), found)
    else:
        print_statement(terminal(), found)


async def _list(running: Running, limit: int) -> list[dict[str, Any]]:
    async with connect(running, "closure") as connection:
        return await clearance_records.list_clearances(connection, limit)


def _read_known(running: Running, clearance_id: uuid.UUID, limit: int) -> dict[str, Any]:
    found = asyncio.run(_read(running, clearance_id, limit))
    if found is None:
        raise NoSuchClearance(
            f"There is no clearance {clearance_id}. If it was asked for: `sluice dlq ls closure.commands` shows "
            "what could not be read, `closure.events` has what was refused."
        )
    return found


async def _read(running: Running, clearance_id: uuid.UUID, limit: int) -> dict[str, Any] | None:
    async with connect(running, "closure") as connection:
        return await clearance_records.load_statement(connection, clearance_id, limit, _now(running))


def _now(running: Running) -> datetime:
    return clock_from_setting(running.clock).now()


def _print_all(out: Console, clearances: Sequence[Mapping[str, Any]]) -> None:
    if not clearances:
        out.print("There is no clearance: `sluice clearance start --help` says how one begins.")
        return
    table = Table("clearance", "cause", "status", "from", "to", "wallets", "begun", box=None, pad_edge=False)
    for one in clearances:
        times = (moment_text(one["starts_at"]), moment_text(one["deadline"]))
        counts = (f"{one['wallets']:,}", f"{one['begun']:,}")
        table.add_row(str(one["clearance_id"]), one["cause"], _status(one), *times, *counts)
    out.print(Fitted(table))


def _status(one: Mapping[str, Any]) -> str:
    return f"{one['status']}{', paused' if one['paused'] else ''}{' (dry run)' if one['dry_run'] else ''}"


def print_statement(out: Console, found: Mapping[str, Any]) -> None:
    """Print how a clearance stands, as people read it."""
    kind = "A dry run" if found["dry_run"] else "A clearance"
    is_paused = ", paused" if found["paused"] else ""
    until = f"from {moment_text(found['starts_at'])} to {moment_text(found['deadline'])}"
    out.print(f"{kind} ({found['cause']}), {found['status']}{is_paused}: {until}.", soft_wrap=True)
    if found["is_over"] and found["status"] == ClearanceStatus.RUNNING:
        out.print(f"Its deadline has passed: {_waits_for(found)}.", soft_wrap=True)
    table = Table("wallets", *_COUNTS, box=None, pad_edge=False)
    table.add_row(f"{found['wallets']:,}", *(f"{found[name]:,}" for name in _COUNTS))
    out.print(table)
    if found["money"]:
        table = Table(box=None, pad_edge=False)
        for name in _AMOUNTS:
            table.add_column(name.replace("_", " "), justify="right")
        for money in found["money"]:
            table.add_row(*(amount_text(money[f"{name}_minor"], money["currency"]) for name in _AMOUNTS))
        out.print(table)
        pending = "waiting has what is pending, too; " if found["pending"] else ""
        moved = "moved is what holders took out themselves, or another clearance counts"
        out.print(f"The first is the sum of the others; {pending}{moved}.", soft_wrap=True)
    if found["dry_run"]:
        waiting = "what waits is for those who have named no account yet"
        out.print(f"Nothing was closed or paid: this is what would be at the deadline; {waiting}.", soft_wrap=True)
    for one in found["blockers"]:
        owed = f": {amount_text(one['owed_minor'], one['currency'])}" if "owed_minor" in one else ""
        case = f", case {one['case_id']}" if "case_id" in one else ""
        out.print(f"  {one['subject']}  {one['code']}{owed}{case}", soft_wrap=True)
    if (more := found["blocked"] - len(found["blockers"])) > 0:
        out.print(f"  … and {more:,} more; --limit for more.")


def _waits_for(found: Mapping[str, Any]) -> str:
    """Return what a clearance waits for whose deadline has passed."""
    id_ = found["clearance_id"]
    if found["paused"]:
        return f"it goes on to its end when it is resumed, `sluice clearance resume {id_}`"
    if not found["pending"]:
        return "its statement follows at once"
    where = ", ".join(f"{count:,} {name}" for name, count in sorted(found["pending_by"].items()))
    return f"it waits for {count_text(found['pending'], 'wallet')} ({where}), see `sluice cases --clearance {id_}`"


# --- Beginning ---


def start(
    cause: Annotated[Literal["platform_transition", "regulation", "termination"], typer.Option(help="Why they end.")],
    starts_at: Annotated[str, typer.Option("--from", help=f"When the first case begins: `now`, or {_WHEN}.")],
    deadline: Annotated[str, typer.Option("--to", help=f"Until when a payout account may be named: {_WHEN}.")],
    rate: Annotated[int, typer.Option(help="Begin so many cases a second.")],
    announce_at: Annotated[str, typer.Option("--announce", help="When the holders are told.")] = "now",
    wallet: Annotated[list[str] | None, typer.Option(help="End this one; several times.")] = None,
    clearance: Annotated[uuid.UUID | None, typer.Option(help="Its id; a new one without this.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="End every wallet.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Begin after the dry run without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Say what a clearance would do, by a dry run without effects; then begin it, if you say so."""
    if every == bool(wallet):
        raise NotNamed("Say which wallets end: --all, or --wallet once for each.")
    running = find_running()
    about = {"cause": cause, "subjects": "all" if every else wallet, "rate_per_s": rate}
    moments = {"announce_at": announce_at, "starts_at": starts_at, "deadline": deadline}
    _refuse_times(running, {"clearance_id": str(uuid.uuid4()), **about, **_times(running, moments)})
    rehearsed = _rehearse(running, {**about, **_times(running, moments)})
    if dry_run and as_json:
        print_json(rehearsed)
    elif not as_json:
        print_statement(terminal(), rehearsed)
    if dry_run or not (yes or typer.confirm("Begin it?", err=True)):
        return
    id_ = clearance or uuid.uuid4()
    asyncio.run(_begin(running, {"clearance_id": str(id_), **about, **_times(running, moments)}))
    found = _read_known(running, id_, _LISTED)
    if as_json:
        print_json(found)
    else:
        times = f"told at {moment_text(found['announce_at'])}, from {moment_text(found['starts_at'])} on"
        terminal().print(f"Clearance {id_} is {_status(found)}: {times}.", soft_wrap=True)


def _times(running: Running, moments: Mapping[str, str]) -> dict[str, str]:
    now = _now(running)
    return {name: as_text(now if text == "now" else moment_of(text)) for name, text in moments.items()}


def _rehearse(running: Running, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return the statement of a dry run."""
    id_ = uuid.uuid4()
    asyncio.run(_begin(running, {"clearance_id": str(id_), **said, "dry_run": True}))
    asyncio.run(_await_end(running, id_))
    return _read_known(running, id_, _LISTED)


async def _begin(running: Running, data: Mapping[str, Any]) -> None:
    """Have a new clearance begin; what the service would refuse is refused here."""
    id_ = uuid.UUID(data["clearance_id"])
    command = Command("clearance.start", data, frozenset(), f"`sluice clearance {id_}` says how it stands.")
    value = encode(_DESK, command)
    _refuse_times(running, data)
    async with connect(running, "closure") as connection:
        if await _is_known(connection, id_):
            raise Refused(f"There is a clearance {id_} already: `sluice clearance {id_}` shows it.")
        with asking(running):
            await asyncio.to_thread(publish, running, _DESK, command, str(id_), value)
        until = time.monotonic() + ANSWER_WITHIN_S
        while not await _is_known(connection, id_):
            if time.monotonic() > until:
                raise unanswered(_DESK, command)
            await asyncio.sleep(LOOK_EVERY_S)


def _refuse_times(running: Running, data: Mapping[str, Any]) -> None:
    """Refuse what the service would, before anything is sent."""
    value = encode(_DESK, Command("clearance.start", data, frozenset(), ""))
    refusal = check_times(ClearanceStart.model_validate_json(value), closing_policy(), _now(running))
    if refusal is not None:
        raise Refused(f"Refused ({refusal.code}): {refusal.detail}.")


async def _is_known(connection: Connection, clearance_id: uuid.UUID) -> bool:
    return await clearance_records.find_status(connection, clearance_id) is not None


async def _await_end(running: Running, clearance_id: uuid.UUID) -> None:
    """Wait until a dry run is finished, however many wallets are reported to it, as long as some are."""
    reported, until = 0, time.monotonic() + ANSWER_WITHIN_S
    async with connect(running, "closure") as connection:
        while await clearance_records.find_status(connection, clearance_id) != ClearanceStatus.FINISHED:
            before, reported = reported, await clearance_records.count_reported(connection, clearance_id)
            if reported > before:
                until = time.monotonic() + ANSWER_WITHIN_S
            if time.monotonic() > until:
                again = f"`sluice clearance {clearance_id}` says how it stands."
                raise NoAnswer(f"The dry run has begun, and has not ended within {ANSWER_WITHIN_S:.0f} s. {again}")
            await asyncio.sleep(LOOK_EVERY_S)


# --- Pausing ---


def pause(clearance: ClearanceId, *, as_json: Json = False) -> None:
    """Have a clearance begin no more cases, and remind nobody; what has begun goes on."""
    _change("clearance.pause", clearance, as_json=as_json)


def resume(clearance: ClearanceId, *, as_json: Json = False) -> None:
    """Go on with a clearance that is paused, at its rate."""
    _change("clearance.resume", clearance, as_json=as_json)


def _change(type_: str, clearance_id: uuid.UUID, *, as_json: bool) -> None:
    running = find_running()
    _read_known(running, clearance_id, 0)
    again = f"`sluice clearance {clearance_id}` says how it stands."
    command = Command(type_, {"clearance_id": str(clearance_id)}, frozenset(), again)
    ask(running, _DESK, command, str(clearance_id), encode(_DESK, command))
    found = _read_known(running, clearance_id, _LISTED)
    if as_json:
        print_json(found)
        return
    are = "is" if found["pending"] == 1 else "are"
    pending = f"{found['pending']:,} of {count_text(found['wallets'], 'wallet')} {are} pending"
    terminal().print(f"Clearance {clearance_id} is {_status(found)}: {pending}.", soft_wrap=True)
