"""`sluice offsets`: how far each partition is consumed, and gaps that wait for a person."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from local.settings import runtime_settings
from local.setup import SERVICES
from ops.brokers import asking
from ops.counts import count_text
from ops.database import connect
from ops.errors import UserError
from ops.moments import moment_text
from ops.running import Running, find_running
from ops.terminal import Fitted, Json, print_json, terminal
from services.runtime.offsets import Consumed, accept_gap, load_all
from services.runtime.topics import Log, Place, Topics


class NothingToAccept(UserError):
    """There is no such gap; the text says what there is."""

    exit_code = 1


def show(*, as_json: Json = False) -> None:
    """Print a row a partition: where its consumer goes on, where its log starts and ends, and any gap."""
    rows = asyncio.run(collect(find_running()))
    if as_json:
        print_json(rows)
        return
    columns = ("service", "topic", "partition", "next", "log start", "log end", "behind", "gap")
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        says = "" if row["gap"] is None else _gap_text(**row["gap"])
        figures = (row["partition"], row["next_offset"], row["log_start"], row["log_end"], row["lag"])
        table.add_row(row["service"], row["topic"], *(str(figure) for figure in figures), says)
    out = terminal()
    out.print(Fitted(table))
    if any(row["gap"] for row in rows):
        out.print("A partition with a gap stands still until: sluice offsets accept SERVICE TOPIC [PARTITION]")


def _gap_text(kind: str, size: int | None, found_at: datetime) -> str:
    missing = "an unknown number of records" if size is None else count_text(size, "record")
    return f"{kind}, {missing} missing, since {moment_text(found_at)}"


async def collect(running: Running) -> list[dict[str, Any]]:
    """Return a row a partition that is consumed: by which service, how far, and how far it is `lag`ging behind."""
    topics = Topics(runtime_settings(running.kafka, running.database), "sluice.offsets")
    rows = []
    for service in SERVICES:
        async with connect(running, service) as connection:
            consumed = await load_all(connection)
        with asking(running):
            logs = await topics.logs([Place(row.topic, row.partition) for row in consumed])
        rows += [_row(service, row, logs[Place(row.topic, row.partition)]) for row in consumed]
    return rows


def _row(service: str, row: Consumed, log: Log) -> dict[str, Any]:
    return {
        "service": service,
        "topic": row.topic,
        "partition": row.partition,
        "next_offset": row.next_offset,
        "log_start": log.start,
        "log_end": log.end,
        "lag": log.end - min(log.end, _goes_on_at(row, log)),
        "same_topic": row.topic_id == log.topic_id,
        "gap": _open_gap(row),
    }


def _goes_on_at(row: Consumed, log: Log) -> int:
    """Return the offset behind which the partition is: of another topic's log every record is new."""
    if row.topic_id != log.topic_id:
        return log.start
    if row.gap_kind == "beyond_end" and row.gap_size is not None:
        # What the log has got since it was found to end too early is new.
        return max(log.start, row.next_offset - row.gap_size)
    return row.next_offset


def _open_gap(row: Consumed) -> dict[str, Any] | None:
    if row.gap_kind is None or row.gap_accepted_at is not None:
        return None
    return {"kind": row.gap_kind, "size": row.gap_size, "found_at": row.gap_found_at}


def accept(
    service: Annotated[str, typer.Argument(help="Such as transfer.")],
    topic: Annotated[str, typer.Argument(help="Such as transfer.commands.")],
    partition: Annotated[
        int | None, typer.Argument(help="The partition's number; every stopped one without it.", min=0)
    ] = None,
) -> None:
    """List a topic's stopped partitions, or one, and let them go on; what is missing stays missing."""
    asyncio.run(_accept(find_running(), service, topic, partition))


async def _accept(running: Running, service: str, topic: str, partition: int | None) -> None:
    if service not in SERVICES:
        raise NothingToAccept(f"There is no service {service!r}; there is {', '.join(SERVICES)}.")
    out = terminal()
    async with connect(running, service) as connection:
        consumed = [row for row in await load_all(connection) if row.topic == topic]
        stopped = [row for row in consumed if partition in {None, row.partition} and _open_gap(row)]
        if not stopped:
            raise NothingToAccept(_why_nothing(service, topic, partition, is_consumed=bool(consumed)))
        for row in stopped:
            gap = _open_gap(row) or {}
            out.print(f"  partition {row.partition} of {topic}: {_gap_text(**gap)}", soft_wrap=True)
            await accept_gap(connection, topic, row.partition)
    out.print(f"Accepted: {'this goes' if len(stopped) == 1 else f'these {len(stopped)} go'} on within seconds.")


def _why_nothing(service: str, topic: str, partition: int | None, *, is_consumed: bool) -> str:
    if not is_consumed:
        return f"Nothing to accept: {service} has consumed no topic {topic!r}. See `sluice offsets show`."
    which = "no partition" if partition is None else f"partition {partition}"
    has = "has a gap that waits" if partition is None else "has no gap that waits"
    return f"Nothing to accept: {which} of {topic} {has}. See `sluice offsets show`."
