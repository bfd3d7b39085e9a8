"""Dead letters: which there are and why, each one, and replaying them or setting them aside."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlencode

import orjson

from ops.dlq.acting import Act, How, discard_letters, replay_letters, targets_of
from ops.dlq.letters import names_of, text_of
from ops.dlq.looking import find, first_letters, shown
from ops.dlq.marks import State
from ops.dlq.selection import Selection, state_of
from ops.moments import moment_of
from ops.web.acting import Incomplete, given_why
from schemas.topics import DEAD_LETTER_SUFFIX
from services.runtime.log import mask_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from starlette.responses import Response

    from ops.dlq.letters import Letter
    from ops.dlq.looking import Listed
    from ops.web.visit import Visit

_SHOWN: Final = 50
_AT_ONCE: Final = 1_000
"""So many are acted on at once: a page names each, and a form has an end."""

_PARTS: Final = ("topic", "reason", "key", "since", "until")


async def show(visit: Visit) -> Response:
    """List those that are asked for, the newest first."""
    said = {name: visit.asked(name) for name in _PARTS}
    state = visit.asked("state") or ("waiting" if not visit.request.query_params else "")
    states = {State(state)} if state in set(State) else set(State)
    listed = await first_letters(visit.site.running, _selection(said.get), states, _SHOWN)
    return visit.page(
        "letters.html.j2",
        rows=[shown(letter, stands, values=False) for letter, stands in listed.first],
        count=listed.of(states),
        reasons=_by_reason(listed, states),
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
    selection, others = await _chosen(visit, {State.WAITING, State.REPLAYING})
    if selection is None:
        return _confirm(visit, "replay", [], others)
    if not visit.given("sure"):
        plan = await replay_letters(visit.site.running, selection, How(), None)
        return _confirm(visit, "replay", plan.letters, others, plan.done)
    act = Act(visit.who, given_why(visit))
    await replay_letters(visit.site.running, selection, How(), lambda: act)
    return visit.see("/letters", state=State.REPLAYED, done="replayed")


async def discard(visit: Visit) -> Response:
    """Say what would be set aside; once that was seen and a reason is given, do it."""
    selection, others = await _chosen(visit, {State.WAITING})
    if selection is None:
        return _confirm(visit, "discard", [], others)
    if not visit.given("sure"):
        asked, waiting = await discard_letters(visit.site.running, selection, None)
        return _confirm(visit, "discard", waiting, others, asked - len(waiting))
    act = Act(visit.who, given_why(visit))
    await discard_letters(visit.site.running, selection, lambda: act)
    return visit.see("/letters", state=State.DISCARDED, done="discarded")


class _Others(NamedTuple):
    """How many letters fit, too, and are not acted on: because that was done before, or not yet."""

    left_alone: int = 0
    later: int = 0


def _confirm(visit: Visit, what: str, letters: Sequence[Letter], others: _Others, done: int = 0) -> Response:
    """Show exactly what would be done, the oldest first: what comes meanwhile was not seen."""
    return visit.page(
        "letters_sure.html.j2",
        what=what,
        ids=[letter.id for letter in letters],
        targets=targets_of(letters) if what == "replay" else {},
        left_alone=others.left_alone + done,
        later=others.later,
    )


async def _chosen(visit: Visit, open_: Collection[State]) -> tuple[Selection | None, _Others]:
    """Return the letters that were ticked, or the oldest open ones of all that fit what the list was narrowed to.

    None where none of these is open; raises Incomplete where none was ticked, or nothing in particular is asked for.
    """
    if visit.given("scope") != "all":
        if not (ids := visit.given_all("id")):
            raise Incomplete(visit.words["letters"]["none_chosen"])
        return Selection(ids=frozenset(ids)), _Others()
    selection = _selection(visit.given)
    if selection.is_everything:
        raise Incomplete(visit.words["letters"]["narrow_first"])
    listed = await first_letters(visit.site.running, selection, open_, _AT_ONCE, oldest=True)
    these = frozenset(letter.id for letter, _ in listed.first)
    others = _Others(listed.of(set(State) - set(open_)), listed.of(open_) - len(these))
    return Selection(ids=these) if these else None, others


def _selection(said: Callable[[str], str | None]) -> Selection:
    topic, reason, key, since, until = (said(name) or None for name in _PARTS)
    return Selection(
        topic, reason, key, None if since is None else moment_of(since), None if until is None else moment_of(until)
    )


def _by_reason(listed: Listed, states: Collection[State]) -> list[tuple[str, int, str]]:
    """Return how many there are of each reason, the most first, with the query that narrows the list to it."""
    counts: Counter[str] = Counter()
    for (state, reason), count in listed.counts.items():
        counts[reason] += count if state in states else 0
    return [(name, count, urlencode({"reason": name})) for name, count in counts.most_common() if count]
