"""How the demo tells an event: as one would to a colleague."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from ops.counts import count_text
from ops.money import amount_text
from services.runtime.calendar import BUSINESS_ZONE

if TYPE_CHECKING:
    from collections.abc import Mapping

CURRENCY: Final = "CNY"
"""The demo's, where an event names none."""


_HAS: Final = {"granted": "gets", "used": "has used"}


def sentence_of(event: Mapping[str, Any]) -> str:
    """Return one sentence about an event, with markup for the terminal."""
    reason = event["reason"] if isinstance(event.get("reason"), dict) else None
    happened = event["type"].partition(".")[2].replace("_", " ")
    if reason and reason["code"] == happened:
        # It says nothing more than the event does.
        reason = None
    because = f" because of [yellow]{reason['code']}[/yellow]{_figures(reason, event)}" if reason else ""
    if event["type"] == "transfer.quoted":
        fee = amount_text(event["fee_minor"], CURRENCY)
        return f"quoted: would {event['would']}, fee {fee}{because}"
    if event["type"] == "transfer.command_refused":
        whose = f" of {event['account_id']}" if "account_id" in event else ""
        return f"{event['command_type']}{whose} is refused{because}"
    if event["type"].startswith("clearance."):
        return _of_clearance(event, happened)
    if event["type"].startswith(("closure.", "credit.", "loan.")):
        return _of_closing(event, happened, because)
    if event["type"].startswith("risk."):
        return _of_risk(event, happened)
    if event["type"].startswith("account."):
        available = amount_text(event["available_minor"], event["currency"])
        return f"{event['account_id']}: {happened}, available {available}"
    if event["type"].startswith(("window.", "survey.", "compensation.")):
        return _of_window(event, happened, because)
    amount = amount_text(event["amount_minor"], event["currency"])
    fee = f" and fee {amount_text(event['fee_minor'], event['currency'])}" if event["fee_minor"] else ""
    due = f", money back by {event['refund_due_on']}" if "refund_due_on" in event else ""
    return f"{event['kind']} {amount}{fee}, {event['payer']} → {event['payee']}: [cyan]{happened}[/cyan]{because}{due}"


def _of_risk(event: Mapping[str, Any], happened: str) -> str:
    until = (
        f" until {datetime.fromisoformat(event['until']).astimezone(BUSINESS_ZONE):%H:%M}" if "until" in event else ""
    )
    rule = f" because of [yellow]{event['rule']}[/yellow]" if event.get("rule") else ""
    return f"{event['customer_id']} is [cyan]{happened}[/cyan]{until}{rule}"


def _of_window(event: Mapping[str, Any], happened: str, because: str) -> str:
    if event["type"] == "window.refused":
        return f"the plan of a window is refused{because}"
    if event["type"].startswith("compensation."):
        return f"{event['customer_id']} {_HAS[happened]} this for the wait: {event['compensation']['text']}"
    if event["type"] == "survey.requested":
        return f"{event['title']}: people are asked how it was"
    times = " to ".join(
        f"{datetime.fromisoformat(event[name]).astimezone(BUSINESS_ZONE):%H:%M}" for name in ("starts_at", "ends_at")
    )
    before = f" ({event['before']} before)" if "before" in event else ""
    return f"{event['title']}, {', '.join(event['functions'])}, {times}: [cyan]{happened}[/cyan]{before}"


def _of_clearance(event: Mapping[str, Any], happened: str) -> str:
    counted = ("cleared", "paid", "waiting", "blocked")
    counts = ", ".join(f"{event[name]} {name}" for name in counted if event.get(name))
    paid = [f"{amount_text(one['paid_out_minor'], one['currency'])} paid out" for one in event.get("money", ())]
    said = "; ".join(part for part in (counts, *paid) if part)
    what = (
        f"{'dry run of a clearance' if event['dry_run'] else 'clearance'} of {count_text(event['wallets'], 'wallet')}"
    )
    return f"{what}: [cyan]{happened}[/cyan]" + (f" ({said})" if said else "")


def _of_closing(event: Mapping[str, Any], happened: str, because: str) -> str:
    if event["type"] == "closure.command_refused":
        return f"{event['command_type']} is refused{because}"
    if event["type"] == "credit.status_changed":
        return f"{event['subject']}: the credit registry hears that it is {event['status']}"
    if event["type"] == "loan.disabled":
        return f"{event['subject']}: lending hears that it lends nothing any more"
    said = [
        f"{one['code']}: {one['remedy'].replace('_', ' ')}"
        for key in ("items", "reasons")
        for one in event.get(key, ())
    ]
    said += [
        f"{one.get('obligation_id', one['kind'])} owes {amount_text(one['owed_minor'], one['currency'])}"
        for one in event.get("obligations", ())
    ]
    if event.get("payout_minor"):
        said.append(f"{amount_text(event['payout_minor'], event['currency'])} to {event.get('payee', 'an account')}")
    if "receipt" in event:
        said.append(f"receipt {event['receipt']['number']}")
    if "erasure" in event:
        said.append(f"erasing is {event['erasure']}" + (f", {event['why']}" if "why" in event else ""))
    figures = f" ({'; '.join(said)})" if said else ""
    return f"closing {event['subject']}: [cyan]{happened}[/cyan]{because}{figures}"


def _figures(reason: Mapping[str, Any], event: Mapping[str, Any]) -> str:
    currency = event.get("currency", CURRENCY)
    said = []
    if "shortfall_minor" in reason:
        said.append(f"{amount_text(reason['shortfall_minor'], currency)} short")
    if reason["code"] == "amount_invalid":
        said.append(f"from {amount_text(1, currency)} to {amount_text(reason['limit_minor'], currency)} is possible")
    elif "limit_minor" in reason:
        said.append(f"limit {amount_text(reason['limit_minor'], currency)}")
    if "detail" in reason:
        said.append(reason["detail"])
    if "available_at" in reason:
        said.append(f"again {datetime.fromisoformat(reason['available_at']).astimezone(BUSINESS_ZONE):%d %b %H:%M}")
    return f" ({', '.join(said)})" if said else ""
