"""An app reads an inbox page by page and says what was read; whoever has no inbox finds nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.notify.inbox.readers import as_reader, token_of
from tests.notify.test_notices import erasure, hear, profile, settled

if TYPE_CHECKING:
    from aiohttp import ClientSession

    from services.runtime.database import Pool


async def read(client: ClientSession, customer_id: str, **query: int) -> dict[str, Any]:
    async with client.get("/inbox", params=query, headers=as_reader(customer_id)) as response:
        assert response.status == 200, await response.text()
        assert response.headers["Cache-Control"] == "no-store"
        return dict(await response.json())


async def mark(client: ClientSession, customer_id: str, **said: Any) -> dict[str, Any]:
    async with client.post("/inbox/read", json=said, headers=as_reader(customer_id)) as response:
        return dict(await response.json())


async def test_a_message_is_read_as_it_was_told(pool: Pool, client: ClientSession) -> None:
    await hear(pool, profile("a"), profile("b", locale="zh-CN"))
    await hear(pool, settled())
    page = await read(client, "b")
    assert (page["unread"], page["next_before"]) == (1, None)
    (message,) = page["messages"]
    assert (message["number"], message["title"], message["locale"]) == (1, "收到 ¥12.50", "zh-CN")
    assert message["arrived_at"] == "2026-11-23T08:30:00.000000Z"
    assert message["read_at"] is None
    assert "的 ¥12.50 已到账" in message["body"]
    (of_another,) = (await read(client, "a"))["messages"]
    assert of_another["notice_id"] != message["notice_id"]


async def test_pages_have_no_gap_and_no_repeat_while_messages_arrive(pool: Pool, client: ClientSession) -> None:
    await hear(pool, profile("a"), profile("b"))
    await hear(pool, *(settled() for _ in range(120)))
    numbers: list[int] = []
    query: dict[str, int] = {"limit": 50}
    sizes = []
    while True:
        page = await read(client, "a", **query)
        sizes.append(len(page["messages"]))
        numbers += [message["number"] for message in page["messages"]]
        await hear(pool, settled(), settled())
        if page["next_before"] is None:
            break
        query["before"] = page["next_before"]
    assert numbers == list(range(120, 0, -1))
    assert sizes == [50, 50, 20]
    assert (await read(client, "a", limit=1))["messages"][0]["number"] == 126


async def test_the_last_page_is_known_as_the_last(pool: Pool, client: ClientSession) -> None:
    await hear(pool, profile("a"), profile("b"))
    await hear(pool, *(settled() for _ in range(4)))
    assert (await read(client, "a", limit=4))["next_before"] is None
    assert (await read(client, "a", limit=3))["next_before"] == 2
    assert await read(client, "a", before=1) == {"unread": 4, "messages": [], "next_before": None}


async def test_what_was_read_stays_read_and_is_not_counted(pool: Pool, client: ClientSession) -> None:
    await hear(pool, profile("a"), profile("b"))
    await hear(pool, *(settled() for _ in range(10)))
    assert await mark(client, "a", numbers=[2, 9, 9, 99]) == {"unread": 8}
    first = {one["number"]: one["read_at"] for one in (await read(client, "a"))["messages"]}
    assert [number for number, read_at in first.items() if read_at] == [9, 2]
    assert await mark(client, "a", up_to=5) == {"unread": 4}
    assert await mark(client, "a", up_to=5) == {"unread": 4}
    after = {one["number"]: one["read_at"] for one in (await read(client, "a"))["messages"]}
    assert [number for number, read_at in after.items() if not read_at] == [10, 8, 7, 6]
    assert after[2] == first[2]
    assert (await read(client, "b"))["unread"] == 10


async def test_who_is_erased_unknown_or_without_a_profile_finds_nothing(pool: Pool, client: ClientSession) -> None:
    await hear(pool, profile("a"), profile("b"))
    await hear(pool, settled(), settled(payee="only-an-event"))
    await hear(pool, erasure("b"))
    for customer_id in ("b", "nobody", "only-an-event"):
        for method, path in (("GET", "/inbox"), ("POST", "/inbox/read"), ("GET", "/inbox/live")):
            said = {"json": {"up_to": 1}} if method == "POST" else {}
            async with client.request(method, path, headers=as_reader(customer_id), **said) as response:  # type: ignore[arg-type]
                assert (response.status, await response.json()) == (404, {"error": "There is nothing here."})
    # Known again, they find what they are told from now on.
    await hear(pool, profile("b"))
    await hear(pool, settled())
    assert [one["number"] for one in (await read(client, "b"))["messages"]] == [2]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("before=x", "before: Input should be a valid integer, unable to parse string as an integer."),
        ("before=-1", "before: Input should be greater than or equal to 0."),
        ("before=9223372036854775808", "before: Input should be less than 9223372036854775808."),
        ("limit=0", "limit: Input should be greater than or equal to 1."),
        ("limit=101", "limit: Input should be less than or equal to 100."),
        ("befor=1", "befor: Extra inputs are not permitted."),
    ],
)
async def test_a_wrong_query_is_told_what_is_wrong(client: ClientSession, query: str, error: str) -> None:
    async with client.get(f"/inbox?{query}", headers=as_reader("a")) as response:
        assert (response.status, await response.json()) == (400, {"error": error})


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"{}", 400, "say either numbers or up_to."),
        (b'{"numbers": [1], "up_to": 1}', 400, "say either numbers or up_to."),
        (b'{"numbers": []}', 400, "numbers: Tuple should have at least 1 item after validation, not 0."),
        (b'{"numbers": [1, "x"]}', 400, "numbers.1: Input should be a valid integer"),
        (b'{"numbers": [' + b"1," * 500 + b"1]}", 400, "numbers: Tuple should have at most 500 items"),
        (b"{", 400, "Invalid JSON"),
        (b"\xff", 400, "Invalid JSON"),
        (b'{"up_to": 1' + b" " * 16_384 + b"}", 413, "The body must have a Content-Length of at most 16384 bytes."),
    ],
)
async def test_a_wrong_body_is_told_what_is_wrong(client: ClientSession, body: bytes, status: int, error: str) -> None:
    headers = as_reader("a") | {"Content-Type": "application/json"}
    async with client.post("/inbox/read", data=body, headers=headers) as response:
        assert response.status == status
        assert (await response.json())["error"].startswith(error)


async def test_a_form_cannot_say_that_messages_were_read(client: ClientSession) -> None:
    async with client.post("/inbox/read", data={"up_to": "1"}, headers=as_reader("a")) as response:
        assert response.status == 415


@pytest.mark.parametrize(
    ("path", "headers", "error"),
    [
        ("/inbox", {}, "A token is missing: send it as Authorization: Bearer."),
        ("/inbox", {"Authorization": "Basic YTpi"}, "A token is missing: send it as Authorization: Bearer."),
        ("/inbox", {"Authorization": "Bearer x"}, "The token is not genuine."),
        ("/inbox", {"Authorization": f"Bearer {token_of('a', timedelta(0))}"}, "The token has expired."),
        # Addresses are remembered in many places: only a stream may have its token there.
        (f"/inbox?token={token_of('a')}", {}, "A token is missing: send it as Authorization: Bearer."),
        (f"/inbox/live?token={token_of('a', timedelta(0))}", {}, "The token has expired."),
    ],
    ids=["no token", "another scheme", "not a token", "expired", "in an address", "expired in an address"],
)
async def test_without_a_good_token_nobody_reads(
    client: ClientSession, path: str, headers: dict[str, str], error: str
) -> None:
    async with client.get(path, headers=headers) as response:
        assert (response.status, await response.json()) == (401, {"error": error})
        assert response.headers["WWW-Authenticate"] == "Bearer"
