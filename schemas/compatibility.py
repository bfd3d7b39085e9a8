"""Tells whether changed schemas still serve those who wrote, or read, by the released ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Schema = dict[str, Any]

_LOWER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")
_EXACT: Final = ("pattern", "format")
_ANNOTATIONS: Final = frozenset({"$schema", "$id", "$defs", "title", "description", "examples"})
_COMPARED: Final = frozenset(
    {"$ref", "type", "enum", "const", "anyOf", "properties", "required", "items", "default", *_LOWER, *_UPPER, *_EXACT}
)


def breaks_publishers(released: Schema, current: Schema) -> list[str]:
    """Return why a message that the released schema allows may now be refused or mean something else."""
    pair = _Pair(released, current, released, current)
    return [*_uncompared(current), *_narrowed(pair, ""), *_redefined(pair, "")]


def breaks_readers(released: Schema, current: Schema) -> list[str]:
    """Return why a reader of the released schema may not understand a message of the current one.

    New fields are no break: readers ignore what they do not know.
    """
    return [
        *_uncompared(current),
        *_narrowed(_Pair(current, released, current, released), "", ignores_new=True),
        *_lost(_Pair(released, current, released, current), ""),
    ]


def missing_types(released: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Return which topics, keys and types of a released AsyncAPI document the current one lacks."""
    return list(_missing_types(released["channels"], current["channels"]))


def _missing_types(released: Mapping[str, Any], current: Mapping[str, Any]) -> Iterator[str]:
    for topic, channel in released.items():
        if topic not in current:
            yield f"{topic}: is removed"
            continue
        if channel.get("x-key") != current[topic].get("x-key"):
            yield f"{topic}: the key changes"
        for name in sorted(channel["messages"].keys() - current[topic]["messages"].keys()):
            yield f"{topic}: {name} is removed"


class _Pair(NamedTuple):
    """A schema that messages are written by, and one that they must satisfy, each with its document."""

    writes: Schema
    accepts: Schema
    writer: Schema
    acceptor: Schema

    def inside(self, writes: Schema, accepts: Schema) -> _Pair:
        """Return the pair of two parts of the same documents."""
        return self._replace(writes=_resolved(writes, self.writer), accepts=_resolved(accepts, self.acceptor))

    def fields(self) -> Iterator[tuple[str, _Pair]]:
        """Yield the fields that both have, by name."""
        accepted = self.accepts.get("properties", {})
        for name, schema in self.writes.get("properties", {}).items():
            if name in accepted:
                yield name, self.inside(schema, accepted[name])

    def items(self) -> _Pair | None:
        """Return the pair of both arrays' items."""
        if "items" in self.writes and "items" in self.accepts:
            return self.inside(self.writes["items"], self.accepts["items"])
        return None

    def closest(self) -> Iterator[_Pair]:
        """Yield each alternative that is written beside the one it resembles most."""
        accepted = _alternatives(self.accepts)
        for alternative in _alternatives(self.writes):
            pairs = [self.inside(alternative, other) for other in accepted]
            yield min(pairs, key=lambda pair: sum(1 for _ in _narrowed(pair, "", ignores_new=True)))


def _resolved(schema: Schema, document: Schema) -> Schema:
    while "$ref" in schema:
        beside = {name: value for name, value in schema.items() if name != "$ref"}
        schema = {**document["$defs"][schema["$ref"].rsplit("/", 1)[1]], **beside}
    return schema


def _alternatives(schema: Schema) -> list[Schema]:
    return list(schema.get("anyOf", [schema]))


# --- Narrowed: something that was written is no longer accepted ---


