"""Maintenance windows: how each stands, planning one, and changing it."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any, Final

from ops.moments import moment_of
from ops.web.acting import Incomplete, given_why, note_act
from ops.windows import NoSuchWindow, Plan, Reasons, changed, planned, read_windows, send
from services.maintenance.decide import FUNCTIONS
from services.maintenance.model import CLOSING, OVER, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.responses import Response

    from ops.commands import Command
    from ops.web.visit import Visit

_SHOWN: Final = 50
_ALTERNATIVES: Final = range(1, 4)
"""The rows of the form of a plan in which somebody may say what people can do instead."""
_CHANGES: Final = {
    "start": ("window.start_now", frozenset({Status.SCHEDULED})),
    "reschedule": ("window.reschedule", frozenset(Status) - OVER),
    "cancel": ("window.cancel", frozenset({Status.SCHEDULED})),
    "extend": ("window.extend", CLOSING),
    "end": ("window.end", CLOSING),
}
"""What may be done to a window that stands where."""


async def show(visit: Visit) -> Response:
    """List windows, the latest to start first."""
    windows = await read_windows(visit.site.running, None, _SHOWN)
    return visit.page("windows.html.j2", windows=windows)


async def show_one(visit: Visit) -> Response:
    """Show a window with everything that was said of it, and what may be done to it."""
    window = await _read(visit)
    may = [name for name, (_, statuses) in _CHANGES.items() if window["status"] in statuses]
    return visit.page("window.html.j2", window=window, changes=may)


async def ask_plan(visit: Visit) -> Response:
    """Show the form of a plan; its id is chosen here, so that sending it twice plans once."""
    return visit.page("window_plan.html.j2", window_id=uuid.uuid4(), functions=FUNCTIONS, rows=_ALTERNATIVES)


async def plan(visit: Visit) -> Response:
    """Plan a window as the form says."""
    said = _plan_of(visit)
    command = planned(said, visit.site.clock.now())
    await _do(visit, "windows plan", command)
    return visit.see(f"/windows/{said.window}", done="planned")


async def change(visit: Visit) -> Response:
    """Change a window as the form says."""
    name = visit.request.path_params["change"]
    if name not in _CHANGES:
        raise Incomplete(visit.words["problem"]["no_page"])
    window_id, ends_at = _window_id(visit), visit.given("ends_at") or None
    start = visit.given("starts_at")
    command = changed(
        _CHANGES[name][0],
        window_id,
        reasons=_reasons(visit) if name in {"extend", "reschedule", "cancel"} else Reasons(),
        starts_at=(moment_of(start) if start else visit.site.clock.now()) if name == "reschedule" else None,
        ends_at=ends_at if name in {"extend", "reschedule"} else None,
    )
    await _do(visit, f"windows {name}", command)
    return visit.see(f"/windows/{window_id}", done="changed")


async def _do(visit: Visit, what: str, command: Command) -> None:
    about = str(command.data["window_id"])
    await note_act(visit, what, about, given_why(visit), {"command": command.type, "data": dict(command.data)})
    await asyncio.to_thread(send, visit.site.running, command)


async def _read(visit: Visit) -> dict[str, Any]:
    found = await read_windows(visit.site.running, _window_id(visit), 1)
    if not found:
        raise NoSuchWindow(f"There is no window {_window_id(visit)}.")
    return found[0]


def _window_id(visit: Visit) -> uuid.UUID:
    window_id: uuid.UUID = visit.request.path_params["window"]
    return window_id


def _plan_of(visit: Visit) -> Plan:
    try:
        window_id = uuid.UUID(visit.given("window"))
        fees = int(visit.given("waive_fees")) if visit.given("waive_fees") else None
    except ValueError:
        raise Incomplete(visit.words["problem"]["form"]) from None
    if not visit.given("ends_at") or not visit.given_all("function"):
        raise Incomplete(visit.words["windows"]["incomplete"])
    return Plan(
        visit.given("title"),
        _reasons(visit),
        visit.given("starts_at") or "now",
        visit.given("ends_at"),
        visit.given_all("function"),
        visit.given("treatment") or "hold",
        visit.given("banks").replace(",", " ").split(),
        visit.given("currencies").replace(",", " ").split(),
        list(_alternatives(visit)),
        waive_fees=fees,
        window=window_id,
        confirmed=bool(visit.given("confirmed")),
        drill=bool(visit.given("drill")),
    )


def _alternatives(visit: Visit) -> Iterator[dict[str, Any]]:
    """Yield what people can do instead, each with a text in both languages."""
    for row in _ALTERNATIVES:
        kind, chinese, english = (visit.given(f"alternative_{part}_{row}") for part in ("kind", "zh", "en"))
        if not (kind or chinese or english):
            continue
        if not (kind and chinese and english):
            raise Incomplete(visit.words["windows"]["alternative_incomplete"])
        yield {
            "kind": kind,
            "text": chinese,
            "text_in": [{"locale": "zh-CN", "text": chinese}, {"locale": "en", "text": english}],
        }


def _reasons(visit: Visit) -> Reasons:
    """Return why, in both languages: everybody who is told reads one of them."""
    chinese, english = visit.given("reason_zh"), visit.given("reason_en")
    if not chinese or not english:
        raise Incomplete(visit.words["windows"]["both_languages"])
    return Reasons(chinese, chinese, english)
