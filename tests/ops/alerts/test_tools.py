"""The alerts by Prometheus's own tools, and a real Prometheus that scrapes the running system and evaluates them."""

from __future__ import annotations

import json
import subprocess
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from urllib.request import urlopen

import pytest
import yaml
from confluent_kafka import Producer

from local.daemon import free_port
from local.up import started
from tests.ops.alerts.cases import promtool_tests
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.tools

ALERTS = Path(__file__).parents[3] / "ops" / "alerts"


def promtool(*words: str, given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["promtool", *words], input=given, capture_output=True, timeout=120, check=False)


def test_the_rules_and_the_configuration_are_valid() -> None:
    for words in (["check", "rules", str(ALERTS / "rules.yml")], ["check", "config", str(ALERTS / "prometheus.yml")]):
        done = promtool(*words)
        assert done.returncode == 0, done.stderr.decode()


def test_each_alert_fires_and_a_window_quiets_what_it_explains(tmp_path: Path) -> None:
    file = tmp_path / "rules_test.yml"
    file.write_text(yaml.safe_dump(promtool_tests(str(ALERTS / "rules.yml"))))
    done = promtool("test", "rules", str(file))
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()


@pytest.fixture(scope="module")
def system() -> Iterator[dict[str, Any]]:
    with started(monitor=True) as endpoints:
        yield endpoints


def pages(system: dict[str, Any]) -> list[str]:
    return [service["health"] for service in system["services"]] + [system["monitor"]]


def test_every_page_of_metrics_is_well_formed(system: dict[str, Any]) -> None:
    assert len(pages(system)) == 5
    for page in pages(system):
        with urlopen(f"{page}/metrics", timeout=10) as answer:
            done = promtool("check", "metrics", given=answer.read())
        assert done.returncode == 0, f"{page}: {done.stderr.decode()}{done.stdout.decode()}"


@contextmanager
def prometheus(system: dict[str, Any], folder: Path) -> Iterator[str]:
    """Run a Prometheus on the committed rules, which looks every second, while the context lasts."""
    config = yaml.safe_load((ALERTS / "prometheus.yml").read_text("utf-8"))
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(ALERTS / "rules.yml")]
    *workers, monitor = [page.removeprefix("http://") for page in pages(system)]
    config["scrape_configs"] = [
        {"job_name": "sluice", "static_configs": [{"targets": workers}]},
        {"job_name": "sluice-monitor", "static_configs": [{"targets": [monitor]}]},
    ]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    words = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(["prometheus", *words, f"--web.listen-address={address}"], stdout=log, stderr=log) as process,
    ):
        try:
            yield f"http://{address}"
        finally:
            process.terminate()


def ask(address: str, path: str) -> Any:
    try:
        with urlopen(f"{address}/api/v1/{path}", timeout=5) as answer:
            return json.load(answer)["data"]
    except OSError:
        return {}


def test_a_real_prometheus_scrapes_the_system_evaluates_every_rule_and_fires(
    system: dict[str, Any], tmp_path: Path
) -> None:
    with prometheus(system, tmp_path) as address:

        def all_up() -> bool:
            found = ask(address, "query?query=up").get("result", [])
            return [series["value"][1] for series in found] == ["1"] * 5

        wait_for(all_up, deadline_s=60, what="every page to be scraped")

        def evaluated() -> list[dict[str, Any]] | None:
            rules = [rule for group in ask(address, "rules").get("groups", []) for rule in group["rules"]]
            return rules if rules and all(rule["health"] != "unknown" for rule in rules) else None

        rules = wait_for(evaluated, deadline_s=60, what="every rule to be evaluated")
        assert {rule["health"] for rule in rules} == {"ok"}
        assert len(rules) == 17

        def has_first_sample() -> bool:
            asked = quote('min_over_time(sluice_dead_letters_total{topic="transfer.commands"}[1m])')
            return bool(ask(address, f"query?query={asked}").get("result"))

        wait_for(has_first_sample, what="dead letters to be counted from the start")
        producer = Producer({"bootstrap.servers": system["kafka"]})
        producer.produce("transfer.commands", uuid.uuid4().bytes, key="wallet:1")
        assert producer.flush(10) == 0

        def firing() -> list[dict[str, str]]:
            alerts = [
                alert["labels"] for alert in ask(address, "alerts").get("alerts", []) if alert["state"] == "firing"
            ]
            return [labels for labels in alerts if labels["alertname"] == "SluiceDeadLetters"]

        [labels] = wait_for(firing, deadline_s=60, what="the alert")
        assert (labels["topic"], labels["reason"]) == ("transfer.commands", "malformed")
