"""`sluice offsets`: how far each partition is consumed, and gaps that wait for a person."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import typer
from rich.table import Table

from local.settings import runtime_settings
from local.setup import SERVICES
from ops.brokers import asking
from ops.console import Json, console
from ops.database import connect
from ops.errors import UserError
from ops.running import Running, find_running
from services.runtime.offsets import Consumed, NoGap, accept_gap, load_all
from services.runtime.topics import Log, Place, Topics


class NothingToAccept(UserError):
    """There is no such gap; the text says what there is."""

    exit_code = 1


def show(*, as_json: Json = False) -> None:
    """Print a row a partition: where its consumer goes on, where its log starts and ends, and any gap."""
    rows = asyncio.run(_collect(find_running()))
    if as_json:
        print(json.dumps(rows))  # noqa: T201 - the command's output
        return
    columns = ("service", "topic", "partition", "next", "log start", "log end", "behind", "gap")
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        gap = row["gap"]
        says = "" if gap is None else f"{gap['kind']}, {_count(gap['size'])} missing, since {gap['found_at']}"
        figures = (row["partition"], row["next_offset"], row["log_start"], row["log_end"], row["lag"])
        table.add_row(row["service"], row["topic"], *(str(figure) for figure in figures), says)
    out = console()
    out.print(table)
    if any(row["gap"] for row in rows):
        out.print("A partition with a gap stands still until: sluice offsets accept SERVICE TOPIC PARTITION")


def _count(size: int | None) -> str:
    return "an unknown number of records" if size is None else f"{size:,} records"


async def _collect(running: Running) -> list[dict[str, Any]]:
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
    is_gap_open = row.gap_kind is not None and row.gap_accepted_at is None
    return {
        "service": service,
        "topic": row.topic,
        "partition": row.partition,
        "next_offset": row.next_offset,
        "log_start": log.start,
        "log_end": log.end,
        "lag": max(0, log.end - row.next_offset),
        "same_topic": row.topic_id == log.topic_id,
        "gap": {"kind": row.gap_kind, "size": row.gap_size, "found_at": str(row.gap_found_at)} if is_gap_open else None,
    }


def accept(
    service: Annotated[str, typer.Argument(help="Such as transfer.")],
    topic: Annotated[str, typer.Argument(help="Such as transfer.commands.")],
    partition: Annotated[int, typer.Argument(help="The partition's number.", min=0, max=1_000_000)],
) -> None:
    """Let a stopped partition go on; what is missing stays missing."""
    asyncio.run(_accept(find_running(), service, topic, partition))


async def _accept(running: Running, service: str, topic: str, partition: int) -> None:
    if service not in SERVICES:
        raise NothingToAccept(f"There is no service {service!r}; there is {', '.join(SERVICES)}.")
    async with connect(running, service) as connection:
        try:
            kind = await accept_gap(connection, topic, partition)
        except NoGap as error:
            raise NothingToAccept(f"Nothing to accept: {error}. See `sluice offsets show`.") from None
    console().print(f"Accepted ({kind}): partition {partition} of {topic} goes on within seconds.")
