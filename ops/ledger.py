"""`sluice statement`, `sluice transfer` and `sluice audit`: what the ledger says, for people and for programs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

import orjson
import typer
from rich.markup import escape
from rich.table import Table

from ops.counts import count_text
from ops.database import connect
from ops.errors import UserError
from ops.moments import FIRST, LAST, moment_of, moment_text
from ops.money import amount_text
from ops.running import find_running
from ops.terminal import Fitted, Json, print_json, terminal
from services.closure import records as closings
from services.maintenance import records as windows
from services.notify import records as notices
from services.runtime.audit import Finding
from services.runtime.calendar import BUSINESS_ZONE
from services.transfer import records
from services.transfer.model import OPEN_END

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console

    from ops.running import Running
    from services.runtime.database import Connection
    from services.transfer.records import TransferRecord


class NotFound(UserError):
    """There is no such account or transfer; the text says which."""

    exit_code = 1


class WrongWords(UserError):
    """What was asked for makes no sense; the text says why."""


# --- Statement ---


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked of an account: its balance at one moment, or its latest entries between two."""

    wallet: str
    at: datetime | None
    first: datetime
    last: datetime
    limit: int

    @property
    def is_of_all_time(self) -> bool:
        return (self.first, self.last) == (FIRST, LAST)


def show_statement(
    wallet: Annotated[str, typer.Argument(help="Such as wallet:alice, platform:fees or bank:ICBC.")],
    since: Annotated[str | None, typer.Option(help="First moment, RFC 3339 or YYYY-MM-DD.")] = None,
    until: Annotated[str | None, typer.Option(help="Last moment.")] = None,
    at: Annotated[str | None, typer.Option(help="Only the balance at this moment.")] = None,
    limit: Annotated[int, typer.Option(help="The latest entries only.", min=1, max=100_000)] = 50,
    *,
    as_json: Json = False,
) -> None:
    """Print an account's balance and its latest entries, or only its balance at a moment."""
    said = asyncio.run(_read_statement(_question(wallet, since, until, at, limit)))
    if as_json:
        print_json(said)
    elif "at" in said:
        _print_balance_at(terminal(), said)
    else:
        _print_statement(terminal(), said)


def _question(wallet: str, since: str | None, until: str | None, at: str | None, limit: int) -> _Question:
    if at and (since or until):
        raise WrongWords("--at asks for one moment, --since and --until for a span: name one or the other.")
    first = moment_of(since) if since else FIRST
    last = moment_of(until) if until else LAST
    if first > last:
        raise WrongWords(f"--since {since} is later than --until {until}: nothing lies between them.")
    if not wallet.isprintable():
        raise NotFound(_no_account(wallet))
    return _Question(wallet, moment_of(at) if at else None, first, last, limit)


async def _read_statement(asked: _Question) -> dict[str, Any]:
    async with connect(find_running(), "transfer") as connection:
        account = await records.read_account(connection, asked.wallet)
        platform = {} if account else await records.read_platform_balance(connection, asked.wallet)
        if account is None and not platform:
            raise NotFound(_no_account(asked.wallet))
        said: dict[str, Any] = {"account_id": asked.wallet}
        if asked.at is None:
            said |= _balance(account, platform) | await _read_entries(connection, asked, account)
        elif account is not None:
            then: Any = await records.read_balance_at(connection, asked.wallet, asked.at)
            said |= {"currency": account["currency"], "at": asked.at, "posted_minor_then": then}
        else:
            then = await records.read_platform_balance_at(connection, asked.wallet, asked.at)
            said |= {"at": asked.at, "posted_minor_then": dict.fromkeys(platform, 0) | then}
        return said


