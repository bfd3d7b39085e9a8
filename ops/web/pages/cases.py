"""Closings: those that wait for a person's decision, each one with its steps, and deciding."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

from ops.cases import NoSuchCase, decide, is_half_approved, read_cases
from ops.web.acting import Incomplete, note_act
from services.closure.model import IN_REVIEW, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.responses import Response

    from ops.web.visit import Visit

_SHOWN: Final = 100
_ALL: Final = "all"
_NOTED: Final = "The note is kept with the case, encrypted, until the customer is erased."
"""Why, in the log of acts: a note may be about a person, and the log is never changed."""


async def show(visit: Visit) -> Response:
    """List the cases that wait for a person, or those that stand elsewhere, the latest first."""
    status = visit.asked("status")
    wanted: Sequence[Status] = () if status == _ALL else [Status(status)] if status in set(Status) else list(IN_REVIEW)
    cases = await read_cases(visit.site.running, None, wanted, _SHOWN)
    return visit.page("cases.html.j2", cases=cases, stands=status, statuses=[str(each) for each in Status])


async def show_one(visit: Visit) -> Response:
    """Show a case with every step, and the form of a decision where one is wanted."""
    case = await _read(visit)
    own = visit.who in case["approved_by"]
    return visit.page("case.html.j2", case=case, is_in_review=case["status"] in IN_REVIEW, is_own=own)


async def decide_one(visit: Visit) -> Response:
    """Approve or reject a case: the reviewer is who is signed in, so that four eyes are two people's."""
    decision, note = visit.request.path_params["decision"], visit.given("note")
    if decision not in {"approve", "reject"}:
        raise Incomplete(visit.words["problem"]["no_page"])
    if not note:
        raise Incomplete(visit.words["cases"]["note_missing"])
    case_id = _case_id(visit)
    await note_act(visit, f"cases {decision}", str(case_id), _NOTED)
    case = await decide(visit.site.running, case_id, decision, visit.who, note)
    done = "half_approved" if is_half_approved(case, visit.who) else decision
    return visit.see(f"/cases/{case_id}", done=done)


async def _read(visit: Visit) -> dict[str, Any]:
    found = await read_cases(visit.site.running, _case_id(visit), (), 1)
    if not found:
        raise NoSuchCase(f"There is no case {_case_id(visit)}.")
    return found[0]


def _case_id(visit: Visit) -> uuid.UUID:
    case_id: uuid.UUID = visit.request.path_params["case"]
    return case_id
