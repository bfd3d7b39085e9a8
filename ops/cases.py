"""`sluice cases`: closings of wallets and loans, where each stands and why, and a person's decision on one."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.markup import escape
from rich.table import Table

from ops.closings import ask, closing_policy
from ops.commands import Command, Desk, encode
from ops.database import connect
from ops.errors import UserError
from ops.moments import moment_text
from ops.money import amount_text
from ops.running import find_running
from ops.terminal import Fitted, Json, print_json, terminal
from schemas.closure import ClosureReview
from services.closure import records
from services.closure.model import IN_REVIEW, Status
from services.transfer import records as transfers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from ops.running import Running
    from services.runtime.database import Connection

_MOST_PAYOUTS: Final = 100
_DESK: Final = Desk(
    service="closing",
    topic="closure.commands",
    source="sluice.cases",
    about="case_id",
    models={"closure.review": ClosureReview},
)

CaseId = Annotated[uuid.UUID, typer.Argument(metavar="CASE_ID", help="As `sluice cases` lists it.")]
Reviewer = Annotated[str, typer.Option(help="Who decides; where two have to, another than the first.")]
Note = Annotated[str, typer.Option(help="Why; kept with the case, encrypted, until the customer is erased.")]


class NoSuchCase(UserError):
    """There is no case of that id."""

    exit_code = 1


# --- Looking ---


def show(
    context: typer.Context,
    case: Annotated[
        uuid.UUID | None, typer.Option(help="Only this one, with every step; the option may be left out.")
    ] = None,
    status: Annotated[list[Status] | None, typer.Option(help="Only those that stand there; several times.")] = None,
    clearance: Annotated[uuid.UUID | None, typer.Option(help="Only those of this clearance.")] = None,
    limit: Annotated[int, typer.Option(help="List so many, the latest.", min=1, max=100_000)] = 50,
    *,
    review: Annotated[bool, typer.Option("--review", help="Only those that wait for a person's decision.")] = False,
    as_json: Json = False,
) -> None:
    """Print closings: where each stands, since when, why, its money, and whom it waits for."""
    if context.invoked_subcommand is not None:
        return
    statuses = [*(status or ()), *(IN_REVIEW if review else ())]
    found, reopenings = asyncio.run(_read(find_running(), case, statuses, limit, clearance))
    if case is not None and not found:
        raise _no_such(case)
    if as_json:
        print_json(found)
    elif case is not None:
        _print_one(terminal(), found[0])
    else:
        is_all = not statuses and clearance is None
        _print(terminal(), found, is_all=is_all)
        if len(found) == limit:
            terminal().print(f"The latest {limit}; --limit for more.")
        _print_reopenings(terminal(), reopenings if is_all else ())


async def read_cases(
    running: Running,
    case_id: uuid.UUID | None,
    statuses: Sequence[Status],
    limit: int,
    clearance: uuid.UUID | None = None,
) -> list[dict[str, Any]]:
    """Return cases, the latest to be received first, without anybody's details; of one alone its steps, too."""
    cases, _ = await _read(running, case_id, statuses, limit, clearance)
    return cases


