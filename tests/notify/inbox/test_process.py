"""The notifier's workers serve inboxes on one port, and stop in order though somebody follows."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

from aiohttp import ClientError, ClientSession

from tests.notify.inbox.readers import as_reader, follow
from tests.notify.system import notifier
from tests.notify.test_notices import profile, settled
from tests.notify.test_process import environment, publish
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["environment"]


async def test_what_happens_is_followed_on_the_workers_port(environment: dict[str, str], tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = environment | {"SLUICE_PUBLIC_PORT": str(port)}
    publish(shared, profile("a"), profile("b"))
    with ExitStack() as stack:
        workers = [stack.enter_context(notifier(shared, tmp_path / "log")) for _ in range(2)]
        async with ClientSession(f"http://127.0.0.1:{port}") as client:

            async def is_known() -> bool:
                try:
                    async with client.get("/inbox", headers=as_reader("a")) as response:
                        return response.status == 200
                except ClientError:
                    return False

            await wait_until(is_known, deadline_s=40, what="somebody has an inbox")
            async with follow(client, "a") as stream:
                publish(shared, *(settled() for _ in range(30)))
                assert await stream.messages(30) == list(range(1, 31))
                for worker in workers:
                    worker.terminate()
                assert [worker.wait(20) for worker in workers] == [0, 0]
    assert "Traceback" not in (tmp_path / "log").read_text()
