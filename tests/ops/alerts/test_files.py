"""The committed alerts and the dashboard: they ask for metrics that exist, and each alert says what to do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.insight import metrics as counts
from tests.ops.alerts.cases import CASES
from tests.ops.alerts.exported import exported_names

ROOT = Path(__file__).parents[3]
ALERTS = ROOT / "ops" / "alerts"
RULES = [
    rule for group in yaml.safe_load((ALERTS / "rules.yml").read_text("utf-8"))["groups"] for rule in group["rules"]
]
DASHBOARD = json.loads((ALERTS / "grafana" / "dashboards" / "sluice.json").read_text("utf-8"))


def expressions(part: Any) -> list[str]:
    """Return every expression in a part of the dashboard."""
    if isinstance(part, dict):
        own = [part["expr"]] if "expr" in part else []
        return own + [found for value in part.values() for found in expressions(value)]
    return [found for each in part for found in expressions(each)] if isinstance(part, list) else []


def test_every_metric_that_alerts_and_dashboard_ask_for_is_exported() -> None:
    asked = [rule["expr"] for rule in RULES] + expressions(DASHBOARD)
    assert len(asked) > 30
    names = set(re.findall(r"\bsluice_[a-z_]+", " ".join(asked)))
    assert names <= exported_names()


@pytest.mark.parametrize("rule", [rule for rule in RULES if "alert" in rule], ids=lambda rule: rule["alert"])
def test_every_alert_says_how_bad_it_is_what_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["summary"]
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text("utf-8"), re.MULTILINE)
    assert anchor in {heading.lower().replace(" ", "-") for heading in headings}


def test_every_alert_has_a_case() -> None:
    assert {rule["alert"] for rule in RULES if "alert" in rule} == set(CASES)


def test_the_dashboard_is_complete_and_found_by_its_source() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    for title in ("Lag", "Throughput", "Outcomes", "What went wrong", "Gateways", "Outbox and timers"):
        assert title in rows
    shown = " ".join(expressions(DASHBOARD))
    for counted in (counts.OUTCOMES, counts.DELIVERIES, counts.FLAGGED, counts.FLAGS):
        assert counted._name in shown, "what insight counts is looked at"
    sources = yaml.safe_load((ALERTS / "grafana/provisioning/datasources/prometheus.yml").read_text("utf-8"))
    used = {panel["datasource"]["uid"] for panel in DASHBOARD["panels"] if "datasource" in panel}
    assert used == {source["uid"] for source in sources["datasources"]}


def test_the_containers_mount_what_is_there_and_prometheus_asks_every_service() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    for name in ("prometheus", "grafana"):
        for volume in services[name]["volumes"]:
            if volume.startswith("./"):
                assert (ROOT / volume.split(":")[0]).exists()
    [workers, monitor] = yaml.safe_load((ALERTS / "prometheus.yml").read_text("utf-8"))["scrape_configs"]
    built = {name for name, service in services.items() if service.get("command", [""])[0].startswith("services.")}
    assert set(workers["dns_sd_configs"][0]["names"]) == built
    assert monitor["static_configs"] == [{"targets": ["monitor:9308"]}]
