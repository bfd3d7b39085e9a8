"""People read their inbox in their language and time; nothing in a message is taken for markup."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from services.notify.inbox.pages import moment_in_words
from services.notify.model import Locale, Text
from services.notify.sealed import seal_text
from tests.notify.inbox.readers import as_reader, token_of
from tests.notify.test_notices import KEYS, NOW, erasure, hear, profile, settled

if TYPE_CHECKING:
    from aiohttp import ClientSession

    from services.runtime.database import Pool


async def page(client: ClientSession, customer_id: str, path: str = "/", status: int = 200) -> str:
    async with client.get(path, headers=as_reader(customer_id)) as response:
        assert response.status == status
        policy = response.headers["Content-Security-Policy"]
        (nonce,) = set(re.findall("'nonce-([^']+)'", policy))
        text = await response.text()
    assert "default-src 'none'" in policy
    assert set(re.findall("<(?:script|style)([^>]*)>", text)) == {f' nonce="{nonce}"'}
    assert "style=" not in text
    return text


async def _tell(pool: Pool, customer_id: str, number: int, text: Text) -> None:
    """Put a text into an inbox that no event would make."""
    notice_id = uuid.uuid4()
    async with pool.acquire() as connection:
        await connection.execute("update customer set inbox_count = $2 where customer_id = $1", customer_id, number)
        wrapped = await connection.fetchval("select wrapped_key from customer_key where customer_id = $1", customer_id)
        await connection.execute(
            "insert into notice (notice_id, event_id, customer_id, channel, role, category, urgency, template,"
            " lane_group, partition, status, created_at, ended_at)"
            " values ($1, $2, $3, 'in_app', 'payer', 'service', 'normal', 't', 'transfer', 0, 'delivered', $4, $4)",
            notice_id,
            str(notice_id),
            customer_id,
            NOW,
        )
        sealed = seal_text(KEYS.unwrap(customer_id, wrapped), notice_id, "en", text)
        await connection.execute(
            "insert into inbox_message (customer_id, number, notice_id, locale, sealed, arrived_at)"
            " values ($1, $2, $3, 'en', $4, $5)",
            customer_id,
            number,
            notice_id,
            sealed,
            NOW,
        )


async def test_nothing_in_a_message_is_markup(pool: Pool, client: ClientSession) -> None:
    await hear(pool, profile("a"))
    await _tell(pool, "a", 1, Text("<script>alert(1)</script>", "</p><img src=x onerror=alert(2)> & {{ 7 * 7 }}"))
    text = await page(client, "a")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "&lt;img src=x onerror=alert(2)&gt; &amp; {{ 7 * 7 }}" in text
    assert "<script>" not in text
    assert "<img" not in text


async def test_everybody_reads_in_their_language_and_time(pool: Pool, client: ClientSession) -> None:
    await hear(pool, profile("a", time_zone="America/New_York"), profile("b", locale="zh-CN"))
    await hear(pool, settled())
    english, chinese = await page(client, "a"), await page(client, "b")
    assert '<html lang="en">' in english
    assert "1 unread" in english
    assert "Nov 23, 2026, 3:30\u202fAM</time>" in english
    assert "Mark all as read" in english
    assert '<html lang="zh-CN">' in chinese
    assert "1 条未读" in chinese
    assert "2026年11月23日 16:30</time>" in chinese
    assert "收到 ¥12.50" in chinese


@pytest.mark.parametrize(
    ("locale", "zone", "words"),
    [
        (Locale.ENGLISH, "Europe/London", "Jul 1, 2026, 12:05\u202fAM"),
        (Locale.CHINESE, "Europe/London", "2026年7月1日 00:05"),
        (Locale.CHINESE, "Asia/Shanghai", "2026年7月1日 07:05"),
    ],
)
def test_moments_read_as_people_write_them(locale: Locale, zone: str, words: str) -> None:
    assert moment_in_words(datetime(2026, 6, 30, 23, 5, tzinfo=UTC), locale, zone) == words


async def test_the_unread_come_first_and_older_ones_by_a_link(pool: Pool, client: ClientSession) -> None:
    await hear(pool, profile("a"), profile("b"))
    await hear(pool, *(settled() for _ in range(120)))
    async with client.post("/inbox/read", json={"numbers": [120, 119]}, headers=as_reader("a")):
        pass
    first = await page(client, "a")
    fresh, _, seen = first.partition('class="earlier"')
    assert (fresh.count("<article"), seen.count("<article")) == (48, 2)
    assert "70 more unread among the older messages" in first
    second = await page(client, "a", "/?before=71")
    assert (second.count("<article"), 'href="/?before=21"' in second) == (50, True)
    assert "EventSource" not in second
    last = await page(client, "a", "/?before=21")
    assert (last.count("<article"), 'rel="next"' in last) == (20, False)
    assert 'href="/?before=71"' in first


async def test_all_is_marked_as_read_without_scripts(pool: Pool, client: ClientSession) -> None:
    await hear(pool, profile("a"), profile("b"))
    await hear(pool, *(settled() for _ in range(3)))
    text = await page(client, "a")
    assert 'name="up_to" value="3"' in text
    await hear(pool, settled())
    form = {"data": {"up_to": "3"}, "allow_redirects": False}
    async with client.post("/read", headers=as_reader("a"), **form) as response:  # type: ignore[arg-type]
        assert (response.status, response.headers["Location"]) == (303, "/")
    assert "1 unread" in await page(client, "a")
    elsewhere = as_reader("a") | {"Sec-Fetch-Site": "same-site"}
    async with client.post("/read", headers=elsewhere, **form) as response:  # type: ignore[arg-type]
        assert response.status == 403


async def test_a_token_leaves_the_address_for_a_cookie(pool: Pool, client: ClientSession) -> None:
    await hear(pool, profile("a"))
    token = token_of("a")
    async with client.get("/", params={"token": token}) as response:
        assert response.status == 200
        cookie = response.headers["Set-Cookie"]
        assert token not in await response.text()
        assert response.headers["Referrer-Policy"] == "no-referrer"
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Secure" not in cookie
    kept = {"Cookie": cookie.partition(";")[0]}
    for path in ("/", "/inbox"):
        async with client.get(path, headers=kept) as response:
            assert response.status == 200
    behind_tls = {"X-Forwarded-Proto": "https"}
    async with client.get("/", params={"token": token}, headers=behind_tls) as response:
        assert "Secure" in response.headers["Set-Cookie"]


async def test_who_is_erased_or_has_no_token_reads_why_there_is_nothing(pool: Pool, client: ClientSession) -> None:
    await hear(pool, profile("a"))
    await hear(pool, erasure("a"))
    assert "There is nothing here." in await page(client, "a", status=404)
    async with client.get("/", headers={"Accept-Language": "zh-CN,zh;q=0.9"}) as response:
        assert response.status == 401
        assert "链接已过期或不完整" in await response.text()


async def test_an_empty_inbox_says_so(pool: Pool, client: ClientSession) -> None:
    await hear(pool, profile("a"))
    assert "No messages yet." in await page(client, "a")
