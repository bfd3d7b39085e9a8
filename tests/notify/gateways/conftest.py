"""The sandbox's SMS gateways as a process, and for each test a gateway of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import pytest

from local.lifeline import die_with_parent
from services.notify.gateways.gateway import Sms

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "sandbox-secret"
PASSWORD = "sandbox"


class Sandbox(NamedTuple):
    """A running sandbox, as a test speaks with it."""

    process: subprocess.Popen[str]
    http: str
    smpp_port: int

    async def behave(self, gateway: str, **how: Any) -> None:
        async with (
            aiohttp.ClientSession(raise_for_status=True) as http,
            http.put(f"{self.http}/gateways/{gateway}/behaviour", json=how),
        ):
            pass

    async def messages(self, gateway: str) -> list[dict[str, Any]]:
        async with (
            aiohttp.ClientSession(raise_for_status=True) as http,
            http.get(f"{self.http}/messages", params={"gateway": gateway}) as response,
        ):
            return await response.json()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def start_sandbox(behaviour: Path | None = None, **settings: object) -> Iterator[Sandbox]:
    """Run a sandbox with a behaviour file, and settings by their names without the prefix."""
    named = {f"SLUICE_SMS_SANDBOX_{name.upper()}": str(value) for name, value in settings.items()}
    file = {} if behaviour is None else {"SLUICE_SMS_SANDBOX": str(behaviour)}
    process = subprocess.Popen(
        [sys.executable, "-m", "local.sms_sandbox"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **file, **named},
        preexec_fn=die_with_parent(),  # noqa: PLW1509 - one system call, nothing else
    )
    try:
        assert process.stdout is not None
        announced = json.loads(process.stdout.readline())
        assert announced["pid"] == process.pid
        yield Sandbox(process, announced["http"], int(announced["smpp"].rpartition(":")[2]))
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """One for all tests."""
    with start_sandbox() as started:
        yield started


@pytest.fixture
def gateway() -> str:
    """The name of a gateway that no other test uses."""
    return f"g{uuid.uuid4().hex[:8]}"


def texts(count: int = 1, text: str = "您的验证码是 0000", to: str = "+86138{:08d}") -> list[Sms]:
    """Messages with references and numbers of their own."""
    return [Sms(uuid.uuid4().hex, to.format(place), text) for place in range(count)]
