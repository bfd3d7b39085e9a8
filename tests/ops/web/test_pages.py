"""The console's pages on a real database and real brokers: in both languages, masked, and what forms refuse."""

from __future__ import annotations

import asyncio
import json
import re
import tomllib
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from confluent_kafka import Producer

import ops.web.known
import ops.web.words
from ops.audits import keep_audit
from ops.dlq.marks import State
from ops.lag.model import Verdict
from ops.lag.watching import Looked
from ops.ledger import Audited
from ops.monitor import state as monitoring_state
from ops.running import Running
from ops.web import auditing
from ops.web.application import build
from ops.web.charts import line
from ops.web.history import SPAN_S, History
from ops.web.known import Known, Seen
from ops.web.links import Followed, Kind, make_link
from ops.web.saying import said_in
from ops.web.table import PAGES
from ops.web.users import Role
from ops.web.words import preferred, words_of
from ops.windows import read_windows
from services.closure import model as closings
from services.maintenance import model as windows
from services.maintenance.decide import FUNCTIONS
from services.notify.model import Locale
from services.notify.records import Accounting
from services.runtime.dead_letters import Rejected, dead_letter
from services.runtime.message import Lane
from services.transfer import model as transfers
from tests.ops.web.console import ROWS, browser, make_console, signed_in, token_in
from tests.ops.web.reading import english_in
from tests.waiting import wait_for, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.testclient import TestClient

    from ops.web.site import Site
    from services.runtime.message import Outgoing

WORDS = Path(ops.web.words.__file__).with_name("words")
NOW = datetime(2026, 11, 23, 8, 30, tzinfo=UTC)
LISTS = ["/lag", "/letters", "/windows", "/windows/plan", "/cases", "/trace", "/notices", "/audit", "/acts", "/status"]

_NOBODY = uuid.UUID(int=1)
REFUSED = [
    *("/nothing", f"/cases/{_NOBODY}", f"/windows/{_NOBODY}", "/trace?id=nobody", "/letters?since=abc"),
    *("/letters?topic=nothing", "/letters/one?id=nothing", "/letters/one?id=transfer.commands.dlq/0/99"),
    *("/letters?until=1969-01-01", "/letters/one?id=nothing.dlq/0/1"),
]


