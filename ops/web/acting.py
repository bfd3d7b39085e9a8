"""What somebody does in the console: noted in the log of acts before it is done, with who and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops import acts
from ops.errors import UserError

if TYPE_CHECKING:
    from ops.web.visit import Visit


class Incomplete(UserError):
    """A form lacks something; the text says what, in the visitor's language."""


def given_why(visit: Visit) -> str:
    """Return why somebody acts, as the form says; raises Incomplete where it says nothing."""
    if not (why := visit.given("why")):
        raise Incomplete(visit.words["form"]["why_missing"])
    return why[:1_000]


async def note_act(visit: Visit, what: str, about: str, why: str, detail: dict[str, Any] | None = None) -> None:
    """Put down what is about to be asked for; what came of it stands where it is about."""
    await acts.note_act(visit.site.running, who=visit.who, what=what, about=about, why=why, detail=detail)