async def _read_entries(connection: Connection, asked: _Question, account: records.Row | None) -> dict[str, Any]:
    """Return the latest entries, oldest first, whether there are more, and of a wallet's whole life how many."""
    # One more than is shown tells whether there are more.
    found = await records.read_statement(connection, asked.wallet, asked.first, asked.last, asked.limit + 1)
    count = account["entry_count"] if account is not None and asked.is_of_all_time else None
    return {
        "entries": [dict(entry) for entry in reversed(found[: asked.limit])],
        "has_more": len(found) > asked.limit,
        "entry_count": count,
    }


def _no_account(wallet: str) -> str:
    kind, _, name = wallet.partition(":")
    if kind == "bank" and ":" in name:
        return f"A bank is kept as a whole, not by account: ask for bank:{name.partition(':')[0]}."
    if kind in {"bank", "platform"} and name:
        return f"Nothing has moved through {wallet} yet."
    if kind == "wallet" and name:
        return f"There is no account {wallet!r}."
    return f"There is no account {wallet!r}: an account is named like wallet:alice, platform:fees or bank:ICBC."


def _balance(account: records.Row | None, platform: Mapping[str, int]) -> dict[str, Any]:
    if account is None:
        return {"posted_minor_by_currency": dict(platform)}
    available = account["posted_minor"] - account["reserved_minor"]
    return {
        "customer_id": account["customer_id"],
        "currency": account["currency"],
        "tier": account["tier"],
        "status": account["status"],
        "debit_restricted_until": _end_of(account["debit_restricted_until"]),
        "credit_restricted_until": _end_of(account["credit_restricted_until"]),
        "posted_minor": account["posted_minor"],
        "reserved_minor": account["reserved_minor"],
        "available_minor": available,
        "spendable_minor": available + account["overdraft_limit_minor"],
    }


def _end_of(restriction: datetime | None) -> datetime | str | None:
    """Return when a restriction ends: one without an end is stored with the last year of all."""
    return _RELEASED if restriction == OPEN_END else restriction


def _until(end: datetime | str) -> str:
    return end if isinstance(end, str) else moment_text(end)


_RELEASED = "released"


def _print_statement(out: Console, said: Mapping[str, Any]) -> None:
    currency = said.get("currency")
    out.print(f"[bold]{said['account_id']}[/bold], times of {BUSINESS_ZONE.key}")
    if currency is None:
        for held, minor in said["posted_minor_by_currency"].items():
            out.print(f"  posted {amount_text(minor, held)}")
    else:
        out.print(f"  {said['status']}, tier {said['tier']}, customer {escape(said['customer_id'])}")
        for side in ("debit", "credit"):
            if said[f"{side}_restricted_until"]:
                out.print(f"  {side}s are restricted until {_until(said[f'{side}_restricted_until'])}")
        names = ("posted", "reserved", "available", "spendable")
        figures = (f"{name} {amount_text(said[f'{name}_minor'], currency)}" for name in names)
        out.print(f"  {', '.join(figures)}")
    out.print(Fitted(_entries_table(said["entries"])))
    if said["has_more"]:
        of = "" if said["entry_count"] is None else f" of {said['entry_count']:,}"
        out.print(f"The latest {len(said['entries']):,}{of}; --limit for more.")


def _print_balance_at(out: Console, said: Mapping[str, Any]) -> None:
    currency, then = said.get("currency"), said["posted_minor_then"]
    out.print(f"[bold]{said['account_id']}[/bold] at {moment_text(said['at'])}, {BUSINESS_ZONE.key}")
    for held, minor in (then if currency is None else {currency: then}).items():
        out.print(f"  posted {amount_text(minor, held)}")