def _narrowed(pair: _Pair, where: str, *, ignores_new: bool = False) -> Iterator[str]:
    alternatives, accepted = _alternatives(pair.writes), _alternatives(pair.accepts)
    if len(alternatives) > 1 or len(accepted) > 1:
        for alternative in alternatives:
            inside = [pair.inside(alternative, other) for other in accepted]
            if not any(not list(_narrowed(each, where, ignores_new=ignores_new)) for each in inside):
                yield f"{where or 'the message'}: {_kind(inside[0].writes)} is no longer accepted"
        return
    yield from _narrowed_value(pair, where)
    for name in pair.accepts.get("required", ()):
        if name not in pair.writes.get("required", ()):
            yield f"{where}.{name}: is required, and need not be there"
    for name, field in pair.fields():
        yield from _narrowed(field, f"{where}.{name}", ignores_new=ignores_new)
    if not ignores_new:
        yield from _removed(pair, where)
    items = pair.items()
    if items is not None:
        yield from _narrowed(items, f"{where}[]", ignores_new=ignores_new)


def _kind(schema: Schema) -> str:
    return str(schema.get("type") or schema.get("enum") or "a value")


def _narrowed_value(pair: _Pair, where: str) -> Iterator[str]:
    writes, accepts = pair.writes, pair.accepts
    if not _is_type_within(writes.get("type"), accepts.get("type")):
        yield f"{where}: type {writes.get('type')} becomes {accepts['type']}"
    written, values = _values(writes), _values(accepts)
    if values is not None and (written is None or not written <= values):
        yield f"{where}: not every value is accepted any more"
    if written is not None and values is not None:
        return
    for name in _EXACT:
        if name in accepts and writes.get(name) != accepts[name]:
            yield f"{where}: {name} changes"
    for name in _LOWER:
        if name in accepts and (name not in writes or accepts[name] > writes[name]):
            yield f"{where}: {name} narrows"
    for name in _UPPER:
        if name in accepts and (name not in writes or accepts[name] < writes[name]):
            yield f"{where}: {name} narrows"


def _is_type_within(written: str | None, accepted: str | None) -> bool:
    return accepted in {None, written} or (written, accepted) == ("integer", "number")


def _values(schema: Schema) -> set[Any] | None:
    if "const" in schema:
        return {schema["const"]}
    return set(schema["enum"]) if "enum" in schema else None


# --- Lost: something that was there is gone ---


def _removed(pair: _Pair, where: str) -> Iterator[str]:
    known = pair.accepts.get("properties", {})
    for name in pair.writes.get("properties", {}):
        if name not in known:
            yield f"{where}.{name}: is removed"


def _lost(pair: _Pair, where: str) -> Iterator[str]:
    for closest in pair.closest():
        yield from _removed(closest, where)
        for name, field in closest.fields():
            yield from _lost(field, f"{where}.{name}")
        items = closest.items()
        if items is not None:
            yield from _lost(items, f"{where}[]")


# --- Redefined: what is left out means something else ---


def _redefined(pair: _Pair, where: str) -> Iterator[str]:
    for closest in pair.closest():
        for name, field in closest.fields():
            optional = name not in closest.writes.get("required", ())
            if optional and field.writes.get("default") != field.accepts.get("default"):
                yield f"{where}.{name}: the default changes"
            yield from _redefined(field, f"{where}.{name}")
        items = closest.items()
        if items is not None:
            yield from _redefined(items, f"{where}[]")


# --- Not compared: nothing may slip through in a keyword that these rules do not know ---


def _uncompared(schema: Any, where: str = "") -> Iterator[str]:
    if not isinstance(schema, dict):
        yield f"{where or 'the message'}: is no schema that can be compared"
        return
    for name in sorted(schema.keys() - _COMPARED - _ANNOTATIONS):
        yield f"{where or 'the message'}: {name} cannot be compared"
    for name in ("properties", "$defs"):
        for field, inner in schema.get(name, {}).items():
            yield from _uncompared(inner, f"{where}.{field}")
    for inner in schema.get("anyOf", ()):
        yield from _uncompared(inner, where)
    if "items" in schema:
        yield from _uncompared(schema["items"], f"{where}[]")
