"""`sluice windows`: maintenance windows with what each did, and the commands that plan and change them."""

from __future__ import annotations

import asyncio
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import orjson
import typer
from confluent_kafka import Consumer, Producer, TopicPartition
from rich.table import Table

from local.settings import runtime_settings
from ops.brokers import NoAnswer, asking
from ops.console import Json, console, print_json
from ops.database import connect
from ops.errors import UserError
from ops.moments import moment_of, moment_text
from ops.running import find_running
from schemas.envelope import encode_headers, short_type
from schemas.fields import as_text
from services.maintenance import records
from services.notify import records as notices
from services.runtime.clock import clock_from_setting
from services.runtime.kafka import admin_options
from services.transfer import records as transfers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from ops.running import Running

_COMMANDS: Final = "maintenance.commands"
_EVENTS: Final = "maintenance.events"
_SOURCE: Final = "sluice.windows"
_ANSWER_WITHIN_S: Final = 20.0

WindowId = Annotated[uuid.UUID, typer.Argument(metavar="WINDOW_ID", help="As `sluice windows` lists it.")]


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
    found = asyncio.run(_read(find_running(), window, limit))
    if window is not None and not found:
        raise NoSuchWindow(f"There is no window {window}.")
    if as_json:
        print_json(found)
    else:
        _print(console(), found)


async def _read(running: Running, window_id: uuid.UUID | None, limit: int) -> list[dict[str, Any]]:
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
            "held": tally.held,
            "refused": tally.refused,
            "released": tally.released,
            "waiting": tally.waiting,
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
    columns = ("window", "status", "starts", "ends", "closes", "held", "refused", "released", "waiting", "told")
    table = Table(*columns, box=None, pad_edge=False)
    for window in windows:
        figures = ("held", "refused", "released", "waiting", "announced")
        status = f"{window['status']} (drill)" if window["drill"] else window["status"]
        when = (moment_text(window["starts_at"]), moment_text(window["ends_at"]))
        table.add_row(window["window_id"], status, *when, _closes(window), *(f"{window[name]:,}" for name in figures))
    out.print(table)
    for step in windows[0].get("steps", ()):
        out.print(f"  {moment_text(step['occurred_at'])}  {step['revision']:>3}  {step['type']}")
    if (score := windows[0]["survey_score"]) is not None and "steps" in windows[0]:
        out.print(f"  {windows[0]['survey_answers']:,} people answered the survey: {score} of 5.")


def _closes(window: Mapping[str, Any]) -> str:
    scope = [*window["scope"].get("banks", ()), *window["scope"].get("currencies", ())]
    return ", ".join(window["functions"]) + (f" of {', '.join(scope)}" if scope else "")


# --- Changing ---


def plan(
    title: Annotated[str, typer.Option(help="What operators call it.")],
    reason: Annotated[str, typer.Option(help="Why, in customers' words.")],
    starts_at: Annotated[str, typer.Option("--from", help="When it starts, or `now`.")],
    ends_at: Annotated[str, typer.Option("--to", help="When it ends.")],
    function: Annotated[
        list[str], typer.Option(help="What it closes: transfer, withdrawal, top_up, closure_payout; several times.")
    ],
    treatment: Annotated[Literal["hold", "reject"], typer.Option(help="What becomes of what is closed.")] = "hold",
    bank: Annotated[list[str] | None, typer.Option(help="Only this bank; several times.")] = None,
    currency: Annotated[list[str] | None, typer.Option(help="Only this currency; several times.")] = None,
    alternative: Annotated[
        list[str] | None, typer.Option(metavar="KIND=TEXT", help="What people can do instead; several times.")
    ] = None,
    waive_fees: Annotated[int | None, typer.Option(help="Waive so many fees of those it hits.", min=1)] = None,
    window: Annotated[uuid.UUID | None, typer.Option(help="Its id; a new one without this.")] = None,
    *,
    confirmed: Annotated[bool, typer.Option("--confirmed", help="It stays closed until `windows end`.")] = False,
    drill: Annotated[bool, typer.Option("--drill", help="A rehearsal: it touches no customer.")] = False,
    as_json: Json = False,
) -> None:
    """Plan a window, and print what the maintenance service makes of it."""
    running = find_running()
    now = clock_from_setting(running.clock).now()
    waiver = {"kind": "fee_waiver", "value": waive_fees, "text": f"Your next {waive_fees} transfers cost no fee."}
    command = {
        "window_id": str(window or uuid.uuid4()),
        "title": title,
        "reason": reason,
        "starts_at": as_text(now if starts_at == "now" else moment_of(starts_at)),
        "ends_at": as_text(moment_of(ends_at)),
        "ends": "confirmed" if confirmed else "automatic",
        "functions": function,
        "scope": {"banks": bank or [], "currencies": currency or []},
        "treatment": treatment,
        "alternatives": [_alternative(text) for text in alternative or []],
        "drill": drill,
        **({} if waive_fees is None else {"compensation": waiver}),
    }
    _send(running, "window.schedule", command, as_json=as_json)


