"""The bare floor: the shortest honest loop that moves money from Kafka through PostgreSQL and back.

It consumes, validates, locks, decides, writes, commits with fsync and publishes with acks=all, and does nothing
else: no repeats, limits, fees, names, timers, outbox, fencing or dead letters. It speaks the same contract, so
that whoever publishes to the service and reads from it could use it instead. What the service adds is measured
against it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from datetime import UTC, datetime

import asyncpg
import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas.envelope import Malformed, decode, encode_headers
from schemas.transfer import TransferRequest

TYPES = {"transfer.request": TransferRequest}
SCHEMA = """
create schema if not exists floor;
create table floor.account (account_id text primary key, balance_minor bigint not null) with (fillfactor = 60);
create table floor.transfer (
    transfer_id uuid primary key, payer text not null, payee text not null, amount_minor bigint not null,
    status text not null, at timestamptz not null default now()
);
create table floor.posting (account_id text not null, transfer_id uuid not null, amount_minor bigint not null);
create table floor.consumed (partition integer primary key, next_offset bigint not null);
"""

LOAD = "select account_id, balance_minor from floor.account where account_id = any($1) order by account_id for update"
UPDATE = """
update floor.account set balance_minor = new.balance_minor
from unnest($1::text[], $2::bigint[]) as new (account_id, balance_minor)
where account.account_id = new.account_id
"""
ADVANCE = """
insert into floor.consumed select * from unnest($1::integer[], $2::bigint[])
on conflict (partition) do update set next_offset = excluded.next_offset
"""


async def main() -> None:
    """Handle records until told to stop; settings come from the environment."""
    bootstrap, prefix = os.environ["KAFKA_BOOTSTRAP_SERVERS"], os.environ["SLUICE_TOPIC_PREFIX"]
    batch_size = int(os.environ["FLOOR_BATCH_SIZE"])
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    commands, events = f"{prefix}transfer.commands", f"{prefix}transfer.events"
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        max_partition_fetch_bytes=1 << 20,
        max_poll_records=batch_size,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=5, max_batch_size=1 << 18
    )
    await consumer.start()
    await producer.start()
    consumer.assign([TopicPartition(commands, number) for number in range(int(os.environ["FLOOR_PARTITIONS"]))])
    await consumer.seek_to_beginning()
    print(json.dumps({"pid": os.getpid(), "first_poll": time.time()}), flush=True)  # noqa: T201
    while True:
        polled = await consumer.getmany(timeout_ms=1000, max_records=batch_size)
        records = [record for batch in polled.values() for record in batch]
        if not records:
            continue
        decoded = [decode(record.headers, record.value, TYPES) for record in records]
        messages = [message for message in decoded if not isinstance(message, Malformed)]
        requests = [message.data for message in messages if isinstance(message.data, TransferRequest)]
        sends: list[tuple[bytes, bytes, list[tuple[str, bytes]]]] = []
        async with connection.transaction():
            wallets = {party for request in requests for party in (request.payer, request.payee)}
            rows = await connection.fetch(LOAD, list(wallets))
            balances: dict[str, int] = {row[0]: row[1] for row in rows}
            now = datetime.now(UTC).isoformat()
            transfers, postings = [], []
            for request in requests:
                id_, payer, payee, amount = request.transfer_id, request.payer, request.payee, request.amount_minor
                status = "settled" if balances.get(payer, 0) >= amount and payee in balances else "failed"
                if status == "settled":
                    balances[payer] -= amount
                    balances[payee] += amount
                    postings += [(payer, id_, -amount), (payee, id_, amount)]
                transfers.append((id_, payer, payee, amount, status))
                sends.append(event(request, status, balances, now))
            await connection.copy_records_to_table(
                "transfer",
                schema_name="floor",
                records=transfers,
                columns=("transfer_id", "payer", "payee", "amount_minor", "status"),
            )
            await connection.copy_records_to_table("posting", schema_name="floor", records=postings)
            await connection.execute(UPDATE, list(balances), list(balances.values()))
            ends = [(tp.partition, batch[-1].offset + 1) for tp, batch in polled.items()]
            await connection.execute(ADVANCE, [end[0] for end in ends], [end[1] for end in ends])
        acknowledged = [await producer.send(events, value, key=key, headers=headers) for key, value, headers in sends]
        await asyncio.gather(*acknowledged)


def event(
    request: TransferRequest, status: str, balances: dict[str, int], now: str
) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """Return the key, value and headers of the one event of a transfer, as the contract has them."""
    id_ = str(request.transfer_id)
    body = {
        "transfer_id": id_,
        "seq": 1,
        "kind": request.kind,
        "payer": request.payer,
        "payee": request.payee,
        "amount_minor": request.amount_minor,
        "fee_minor": 0,
        "currency": request.currency,
        "status": status,
        "requested_at": now,
        "occurred_at": now,
        "payer_available_minor": balances.get(request.payer),
        "payee_available_minor": balances.get(request.payee),
    }
    headers = encode_headers(f"transfer.{status}", id=f"{id_}.1", source="floor", time=now, subject=id_)
    return request.payer.encode(), orjson.dumps(body), headers


if __name__ == "__main__":
    if "--schema" in sys.argv:
        print(SCHEMA)  # noqa: T201
    else:
        uvloop.run(main())
