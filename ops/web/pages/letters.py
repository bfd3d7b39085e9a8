"""Dead letters: which there are and why, each one, and replaying them or setting them aside."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import orjson

from ops.dlq.acting import Act, How, discard_letters, replay_letters, targets_of
from ops.dlq.letters import names_of, text_of
from ops.dlq.looking import find, shown
from ops.dlq.marks import State
from ops.dlq.selection import Selection, state_of
from ops.moments import moment_of
from ops.web.acting import Incomplete, given_why
from schemas.topics import DEAD_LETTER_SUFFIX
from services.runtime.log import mask_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.responses import Response

    from ops.dlq.letters import Letter
    from ops.web.visit import Visit

_SHOWN: Final = 50
_AT_ONCE: Final = 1_000
"""So many are acted on at once: a page names each, and a form has an end."""

_PARTS: Final = ("topic", "reason", "key", "since", "until")


async def show(visit: Visit) -> Response:
    """List those that are asked for, the newest first."""
    said = {name: visit.asked(name) for name in _PARTS}
    state = visit.asked("state") or ("waiting" if not visit.request.query_params else "")
    letters, marks = await find(visit.site.running, _selection(said.get))
    in_state = [letter for letter in letters if not state or state_of(letter, marks) == state]
    return visit.page(
        "letters.html.j2",
        rows=[shown(letter, state_of(letter, marks), values=False) for letter in in_state[::-1][:_SHOWN]],
        count=len(in_state),
        reasons=_counted(in_state, lambda letter: letter.reason),
        topics=[name.removesuffix(DEAD_LETTER_SUFFIX) for name in names_of(None)],
        state=state,
        states=list(State),
        said=said,
    )


async def show_one(visit: Visit) -> Response:
    """Show one whole: why, its headers, and what was sent, personal data masked."""
    letters, marks = await find(visit.site.running, Selection(ids=frozenset({visit.asked("id")})))
    letter = letters[0]
    said = shown(letter, state_of(letter, marks), values=True)
    return visit.page(
        "letter.html.j2",
        letter=said,
        value=orjson.dumps(said["value"], option=orjson.OPT_INDENT_2).decode(),
        headers={name: mask_text(text_of(value or b"")) for name, value in letter.headers},
    )


async def replay(visit: Visit) -> Response:
    """Say what a replay would write; once that was seen and a reason is given, write it."""
    selection = _chosen(visit)
    if not visit.given("sure"):
        plan = await replay_letters(visit.site.running, selection, How(), None)
        return _confirm(visit, "replay", plan.letters, plan.done)
    act = Act(visit.who, given_why(visit))
    await replay_letters(visit.site.running, selection, How(), lambda: act)
    return visit.see("/letters", state=State.REPLAYED, done="replayed")


async def discard(visit: Visit) -> Response:
    """Say what would be set aside; once that was seen and a reason is given, do it."""
    selection = _chosen(visit)
    if not visit.given("sure"):
        asked, waiting = await discard_letters(visit.site.running, selection, None)
        return _confirm(visit, "discard", waiting, asked - len(waiting))
    act = Act(visit.who, given_why(visit))
    await discard_letters(visit.site.running, selection, lambda: act)
    return visit.see("/letters", state=State.DISCARDED, done="discarded")


def _confirm(visit: Visit, what: str, letters: Sequence[Letter], left_alone: int) -> Response:
    """Show exactly what would be done, the oldest first: what comes meanwhile was not seen."""
    these = letters[:_AT_ONCE]
    return visit.page(
        "letters_sure.html.j2",
        what=what,
        ids=[letter.id for letter in these],
        targets=targets_of(these) if what == "replay" else {},
        left_alone=left_alone,
        later=len(letters) - len(these),
    )


def _chosen(visit: Visit) -> Selection:
    """Return the letters that were ticked, or all that fit what the list was narrowed to; raises Incomplete."""
    if visit.given("scope") != "all":
        if not (ids := visit.given_all("id")):
            raise Incomplete(visit.words["letters"]["none_chosen"])
        return Selection(ids=frozenset(ids))
    selection = _selection(visit.given)
    if selection.is_everything:
        raise Incomplete(visit.words["letters"]["narrow_first"])
    return selection


def _selection(said: Callable[[str], str | None]) -> Selection:
    topic, reason, key, since, until = (said(name) or None for name in _PARTS)
    return Selection(
        topic, reason, key, None if since is None else moment_of(since), None if until is None else moment_of(until)
    )


def _counted(letters: list[Letter], of: Callable[[Letter], str]) -> list[tuple[str, int, str]]:
    """Return how many there are of each, the most first, with the query that narrows the list to it."""
    counts = Counter(map(of, letters))
    return [(name, count, urlencode({"reason": name})) for name, count in counts.most_common()]
