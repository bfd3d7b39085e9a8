"""Nothing breaks those who publish or read by the released schemas, and the comparison knows what would."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from schemas import generate
from schemas.compatibility import breaks_publishers, breaks_readers, missing_types
from schemas.generate import FOLDER, RELEASED

Schema = dict[str, Any]


def test_no_change_breaks_an_existing_publisher_or_reader() -> None:
    assert generate.breaks() == []


def test_every_released_type_has_a_schema() -> None:
    assert {path.name for path in RELEASED.glob("*.json")} <= {path.name for path in FOLDER.glob("*.json")}


# --- The comparison itself ---


def _object(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required)}


def _array(items: Schema, **more: int) -> Schema:
    return {"type": "array", "items": items, **more}


def _optional(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}], "default": None}


def _referring(inner: Schema, *, optional: bool = False) -> Schema:
    reference: Schema = {"$ref": "#/$defs/Inner"}
    return {**_object(a=_optional(reference) if optional else reference), "$defs": {"Inner": inner}}


TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer"}
OPTIONAL = _optional(TEXT)
X, XY = {"type": "string", "enum": ["x"]}, {"type": "string", "enum": ["x", "y"]}
SMALL, LARGE = _object(("a",), a=TEXT), _object(("a",), a=TEXT, b=OPTIONAL)

COMPARISONS = {
    # name: (released, current, breaks publishers, breaks readers)
    "nothing": (LARGE, LARGE, False, False),
    "words only": ({**SMALL, "title": "A", "description": "a"}, {**SMALL, "title": "B", "examples": []}, False, False),
    "optional field added": (SMALL, LARGE, False, False),
    "optional field removed": (LARGE, SMALL, True, True),
    "required field added": (_object(a=TEXT), _object(("b",), a=TEXT, b=TEXT), True, False),
    "required field removed": (_object(("a",), a=TEXT), _object(), True, True),
    "optional becomes required": (_object(a=TEXT), _object(("a",), a=TEXT), True, False),
    "required becomes optional": (_object(("a",), a=TEXT), _object(a=TEXT), False, True),
    "another type": (_object(a=TEXT), _object(a=NUMBER), True, True),
    "integer becomes number": (_object(a=NUMBER), _object(a={"type": "number"}), False, True),
    "any value becomes text": (_object(a={}), _object(a=TEXT), True, False),
    "null no longer": (_object(a={"anyOf": [TEXT, {"type": "null"}]}), _object(a=TEXT), True, False),
    "null from now on": (_object(a=TEXT), _object(a={"anyOf": [TEXT, {"type": "null"}]}), False, True),
    "longer": (_object(a={**TEXT, "maxLength": 8}), _object(a={**TEXT, "maxLength": 9}), False, True),
    "shorter": (_object(a={**TEXT, "maxLength": 9}), _object(a={**TEXT, "maxLength": 8}), True, False),
    "first bounded": (_object(a=TEXT), _object(a={**TEXT, "maxLength": 8}), True, False),
    "no longer bounded": (_object(a={**TEXT, "maxLength": 8}), _object(a=TEXT), False, True),
    "higher minimum": (_object(a={**NUMBER, "minimum": 0}), _object(a={**NUMBER, "minimum": 1}), True, False),
    "lower minimum": (_object(a={**NUMBER, "minimum": 0}), _object(a={**NUMBER, "minimum": -1}), False, True),
    "lower maximum": (
        _object(a={**NUMBER, "exclusiveMaximum": 9}),
        _object(a={**NUMBER, "exclusiveMaximum": 8}),
        True,
        False,
    ),
    "fewer items": (_object(a=_array(TEXT, maxItems=9)), _object(a=_array(TEXT, maxItems=8)), True, False),
    "value removed": (_object(a=XY), _object(a=X), True, False),
    "value added": (_object(a=X), _object(a=XY), False, True),
    "text becomes a choice": (_object(a=TEXT), _object(a=XY), True, False),
    "choice becomes text": (_object(a=XY), _object(a=TEXT), False, True),
    "constant becomes a choice": (_object(a={"type": "string", "const": "x"}), _object(a=XY), False, True),
    "another pattern": (_object(a={**TEXT, "pattern": "^a"}), _object(a={**TEXT, "pattern": "^b"}), True, True),
    "first pattern": (_object(a=TEXT), _object(a={**TEXT, "pattern": "^a"}), True, False),
    "another format": (_object(a={**TEXT, "format": "uuid"}), _object(a={**TEXT, "format": "date-time"}), True, True),
    "items of another type": (_object(a=_array(TEXT)), _object(a=_array(NUMBER)), True, True),
    "field of items removed": (_object(a=_array(LARGE)), _object(a=_array(SMALL)), True, True),
    "field of items added": (_object(a=_array(SMALL)), _object(a=_array(LARGE)), False, False),
    "nested field added": (_referring(SMALL), _referring(LARGE), False, False),
    "nested field removed": (_referring(LARGE), _referring(SMALL), True, True),
    "nested field bounded": (_referring(SMALL), _referring(_object(("a",), a={**TEXT, "maxLength": 1})), True, False),
    "field of an optional object added": (
        _referring(SMALL, optional=True),
        _referring(LARGE, optional=True),
        False,
        False,
    ),
    "field of an optional object removed": (
        _referring(LARGE, optional=True),
        _referring(SMALL, optional=True),
        True,
        True,
    ),
    "value of an optional object added": (
        _referring(_object(a=X), optional=True),
        _referring(_object(a=XY), optional=True),
        False,
        True,
    ),
    "another name for a part": (
        {**_object(a={"$ref": "#/$defs/Old"}), "$defs": {"Old": SMALL}},
        {**_object(a={"$ref": "#/$defs/New"}), "$defs": {"New": SMALL}},
        False,
        False,
    ),
    "another default": (_object(a={**XY, "default": "x"}), _object(a={**XY, "default": "y"}), True, False),
    "a default for what was required": (_object(("a",), a=XY), _object(a={**XY, "default": "x"}), False, True),
    "closed to unknown fields": (SMALL, {**SMALL, "additionalProperties": False}, True, True),
    "a keyword that is not compared": (SMALL, _object(("a",), a={**TEXT, "not": {"const": ""}}), True, True),
    "a nested keyword that is not compared": (
        _referring(SMALL),
        _referring({**SMALL, "dependentRequired": {"a": ["b"]}}),
        True,
        True,
    ),
}


@pytest.mark.parametrize(("released", "current", "publishers", "readers"), COMPARISONS.values(), ids=COMPARISONS)
def test_what_breaks_whom(released: Schema, current: Schema, *, publishers: bool, readers: bool) -> None:
    assert bool(breaks_publishers(released, current)) is publishers
    assert bool(breaks_readers(released, current)) is readers


def test_a_break_is_told_by_its_place() -> None:
    released = _object(a=_array(_object(("b",), b={**TEXT, "maxLength": 9})))
    current = _object(a=_array(_object(("b",), b={**TEXT, "maxLength": 8})))
    assert breaks_publishers(released, current) == [".a[].b: maxLength narrows"]


# --- On the real documents ---


def _schema(name: str) -> Schema:
    schema: Schema = json.loads((RELEASED / f"{name}.v1.json").read_text("utf-8"))
    return schema


REAL_NAMES = sorted(path.name.removesuffix(".v1.json") for path in RELEASED.glob("*.v1.json"))


@pytest.mark.parametrize("name", REAL_NAMES)
def test_losing_any_field_of_any_type_breaks_its_readers(name: str) -> None:
    released = _schema(name)
    for part in ([], *(["$defs", inner] for inner in released.get("$defs", {}))):
        for field in _at(released, part).get("properties", {}):
            current = copy.deepcopy(released)
            inside = _at(current, part)
            del inside["properties"][field]
            inside["required"] = [each for each in inside.get("required", ()) if each != field]
            assert breaks_readers(released, current), (part, field)
            assert breaks_publishers(released, current), (part, field)


@pytest.mark.parametrize("name", REAL_NAMES)
def test_gaining_an_optional_field_anywhere_breaks_nobody(name: str) -> None:
    released = _schema(name)
    for part in ([], *(["$defs", inner] for inner in released.get("$defs", {}))):
        current = copy.deepcopy(released)
        _at(current, part)["properties"]["new"] = OPTIONAL
        assert breaks_readers(released, current) == []
        assert breaks_publishers(released, current) == []


def _at(schema: Schema, path: list[str]) -> Schema:
    for part in path:
        schema = schema[part]
    return schema


def _document(**topics: tuple[str, list[str]]) -> dict[str, Any]:
    return {
        "channels": {
            topic: {"x-key": key, "messages": {name: {} for name in names}} for topic, (key, names) in topics.items()
        }
    }


@pytest.mark.parametrize(
    ("current", "expected"),
    [
        (_document(a=("wallet", ["x", "y"])), []),
        (_document(a=("wallet", ["x", "y", "z"]), b=("id", [])), []),
        (_document(a=("wallet", ["x"])), ["a: y is removed"]),
        (_document(a=("wallet", ["x"]), b=("wallet", ["y"])), ["a: y is removed"]),
        (_document(a=("customer", ["x", "y"])), ["a: the key changes"]),
        (_document(b=("wallet", ["x", "y"])), ["a: is removed"]),
    ],
)
def test_types_topics_and_keys_stay(current: dict[str, Any], expected: list[str]) -> None:
    assert missing_types(_document(a=("wallet", ["x", "y"])), current) == expected