def _alternative(text: str) -> dict[str, str]:
    kind, is_given, words = text.partition("=")
    if not (kind and is_given and words):
        raise typer.BadParameter(f"{text!r}: say KIND=TEXT", param_hint="--alternative")
    return {"kind": kind, "text": words}


def extend(
    window: WindowId,
    ends_at: Annotated[str, typer.Option("--to", help="When it ends instead.")],
    reason: Annotated[str, typer.Option(help="Why, in customers' words.")],
    *,
    as_json: Json = False,
) -> None:
    """Let a window that has started end later."""
    command = {"window_id": str(window), "ends_at": as_text(moment_of(ends_at)), "reason": reason}
    _send(find_running(), "window.extend", command, as_json=as_json)


def end(window: WindowId, *, as_json: Json = False) -> None:
    """End a window that has started: what it held goes on."""
    _send(find_running(), "window.end", {"window_id": str(window)}, as_json=as_json)


def cancel(
    window: WindowId,
    reason: Annotated[str | None, typer.Option(help="Why, in customers' words.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Call off a window that has not started."""
    command = {"window_id": str(window), **({} if reason is None else {"reason": reason})}
    _send(find_running(), "window.cancel", command, as_json=as_json)


def _send(running: Running, type_: str, command: Mapping[str, Any], *, as_json: bool) -> None:
    with asking(running):
        event_type, event = _ask(running, type_, command)
    if event_type == "window.refused":
        reason = event["reason"]
        where = f" {reason['field']}:" if "field" in reason else ""
        raise Refused(f"Refused ({reason['code']}):{where} {reason.get('detail', 'see the window as it is')}.")
    if as_json:
        print_json({"type": event_type, **event})
        return
    until = f"from {_text(event['starts_at'])} to {_text(event['ends_at'])}"
    console().print(f"{event_type}: {event['window_id']} {until}.", soft_wrap=True)


def _text(moment: str) -> str:
    return moment_text(datetime.fromisoformat(moment))


def _ask(running: Running, type_: str, command: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Publish a command and return the first event about its window that follows."""
    options = admin_options(runtime_settings(running.kafka, running.database), _SOURCE) | {"log_level": 0}
    consumer = Consumer({**options, "group.id": _SOURCE, "enable.auto.commit": False})
    try:
        _go_to_end(consumer, f"{running.topic_prefix}{_EVENTS}")
        _publish(options, running, type_, command)
        deadline = time.monotonic() + _ANSWER_WITHIN_S
        while time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is None or message.error() is not None:
                continue
            headers: Any = dict(message.headers() or ())
            if headers.get("ce_subject") == command["window_id"].encode():
                said = short_type(headers["ce_type"].decode())
                return said, orjson.loads(message.value() or b"{}")
    finally:
        consumer.close()
    raise NoAnswer(
        f"The command was published, and the maintenance service has not answered within {_ANSWER_WITHIN_S:.0f} s: "
        "see whether it runs. It will be done when it does."
    )


def _go_to_end(consumer: Consumer, topic: str) -> None:
    partitions = consumer.list_topics(topic, 10).topics[topic].partitions
    ends = []
    for number in partitions:
        _, end_ = consumer.get_watermark_offsets(TopicPartition(topic, number), 10)
        ends.append(TopicPartition(topic, number, end_))
    consumer.assign(ends)


def _publish(options: Mapping[str, Any], running: Running, type_: str, command: Mapping[str, Any]) -> None:
    producer = Producer({**options, "acks": "all", "partitioner": "murmur2_random", "message.timeout.ms": 10_000})
    headers: Any = encode_headers(
        type_, id=str(uuid.uuid4()), source=_SOURCE, time=as_text(datetime.now(UTC)), subject=command["window_id"]
    )
    failures: list[object] = []
    producer.produce(
        f"{running.topic_prefix}{_COMMANDS}",
        key=command["window_id"],
        value=orjson.dumps(command),
        headers=headers,
        on_delivery=lambda error, _message: failures.append(error) if error else None,
    )
    if producer.flush(15) or failures:
        raise NoAnswer(f"Kafka at {running.kafka} did not take the command: see whether it runs.")
