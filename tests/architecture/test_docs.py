"""What the pages name exists: metrics as they are exposed, commands, and every setting of a worker or a local run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from local.settings import LocalSettings
from ops.cli import COMMANDS
from ops.web.settings import ConsoleSettings
from services.closure.settings import ClosureSettings
from services.insight.settings import InsightSettings
from services.maintenance.settings import MaintenanceSettings
from services.notify.settings import NotifySettings
from services.runtime.settings import RuntimeSettings
from services.transfer.settings import TransferSettings
from tests.ops.alerts.exported import exported_names

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_metric_that_a_page_names_is_exposed(page: Path) -> None:
    assert set(re.findall(r"`(sluice_[a-z_]+)`", page.read_text("utf-8"))) <= exported_names()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_stands_in_the_readme(command: str) -> None:
    table = README.partition("## Looking and checking")[2].partition("### ")[0]
    *_, last = command.split()
    assert re.search(rf"`sluice {command}\b", table) or re.search(rf"/ `{last}\b", table)


@pytest.mark.parametrize(
    "settings",
    [
        RuntimeSettings,
        TransferSettings,
        MaintenanceSettings,
        ClosureSettings,
        NotifySettings,
        InsightSettings,
        LocalSettings,
        ConsoleSettings,
    ],
)
def test_every_setting_stands_in_the_readme(settings: type[RuntimeSettings]) -> None:
    names = {str(field.validation_alias or name).upper() for name, field in settings.model_fields.items()}
    assert {name for name in names if f"`{name}`" not in README} == set()
