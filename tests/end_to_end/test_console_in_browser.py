"""The console in a real browser: by the keyboard alone, in both languages, on a phone and on a desktop."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect, sync_playwright

from services.runtime.calendar import BUSINESS_ZONE
from tests.end_to_end.console import PASSWORD, running_console
from tests.ops.web.reading import english_in
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from tests.end_to_end.console import Scene

pytestmark = pytest.mark.tools

WIDTHS = {"phone": 390, "desktop": 1280}
PLACES = [(language, width) for language in ("en", "zh-CN") for width in WIDTHS]
PAGES = ["/lag", "/letters", "/windows", "/windows/plan", "/cases", "/trace", "/notices", "/audit", "/acts", "/status"]
_MOST_TABS = 120


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    yield from running_console(tmp_path_factory.mktemp("console") / "home")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium")
    assert path is not None, "these tests need Chromium: install the package chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@contextmanager
def opened(chromium: Browser, scene: Scene, language: str, width: str, *, scripts: bool = True) -> Iterator[Page]:
    """Open a browser of that language and width; nothing may go wrong in it, and nothing be blocked, while it is."""
    context = chromium.new_context(
        base_url=scene.url,
        locale=language,
        viewport={"width": WIDTHS[width], "height": 800},
        java_script_enabled=scripts,
        reduced_motion="reduce",
    )
    context.set_default_timeout(20_000)
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield page
    context.close()
    assert not [text for text in wrong if "status of 4" not in text]


def tab_to(page: Page, selector: str) -> None:
    """Go on with the tabulator until something has the focus; every stop on the way shows that it has it."""
    for _ in range(_MOST_TABS):
        page.keyboard.press("Tab")
        found = page.evaluate(
            """selector => {
                const at = document.activeElement, style = getComputedStyle(at);
                return [at.matches(selector), style.outlineStyle !== 'none' || at === document.body];
            }""",
            selector,
        )
        assert found[1], page.evaluate("document.activeElement.outerHTML")
        if found[0]:
            return
    message = f"the tabulator does not reach {selector}"
    raise AssertionError(message)


def write(page: Page, selector: str, text: str) -> None:
    tab_to(page, selector)
    page.keyboard.insert_text(text)


def sign_in(page: Page, name: str, there: str = "/lag") -> None:
    page.goto(there)
    write(page, "#name", name)
    write(page, "#password", PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{there}")


@pytest.mark.parametrize(("language", "width"), [("en", "desktop"), ("zh-CN", "phone")])
def test_the_lag_board_follows_a_worker_that_stands_still(
    chromium: Browser, scene: Scene, language: str, width: str
) -> None:
    (worker,) = [each["pid"] for each in scene.system.endpoints()["services"] if each["name"] == "transfer"]
    with opened(chromium, scene, language, width) as page:
        sign_in(page, "wen")
        page.evaluate("window.stayed = true")
        row = page.locator("tr", has_text="transfer.commands").filter(has_text="sluice.transfer")
        expect(row.locator(".mark.ok")).to_be_visible()
        os.kill(worker, signal.SIGSTOP)
        try:
            for number in range(7):
                scene.system.send("account.open", f"wallet:{language}{number}", {"account_id": "nonsense"})
            scene.system.flush()
            expect(row.locator("td.figure").first).to_have_text("7", timeout=60_000)
            expect(row.locator(".mark.stalled, .mark.stopped")).to_be_visible(timeout=60_000)
        finally:
            os.kill(worker, signal.SIGCONT)
        expect(row.locator(".mark.ok")).to_be_visible(timeout=90_000)
        assert page.evaluate("window.stayed"), "the page was not loaded again"


def test_a_dead_letter_is_replayed_once_it_can_be_taken(chromium: Browser, scene: Scene) -> None:
    data = {"title": {"zh-CN": "更新", "en": "Update"}, "body": {"zh-CN": "更快。", "en": "Faster."}}
    broadcast = {"notification_id": scene.broadcast_id, "audience": {"all": True}, "template": "announcement"}
    request = {**broadcast, "category": "service", "channels": ["in_app"], "data": data}
    scene.system.send("notification.request", "all", request, topic="notify.commands")
    scene.system.flush()
    with opened(chromium, scene, "en", "desktop") as page:
        sign_in(page, "li", "/letters?reason=malformed&state=waiting&topic=notify.commands")
        tab_to(page, "input[value='notify.commands.dlq/0/0'], input[type=checkbox]")
        page.keyboard.press("Space")
        tab_to(page, "button.main")
        page.keyboard.press("Enter")
        expect(page.get_by_text("with the key and id that they had: 1.")).to_be_visible()
        write(page, "#why", "the broadcast is known by now")
        page.keyboard.press("Enter")
        expect(page.get_by_role("status").first).to_have_text("Replayed.")
        page.goto("/acts")
        expect(page.locator("tr", has_text="dlq replay")).to_contain_text("the broadcast is known by now")
        page.goto("/letters?topic=notify.commands&state=waiting")
        expect(page.get_by_role("status")).to_contain_text("There are no such dead letters.")


def test_a_window_is_planned_and_extended_and_customers_are_told_so(chromium: Browser, scene: Scene) -> None:
    ends = datetime.now(BUSINESS_ZONE) + timedelta(hours=1)
    with opened(chromium, scene, "zh-CN", "phone") as page:
        sign_in(page, "li", "/windows/plan")
        write(page, "#title", "Console test")
        # What a keyboard writes there depends on the browser's language.
        page.locator("#ends_at").fill(ends.strftime("%Y-%m-%dT%H:%M"))
        tab_to(page, "input[value=withdrawal]")
        page.keyboard.press("Space")
        write(page, "#reason_zh", "账务系统升级。")
        write(page, "#reason_en", "We upgrade the ledger.")
        write(page, "#alternative_kind_1", "counter")
        write(page, "#alternative_zh_1", "请到柜台办理。")
        write(page, "#alternative_en_1", "Go to a counter.")
        page.locator("#waive_fees").fill("2")
        write(page, "#why", "planned in a test")
        page.keyboard.press("Enter")
        expect(page.locator("#status")).to_contain_text("进行中")
        expect(page.get_by_text("账务系统升级。")).to_have_count(1)
        for said in ("counter", "请到柜台办理。", "Go to a counter.", "免收接下来 2 笔手续费。"):
            expect(page.locator("dl.facts")).to_contain_text(said)
        tab_to(page, "details:has(form[action$='/extend']) summary")
        page.keyboard.press("Enter")
        page.locator("#extend-to").fill((ends + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M"))
        write(page, "#extend-reason-zh", "需要更多时间。")
        write(page, "#extend-reason-en", "It takes longer.")
        write(page, "#extend-why", "it takes longer")
        page.keyboard.press("Enter")
        expect(page.locator("#status")).to_contain_text("已延长")
        expect(page.locator("#ends")).to_contain_text((ends + timedelta(hours=1)).strftime("%H:%M"))
    with opened(chromium, scene, "en", "desktop") as page:
        page.goto("/status")
        expect(page.get_by_text("We upgrade the ledger.")).to_be_visible()
        expect(page.get_by_text("账务系统升级。")).to_have_count(0)
        page.goto("/status?lang=zh")
        expect(page.get_by_text("账务系统升级。")).to_be_visible()
        expect(page.get_by_text("Console test")).to_have_count(0)


def test_two_reviewers_approve_a_case_each_in_their_own_name(chromium: Browser, scene: Scene) -> None:
    for name, says in (("wang", "Another reviewer has to approve it, too."), ("zhao", "Approved.")):
        with opened(chromium, scene, "en", "phone") as page:
            sign_in(page, name, "/cases")
            tab_to(page, f"a[href='/cases/{scene.case_id}']")
            page.keyboard.press("Enter")
            page.wait_for_url(f"**/cases/{scene.case_id}")
            write(page, "#note", "The account is hers.")
            page.keyboard.press("Enter")
            expect(page.get_by_role("status").first).to_contain_text(says)
            if name == "wang":
                expect(page.locator("#note")).to_have_count(0)
            else:
                expect(page.locator("#status")).to_contain_text("approved")
    with opened(chromium, scene, "en", "desktop") as page:
        sign_in(page, "wen", "/acts")
        expect(page.locator("tr", has_text="cases approve")).to_have_count(2)
        expect(page.get_by_text("The account is hers.")).to_have_count(0)


def test_a_customer_follows_a_link_without_signing_in(chromium: Browser, scene: Scene) -> None:
    with opened(chromium, scene, "en", "desktop") as page:
        sign_in(page, "li", f"/trace?id={scene.transfer_id}")
        tab_to(page, "summary")
        page.keyboard.press("Enter")
        write(page, "#why", "the customer asked")
        page.keyboard.press("Enter")
        link = page.locator("#link").get_attribute("href")
    assert link is not None
    with opened(chromium, scene, "zh-CN", "phone") as page:
        page.goto(link)
        expect(page.locator("#status")).to_have_text("已完成")
        expect(page.locator("main")).to_contain_text("123.45")
        expect(page.locator("main")).to_contain_text("尾号 1234")
        for secret in ("Person", "person-2", "wallet:", "62220200"):
            expect(page.locator("body")).not_to_contain_text(secret)
        answer = page.goto(link[:-2])
        assert answer is not None
        assert answer.status == 404


def test_the_audit_runs_in_the_background_and_the_page_says_when_it_is_done(chromium: Browser, scene: Scene) -> None:
    with opened(chromium, scene, "en", "desktop") as page:
        sign_in(page, "li", "/audit")
        tab_to(page, "main button")
        page.keyboard.press("Enter")
        expect(page.locator("#audit .note.good")).to_contain_text("Everything adds up", timeout=60_000)
        page.goto("/acts")
        expect(page.locator("tr", has_text="audit begun").first).to_contain_text("everything")


@pytest.mark.parametrize(("language", "width"), PLACES)
def test_every_page_fits_and_is_named_for_those_who_do_not_see_it(
    chromium: Browser, scene: Scene, language: str, width: str
) -> None:
    with opened(chromium, scene, language, width) as page:
        sign_in(page, "wang")
        ids = (scene.transfer_id, scene.case_id, scene.broadcast_id, "person-2")
        more = ["/letters?state=", "/letters/one?id=notify.commands.dlq/0/0", "/notices?customer=person-1"]
        for path in (*PAGES, *more, f"/cases/{scene.case_id}", *(f"/trace?id={id_}" for id_ in ids)):
            page.goto(path)
            assert language == "en" or english_in(page.content()) == [], path
            assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[width], path
            assert page.evaluate("document.documentElement.lang") == language
            assert page.locator("h1").count() == 1
            unnamed = page.evaluate(
                """() => [...document.querySelectorAll('input:not([type=hidden]), select, textarea, button, a, svg')]
                    .filter(each => !(each.labels?.length || each.textContent.trim() || each.ariaLabel)).length"""
            )
            assert unnamed == 0, path
            assert page.locator("table:not(:has(caption)), th:not([scope])").count() == 0
            assert not [text for text in page.locator("main td").all_inner_texts() if text.startswith(("–:", ": "))], (
                path
            )
        above = page.locator("header .languages, header .who > span, header .who > form").all()
        middles = {round(box["y"] + box["height"] / 2) for each in above if (box := each.bounding_box()) is not None}
        assert max(middles) - min(middles) < 20, "the way out stands beside who is signed in"
        page.keyboard.press("Tab")
        expect(page.locator(".skip")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()


def test_without_scripts_everything_can_still_be_read_and_done(chromium: Browser, scene: Scene) -> None:
    with opened(chromium, scene, "en", "desktop", scripts=False) as page:
        page.goto("/audit")
        page.locator("#name").fill("li")
        page.locator("#password").fill(PASSWORD)
        page.locator("main button").click()
        page.locator("main button").click()
        wait_for(lambda: page.goto("/audit") and page.locator("#audit .note.good").count() == 1, what="the audit")
        page.goto("/lag")
        assert page.locator("tbody tr").count() > 20
        page.get_by_role("button", name="Sign out").click()
        assert page.url.endswith("/sign-in")
