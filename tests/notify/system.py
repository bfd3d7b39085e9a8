"""Notifiers as processes before the sandboxes of mail and SMS, and people who can be reached by both."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import orjson

from local.daemon import free_port
from schemas.registry import TOPICS
from services.runtime.message import Lane, Message
from tests.notify.gateways.conftest import PASSWORD, Sandbox, start_sandbox
from tests.notify.gateways.test_smtp import Sandbox as MailSandbox
from tests.notify.gateways.test_smtp import running
from tests.notify.test_notices import MASTER_KEY, profile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SECRET = "sandbox-secret"
POLICY = """
[delivering]
retry_after_s = 0.2
hand_over_within_s = 2
answer_within_s = 4
inquire_after_s = 4

[failover]
left_to_others_s = 0.2
slow_after_s = 0.5
gain_every_s = 1

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
"""
SMS_GATEWAY = """
[[http_sms]]
name = "{name}"
url = "{http}/gateways/{name}/messages"
batch_size = {batch_size}
timeout_s = 3
auth = {{ kind = "hmac", secret = "{secret}" }}
inquiry = {{ url = "{http}/gateways/{name}/messages/inquire" }}
callback = {{ url = "http://127.0.0.1:{public}/receipts/{name}", secret = "{secret}" }}
codes = {{ BUSY = {{ outcome = "temporary", why = "busy" }} }}
"""

SMPP_GATEWAY = """
[[smpp]]
name = "{name}"
host = "127.0.0.1"
port = {port}
system_id = "{name}"
password = "{password}"
"""


class System(NamedTuple):
    """Where the sandboxes are, and what notifiers are started with."""

    environment: dict[str, str]
    mail: MailSandbox
    sms: Sandbox
    log: Path

    def notifier(self) -> AbstractContextManager[subprocess.Popen[bytes]]:
        return notifier(self.environment, self.log)


@contextmanager
def notifier(environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", "services.notify"], env=environment, stdout=subprocess.PIPE, stderr=errors
        )
    try:
        assert child.stdout is not None
        assert json.loads(child.stdout.readline())["service"] == "notify"
        yield child
    finally:
        child.kill()
        child.wait()


@contextmanager
def notifying(
    kafka: str,
    prefix: str,
    database: str,
    folder: Path,
    *,
    gateways: Sequence[str] = (),
    centres: Sequence[str] = (),
    batch_size: int = 100,
    **in_sms: Any,
) -> Iterator[System]:
    """Run the sandboxes, SMS behaving as told, and say how notifiers find them: gateways by HTTP, centres by SMPP."""
    public = free_port()
    (folder / "policy.toml").write_text(POLICY)
    with ExitStack() as stack:
        mail = stack.enter_context(running(folder))
        sms = stack.enter_context(start_sandbox(secret=SECRET, **in_sms))
        file = GATEWAYS.format(smtp=mail.said["smtp"].rpartition(":")[2])
        for name in gateways:
            file += SMS_GATEWAY.format(name=name, batch_size=batch_size, http=sms.http, public=public, secret=SECRET)
        for name in centres:
            file += SMPP_GATEWAY.format(name=name, port=sms.smpp_port, password=PASSWORD)
        (folder / "gateways.toml").write_text(file)
        environment = os.environ | {
            "KAFKA_BOOTSTRAP_SERVERS": kafka,
            "DATABASE_URL": database,
            "SLUICE_TOPIC_PREFIX": prefix,
            "SLUICE_LOG_LEVEL": "warning",
            "SLUICE_MASTER_KEY": base64.b64encode(MASTER_KEY).decode(),
            "SLUICE_NOTIFY_POLICY": str(folder / "policy.toml"),
            "SLUICE_GATEWAYS": str(folder / "gateways.toml"),
            "SLUICE_PUBLIC_PORT": str(public),
            "SLUICE_BATCH_SIZE": "200",
        }
        yield System(environment, mail, sms, folder / "log")


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
