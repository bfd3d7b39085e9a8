"""Writes the JSON Schema of every type and the AsyncAPI document: `python -m schemas.generate`.

`--check` writes nothing and fails when a file is stale; `--release` freezes what is written as what publishers and
readers rely on from then on, unless it breaks what they already rely on.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from schemas.compatibility import breaks_publishers, breaks_readers, missing_types
from schemas.examples import EXAMPLES
from schemas.registry import MODELS
from schemas.registry import TOPICS as TYPES
from schemas.topics import TOPICS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

FOLDER: Final = Path(__file__).with_name("generated")
RELEASED: Final = Path(__file__).with_name("released") / "v1"
_ASYNCAPI: Final = "asyncapi.json"
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_BASE: Final = "urn:sluice:schema"
READ_BY_US: Final = frozenset(
    {"transfer.commands", "rail.results", "maintenance.commands", "closure.commands", "customer.profiles"}
)
"""Topics that others write; what we add to them must stay optional."""

_ENVELOPE: Final = {
    "type": "object",
    "description": "CloudEvents 1.0, Kafka protocol binding, binary content mode.",
    "required": ["ce_specversion", "ce_id", "ce_source", "ce_type"],
}
_PROPERTIES: Final = {
    "ce_specversion": {"const": "1.0"},
    "ce_id": {"type": "string", "maxLength": 256},
    "ce_source": {"type": "string", "maxLength": 256},
    "ce_time": {"type": "string", "format": "date-time"},
    "ce_subject": {"type": "string", "maxLength": 256},
    "ce_correlationid": {"type": "string", "maxLength": 256, "description": "Carried through."},
    "traceparent": {"type": "string", "description": "W3C trace context, carried through."},
    "content-type": {"const": "application/json"},
}


def json_schema(name: str, model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON Schema of a type's body."""
    schema = model.model_json_schema(by_alias=True, mode="validation")
    return {
        "$schema": _DIALECT,
        "$id": f"{_BASE}:{name}.v1",
        **schema,
        "title": f"sluice.{name}.v1",
        "examples": list(EXAMPLES.get(name, ())),
    }


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI 3.0 document of every topic."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Sluice",
            "version": "1.0.0",
            "description": "Commands that other systems publish and events that they read, over Kafka.",
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic.name) for topic in TOPICS if topic.name in TYPES},
        "operations": {
            f"{'receive' if topic in READ_BY_US else 'send'}.{topic}": {
                "action": "receive" if topic in READ_BY_US else "send",
                "channel": {"$ref": f"#/channels/{_pointer(topic)}"},
                "messages": [
                    {"$ref": f"#/channels/{_pointer(topic)}/messages/{_pointer(name)}"} for name in TYPES[topic]
                ],
            }
            for topic in TYPES
        },
        "components": {"messages": {name: _message(name) for name in sorted(MODELS)}},
    }


def _channel(name: str) -> dict[str, Any]:
    topic = next(topic for topic in TOPICS if topic.name == name)
    configuration: dict[str, Any] = {"cleanup.policy": ["compact" if topic.compact else "delete"]}
    if topic.retention is not None:
        configuration["retention.ms"] = int(topic.retention.total_seconds() * 1000)
    return {
        "address": name,
        "description": f"Keyed by: {topic.key}. Names may carry a configured prefix.",
        "x-key": topic.key,
        "messages": {type_: {"$ref": f"#/components/messages/{_pointer(type_)}"} for type_ in TYPES[name]},
        "bindings": {"kafka": {"topic": name, "topicConfiguration": configuration, "bindingVersion": "0.5.0"}},
    }


def _message(name: str) -> dict[str, Any]:
    return {
        "name": f"sluice.{name}.v1",
        "summary": MODELS[name].__doc__,
        "contentType": "application/json",
        "headers": {**_ENVELOPE, "properties": {**_PROPERTIES, "ce_type": {"const": f"sluice.{name}.v1"}}},
        "examples": [{"payload": example} for example in EXAMPLES.get(name, ())],
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-2020-12",
            "schema": {"$ref": f"./{name}.v1.json"},
        },
        "bindings": {"kafka": {"key": {"type": "string"}, "bindingVersion": "0.5.0"}},
    }


def _pointer(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def documents() -> Iterator[tuple[str, str]]:
    """Yield the name and text of every generated file."""
    for types in TYPES.values():
        for name, model in types.items():
            yield f"{name}.v1.json", _text(json_schema(name, model))
    yield _ASYNCAPI, _text(asyncapi())


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def stale() -> list[str]:
    """Return the names of files that are missing, are not what the models say, or are of no model."""
    wanted = dict(documents())
    found = {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.json")}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def breaks() -> list[str]:
    """Return how the models break those who publish or read by the released documents, a sentence each."""
    now = asyncapi()
    found = missing_types(_released(_ASYNCAPI), now)
    for topic, types in TYPES.items():
        compare = breaks_publishers if topic in READ_BY_US else breaks_readers
        for name, model in types.items():
            file_name = f"{name}.v1.json"
            if (RELEASED / file_name).exists():
                problems = compare(_released(file_name), json_schema(name, model))
                found.extend(f"{topic}: {name}: {problem}" for problem in problems)
    return found


def _released(file_name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((RELEASED / file_name).read_text("utf-8"))
    return document


def _write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    wanted = dict(documents())
    for path in folder.glob("*.json"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, "utf-8")


def main() -> int:
    """Write, check or release the files; return the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m schemas.generate", description=__doc__)
    wish = parser.add_mutually_exclusive_group()
    wish.add_argument("--check", action="store_true", help="write nothing, fail when a file is stale")
    wish.add_argument("--release", action="store_true", help="freeze the files, unless that breaks someone")
    wishes = parser.parse_args()
    if wishes.check:
        names = stale()
        if names:
            sys.stderr.write(f"Stale in {FOLDER}: {', '.join(names)}; run `make schemas`.\n")
        return bool(names)
    if wishes.release:
        problems = breaks() if (RELEASED / _ASYNCAPI).exists() else []
        if problems:
            sys.stderr.write("".join(f"{problem}\n" for problem in problems))
            return 1
        _write(RELEASED)
    _write(FOLDER)
    return 0


if __name__ == "__main__":
    sys.exit(main())
