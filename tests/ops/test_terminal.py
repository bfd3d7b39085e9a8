"""Tables of the command line: what people copy stays whole, however narrow the terminal is."""

from __future__ import annotations

from datetime import UTC, datetime
from io import StringIO

import pytest
from rich.console import Console
from rich.table import Column, Table

from ops import ledger, notices
from ops.terminal import Fitted
from services.notify.records import Accounting

ID = "7b1ba95c-0f45-4e19-9b1f-1ae9fceb66a2"
WHY = "its oldest record has waited for 12 min"


def drawn(width: int) -> list[str]:
    out = StringIO()
    table = Table("window", "title", "starts", "held", Column("why", overflow="fold"), box=None, pad_edge=False)
    table.add_row(ID, "Upgrade of the ledger", "2026-09-28 14:59:32", "", WHY)
    table.add_row(ID, "Upgrade", "2026-09-28 14:59:32", "2", "")
    Console(file=out, width=width, highlight=False).print(Fitted(table))
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_an_id_is_whole_and_nothing_is_left_out_at_any_width(width: int) -> None:
    lines = drawn(width)
    assert sum(ID in line for line in lines) == 2
    assert all(len(line) <= width for line in lines)
    assert "…" not in "".join(lines)
    said = " ".join(" ".join(lines).split())
    assert {"Upgrade", "ledger", "2026-09-28", "14:59:32"} <= set(said.split())


def test_rows_that_do_not_fit_beside_one_another_are_told_in_words_without_what_is_empty() -> None:
    assert drawn(80) == [
        ID,
        "  title Upgrade of the ledger · starts 2026-09-28 14:59:32 · why its oldest",
        "  record has waited for 12 min",
        ID,
        "  title Upgrade · starts 2026-09-28 14:59:32 · held 2",
    ]


def test_what_may_fold_gives_way_first() -> None:
    assert drawn(120)[1:3] == [
        f"{ID}  Upgrade of the ledger  2026-09-28 14:59:32{' ' * 8}its oldest record has waited for",
        f"{' ' * 88}12 min",
    ]


def test_what_others_call_themselves_is_shown_as_it_is() -> None:
    """A customer's id may be any text, also what would be markup, which ends nowhere."""
    out = StringIO()
    console = Console(file=out, width=200, highlight=False)
    told = {"template": "transfer.settled", "channel": "sms", "status": "sent", "why": None}
    tried = [{"gateway": "[/a]", "outcome": "failed", "why": None, "code": "[b]"}]
    item = {"created_at": datetime(2026, 11, 23, tzinfo=UTC), "customer_id": "[/x]", **told, "attempts": tried}
    notices._print(console, Accounting(1, 0, 1, 0, 0, 0, [item]), None)
    ledger._print_audit(console, "1 account", [("a rule", [{"customer_id": "[/y]"}])])
    assert {"[/x]", "[/a]:", "([b])", "[/y]"} <= set(out.getvalue().split())
