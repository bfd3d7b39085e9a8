"""Whether everything adds up: what the last audit found, and a new one in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.acts import newest_acts
from ops.audits import kept_audit
from ops.web.acting import note_act
from ops.web.auditing import ACT, BEGUN, WHY
from services.runtime.log import mask

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.responses import Response

    from ops.web.visit import Visit


async def show(visit: Visit) -> Response:
    """Show the last audit of this console, the monitor's and earlier ones, and whether one runs."""
    audits = visit.site.audits
    earlier = await newest_acts(visit.site.running, 10, ACT)
    kept, ran = await kept_audit(visit.site.running), audits.newest
    findings = [] if ran is None or ran.found is None else [_masked(f.rule, f.rows) for f in ran.found.findings]
    return visit.page(
        "audit.html.j2", ran=ran, kept=kept, findings=findings, earlier=earlier, is_running=audits.is_running
    )


async def run(visit: Visit) -> Response:
    """Begin an audit, having put that down; the page shows when it has ended."""
    audits = visit.site.audits
    if not audits.is_running:
        await note_act(visit, BEGUN, "everything", WHY)
        audits.start(visit.who)
    return visit.see("/audit")


def _masked(rule: str, rows: Sequence[Mapping[str, Any]]) -> tuple[str, list[str]]:
    masked = (mask(None, "", dict(row)) for row in rows)
    return rule, [", ".join(f"{name} {value}" for name, value in row.items()) for row in masked]
