"""Tells whether a changed JSON Schema still serves those who wrote, or read, by the released one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Schema = dict[str, Any]

_LOWER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")


def breaks_publishers(released: Schema, current: Schema) -> list[str]:
    """Return why a message that the released schema allows may now be refused; none when none may."""
    return list(_narrowed(_Pair(released, current, released, current), ""))


def breaks_readers(released: Schema, current: Schema) -> list[str]:
    """Return why a reader of the released schema may not understand a message of the current one.

    New fields are no break: readers ignore what they do not know.
    """
    return [
        *_narrowed(_Pair(current, released, current, released), "", ignores_new=True),
        *_lost(_Pair(released, current, released, current), ""),
    ]


class _Pair:
    """A schema that messages are written by, and one that they must satisfy, each with its document."""

    def __init__(self, writes: Schema, accepts: Schema, writer: Schema, acceptor: Schema) -> None:
        self.writes = _resolved(writes, writer)
        self.accepts = _resolved(accepts, acceptor)
        self.writer = writer
        self.acceptor = acceptor

    def inside(self, writes: Schema, accepts: Schema) -> _Pair:
        return _Pair(writes, accepts, self.writer, self.acceptor)


def _resolved(schema: Schema, document: Schema) -> Schema:
    while "$ref" in schema:
        schema = document["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


def _narrowed(pair: _Pair, where: str, *, ignores_new: bool = False) -> Iterator[str]:
    """Yield where something written need not be accepted."""
    alternatives = _alternatives(pair.writes)
    accepted = _alternatives(pair.accepts)
    if len(alternatives) > 1 or len(accepted) > 1:
        for alternative in alternatives:
            if not any(not list(_narrowed(pair.inside(alternative, other), where)) for other in accepted):
                yield f"{where or 'the message'}: {_kind(alternative)} is no longer accepted"
        return
    yield from _narrowed_value(pair, where)
    yield from _narrowed_object(pair, where, ignores_new=ignores_new)
    if "items" in pair.writes and "items" in pair.accepts:
        yield from _narrowed(pair.inside(pair.writes["items"], pair.accepts["items"]), f"{where}[]")


def _alternatives(schema: Schema) -> list[Schema]:
    return list(schema.get("anyOf", [schema]))


def _kind(schema: Schema) -> str:
    return str(schema.get("type") or schema.get("enum") or schema.get("$ref") or "a value")


def _narrowed_value(pair: _Pair, where: str) -> Iterator[str]:
    writes, accepts = pair.writes, pair.accepts
    if "type" in accepts and writes.get("type") != accepts["type"]:
        yield f"{where}: type {writes.get('type')} becomes {accepts['type']}"
    values = _values(accepts)
    if values is not None and not (_values(writes) or {object()}) <= values:
        yield f"{where}: not every value is accepted any more"
    for name in ("pattern", "format"):
        if name in accepts and writes.get(name) != accepts[name]:
            yield f"{where}: {name} changes"
    for name in _LOWER:
        if name in accepts and (name not in writes or accepts[name] > writes[name]):
            yield f"{where}: {name} narrows"
    for name in _UPPER:
        if name in accepts and (name not in writes or accepts[name] < writes[name]):
            yield f"{where}: {name} narrows"


def _values(schema: Schema) -> set[Any] | None:
    if "const" in schema:
        return {schema["const"]}
    return set(schema["enum"]) if "enum" in schema else None


def _narrowed_object(pair: _Pair, where: str, *, ignores_new: bool) -> Iterator[str]:
    writes, accepts = pair.writes, pair.accepts
    for name in accepts.get("required", ()):
        if name not in writes.get("required", ()):
            yield f"{where}.{name}: is required, and need not be there"
    known: Mapping[str, Schema] = accepts.get("properties", {})
    for name, schema in writes.get("properties", {}).items():
        if name in known:
            yield from _narrowed(pair.inside(schema, known[name]), f"{where}.{name}")
        elif not ignores_new:
            yield f"{where}.{name}: is removed"


def _lost(pair: _Pair, where: str) -> Iterator[str]:
    """Yield the fields that a reader may look for and no longer finds."""
    for name in pair.writes.get("properties", {}):
        if name not in pair.accepts.get("properties", {}):
            yield f"{where}.{name}: is removed"
