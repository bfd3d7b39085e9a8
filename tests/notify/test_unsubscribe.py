"""Who wants no marketing any more gets none, by one click, whatever their profile goes on saying."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
import pytest

from local.sandboxes import Places
from services.notify.broadcast.texts import read_texts
from services.notify.contacts import Contacts
from services.notify.delivery.dispatch import CONNECTIONS_A_GATEWAY, OWN_CONNECTIONS, Dispatcher
from services.notify.gateways.gateway import Answer, Email, Outcome
from services.notify.gateways.route import Leaving, Route, make_email
from services.notify.gateways.segments import count_segments
from services.notify.inbox.tokens import issue
from services.notify.model import Channel, Locale, Text
from services.notify.public import serve_public
from services.notify.sealed import Keys, open_text
from services.notify.unsubscribe_desk import UnsubscribeDesk, unsubscribe_address
from services.runtime.clock import RealClock
from services.runtime.database import create_pool
from services.runtime.service import Surroundings
from services.runtime.settings import RuntimeSettings
from tests.notify.test_broadcast import handle, notices, reachable, request, run
from tests.notify.test_notices import KEYS, MASTER_KEY, RULES, hear

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

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


@pytest.mark.parametrize(
    ("asked", "language", "button", "done"),
    [("zh-CN,zh;q=0.9", "zh-CN", "退订", "已退订"), ("en", "en", "Unsubscribe", "no more marketing")],
)
async def test_the_page_is_in_the_readers_language(
    pool: Pool, base: str, asked: str, language: str, button: str, done: str
) -> None:
    await hear(pool, reachable("a", **AGREES))
    address = unsubscribe_address(base, MASTER_KEY, "a")
    async with aiohttp.ClientSession(raise_for_status=True, headers={"Accept-Language": asked}) as http:
        async with http.get(address) as page:
            text = await page.text()
            assert page.headers["Referrer-Policy"] == "no-referrer"
        assert (f'<html lang="{language}">' in text, f"<button>{button}</button>" in text) == (True, True)
        async with http.post(address) as page:
            text = await page.text()
        assert (done in text, "<button" in text) == (True, False)


async def test_a_token_for_something_else_or_of_another_time_changes_nothing(pool: Pool, base: str) -> None:
    await hear(pool, reachable("a", **AGREES))
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    tokens = ["", "x", issue(MASTER_KEY, "a", tomorrow), issue(bytes(32), "a", tomorrow)]
    async with aiohttp.ClientSession() as http:
        for token in tokens:
            async with http.post(f"{base}/unsubscribe", params={"token": token}) as answer:
                assert answer.status == 401
                assert "turn off marketing messages in the app" in await answer.text()
    assert await offer(pool) == {None}


def test_only_marketing_says_how_to_leave() -> None:
    contacts, text = Contacts("王小明", None, "a@mail.example"), Text("Title", "Body.")
    address = unsubscribe_address("https://sluice.example", MASTER_KEY, "a")
    assert urlsplit(address).path == "/unsubscribe"
    mail = make_email("r", contacts, "en", text, Leaving("Unsubscribe", address))
    assert (mail.unsubscribe, address in mail.text, f'href="{address}"' in mail.html) == (address, True, True)
    in_words = make_email("r", contacts, "en", text, Leaving("Turn it off in the app."))
    assert in_words.unsubscribe is None
    assert in_words.text == "Body.\n\nTurn it off in the app."
    assert "Turn it off in the app.</p>" in in_words.html
    assert "href" not in in_words.html
    plain = make_email("r", contacts, "en", text, None)
    assert (plain.unsubscribe, "nsubscribe" in plain.text + plain.html) == (None, False)


@pytest.mark.parametrize(
    ("reply", "locale", "ending"),
    [
        ("", "zh-CN", "拒收请在应用内关闭营销信息"),
        ("", "en", " To opt out, turn off marketing in the app."),
        ("R", "zh-CN", "拒收请回复R"),
        ("R", "en", " Reply R to opt out."),
    ],
)
@pytest.mark.parametrize("body", ["短", "Short.", "很长" * 200, "Long. " * 200])
def test_a_text_message_of_marketing_says_how_to_leave_within_its_segments(
    reply: str, locale: str, ending: str, body: str
) -> None:
    sms = RULES.policy.sms.model_copy(update={"reply_to_leave": reply})
    rules = replace(RULES, policy=RULES.policy.model_copy(update={"sms": sms}))
    text = Text("Title", body)
    said = rules.as_sms(text, Locale(locale), "marketing")
    assert said.endswith(ending)
    assert count_segments(said) <= sms.segments
    assert (body in said) == (len(body) < 10)
    assert ending not in rules.as_sms(text, Locale(locale), "service")


async def test_marketing_by_text_message_says_so_to_one_and_to_many(pool: Pool) -> None:
    await hear(pool, reachable("a", **AGREES))
    for whom in ({"customer_id": "a"}, {"audience": {"all": True}}):
        for category in ("marketing", "service"):
            await run(pool, await handle(pool, request(category=category, channels=["sms"], **whom)))
    async with pool.acquire() as connection:
        texts = await connection.fetch("select texts from broadcast order by category")
        wrapped = await connection.fetchval("select wrapped_key from customer_key")
        sealed = await connection.fetch("select delivery_id, sealed from delivery where sealed is not null")
    said = [read_texts(row[0])["en"].sms for row in texts]
    key = KEYS.unwrap("a", wrapped)
    said += [open_text(key, delivery_id, one)[1].body for delivery_id, one in sealed]
    assert sorted("To opt out" in one for one in said) == [False, False, True, True]


class MailGateway:
    """Takes every mail, and tells when it has one."""

    name, batch_size, can_inquire, longest_s = "mail", 10, False, 1.0

    def __init__(self) -> None:
        self.taken: asyncio.Queue[Email] = asyncio.Queue()

    async def start(self) -> None:
        pass

    async def send(self, messages: Sequence[Email], _until: float = 0) -> list[Answer]:
        for message in messages:
            self.taken.put_nowait(message)
        return [Answer(message.reference, Outcome.ACCEPTED) for message in messages]

    async def inquire(self, references: Sequence[str]) -> list[Answer]:
        return [Answer(reference, Outcome.UNKNOWN) for reference in references]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("url", ["https://sluice.example", ""])
async def test_a_mail_has_a_link_only_where_people_reach_us(notifier_dsn: str, url: str) -> None:
    pool = await create_pool(notifier_dsn, "notify", "dispatch", size=CONNECTIONS_A_GATEWAY + OWN_CONNECTIONS)
    await hear(pool, reachable("a", **AGREES))
    now = datetime.now(UTC)
    await handle(pool, request(customer_id="a", category="marketing", channels=["email"]), now=now)
    gateway = MailGateway()
    route = Route(gateway, Channel.EMAIL, None, make_email)
    around = Surroundings(RuntimeSettings.model_construct(), pool, RealClock(), asyncio.Event())
    dispatching = asyncio.create_task(Dispatcher([route], RULES, Keys(MASTER_KEY), url).run(around))
    async with asyncio.timeout(10):
        mail = await gateway.taken.get()
    around.stopping.set()
    await dispatching
    await pool.close()
    if url:
        assert (mail.unsubscribe or "").startswith("https://sluice.example/unsubscribe?token=")
    else:
        assert mail.unsubscribe is None
        assert "turn off marketing in the app" in mail.text
    assert ("http" in mail.text + mail.html) == bool(url)


def test_a_local_run_is_reached_on_its_own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = Places(smtp=1, mail_http=2, sms_http=3, smpp=4, public=5, console=6, monitor=7)
    monkeypatch.delenv("SLUICE_PUBLIC_URL", raising=False)
    assert places.environment(tmp_path, "secret")["SLUICE_PUBLIC_URL"] == "http://127.0.0.1:5"
    monkeypatch.setenv("SLUICE_PUBLIC_URL", "https://sluice.example")
    assert "SLUICE_PUBLIC_URL" not in places.environment(tmp_path, "secret")
