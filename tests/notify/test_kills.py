"""Notifiers killed again and again, before gateways that fail: all is accounted for, and nothing leaves twice."""

from __future__ import annotations

import base64
import json
import os
import random
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import asyncpg
import orjson
import pytest

from local.daemon import free_port
from schemas.registry import TOPICS
from services.runtime.message import Lane, Message
from tests.notify.gateways.conftest import start_sandbox
from tests.notify.gateways.test_smtp import running
from tests.notify.test_notices import MASTER_KEY, profile
from tests.notify.test_process import publish
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "sandbox-secret"
IN_SMS = {"failure_rate": 0.05, "failure_code": "BUSY", "delay_rate": 0.05, "delay_s": 0.5, "lost_receipt_rate": 0.05}
POLICY = """
[delivering]
retry_after_s = 0.2
hand_over_within_s = 2
answer_within_s = 4
inquire_after_s = 4

[failover]
left_to_others_s = 0.2

[events."account.restricted"]
to = ["holder"]
channels = ["in_app", "email", "sms"]
urgency = "urgent"
category = "security"
"""
GATEWAYS = """
[[smtp]]
name = "mail"
host = "127.0.0.1"
port = {smtp}
tls = "none"
timeout_s = 2
from_address = "no-reply@sluice.example"

[[http_sms]]
name = "sms-a"
url = "{http}/gateways/sms-a/messages"
batch_size = 100
timeout_s = 3
auth = {{ kind = "hmac", secret = "{secret}" }}
inquiry = {{ url = "{http}/gateways/sms-a/messages/inquire" }}
callback = {{ url = "http://127.0.0.1:{public}/receipts/sms-a", secret = "{secret}" }}
codes = {{ BUSY = {{ outcome = "temporary", why = "busy" }} }}
"""


class System(NamedTuple):
    """Where the sandboxes are, and what notifiers are started with."""

    environment: dict[str, str]
    mail: str
    sms: str
    log: Path

    @contextmanager
    def notifier(self) -> Iterator[subprocess.Popen[bytes]]:
        with self.log.open("ab") as errors:
            child = subprocess.Popen(
                [sys.executable, "-m", "services.notify"],
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        try:
            assert child.stdout is not None
            assert json.loads(child.stdout.readline())["service"] == "notify"
            yield child
        finally:
            child.kill()
            child.wait()


@pytest.fixture
def system(kafka: str, topic_prefix: str, database: str, tmp_path: Path) -> Iterator[System]:
    public = free_port()
    (tmp_path / "policy.toml").write_text(POLICY)
    with ExitStack() as stack:
        mail = stack.enter_context(running(tmp_path))
        sms = stack.enter_context(start_sandbox(secret=SECRET, **IN_SMS))
        gateways = GATEWAYS.format(
            smtp=mail.said["smtp"].rpartition(":")[2], http=sms.http, public=public, secret=SECRET
        )
        (tmp_path / "gateways.toml").write_text(gateways)
        environment = os.environ | {
            "KAFKA_BOOTSTRAP_SERVERS": kafka,
            "DATABASE_URL": database,
            "SLUICE_TOPIC_PREFIX": topic_prefix,
            "SLUICE_LOG_LEVEL": "warning",
            "SLUICE_MASTER_KEY": base64.b64encode(MASTER_KEY).decode(),
            "SLUICE_NOTIFY_POLICY": str(tmp_path / "policy.toml"),
            "SLUICE_GATEWAYS": str(tmp_path / "gateways.toml"),
            "SLUICE_PUBLIC_PORT": str(public),
            "SLUICE_BATCH_SIZE": "200",
        }
        yield System(environment, mail.said["http"], sms.http, tmp_path / "log")


def restricted(number: int) -> Message:
    body = {"account_id": f"wallet:{number}", "customer_id": f"c{number}", "currency": "CNY", "tier": "standard"}
    body |= {"status": "open", "posted_minor": 0, "reserved_minor": 0, "available_minor": 0, "version": 2}
    body |= {"scope": "debit"}
    data = TOPICS["transfer.events"]["account.restricted"].model_validate_json(orjson.dumps(body))
    lane, key = Lane("transfer", 0), str(number).encode()
    return Message(lane, "transfer.events", 0, key, "account.restricted", f"wallet:{number}.2", "test", data)


def reachable(number: int) -> Message:
    phone, email = f"+86138{number:08d}", f"c{number}@mail.example"
    return profile(f"c{number}", phone=phone, phone_verified=True, email=email)


async def listed(address: str, **query: str) -> list[dict[str, Any]]:
    async with (
        aiohttp.ClientSession(raise_for_status=True) as http,
        http.get(f"{address}/messages", params=query) as response,
    ):
        return await response.json()


async def taken(address: str) -> int:
    async with (
        aiohttp.ClientSession(raise_for_status=True) as http,
        http.get(f"{address}/messages/count") as response,
    ):
        said = await response.json()
        return int(said.get("taken", said.get("count")))


@pytest.mark.parametrize(
    ("customers", "kills"), [(500, 4), pytest.param(6_700, 25, marks=pytest.mark.soak, id="6700-25")]
)
async def test_nothing_is_lost_and_nothing_leaves_twice(
    system: System, database: str, customers: int, kills: int
) -> None:
    publish(system.environment, *map(reachable, range(customers)))
    publish(system.environment, *map(restricted, range(customers)))
    connection = await asyncpg.connect(database, server_settings={"search_path": "notify"})
    with ExitStack() as stack:
        stack.callback(connection.terminate)
        running_now = [stack.enter_context(system.notifier()) for _ in range(2)]
        for kill in range(kills):

            async def has_gone_on(kill: int = kill) -> bool:
                return await taken(system.sms) > customers * kill // (kills + 1)

            await wait_until(has_gone_on, deadline_s=60, what=f"texts have left before kill {kill}")
            running_now.pop(random.randrange(2)).kill()
            running_now.append(stack.enter_context(system.notifier()))

        async def is_over() -> bool:
            pending = await connection.fetchval("select count(*) from notice where status = 'pending'")
            accepted = await connection.fetchval("select coalesce(sum(accepted), 0) from announcement")
            out = await connection.fetchval("select count(*) from delivery")
            untold = await connection.fetchval("select count(*) from notice where told is distinct from status")
            return bool(accepted == 3 * customers and pending == out == untold == 0)

        await wait_until(is_over, deadline_s=120, what="everything has ended")
        rows = await connection.fetch("select channel, status, why, count(*) from notice group by 1, 2, 3")
        ended = {(row[0], row[1], row[2]): row[3] for row in rows}
        assert sum(ended.values()) == 3 * customers
        assert ended[("in_app", "delivered", None)] == customers
        assert ended[("sms", "delivered", None)] == customers
        texts = Counter(message["to"] for message in await listed(system.sms, limit="100000"))
        assert len(texts) == customers
        assert set(texts.values()) == {1}
        mails = Counter(address for mail in await listed(system.mail) for address in _addresses(mail))
        assert set(mails.values()) == {1}
        unknown = ended.get(("email", "sent", "unknown"), 0)
        assert ended[("email", "sent", None)] + unknown == customers
        assert customers - unknown <= len(mails) <= customers


def _addresses(mail: dict[str, Any]) -> list[str]:
    to = mail["to"]
    return to if isinstance(to, list) else [to]
