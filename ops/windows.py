"""`sluice windows`: maintenance windows with what each did, and the commands that plan and change them."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple

import typer
from rich.markup import escape
from rich.table import Table

from ops.commands import Answer, Command
from ops.counts import count_text
from ops.database import connect
from ops.errors import UserError
from ops.maintenance import REFUSED, ask
from ops.moments import moment_of, moment_text
from ops.running import find_running
from ops.terminal import Fitted, Json, print_json, terminal
from schemas.fields import as_text
from services.maintenance import records
from services.notify import records as notices
from services.runtime.clock import clock_from_setting
from services.transfer import records as transfers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from ops.running import Running

_WHEN: Final = "2026-11-23T22:00, in the zone of Asia/Shanghai, or with an offset of its own: 2026-11-23T14:00Z"

WindowId = Annotated[uuid.UUID, typer.Argument(metavar="WINDOW_ID", help="As `sluice windows` lists it.")]
Start = Annotated[str, typer.Option("--from", help=f"When it starts: `now`, or {_WHEN}.")]
End = Annotated[str, typer.Option("--to", help=f"When it ends: {_WHEN}.")]
Reason = Annotated[
    str, typer.Option(help="Why, in customers' words; told to those whose language it is in, Chinese or English.")
]
ReasonInChinese = Annotated[str | None, typer.Option("--reason-zh", help="The same for who reads Chinese.")]
ReasonInEnglish = Annotated[str | None, typer.Option("--reason-en", help="The same for who reads English.")]

_ANSWERS: Final = {
    "window.schedule": {"window.scheduled", "window.started"},
    "window.reschedule": {"window.rescheduled"},
    "window.start_now": {"window.started"},
    "window.extend": {"window.extended"},
    "window.end": {"window.ended"},
    "window.cancel": {"window.cancelled"},
}
"""What answers each command, beside its refusal."""

_AS_IT_STANDS: Final = {
    *set().union(*_ANSWERS.values()),
    "window.reminder",
    "window.overrun",
    "window.escalated",
    "survey.requested",
}
"""What a plan that was known before is answered with: whatever was said of its window last."""


_TREATED: Final = {"hold": "held until it is over", "reject": "refused"}


class NoSuchWindow(UserError):
    """There is no window of that id."""

    exit_code = 1


class Refused(UserError):
    """The maintenance service refused the command; the text says why, and names the field."""

    exit_code = 1


# --- Looking ---


def show(
    context: typer.Context,
    window: Annotated[
        uuid.UUID | None, typer.Option(help="Only this one, with everything that was said of it.")
    ] = None,
    limit: Annotated[int, typer.Option(help="List so many, the latest to start.", min=1, max=100_000)] = 50,
    *,
    as_json: Json = False,
) -> None:
    """Print windows, and what each held, refused, released and announced."""
    if context.invoked_subcommand is not None:
        return
    found = asyncio.run(read_windows(find_running(), window, limit))
    if window is not None and not found:
        raise NoSuchWindow(f"There is no window {window}.")
    if as_json:
        print_json(found)
    else:
        _print(terminal(), found)


async def read_windows(running: Running, window_id: uuid.UUID | None, limit: int) -> list[dict[str, Any]]:
    """Return windows, the latest to start first, each with what it did; of one alone its steps, too."""
    async with connect(running, "maintenance") as connection:
        windows = await records.list_windows(connection, window_id, limit)
        steps = [] if window_id is None else await records.list_steps(connection, window_id)
    ids = [window["window_id"] for window in windows]
    async with connect(running, "transfer") as connection:
        tallies = await transfers.tally_windows(connection, ids)
    async with connect(running, "notify") as connection:
        announced = await notices.count_announced(connection, [str(id_) for id_ in ids])
    found = []
    for window in windows:
        id_, plan = window["window_id"], window["plan"]
        tally = tallies[id_]
        row = {
            "window_id": str(id_),
            "status": window["status"],
            "starts_at": window["starts_at"],
            "ends_at": window["ends_at"],
            # When it really ended, or was called off; `ends_at` stays what was planned.
            "over_at": window["over_at"],
            "held": tally.held,
            "refused": tally.refused,
            "released": tally.released,
            "waiting": tally.waiting,
            # Over while they waited: by cancel, by expiry, or with their wallet.
            "cancelled": tally.held - tally.released - tally.waiting,
            "announced": announced[str(id_)],
            "compensated": window["compensated"],
            "compensation_used": window["compensation_used"],
            "survey_answers": window["survey_answers"],
            "survey_score": None if window["survey_score"] is None else float(window["survey_score"]),
            "revision": window["revision"],
            **plan,
        }
        if window_id is not None:
            row["steps"] = [
                {name: step[name] for name in ("revision", "type", "status", "occurred_at")} for step in steps
            ]
        found.append(row)
    return found


def _print(out: Console, windows: Sequence[Mapping[str, Any]]) -> None:
    if not windows:
        out.print("No window is planned, and none was: `sluice windows plan --help` says how.")
        return
    figures = ("held", "refused", "released", "cancelled", "waiting", "announced")
    columns = ("window", "title", "status", "starts", "ends", "closes", *figures[:-1], "told")
    table = Table(*columns, box=None, pad_edge=False)
    for window in windows:
        status = f"{window['status']} (drill)" if window["drill"] else window["status"]
        when = (moment_text(window["starts_at"]), moment_text(window["over_at"] or window["ends_at"]))
        counts = (f"{window[name]:,}" for name in figures)
        table.add_row(window["window_id"], escape(window["title"]), status, *when, _closes(window), *counts)
    out.print(Fitted(table))
    if "steps" in windows[0]:
        _print_one(out, windows[0])


def _print_one(out: Console, window: Mapping[str, Any]) -> None:
    ends = "when somebody confirms it" if window["ends"] == "confirmed" else "by itself"
    out.print(f"  What it closes is {_TREATED[window['treatment']]}; it ends {ends}.")
    for text in dict.fromkeys((window["reason"], *(one["text"] for one in window["reason_in"]))):
        out.print(f"  Reason: {escape(text)}", soft_wrap=True)
    for way in window["alternatives"]:
        out.print(f"  Instead ({escape(way['kind'])}): {escape(way['text'])}", soft_wrap=True)
    if (gift := window["compensation"]) is not None:
        people = count_text(window["compensated"], "person", "people")
        given = f"given to {people}, used {count_text(window['compensation_used'], 'time')}"
        out.print(f"  Compensation: {escape(gift['text'])} ({given})", soft_wrap=True)
    for step in window["steps"]:
        out.print(f"  {moment_text(step['occurred_at'])}  {step['revision']:>3}  {step['type']}")
    if (score := window["survey_score"]) is not None:
        people = count_text(window["survey_answers"], "person", "people")
        out.print(f"  {people} answered the survey: {score} of 5.")


def _closes(window: Mapping[str, Any]) -> str:
    scope = [*window["scope"].get("banks", ()), *window["scope"].get("currencies", ())]
    return ", ".join(window["functions"]) + (f" of {', '.join(scope)}" if scope else "")


# --- Changing ---


class Reasons(NamedTuple):
    """Why, in customers' words: in whichever of the two languages, and for who reads Chinese or English."""

    either: str | None = None
    chinese: str | None = None
    english: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan as people say it: times in words, `now` for one that starts at once; without an id it gets a new one."""

    title: str
    reasons: Reasons
    starts_at: str
    ends_at: str
    functions: Sequence[str]
    treatment: str = "hold"
    banks: Sequence[str] = ()
    currencies: Sequence[str] = ()
    alternatives: Sequence[Mapping[str, Any]] = ()
    waive_fees: int | None = None
    window: uuid.UUID | None = None
    confirmed: bool = False
    drill: bool = False


def planned(said: Plan, now: datetime) -> Command:
    """Return the command that plans a window; raises NoMoment for a time that is none."""
    start = now if said.starts_at == "now" else moment_of(said.starts_at)
    data = {
        "window_id": str(said.window or uuid.uuid4()),
        "title": said.title,
        **_why(said.reasons),
        "starts_at": as_text(start),
        "ends_at": as_text(moment_of(said.ends_at)),
        "ends": "confirmed" if said.confirmed else "automatic",
        "functions": list(said.functions),
        "scope": {"banks": list(said.banks), "currencies": list(said.currencies)},
        "treatment": said.treatment,
        "alternatives": list(said.alternatives),
        "drill": said.drill,
        **({} if said.waive_fees is None else {"compensation": _waiver(said.waive_fees)}),
    }
    answers = set(_ANSWERS["window.schedule"] if said.window is None else _AS_IT_STANDS)
    if start <= now:
        # It starts at once: that it is planned is only half of the answer.
        answers.discard("window.scheduled")
    again = f"It is done once if you ask again: the same options with --window {data['window_id']}"
    if said.starts_at == "now":
        again += f" --from {data['starts_at']}"
    return Command("window.schedule", data, frozenset(answers), f"{again}.")


def changed(
    type_: str,
    window: uuid.UUID,
    *,
    reasons: Reasons = Reasons(),  # noqa: B008 - it cannot be changed
    starts_at: datetime | None = None,
    ends_at: str | None = None,
) -> Command:
    """Return the command of that type for a window; raises NoMoment for a time that is none."""
    said = _why(reasons)
    if starts_at is not None:
        said["starts_at"] = as_text(starts_at)
    if ends_at is not None:
        said["ends_at"] = as_text(moment_of(ends_at))
    again = f"`sluice windows --window {window}` says how it stands."
    return Command(type_, {"window_id": str(window), **said}, frozenset(_ANSWERS[type_]), again)


def send(running: Running, command: Command) -> Answer:
    """Have the maintenance service do it, and return its answer; raises Refused or NoSuchWindow, or NoAnswer."""
    answer = ask(running, command)
    if answer.type == REFUSED:
        raise _refusal(answer)
    return answer


def plan(
    title: Annotated[str, typer.Option(help="What operators call it; at most 140 characters.")],
    reason: Reason,
    starts_at: Start,
    ends_at: End,
    function: Annotated[
        list[str], typer.Option(help="What it closes: transfer, withdrawal, top_up, closure_payout; several times.")
    ],
    reason_zh: ReasonInChinese = None,
    reason_en: ReasonInEnglish = None,
    treatment: Annotated[Literal["hold", "reject"], typer.Option(help="What becomes of what is closed.")] = "hold",
    bank: Annotated[list[str] | None, typer.Option(help="Only this bank; several times.")] = None,
    currency: Annotated[list[str] | None, typer.Option(help="Only this currency; several times.")] = None,
    alternative: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=TEXT",
            help="What people can do instead: a word of yours for programs (card, counter), and a sentence for those "
            "whose language it is in. Several times: once in each language.",
        ),
    ] = None,
    waive_fees: Annotated[int | None, typer.Option(help="Waive so many fees of those it hits.", min=1)] = None,
    window: Annotated[
        uuid.UUID | None, typer.Option(help="Its id; a new one without this. The same plan again is done once.")
    ] = None,
    *,
    confirmed: Annotated[bool, typer.Option("--confirmed", help="It stays closed until `windows end`.")] = False,
    drill: Annotated[bool, typer.Option("--drill", help="A rehearsal: it touches no customer.")] = False,
    as_json: Json = False,
) -> None:
    """Plan a window, and print what the maintenance service makes of it."""
    running = find_running()
    said = Plan(
        title,
        Reasons(reason, reason_zh, reason_en),
        starts_at,
        ends_at,
        function,
        treatment,
        bank or (),
        currency or (),
        [_alternative(text) for text in alternative or []],
        waive_fees,
        window,
        confirmed,
        drill,
    )
    _send(running, planned(said, clock_from_setting(running.clock).now()), as_json=as_json)


def _why(reasons: Reasons) -> dict[str, Any]:
    reason = reasons.either
    said = {"zh-CN": reasons.chinese, "en": reasons.english}
    translations = [{"locale": locale, "text": text} for locale, text in said.items() if text is not None]
    return {
        **({} if reason is None else {"reason": reason}),
        **({"reason_in": translations} if translations else {}),
    }


def _alternative(text: str) -> dict[str, str]:
    kind, is_given, words = text.partition("=")
    if not (kind and is_given and words):
        raise typer.BadParameter(f"{text!r}: say KIND=TEXT", param_hint="--alternative")
    return {"kind": kind, "text": words}


def _waiver(fees: int) -> dict[str, Any]:
    english = "Your next fee is waived." if fees == 1 else f"Your next {fees} fees are waived."
    chinese = {"locale": "zh-CN", "text": f"免收接下来 {fees} 笔手续费。"}
    return {"kind": "fee_waiver", "value": fees, "text": english, "text_in": [chinese]}


def reschedule(
    window: WindowId,
    starts_at: Start,
    ends_at: End,
    reason: Reason,
    reason_zh: ReasonInChinese = None,
    reason_en: ReasonInEnglish = None,
    *,
    as_json: Json = False,
) -> None:
    """Move a window that is not over; one that has started opens until it starts anew."""
    running = find_running()
    start = clock_from_setting(running.clock).now() if starts_at == "now" else moment_of(starts_at)
    reasons = Reasons(reason, reason_zh, reason_en)
    command = changed("window.reschedule", window, reasons=reasons, starts_at=start, ends_at=ends_at)
    _send(running, command, as_json=as_json)


def start(window: WindowId, *, as_json: Json = False) -> None:
    """Start a planned window at once."""
    _send(find_running(), changed("window.start_now", window), as_json=as_json)


def extend(
    window: WindowId,
    ends_at: End,
    reason: Reason,
    reason_zh: ReasonInChinese = None,
    reason_en: ReasonInEnglish = None,
    *,
    as_json: Json = False,
) -> None:
    """Let a window that has started end later."""
    reasons = Reasons(reason, reason_zh, reason_en)
    _send(find_running(), changed("window.extend", window, reasons=reasons, ends_at=ends_at), as_json=as_json)


def end(window: WindowId, *, as_json: Json = False) -> None:
    """End a window that has started: what it held goes on."""
    _send(find_running(), changed("window.end", window), as_json=as_json)


def cancel(
    window: WindowId,
    reason: Annotated[str | None, typer.Option(help="Why, in customers' words.")] = None,
    reason_zh: ReasonInChinese = None,
    reason_en: ReasonInEnglish = None,
    *,
    as_json: Json = False,
) -> None:
    """Call off a window that has not started."""
    reasons = Reasons(reason, reason_zh, reason_en)
    _send(find_running(), changed("window.cancel", window, reasons=reasons), as_json=as_json)


def _send(running: Running, command: Command, *, as_json: bool) -> None:
    answer = send(running, command)
    if as_json:
        print_json({"type": answer.type, **answer.data})
        return
    ends = answer.data["occurred_at" if answer.type == "window.ended" else "ends_at"]
    until = f"from {_text(answer.data['starts_at'])} to {_text(ends)}"
    is_closed = ": it is closed now" if answer.type == "window.started" and not answer.data["drill"] else ""
    terminal().print(f"{answer.type}: {answer.data['window_id']} {until}{is_closed}.", soft_wrap=True)


def _refusal(answer: Answer) -> UserError:
    reason = answer.data["reason"]
    if reason["code"] == "window_unknown":
        return NoSuchWindow(f"There is no window {answer.data['window_id']}.")
    where = f" {reason['field']}:" if "field" in reason else ""
    said = f"Refused ({reason['code']}):{where} {reason.get('detail', 'see the window as it is')}."
    if reason["code"] == "state_conflict":
        said += " Extend or end what has started; start or cancel what has not; reschedule either before its end."
    return Refused(said)


def _text(moment: str) -> str:
    return moment_text(datetime.fromisoformat(moment))
