"""The generated documents are current, valid, and serve whoever wrote or read by the released ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from schemas import generate
from schemas.compatibility import breaks_publishers, breaks_readers
from schemas.generate import FOLDER, READ_BY_US
from schemas.registry import TOPICS

RELEASED = Path(generate.__file__).with_name("released") / "v1"


def _read(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / f"{name}.v1.json").read_text("utf-8"))


def test_generated_files_are_what_the_models_say() -> None:
    assert generate.stale() == []


TYPES = sorted({name for types in TOPICS.values() for name in types})


@pytest.mark.parametrize("name", TYPES)
def test_each_schema_is_a_valid_schema(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(_read(FOLDER, name))


def test_the_asyncapi_document_refers_only_to_what_is_there() -> None:
    document = json.loads((FOLDER / "asyncapi.json").read_text("utf-8"))
    assert document["asyncapi"] == "3.0.0"
    assert set(document["channels"]) == set(TOPICS)
    for channel in document["channels"].values():
        for message in channel["messages"].values():
            assert message["$ref"].removeprefix("#/components/messages/") in document["components"]["messages"]
    for operation in document["operations"].values():
        assert operation["channel"]["$ref"].removeprefix("#/channels/") in document["channels"]
    for message in document["components"]["messages"].values():
        assert (FOLDER / message["payload"]["schema"]["$ref"]).exists()


@pytest.mark.parametrize(("topic", "name"), [(topic, name) for topic in TOPICS for name in TOPICS[topic]])
def test_no_change_breaks_an_existing_publisher_or_reader(topic: str, name: str) -> None:
    released, current = _read(RELEASED, name), _read(FOLDER, name)
    breaks = breaks_publishers if topic in READ_BY_US else breaks_readers
    assert breaks(released, current) == []


def test_no_released_type_is_gone() -> None:
    assert {path.name for path in RELEASED.glob("*.json")} <= {path.name for path in FOLDER.glob("*.json")}


# --- The comparison itself ---


def _object(required: tuple[str, ...] = (), **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


TEXT, NUMBER = {"type": "string"}, {"type": "integer"}
OPTIONAL = {"anyOf": [TEXT, {"type": "null"}]}

COMPARISONS = [
    # released, current, breaks publishers, breaks readers
    (_object(a=TEXT), _object(a=TEXT), False, False),
    (_object(a=TEXT), _object(a=TEXT, b=NUMBER), False, False),
    (_object(("a",), a=TEXT), _object(("a",), a=TEXT, b=OPTIONAL), False, False),
    (_object(a=TEXT), _object(("a",), a=TEXT), True, False),
    (_object(("a",), a=TEXT), _object(a=TEXT), False, True),
    (_object(a=TEXT, b=NUMBER), _object(a=TEXT), True, True),
    (_object(a=TEXT), _object(a=NUMBER), True, True),
    (_object(a=OPTIONAL), _object(a=TEXT), True, False),
    (_object(a=TEXT), _object(a=OPTIONAL), False, True),
    (_object(a={**TEXT, "maxLength": 9}), _object(a={**TEXT, "maxLength": 8}), True, False),
    (_object(a={**TEXT, "maxLength": 8}), _object(a={**TEXT, "maxLength": 9}), False, True),
    (_object(a={**NUMBER, "minimum": 0}), _object(a={**NUMBER, "minimum": 1}), True, False),
    (_object(a=NUMBER), _object(a={**NUMBER, "minimum": 0}), True, False),
    (_object(a={"enum": ["x", "y"]}), _object(a={"enum": ["x"]}), True, False),
    (_object(a={"enum": ["x"]}), _object(a={"enum": ["x", "y"]}), False, True),
    (_object(a={**TEXT, "pattern": "^a"}), _object(a={**TEXT, "pattern": "^b"}), True, True),
    (_object(a={"type": "array", "items": TEXT}), _object(a={"type": "array", "items": NUMBER}), True, True),
]


@pytest.mark.parametrize(("released", "current", "publishers", "readers"), COMPARISONS)
def test_what_breaks_whom(
    released: dict[str, Any], current: dict[str, Any], *, publishers: bool, readers: bool
) -> None:
    assert bool(breaks_publishers(released, current)) is publishers
    assert bool(breaks_readers(released, current)) is readers
