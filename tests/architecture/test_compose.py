"""The containers' file is valid by the Compose specification's own schema, and names only settings that exist."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from local.jars import VERSION
from local.settings import LocalSettings
from ops.web.settings import ConsoleSettings
from services.runtime.settings import RuntimeSettings
from services.transfer.settings import TransferSettings

ROOT = Path(__file__).parents[2]
OURS = {"setup", "transfer", "console", "bank"}


def _compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))


def test_it_is_valid_by_the_compose_specification() -> None:
    # Found without being imported: only the specification's schema, which the package carries, is wanted.
    package = find_spec("check_jsonschema")
    assert package is not None
    assert package.origin is not None
    schema = Path(package.origin).parent / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(_compose(), json.loads(schema.read_text("utf-8")))


def test_every_variable_that_services_get_is_a_setting() -> None:
    known = {"SLUICE_BANK_HOME"}
    for settings in (RuntimeSettings, TransferSettings, LocalSettings, ConsoleSettings):
        for name, field in settings.model_fields.items():
            known.add(str(field.validation_alias or name).upper())
    for name in OURS:
        assert set(_compose()["services"][name]["environment"]) <= known


def test_the_brokers_are_those_of_a_local_run() -> None:
    assert _compose()["services"]["kafka"]["image"] == f"apache/kafka:{VERSION}"


def test_no_secret_stands_in_the_file() -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    for name in ("POSTGRES_PASSWORD", "SLUICE_MASTER_KEY", "SLUICE_NAME_KEY", "SLUICE_CONSOLE_KEY"):
        assert re.search(rf"{name}: \$\{{{name}:\?", text)


def test_the_image_is_built_in_stages_and_runs_without_root() -> None:
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    assert sum(line.startswith("FROM ") for line in lines) == 2
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users
    assert users[-1] != "root"
    assert all(
        ":" in line.split()[1] and not line.split()[1].endswith(":latest") for line in lines if line.startswith("FROM ")
    )
