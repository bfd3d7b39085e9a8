"""Who wants no marketing any more gets none, by one click, whatever their profile goes on saying."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
import pytest

from services.notify.contacts import Contacts
from services.notify.delivery.dispatch import make_email
from services.notify.inbox.tokens import issue
from services.notify.model import Text
from services.notify.public import serve_public
from services.notify.unsubscribe_desk import UnsubscribeDesk, unsubscribe_address
from tests.notify.test_broadcast import handle, notices, reachable, request, run
from tests.notify.test_notices import MASTER_KEY, hear

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.runtime.database import Pool

AGREES = {"preferences": {"marketing": True}}


@pytest.fixture
async def base(pool: Pool) -> AsyncIterator[str]:
    async with serve_public("127.0.0.1", 0, UnsubscribeDesk(MASTER_KEY, pool).routes()) as address:
        yield address


async def offer(pool: Pool) -> set[str | None]:
    """Send marketing to everybody, and return why who was left out was left out."""
    before = await notices(pool)
    effects = await handle(pool, request(audience={"all": True}, category="marketing", channels=["in_app"]))
    await run(pool, effects)
    return {key[3] for key, count in (await notices(pool)).items() if count > before.get(key, 0)}


async def test_one_click_is_enough_and_looking_is_not(pool: Pool, base: str) -> None:
    await hear(pool, reachable("a", **AGREES))
    address = unsubscribe_address(base, MASTER_KEY, "a")
    async with aiohttp.ClientSession(raise_for_status=True) as http:
        async with http.get(address) as page:
            assert "<button" in await page.text()
        assert await offer(pool) == {None}
        async with http.post(address, data={"List-Unsubscribe": "One-Click"}) as page:
            assert "no more marketing" in await page.text()
    assert await offer(pool) == {"no_consent"}
    await hear(pool, reachable("a", **AGREES))
    assert await offer(pool) == {"no_consent"}
    # No, and then yes, is a new consent.
    await hear(pool, reachable("a"), reachable("a", **AGREES))
    assert await offer(pool) == {None}


async def test_a_token_for_something_else_or_of_another_time_changes_nothing(pool: Pool, base: str) -> None:
    await hear(pool, reachable("a", **AGREES))
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    tokens = ["", "x", issue(MASTER_KEY, "a", tomorrow), issue(bytes(32), "a", tomorrow)]
    async with aiohttp.ClientSession() as http:
        for token in tokens:
            async with http.post(f"{base}/unsubscribe", params={"token": token}) as answer:
                assert answer.status == 401
    assert await offer(pool) == {None}


def test_only_marketing_says_how_to_leave() -> None:
    contacts, text = Contacts("王小明", None, "a@mail.example"), Text("Title", "Body.")
    address = unsubscribe_address("https://sluice.example", MASTER_KEY, "a")
    assert urlsplit(address).path == "/unsubscribe"
    mail = make_email("r", contacts, "en", text, address)
    assert (mail.unsubscribe, address in mail.text) == (address, True)
    plain = make_email("r", contacts, "en", text, None)
    assert (plain.unsubscribe, "nsubscribe" in plain.text + plain.html) == (None, False)