def _entries_table(entries: Iterable[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("when", no_wrap=True)
    table.add_column("what")
    table.add_column("other party")
    for name in ("amount", "balance"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("transfer")
    for entry in entries:
        after = entry["after_minor"]
        table.add_row(
            moment_text(entry["moved_at"]),
            _WHAT.get(entry["purpose"], "{}").format(entry["kind"]),
            entry["counterparty"],
            amount_text(entry["amount_minor"], entry["currency"], signed=True),
            "" if after is None else amount_text(after, entry["currency"]),
            str(entry["transfer_id"]),
        )
    return table


_WHAT = {
    "transfer": "{}",
    "fee": "fee of {}",
    "refund": "refund of {}",
    "fee_refund": "fee of {} back",
    "suspense": "{} that could not be booked",
}


# --- Transfer ---


def show_transfer(
    transfer_id: Annotated[str, typer.Argument(help="The transfer's id, or a refund's.")], *, as_json: Json = False
) -> None:
    """Print everything known of one transfer."""
    try:
        wanted = UUID(transfer_id)
    except ValueError:
        raise WrongWords(f"{transfer_id!r} is not a transfer's id: it is a UUID.") from None
    record = asyncio.run(_read_transfer(wanted))
    if as_json:
        print_json(_transfer_json(record))
    else:
        _print_transfer(terminal(), record)


async def _read_transfer(transfer_id: UUID) -> TransferRecord:
    async with connect(find_running(), "transfer") as connection:
        record = await records.read_transfer(connection, transfer_id)
    if record is None:
        raise NotFound(f"There is no transfer or refund {transfer_id}.")
    return record


def _transfer_json(record: TransferRecord) -> dict[str, Any]:
    hidden = {"content_hash", "event_body", "payee_name_sealed"}
    return {
        "transfer": {name: value for name, value in record.transfer.items() if name not in hidden},
        "steps": [
            {"seq": step["seq"], "type": step["type"], "at": step["occurred_at"], "event": orjson.loads(step["body"])}
            for step in record.steps
        ],
        "movements": [dict(movement) for movement in record.movements],
        "refunds": [dict(refund) for refund in record.refunds],
        "waits_for": [dict(timer) for timer in record.timers],
    }


def _print_transfer(out: Console, record: TransferRecord) -> None:
    transfer = record.transfer
    currency = transfer["currency"]
    out.print(f"[bold]{transfer['transfer_id']}[/bold] is [bold]{transfer['status']}[/bold]")
    out.print(f"  times of {BUSINESS_ZONE.key}")
    fee = f", fee {amount_text(transfer['fee_minor'], currency)}" if transfer["fee_minor"] else ""
    amount = amount_text(transfer["amount_minor"], currency)
    out.print(f"  {transfer['kind']} of {amount}{fee}")
    out.print(f"  from {transfer['payer']} to {transfer['payee']}")
    for step in record.steps:
        event = orjson.loads(step["body"])
        out.print(f"  {moment_text(step['occurred_at'])}  {step['type']}{_because(event)}")
    for movement in record.movements:
        moved = amount_text(movement["amount_minor"], movement["currency"])
        parties = f"{movement['debit_account']} → {movement['credit_account']}"
        out.print(f"  {moment_text(movement['moved_at'])}  {movement['purpose']} {moved}: {parties}")
    for refund in record.refunds:
        given = amount_text(refund["amount_minor"], currency)
        out.print(f"  refund {refund['refund_id']} of {given} is {refund['status']}")
    for timer in record.timers:
        waits = f"stuck: {timer['failure']}" if timer["parked_at"] else f"due {moment_text(timer['due_at'])}"
        out.print(f"  waits for `{timer['kind']}`, {waits}")


def _because(event: Mapping[str, Any]) -> str:
    details = []
    if reason := event.get("reason"):
        figures = [f"{name} {_readable(name, value)}" for name, value in reason.items() if name in _FIGURES]
        details.append(f"because of {reason['code']}" + (f" ({', '.join(figures)})" if figures else ""))
    details += [f"{name} {_readable(name, event[name])}" for name in _TOLD if name in event]
    return f": {', '.join(details)}" if details else ""


def _readable(name: str, value: Any) -> Any:
    """Return a moment in the zone of all others; anything else as it is."""
    return moment_text(datetime.fromisoformat(value)) if name.endswith("_at") else value


_FIGURES = frozenset({"field", "detail", "shortfall_minor", "limit_minor", "available_at"})
_TOLD = ("execute_at", "attempts_left", "expires_at", "refund_due_on", "refund_id", "expected", "found")


# --- Audit ---


_COUNTED: Final = {
    "account": "accounts",
    "transfer": "transfers",
    "entry": "entries",
    "notice": "notices",
    "window": "windows",
    "closing": "closings",
}


@dataclass(frozen=True, slots=True)
class Audited:
    """How much was looked at, and what is broken: nothing, when everything adds up."""

    counts: dict[str, int]
    findings: tuple[Finding, ...]

    @property
    def looked_at(self) -> str:
        """What was looked at, in words."""
        return ", ".join(count_text(self.counts[many], one, many) for one, many in _COUNTED.items())


def show_audit(*, as_json: Json = False) -> None:
    """Print whether everything adds up; exit 1 when it does not."""
    said = asyncio.run(audit_everything(find_running()))
    findings = [(finding.rule, [_with_numbers(row) for row in finding.rows]) for finding in said.findings]
    if as_json:
        listed = [{"rule": rule, "rows": rows} for rule, rows in findings]
        print_json({"clean": not findings, "findings": listed, **said.counts})
    else:
        _print_audit(terminal(), said.looked_at, findings)
    if findings:
        raise SystemExit(1)


def _with_numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with every amount a number: the database's sums come as text or decimals."""
    return {name: int(value) if name.endswith("_minor") and value is not None else value for name, value in row.items()}


async def audit_everything(running: Running) -> Audited:
    """Check money, notices, windows and closings, each against one consistent picture, and payouts against cases."""
    async with connect(running, "transfer") as connection:
        money = await records.audit(connection)
    async with connect(running, "notify") as connection:
        told = await notices.audit(connection)
    async with connect(running, "maintenance") as connection:
        planned = await windows.audit(connection)
    async with connect(running, "closure") as connection:
        closed = await closings.audit(connection)
    unpaid = await _audit_payouts(running)
    counts = {"accounts": money.accounts, "transfers": money.transfers, "entries": money.entries}
    counts |= {"events_told": told.events, "notices": told.notices, "windows": planned.windows}
    counts |= {"closings": closed.cases}
    return Audited(counts, (*money.findings, *told.findings, *planned.findings, *closed.findings, *unpaid))


async def _audit_payouts(running: Running) -> list[Finding]:
    """Compare what closed cases count as paid with what the ledger has settled under their ids, slice by slice."""
    rows: list[dict[str, Any]] = []
    after = UUID(int=0)
    async with connect(running, "closure") as cases, connect(running, "transfer") as ledger:
        while slice_ := await closings.list_paid(cases, after, _CASES_AT_ONCE):
            after = slice_[-1].case_id
            settled = await records.sum_settled(ledger, [id_ for case in slice_ for id_ in case.transfer_ids])
            sums = {case.case_id: sum(settled.get(id_, 0) for id_ in case.transfer_ids) for case in slice_}
            differ = [case.case_id for case in slice_ if case.counted_minor != sums[case.case_id]]
            # A payout may have come back between the two looks: what the cases say by now decides.
            again = await closings.count_paid(cases, differ)
            rows += [
                {"case_id": id_, "counted_minor": again[id_], "settled_minor": sums[id_]}
                for id_ in differ
                if again[id_] != sums[id_]
            ]
    return [Finding("what a closed case counts as paid has settled", rows[:100])] if rows else []


_CASES_AT_ONCE = 2_000


def _print_audit(out: Console, looked_at: str, findings: Sequence[tuple[str, list[dict[str, Any]]]]) -> None:
    out.print(f"{'Something does not add up' if findings else 'Everything adds up'}: {looked_at}.")
    for rule, rows in findings:
        out.print(f"[bold]Broken: {rule}[/bold]")
        for row in rows:
            out.print("  " + escape(", ".join(f"{name} {value}" for name, value in row.items())))
