"""People are told what happened to their money, each in their language, once; and every notice is accounted for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.collector import Collector, collecting
from tests.end_to_end.system import Reader, System, running_system
from tests.ops.in_process import run
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as listening:
        yield listening


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[System]:
    home = tmp_path_factory.mktemp("notices") / "home"
    traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "200"}
    with running_system(home, notifiers=1, insights=1, environment=traced) as started:
        yield started


def introduce(system: System, customer: str, number: int, **more: Any) -> None:
    wallet = f"wallet:{customer}"
    profile = {"customer_id": customer, "name": "王小明", "phone": f"1381234{number:04}", "phone_verified": True}
    profile |= {"email": f"{customer}@mail.example", "locale": "en"}
    system.send("customer.profile", customer, profile | more, topic="customer.profiles")
    system.send("account.open", wallet, {"account_id": wallet, "customer_id": customer, "currency": "CNY"})


def received(system: System, sandbox: str, **query: str) -> list[dict[str, Any]]:
    parameters = "&".join(f"{name}={value}" for name, value in query.items())
    with urllib.request.urlopen(f"{system.endpoints()[sandbox]}/messages?{parameters}", timeout=5) as answer:
        found: list[dict[str, Any]] = json.load(answer)
        return found


def sluice(system: System, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ops.cli", "notices", *words, "--json"],
        env=os.environ | {"SLUICE_HOME": str(system.home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def notices(system: System, *words: str) -> dict[str, Any]:
    done = sluice(system, *words)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    parts = ("delivered", "sent", "failed", "suppressed", "pending")
    assert said["accepted"] == sum(said[part] for part in parts)
    return said


def test_both_parties_read_it_in_their_language_by_mail_and_what_failed_by_text_message_too(system: System) -> None:
    introduce(system, "alice", 1)
    introduce(system, "bob", 2, locale="zh-CN")
    system.request("top_up", "bank:ICBC:6222020000000001", "wallet:alice", 10_000)
    system.flush()
    wait_for(lambda: len(received(system, "mail_sandbox", to="alice@mail.example")) == 1, what="the top-up's mail")
    system.request("p2p", "wallet:alice", "wallet:bob", 2_500)
    system.request("p2p", "wallet:alice", "wallet:bob", 9_000)
    system.flush()
    wait_for(lambda: len(received(system, "mail_sandbox", to="bob@mail.example")) == 2, what="bob's mails")
    (text,) = wait_for(lambda: received(system, "sms_sandbox", to="%2B8613812340001"), what="alice's text message")
    assert text["body"].startswith("Sluice: CN¥90.00 to ")
    assert "You are CN¥15.00 short" in text["body"]
    subjects = {mail["subject"] for mail in received(system, "mail_sandbox", to="bob@mail.example")}
    assert subjects == {"收到 ¥25.00", "¥90.00 未能入账"}
    said = wait_for(lambda: settled_for_alice(system), what="alice is told everything")
    # Her second transfer within two minutes is kept for a digest.
    assert [item["why"] for item in said["items"] if item["status"] == "pending"] == ["digest"]
    by_channel = {(item["channel"], item["status"]) for item in said["items"]}
    assert by_channel >= {("in_app", "delivered"), ("email", "sent"), ("sms", "delivered")}
    (sms,) = [item for item in said["items"] if item["channel"] == "sms"]
    assert [attempt["outcome"] for attempt in sms["attempts"]] == ["delivered"]


def test_who_fails_too_often_is_restricted_and_told_why_whatever_becomes_of_insight(system: System) -> None:
    introduce(system, "dora", 3, locale="zh-CN")
    introduce(system, "eric", 4)
    reader = Reader(system.kafka)
    funded = system.request("top_up", "bank:ICBC:6222020000000001", "wallet:dora", 10_000)
    for _ in range(5):
        system.request("p2p", "wallet:dora", "wallet:nobody", 100)
    system.flush()
    wait_for(lambda: tells_dora(system, "不能转出"), deadline_s=40, what="why she cannot send anything")
    os.kill(insight(system)["pid"], signal.SIGKILL)
    # The ledger has heard of it as the notifier has, or does so in a moment.
    reader.read_until(lambda: pay(system, reader) == "risk_restricted")
    assert reader.status(funded) == "settled"
    reader.close()

    wait_for(lambda: gateways_told(system) & {"sms-a", "sms-b"}, deadline_s=40, what="the counts of the one after it")
    audit = [sys.executable, "-m", "ops.cli", "audit"]
    subprocess.run(audit, env=os.environ | {"SLUICE_HOME": str(system.home)}, timeout=60, check=True)


def tells_dora(system: System, words: str) -> bool:
    return any(words in text["body"] for text in received(system, "sms_sandbox", to="%2B8613812340003"))


def insight(system: System) -> dict[str, Any]:
    (found,) = [one for one in system.endpoints()["services"] if one["name"] == "insight"]
    return dict(found)


def gateways_told(system: System) -> set[str | None]:
    """Return which gateways insight counts deliveries of; none while it is being started again."""
    with suppress(OSError), urllib.request.urlopen(f"{insight(system)['health']}/deliveries", timeout=5) as answer:
        return {one["gateway"] for one in json.load(answer)["gateways"]}
    return set()


def pay(system: System, reader: Reader) -> str | None:
    """Have Dora pay Eric, and return why she cannot."""
    asked = system.request("p2p", "wallet:dora", "wallet:eric", 1)
    system.flush()
    reader.read_until(lambda: reader.status(asked) is not None)
    reason: dict[str, Any] = reader.latest[asked].get("reason") or {}
    return reason.get("code")


def accepted(system: System, *words: str) -> int:
    """Return how many notices there are, 0 where the command knows none."""
    done = sluice(system, *words)
    return json.loads(done.stdout)["accepted"] if done.returncode == 0 else 0


def told_to(system: System, broadcast: str, delivered: int) -> dict[str, Any] | None:
    said = notices(system, "--broadcast", broadcast)
    return said if said["delivered"] == delivered else None


def test_an_id_of_nothing_ends_with_1(system: System) -> None:
    for words in (("--broadcast", "nothing"), ("--event", "nothing"), ("--customer", "nobody")):
        done = sluice(system, *words)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("There is no ")


def settled_for_alice(system: System) -> dict[str, Any] | None:
    said = notices(system, "--customer", "alice")
    return said if said["pending"] == 1 and said["accepted"] == 8 else None


def test_a_broadcast_reaches_everybody_and_is_accounted_for(system: System) -> None:
    for number in range(10, 40):
        introduce(system, f"c{number}", number, locale="zh-CN" if number % 2 else "en")
    system.flush()
    id_ = str(uuid.uuid4())
    body = {"title": {"zh-CN": "更新", "en": "Update"}, "body": {"zh-CN": "新内容。", "en": "What is new."}}
    asked = {"notification_id": id_, "audience": {"customers": [f"c{number}" for number in range(10, 40)]}}
    asked |= {"template": "announcement", "data": body, "category": "service", "channels": ["in_app", "sms"]}
    known = "--customer", "c39"
    wait_for(lambda: accepted(system, *known) > 0, what="the last profile is known")
    system.send("notification.request", id_, asked, topic="notify.commands")
    system.flush()
    wait_for(lambda: accepted(system, "--broadcast", id_) == 60, what="the broadcast is known")
    said = wait_for(lambda: told_to(system, id_, 60), what="everybody has both")
    assert (said["broadcast"]["reached"], said["broadcast"]["expected"]) == (30, 30)
    assert len({item["notice_id"] for item in notices(system, "--broadcast", id_, "--limit", "100")["items"]}) == 60


# --- One thing, across services ---


@pytest.fixture(scope="module")
def followed(system: System) -> str:
    """A transfer that was asked for with a correlation and a trace, once everybody is told of it."""
    introduce(system, "tess", 51)
    introduce(system, "tom", 52)
    system.request("top_up", "bank:ICBC:6222020000000001", "wallet:tess", 10_000)
    system.flush()
    wait_for(lambda: len(received(system, "mail_sandbox", to="tess@mail.example")) == 1, what="the top-up's mail")
    id_ = str(uuid.uuid4())
    data = {"transfer_id": id_, "kind": "p2p", "payer": "wallet:tess", "payee": "wallet:tom", "amount_minor": 700}
    data |= {"currency": "CNY", "payee_name": "王小明"}
    parent = f"00-{TRACE}-{PARENT}-01"
    system.send("transfer.request", "wallet:tess", data, correlation_id="order-4711", traceparent=parent)
    system.flush()
    wait_for(lambda: len(received(system, "mail_sandbox", to="tom@mail.example")) == 1, what="tom's mail")
    return id_


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


def trace(system: System, id_: str) -> dict[str, Any]:
    return wait_for(lambda: _trace(system, id_), what="everything is told")


def _trace(system: System, id_: str) -> dict[str, Any] | None:
    done = run({"SLUICE_HOME": str(system.home)}, ["trace", id_, "--json"])
    said: dict[str, Any] = json.loads(done.stdout or '{"lines": []}')
    ended = [line["status"] for line in said["lines"] if line["what"] == "notice" and line["status"] != "made"]
    return said if len(ended) == 4 and set(ended) <= {"delivered", "sent", "pending"} else None


def test_one_transfer_is_followed_across_services_by_one_correlation(system: System, followed: str) -> None:
    said = trace(system, followed)
    assert said["found"] == [{"kind": "transfer", "id": followed}]
    # What a customer asks for, what the ledger did, and what people were told.
    told = [(line["service"], line["what"], line["name"]) for line in said["lines"]]
    first = [("transfer", "command", "transfer.request"), ("transfer", "event", "transfer.settled")]
    assert told[:3] == [*first, ("transfer", "entry", "transfer")]
    assert {line["what"] for line in said["lines"][3:]} == {"notice", "attempt"}
    assert said["correlations"] == ["order-4711"]
    assert {line["correlation"] for line in said["lines"]} == {"order-4711"}
    assert "王小明" not in json.dumps(said, ensure_ascii=False)
    # Its event and what others call it lead to the same.
    for name in (f"{followed}.1", "order-4711"):
        also = trace(system, name)
        assert also["found"][0] == said["found"][0]
        assert {line["about"] for line in also["lines"]} >= {line["about"] for line in said["lines"]}
        assert also["correlations"] == ["order-4711"]


def test_spans_of_both_services_are_one_trace_and_notices_carry_it_on(
    system: System, followed: str, collector: Collector
) -> None:
    spans = wait_for(
        lambda: {span.name: span for span in collector.of_trace(TRACE)} if len(collector.of_trace(TRACE)) > 1 else None,
        what="spans of both services",
    )
    asked, told = spans["transfer.request process"], spans["transfer.settled process"]
    assert (asked.service, asked.parent) == ("sluice-transfer", PARENT)
    assert (told.service, told.parent) == ("sluice-notify", asked.id)
    batches = [span for span in collector.spans if span.name == "batch"]
    assert [span.service for span in batches if PARENT in span.links] == ["sluice-transfer"]
    assert [span.service for span in batches if asked.id in span.links] == ["sluice-notify"]
    reader = Reader(system.kafka, "notify.events")
    try:
        reader.read_until(lambda: len(of_transfer(reader, followed)) >= 2)
        headers = of_transfer(reader, followed)
    finally:
        reader.close()
    assert {one["ce_correlationid"] for one in headers} == {"order-4711"}
    assert {one["traceparent"].split("-")[1] for one in headers} == {TRACE}
    assert f"00-{TRACE}-{told.id}-01" in {one["traceparent"] for one in headers}


def of_transfer(reader: Reader, transfer_id: str) -> list[dict[str, str]]:
    return [headers for headers, value in reader.records if json.loads(value).get("event_id") == f"{transfer_id}.1"]
