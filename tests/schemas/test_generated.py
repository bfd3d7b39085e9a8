"""The generated documents are current and valid, and their examples are what they say."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from schemas import generate
from schemas.examples import EXAMPLES
from schemas.generate import FOLDER, READ_BY_US
from schemas.registry import TOPICS
from schemas.topics import TOPICS as LISTED


def _read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / name).read_text("utf-8"))
    return document


TYPES = sorted({name for types in TOPICS.values() for name in types})


def test_generated_files_are_what_the_models_say() -> None:
    assert generate.stale() == []


@pytest.mark.parametrize("name", TYPES)
def test_each_schema_is_a_valid_schema(name: str) -> None:
    schema = _read(f"{name}.v1.json")
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:sluice:schema:{name}.v1"
    assert schema["title"] == f"sluice.{name}.v1"
    assert schema["description"]


@pytest.mark.parametrize("name", TYPES)
def test_each_example_is_what_schema_and_model_accept(name: str) -> None:
    schema = _read(f"{name}.v1.json")
    assert schema["examples"]
    model = next(types[name] for types in TOPICS.values() if name in types)
    for example in schema["examples"]:
        jsonschema.Draft202012Validator(schema).validate(example)
        model.model_validate_json(json.dumps(example))


@pytest.mark.parametrize("name", TYPES)
def test_no_example_has_a_field_that_its_type_lacks(name: str) -> None:
    for example in EXAMPLES[name]:
        assert example.keys() <= _read(f"{name}.v1.json")["properties"].keys()


def test_every_example_is_of_a_type() -> None:
    assert sorted(EXAMPLES) == TYPES


def test_generating_twice_gives_the_same_bytes() -> None:
    assert dict(generate.documents()) == dict(generate.documents())


# --- The AsyncAPI document ---


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return _read("asyncapi.json")


def _resolve(document: dict[str, Any], reference: str) -> Any:
    assert reference.startswith("#/")
    found: Any = document
    for part in reference[2:].split("/"):
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return found


def _references(part: Any) -> list[str]:
    inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    own = [part["$ref"]] if isinstance(part, dict) and "$ref" in part else []
    return own + [found for each in inner for found in _references(each)]


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for reference in _references(document):
        if reference.startswith("#"):
            assert _resolve(document, reference)
        else:
            assert (FOLDER / reference).is_file()


def test_it_has_the_fields_that_the_specification_wants(document: dict[str, Any]) -> None:
    allowed = {"asyncapi", "id", "info", "servers", "defaultContentType", "channels", "operations", "components"}
    assert document["asyncapi"] == "3.0.0"
    assert document.keys() <= allowed
    assert document["info"].keys() >= {"title", "version"}
    for operation in document["operations"].values():
        assert operation["action"] in {"send", "receive"}
        assert operation["channel"].keys() == {"$ref"}


def test_each_topic_is_a_channel_with_its_key_and_how_long_it_is_kept(document: dict[str, Any]) -> None:
    assert set(document["channels"]) == set(TOPICS)
    listed = {topic.name: topic for topic in LISTED}
    for name, channel in document["channels"].items():
        topic = listed[name]
        configuration = channel["bindings"]["kafka"]["topicConfiguration"]
        assert channel["address"] == name
        assert channel["x-key"] == topic.key
        assert configuration["cleanup.policy"] == ["compact" if topic.compact else "delete"]
        kept = topic.retention and topic.retention.total_seconds() * 1000
        assert configuration.get("retention.ms") == kept
        assert set(channel["messages"]) == set(TOPICS[name])


def test_each_channel_is_sent_or_received_with_all_its_messages(document: dict[str, Any]) -> None:
    operated = {}
    for operation in document["operations"].values():
        name = operation["channel"]["$ref"].removeprefix("#/channels/")
        operated[name] = operation
        prefix = f"#/channels/{name}/messages/"
        assert [each["$ref"] for each in operation["messages"]] == [f"{prefix}{type_}" for type_ in TOPICS[name]]
    assert set(operated) == set(TOPICS)
    assert {name for name, each in operated.items() if each["action"] == "receive"} == READ_BY_US


def test_each_message_has_its_envelope_and_schema(document: dict[str, Any]) -> None:
    messages = document["components"]["messages"]
    assert sorted(messages) == TYPES
    for name, message in messages.items():
        jsonschema.Draft202012Validator.check_schema(message["headers"])
        assert message["headers"]["properties"]["ce_type"] == {"const": f"sluice.{name}.v1"}
        assert set(message["headers"]["required"]) <= message["headers"]["properties"].keys()
        assert message["payload"]["schema"]["$ref"] == f"./{name}.v1.json"
        assert "key" in message["bindings"]["kafka"]


# --- The command ---


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "schemas.generate", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture
def room(tmp_path: Path) -> Path:
    shutil.copytree(FOLDER.parent, tmp_path / "schemas", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_a_stale_file_fails_the_check_until_it_is_written_again(room: Path) -> None:
    assert _run(room, "--check").returncode == 0
    (room / "schemas/generated/transfer.request.v1.json").write_text("{}")
    (room / "schemas/generated/transfer.verify.v1.json").unlink()
    (room / "schemas/generated/transfer.gone.v1.json").write_text("{}")
    stale = _run(room, "--check")
    assert stale.returncode == 1
    for name in ("transfer.gone", "transfer.request", "transfer.verify"):
        assert f"{name}.v1.json" in stale.stderr
    assert _run(room).returncode == 0
    assert _run(room, "--check").returncode == 0


def test_a_change_that_breaks_someone_is_not_released(room: Path) -> None:
    models = room / "schemas/transfer.py"
    models.write_text(models.read_text("utf-8").replace('"fingerprint", ', ""), "utf-8")
    refused = _run(room, "--release")
    assert refused.returncode == 1
    assert "transfer.verify" in refused.stderr
    assert "fingerprint" in (room / "schemas/released/v1/transfer.verify.v1.json").read_text("utf-8")