@pytest.fixture
def site(kafka: str, topic_prefix: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A console of brokers with one dead letter, and an empty database."""
    monkeypatch.setenv("SLUICE_TOPIC_PREFIX", topic_prefix)
    value = json.dumps({"payer": "wallet:6222020000000001", "payee_name": "王小明", "amount_minor": 5}).encode()
    letter = letter_of(value, "malformed", "wallet:6222020000000001 called 13812345678")
    produce(kafka, topic_prefix, [letter])
    return make_console(tmp_path, Running(kafka, database, topic_prefix, "real"))


def letter_of(value: bytes, reason: str, detail: str) -> Outgoing:
    own = [("ce_id", b"1")]
    rejected = Rejected("transfer.commands", 0, 4, b"wallet:6222020000000001", value, own, reason, detail)
    return dead_letter(rejected, Lane("wallet", 0), "transfer", NOW, 1_000_000)


def produce(kafka: str, topic_prefix: str, letters: Sequence[Outgoing]) -> None:
    producer = Producer({"bootstrap.servers": kafka})
    for letter in letters:
        headers: Any = list(letter.headers)
        producer.produce(topic_prefix + letter.topic, letter.value, letter.key, 0, headers=headers)
    assert producer.flush(30) == 0


def main_of(page: str) -> str:
    """Return what a page says in its main part."""
    return page.partition("<main")[2]


def post(client: TestClient, path: str, **form: str | Sequence[str]) -> Any:
    return client.post(path, data={"form_token": token_in(client.get("/acts").text), **form})


async def test_every_page_is_there_in_both_languages_and_nothing_is_left_in_the_other(site: Site) -> None:
    application = build(site)
    english = signed_in(site, Role.REVIEWER, application)
    # Topics that were just made may have no leader for a moment.
    wait_for(lambda: english.get("/letters").status_code == 200, what="leaders")
    for path in LISTS:
        pages = {}
        for language in ("en", "zh-CN"):
            answer = english.get(path, params={"lang": language})
            assert answer.status_code == 200, (path, answer.text)
            pages[language] = answer.text
            assert f'<html lang="{language}">' in answer.text
            assert not re.search(r"<script(?![^>]* src=)|<[^>]+ (?:style|on\w+)=", answer.text)
        assert not re.search(r"[一-鿿]", pages["en"].replace("中文", "")), path
        assert english_in(pages["zh-CN"]) == [], path
    for path, name in (("/notices", "customer"), ("/trace", "id"), ("/letters", "key")):
        assert english.get(path, params={name: "of-a\0b"}).status_code in {200, 404}, "no database keeps such a text"
    chinese = signed_in(site, Role.REVIEWER, application, "zh-CN")
    for path in REFUSED:
        answer = chinese.get(path)
        assert (answer.status_code in {404, 422}, english_in(answer.text)) == (True, []), answer.text
        assert re.search(r"[一-鿿]", main_of(answer.text)), path
    # In one database and one set of topics: making them takes most of the time.
    await _dead_letters_are_masked_and_replayed_once(site, signed_in(site, Role.REVIEWER, application))
    await _more_than_a_form_can_name_are_done_in_parts(site, signed_in(site, Role.OPERATOR, application))
    await _a_customer_follows_without_names(site, application)
    await _anybody_reads_of_what_is_not_over(site, browser(site, application, "en-GB"))
    await _the_monitor_s_audit_is_shown(site, signed_in(site, Role.VIEWER, application))


async def _dead_letters_are_masked_and_replayed_once(site: Site, client: TestClient) -> None:
    id_ = "transfer.commands.dlq/0/0"
    for text in (client.get("/letters").text, client.get("/letters/one", params={"id": id_}).text):
        assert id_ in text
        for secret in ("6222020000000001", "13812345678", "王小明"):
            assert secret not in text
    assert post(client, "/letters/replay").status_code == 422, "nothing is chosen"
    assert post(client, "/letters/replay", scope="all").status_code == 422, "everything is not in particular"
    tried = post(client, "/letters/replay", id=id_)
    assert "with the key and id that they had: 1." in tried.text
    assert "Say why" in post(client, "/letters/replay", id=id_, sure="yes").text
    assert "Nobody has done anything yet." in client.get("/acts").text
    beyond = {"window": str(uuid.uuid4()), "title": "a\0b", "ends_at": "2030-01-01", "function": "account_open"}
    beyond |= {"reason_zh": "维护", "reason_en": "works", "waive_fees": "9" * 30, "why": "a try"}
    assert post(client, "/windows/plan", **beyond).status_code == 422
    assert "9" * 30 in client.get("/acts").text, "what was asked for is put down before it is refused"
    done = post(client, "/letters/replay", id=id_, sure="yes", why="the publisher was mended")
    assert (done.status_code, done.headers["Location"]) == (303, "/letters?state=replayed&done=replayed")
    again = post(client, "/letters/replay", id=id_)
    assert "There is nothing to do." in again.text
    acts = client.get("/acts").text
    assert acts.count("dlq replay") == 1
    assert "wang" in acts
    assert "the publisher was mended" in acts


async def _more_than_a_form_can_name_are_done_in_parts(site: Site, client: TestClient) -> None:
    produce(site.running.kafka, site.running.topic_prefix, [letter_of(b"{}", "unexpected", "a bug")] * 2_001)
    for done, others in ((1_000, 1_001), (1_000, 1), (1, 0)):
        tried = post(client, "/letters/discard", scope="all", reason="unexpected").text
        assert (f"for the others: {others}." in tried) == (others > 0)
        ids = re.findall(r'name="id" value="([^"]+)"', tried)
        assert len(ids) == done
        assert post(client, "/letters/discard", id=ids, sure="yes", why="a bug").status_code == 303
    assert "nothing to do" in post(client, "/letters/discard", scope="all", reason="unexpected").text


def test_a_refusal_is_told_in_the_visitors_language(tmp_path: Path) -> None:
    nowhere = make_console(tmp_path, Running("127.0.0.1:1", "postgresql://127.0.0.1:1/none", "", "real"))
    client = signed_in(nowhere, Role.REVIEWER)
    answer = client.get("/windows", params={"lang": "zh-CN"})
    assert answer.status_code == 503
    assert "DATABASE_URL 指定的数据库没有应答" in answer.text
    answer = client.get("/windows", params={"lang": "en"})
    assert "The database that DATABASE_URL names does not answer" in answer.text


async def _a_customer_follows_without_names(site: Site, application: Any) -> None:
    transfer_id = uuid.uuid4()
    await _add_transfer(site.running.database, transfer_id)
    key, week = site.settings.signing_key(), timedelta(days=7)
    path = make_link(key, "", Followed(Kind.TRANSFER, transfer_id), week)
    client = browser(site, application, "en-GB")
    answer = client.get(path)
    assert answer.status_code == 200
    for part in ("delayed", "CN¥123.45", "ending 1234"):
        assert part in answer.text
    for secret in ("wallet:alice", "62220200", "alice", "Person"):
        assert secret not in answer.text
    assert "尾号 1234" in client.get(path, params={"lang": "zh"}).text
    over = make_link(key, "", Followed(Kind.TRANSFER, transfer_id), -week)
    gone = make_link(key, "", Followed(Kind.CASE, transfer_id), week)
    for wrong in (over, gone, path[:-3]):
        assert client.get(wrong).status_code == 404


async def _the_monitor_s_audit_is_shown(site: Site, client: TestClient) -> None:
    assert "No audit has been run yet." in client.get("/audit").text
    monitor = monitoring_state.State(site.running)
    await monitor.audit()
    assert monitor.broken_rules, "the windows of this test have no events"
    told = client.get("/audit").text
    assert "No audit has been run" not in told
    assert re.search(
        r"The monitor[^<]*s newest audit</h2>\s*<p class=\"note bad\"><b>✕ Something does not add up", told
    )
    assert re.search(r"<li>[^<]+: \d+</li>", told)
    assert told.index("<dt>accounts") < told.index("<dt>events told") < told.index("<dt>windows"), "as the command says"
    assert english_in(client.get("/audit", params={"lang": "zh"}).text) == []
    client.get("/audit", params={"lang": "en"})
    await keep_audit(site.running, Audited({"accounts": 4_711}, ()), 1.25)
    told = client.get("/audit").text
    assert "Everything adds up" in told
    assert "4,711" in told


async def _anybody_reads_of_what_is_not_over(site: Site, client: TestClient) -> None:
    connection = await asyncpg.connect(site.running.database, server_settings={"search_path": "maintenance"})
    await connection.execute(_WINDOW, "started", _PLAN % ("ICBC", "false"), 1)
    await connection.execute(_WINDOW, "started", _PLAN % ("CCB", "true"), 1)
    await connection.execute(_WINDOW, "ended", _PLAN % ("BOC", "false"), 200)
    await connection.close()
    assert re.search(r"As of\s*<time datetime=", client.get("/status").text)
    told = wait_for(lambda: text if "ICBC" in (text := client.get("/status").text) else None, what="the window")
    assert "Construction" not in told, "a rehearsal"
    assert "Bank of China" not in told, "what is over"
    reader = signed_in(site, Role.VIEWER)
    (window,) = [one for one in await read_windows(site.running, None, 300) if one["scope"]["banks"] == ["ICBC"]]
    answer = reader.get(f"/windows/{window['window_id']}")
    assert (answer.status_code, "Works" in answer.text) == (200, True), "nothing is given for the wait"


# As the window of a bank that does not answer: without translations, and without anything for the wait.
_PLAN = """{"title": "t", "functions": ["withdrawal"], "scope": {"banks": ["%s"], "currencies": []}, "drill": %s,
"ends": "automatic", "treatment": "hold", "reason": "Works", "alternatives": []}"""
_WINDOW = """
insert into maintenance_window
(window_id, content_hash, plan, starts_at, ends_at, status, revision, event_type, event_body, occurred_at)
select gen_random_uuid(), '', $2, now() + n * interval '1 s', now() + interval '1 h', $1, 1, '', '', now()
from generate_series(1, $3) as n
"""


async def _add_transfer(dsn: str, transfer_id: uuid.UUID) -> None:
    event = json.dumps({"status": "delayed", "payer": "wallet:alice"}).encode()
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "transfer"})
    try:
        columns = await connection.fetch(_COLUMNS)
        known = {
            "transfer_id": transfer_id,
            "kind": "withdrawal",
            "payer": "wallet:alice",
            "payee": "bank:ICBC:6222020000001234",
            "amount_minor": 12_345,
            "currency": "CNY",
            "status": "delayed",
            "event_type": "transfer.delayed",
            "event_body": event,
        }
        values = {row["name"]: known.get(row["name"], _FILLER[row["type"]]) for row in columns if row["needed"]} | known
        names = ", ".join(values)
        places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
        await connection.execute("set session_replication_role = replica")
        await connection.execute(f"insert into transfer ({names}) values ({places})", *values.values())
    finally:
        await connection.close()


_COLUMNS = """
select column_name as name, data_type as type, is_nullable = 'NO' and column_default is null as needed
from information_schema.columns where table_schema = 'transfer' and table_name = 'transfer'
"""
_FILLER = {
    "bigint": 0,
    "integer": 1,
    "smallint": 1,
    "text": "x",
    "bytea": b"x" * 32,
    "boolean": False,
    "timestamp with time zone": NOW,
    "uuid": uuid.UUID(int=1),
    "date": NOW.date(),
    "jsonb": "{}",
}


def test_both_languages_say_the_same_things() -> None:
    english, chinese = (tomllib.loads((WORDS / f"{name}.toml").read_text("utf-8")) for name in ("en", "zh-CN"))
    assert dict(_texts(english)).keys() == dict(_texts(chinese)).keys()
    for name, text in _texts(english):
        assert text.count("{}") == dict(_texts(chinese))[name].count("{}"), name


def test_a_check_that_a_closing_passed_is_not_told_to_its_customer_as_a_debt() -> None:
    for name in ("identity", "obligations", "in_flight", "policy"):
        assert "checked" in words_of(Locale.ENGLISH)["case_status"][name]
        assert "核对" in words_of(Locale.CHINESE)["case_status"][name]


def test_every_place_where_something_can_stand_has_a_word() -> None:
    words = dict(_texts(tomllib.loads((WORDS / "en.toml").read_text("utf-8"))))
    places = {
        "verdicts": Verdict,
        "states": State,
        "roles": Role,
        "case_status": closings.Status,
        "follow.case": closings.Status,
        "transfer_status": transfers.Status,
        "follow.transfer": transfers.Status,
        "window_status": windows.Status,
        "functions": FUNCTIONS,
        "notice_status": [field for field in Accounting.__slots__ if field not in {"accepted", "items"}],
    }
    assert {f"{table}.{value}" for table, values in places.items() for value in values} <= words.keys()


def _texts(words: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    found = []
    for name, value in words.items():
        found += _texts(value, f"{before}{name}.") if isinstance(value, dict) else [(before + name, value)]
    return found


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", Locale.CHINESE),
        ("fr", Locale.CHINESE),
        ("en-GB,en;q=0.9,zh;q=0.8", Locale.ENGLISH),
        ("zh-TW,en;q=0.9", Locale.CHINESE),
        ("en;q=0.1,zh;q=0.2", Locale.CHINESE),
        ("en;q=0,zh;q=x", Locale.CHINESE),
    ],
)
def test_the_language_is_the_one_that_the_browser_wants_most(accepted: str, language: Locale) -> None:
    assert preferred(accepted) == language


def test_an_hour_has_no_more_points_than_can_be_drawn_and_loses_no_peak_and_no_group() -> None:
    history, other = History(), replace(ROWS[1], group="other")
    for second in range(0, 5_000, 2):
        rows = [replace(ROWS[0], lag_seconds=900.0 if second == 2_617 // 2 * 2 else 1.0)]
        # A broker that is away for a moment does not tell of its groups.
        history.note(Looked(float(second), 0.1, rows if second == 4_000 else [*rows, other]))
    points = history.of(ROWS[0].group, ROWS[0].topic)
    assert 150 < len(points) < 200
    assert max(point.lag_seconds for point in points) == 900.0
    assert (points[-1].at, points[-1].lag_seconds) == (4_998, 1.0)
    assert points[0].at >= points[-1].at - SPAN_S
    assert history.of("other", ROWS[1].topic)[0].at < 2_000


def test_a_chart_is_a_line_from_edge_to_edge() -> None:
    assert line([(0, 1.0)], 100, 10) is None
    chart = line([(0, 1.0), (5, 9.0), (10, 1.0)], 100, 11)
    assert chart is not None
    assert (chart.largest, chart.newest, chart.last_at) == (9.0, 1.0, 10)
    assert chart.points == "0.0,9.0 50.0,1.0 100.0,9.0"
    flat = line([(0, 0.0), (1, 0.0)], 100, 11)
    assert flat is not None
    assert flat.points == "0.0,10.0 100.0,10.0"


def test_every_chart_of_a_group_says_what_its_figures_are(tmp_path: Path) -> None:
    client = signed_in(make_console(tmp_path), Role.VIEWER)
    for language, texts in (
        ("en", ("now 31.5 s, at most 31.5 s", "now 7 records, at most 7 records", "now 0.0 records/s")),
        ("zh-CN", ("现在 31.5 秒", "现在 7 条", "现在 每秒 0.0 条")),
    ):
        asked = {"group": ROWS[0].group, "topic": ROWS[0].topic, "lang": language}
        page = client.get("/lag/group", params=asked).text
        for text in texts:
            assert page.count(text) == 2, "for who sees the chart, and who has it read"


async def test_the_database_is_asked_once_however_many_look_at_once() -> None:
    asked = []

    async def read() -> list[dict[str, Any]]:
        asked.append(1)
        await asyncio.sleep(0)
        return [{"title": "a window"}]

    known = Known(At(NOW))
    found = await asyncio.gather(*(known.windows(read) for _ in range(5)))
    assert found == [Seen([{"title": "a window"}], NOW)] * 5
    assert len(asked) == 1


@dataclass
class At:
    """A clock that stands."""

    moment: datetime

    def now(self) -> datetime:
        return self.moment


async def test_while_the_database_stands_still_what_was_known_is_told_and_of_when_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, seconds in (("_KEPT_S", 0.0), ("_WAIT_S", 0.05), ("_FIRST_WAIT_S", 0.05)):
        monkeypatch.setattr(ops.web.known, name, seconds)
    moves = asyncio.Event()
    title = "before"

    async def read() -> list[dict[str, Any]]:
        await moves.wait()
        return [{"title": title}]

    known = Known(At(NOW))
    assert await known.windows(read) is None, "nothing is known yet"
    moves.set()
    seen = await wait_until(lambda: known.windows(read), what="the windows")
    assert (seen.windows, seen.at) == ([{"title": "before"}], NOW)
    moves.clear()
    assert await known.windows(read) == Seen([{"title": "before"}], NOW, is_old=True)
    began = asyncio.get_running_loop().time()
    assert {(await known.windows(read)).is_old for _ in range(50)} == {True}
    assert asyncio.get_running_loop().time() - began < 0.5, "nobody waits for what others wait for already"
    title = "after"
    moves.set()

    async def after() -> bool:
        found = await known.windows(read)
        return found is not None and found.windows == [{"title": "after"}]

    await wait_until(after, what="what the database says again")


def test_the_public_page_says_when_it_looked_and_that_it_cannot_where_it_never_did(tmp_path: Path) -> None:
    nowhere = make_console(tmp_path, Running("127.0.0.1:1", "postgresql://127.0.0.1:1/none", "", "real"))
    answer = browser(nowhere).get("/status")
    assert answer.status_code == 503
    assert "cannot be told just now" in answer.text
    assert "DATABASE_URL" not in answer.text
    assert "There is no maintenance" not in answer.text


async def test_an_audit_that_breaks_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def breaking(_running: Running) -> Audited:
        raise asyncpg.InsufficientPrivilegeError("a mistake")

    monkeypatch.setattr(auditing, "audit_everything", breaking)
    audits = auditing.Audits(Running("", "", "", "real"))
    audits.start("li")
    await wait_until(lambda: _is(not audits.is_running), what="its end")
    assert audits.newest is not None
    assert (audits.newest.found, audits.newest.problem) == (None, auditing.BROKE_OFF)
    assert said_in(Locale.CHINESE, auditing.BROKE_OFF)


async def _is(found: bool) -> bool:  # noqa: FBT001 - as it is asked
    return found


def test_no_two_pages_have_one_address() -> None:
    assert len({(page.method, page.path) for page in PAGES}) == len(PAGES)