async def _read(
    running: Running, case_id: uuid.UUID | None, statuses: Sequence[Status], limit: int, clearance: uuid.UUID | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    async with connect(running, "closure") as connection:
        wanted = [str(status) for status in statuses]
        cases = await records.list_cases(connection, case_id, wanted, limit, _services(), clearance)
        steps = [] if case_id is None else await records.list_steps(connection, case_id)
        reopenings = await records.list_reopenings(connection, case_id, limit)
    if case_id is None or not cases:
        return cases, reopenings
    async with connect(running, "transfer") as connection:
        payouts = await _read_payouts(connection, cases[0])
    receipts = [step["said"]["receipt"] for step in steps if "receipt" in step["said"]]
    receipt = receipts[-1] if receipts else None
    return [{**cases[0], "steps": steps, "payouts": payouts, "receipt": receipt, "reopenings": reopenings}], reopenings


def _no_such(case_id: uuid.UUID) -> NoSuchCase:
    return NoSuchCase(
        f"There is no case {case_id}. If one was asked for: `sluice dlq ls closure.commands` shows what "
        "could not be read, `sluice offsets show` whether the closing service is behind."
    )


def _services() -> tuple[str, ...]:
    """Return which services have to forget a customer, by the policy that the environment names."""
    return closing_policy().erasing.services


async def _read_payouts(connection: Connection, case: Mapping[str, Any]) -> list[dict[str, Any]]:
    ids = records.payout_ids(case["case_id"], case["payouts"])[-_MOST_PAYOUTS:]
    found = await transfers.find_transfers(connection, ids)
    return [{**row, "payee": records.mask_account(row["payee"])} for row in map(dict, found)]


def _print(out: Console, cases: Sequence[Mapping[str, Any]], *, is_all: bool) -> None:
    if not cases:
        out.print("Nobody has applied for a closing." if is_all else "No case stands there.")
        return
    table = Table(box=None, pad_edge=False)
    columns = ("case", "subject", "customer", "stands", "since", "why", "balance", "fee", "paid", "waits for", "until")
    for name in columns:
        table.add_column(name, justify="right" if name in {"balance", "fee", "paid"} else "left")
    for case in cases:
        until = "" if case["next_at"] is None else moment_text(case["next_at"])
        table.add_row(
            str(case["case_id"]),
            escape(case["subject"]),
            escape(case["customer_id"] or ""),
            case["status"],
            moment_text(case["since"]),
            _why(case),
            *(_amount(case, name) for name in ("balance_minor", "fee_minor", "paid_minor")),
            _waits(case),
            until,
        )
    out.print(Fitted(table))


def _print_reopenings(out: Console, reopenings: Sequence[Mapping[str, Any]]) -> None:
    """Print applications to come back, each a line: where it stands, whom it waits for, or why it was refused."""
    for one in reopenings:
        whose = f" of {one['customer_id']}" if one["customer_id"] else ""
        until = "" if one["expires_at"] is None else f", until {moment_text(one['expires_at'])}"
        waits = f", waits for {', '.join(one['waits_for'])}{until}" if one["waits_for"] else ""
        codes = ", ".join(reason["code"] for reason in one["said"].get("reasons", ()))
        why = f": {codes}" if codes else ""
        about = escape(f"{one['subject']}{whose}")
        out.print(
            f"Application {one['request_id']} to open {about} again: {one['status']}{why} since "
            f"{moment_text(one['since'])}{waits}",
            soft_wrap=True,
        )


def _why(case: Mapping[str, Any]) -> str:
    approved = f"approved by {', '.join(case['approved_by'])}" if case["approved_by"] else ""
    return escape("; ".join(filter(None, (case["why"], approved))))


def _waits(case: Mapping[str, Any]) -> str:
    return ", ".join(case["waits_for"])


def _amount(case: Mapping[str, Any], name: str) -> str:
    """Return a figure of a case; nothing where it is 0, or not known yet."""
    return amount_text(case[name], case["currency"]) if case["currency"] and case[name] else ""


def _print_one(out: Console, case: Mapping[str, Any]) -> None:
    whose = f" of {case['customer_id']}" if case["customer_id"] else ""
    cleared = f", by clearance {case['clearance_id']}" if case["clearance_id"] else ""
    out.print(f"[bold]{case['case_id']}[/bold] closes {escape(case['subject'] + whose)}{cleared}", soft_wrap=True)
    why = f" ({_why(case)})" if _why(case) else ""
    out.print(f"  stands at [bold]{case['status']}[/bold]{why} since {moment_text(case['since'])}", soft_wrap=True)
    if case["waits_for"]:
        until = "" if case["next_at"] is None else f", until {moment_text(case['next_at'])}"
        out.print(f"  waits for {_waits(case)}{until}")
    amounts = {name: _amount(case, f"{name}_minor") for name in ("balance", "fee", "payout", "paid", "fee_paid")}
    if figures := [f"{name.replace('_', ' ')} {amount}" for name, amount in amounts.items() if amount]:
        out.print(f"  {', '.join(figures)}")
    for step in case["steps"]:
        parts = (step["status"], step["type"], escape(step["why"] or ""), _said(step["said"], case["currency"]))
        out.print(f"  {moment_text(step['occurred_at'])}  {'  '.join(filter(None, parts))}", soft_wrap=True)
    for payout in case["payouts"]:
        amount = amount_text(payout["amount_minor"], payout["currency"])
        became = f"{payout['status']}{': ' + payout['code'] if payout['code'] else ''}"
        out.print(f"  {payout['kind']} {payout['transfer_id']} of {amount} to {payout['payee']}: {became}")
    if (receipt := case["receipt"]) is not None:
        kept = ", ".join(f"{one['what']} until {one['until']} ({one['why']})" for one in receipt.get("retained", ()))
        out.print(f"  receipt {receipt['number']}; kept: {kept or 'nothing'}", soft_wrap=True)
        out.print(f"  its SHA-256 is {case['receipt_sha256']}; erasing is {case['erasure'] or 'under way'}")
    _print_reopenings(out, case["reopenings"])


def _said(said: Mapping[str, Any], currency: str | None) -> str:
    """Return what an event says in figures and codes."""
    parts = [f"{one['code']} → {one['remedy']}" for one in (*said.get("items", ()), *said.get("reasons", ()))]
    for owed in said.get("obligations", ()):
        what = owed.get("obligation_id") or owed.get("account_id") or owed["kind"]
        parts.append(f"{what} owes {amount_text(owed['owed_minor'], owed['currency'])}")
    if "reason" in said:
        parts.append(said["reason"]["code"])
    money = said.get("currency", currency)
    names = ("balance_minor", "fee_minor", "payout_minor")
    parts += [
        f"{name.removesuffix('_minor')} {amount_text(said[name], money)}" for name in names if name in said and money
    ]
    parts += [
        f"{name} {said[name]}" for name in ("payee", "transfer_id", "erasure", "expected", "found") if name in said
    ]
    return escape(", ".join(parts))


# --- Deciding ---


def approve(case: CaseId, reviewer: Reviewer, note: Note, *, as_json: Json = False) -> None:
    """Approve a case that is in review."""
    _decide(case, "approve", reviewer, note, as_json=as_json)


def reject(case: CaseId, reviewer: Reviewer, note: Note, *, as_json: Json = False) -> None:
    """Reject a case that is in review."""
    _decide(case, "reject", reviewer, note, as_json=as_json)


def _decide(case_id: uuid.UUID, decision: str, reviewer: str, note: str, *, as_json: bool) -> None:
    case = asyncio.run(decide(find_running(), case_id, decision, reviewer, note))
    if as_json:
        print_json(case)
        return
    if is_half_approved(case, reviewer):
        terminal().print(f"Case {case_id} is in review: another reviewer has to approve it, too.", soft_wrap=True)
        return
    waits = f"; it waits for {_waits(case)}" if case["waits_for"] else ""
    terminal().print(f"Case {case_id} is {case['status']}{waits}.", soft_wrap=True)


def is_half_approved(case: Mapping[str, Any], reviewer: str) -> bool:
    """Tell whether a case waits for somebody else after this reviewer's approval."""
    return case["status"] in IN_REVIEW and reviewer in case["approved_by"]


async def decide(running: Running, case_id: uuid.UUID, decision: str, reviewer: str, note: str) -> dict[str, Any]:
    """Have the closing service take a person's decision, and return the case as it stands then.

    Raises Wrong for what would be a dead letter, NoSuchCase, Refused, and NoAnswer where no answer comes.
    """
    data = {"case_id": str(case_id), "decision": decision, "reviewer": reviewer, "note": note}
    command = Command("closure.review", data, frozenset(), f"`sluice cases {case_id}` says how it stands.")
    value = encode(_DESK, command)
    subject = (await _read_one(running, case_id))["subject"]
    # In a thread: it waits for the answer, and has an event loop of its own.
    await asyncio.to_thread(ask, running, _DESK, command, subject, value)
    return await _read_one(running, case_id)


async def _read_one(running: Running, case_id: uuid.UUID) -> dict[str, Any]:
    async with connect(running, "closure") as connection:
        found = await records.list_cases(connection, case_id, (), 1, _services())
    if not found:
        raise _no_such(case_id)
    return found[0]
