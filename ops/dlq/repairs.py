"""Mended records in a file: written out for a person to mend, and read back; ids and keys stay as they were."""

from __future__ import annotations

import base64
import codecs
import json
import os
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import orjson

from ops.dlq.replaying import Headers, Record
from ops.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ops.dlq.letters import Letter

_KEPT: Final = "ce_id"
_FIELDS: Final = frozenset({"id", "headers", "value", "value_base64"})


class BadRepair(UserError):
    """A line of the file is no mended record; the text says which, and why."""


def write_repairs(path: Path, letters: Sequence[Letter]) -> None:
    """Write a line of JSON a letter, for its owner's eyes only; raises BadRepair where the file cannot be made."""
    try:
        # Exclusively: another's file, or an older one that somebody mended, is not written over.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise BadRepair(f"{path} cannot be made: {error.strerror}.") from error
    with os.fdopen(descriptor, "wb") as file:
        for letter in letters:
            file.write(orjson.dumps(_line(letter)) + b"\n")


def _line(letter: Letter) -> dict[str, Any]:
    return {"id": letter.id, "headers": _said(letter.headers), **_value(letter.value)}


def _said(headers: Headers) -> dict[str, str] | list[list[Any]]:
    """Return headers as texts by name, or where that would lose something as pairs: a name may come twice."""
    texts = {name: value.decode() for name, value in headers if value is not None and _is_text(value)}
    if len(texts) == len(headers):
        return texts
    return [[name, _header(value)] for name, value in headers]


def _header(value: bytes | None) -> Any:
    if value is None or _is_text(value):
        return None if value is None else value.decode()
    return {"base64": base64.b64encode(value).decode()}


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _value(value: bytes | None) -> dict[str, Any]:
    if value is None:
        return {"value": None}
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        found = None
    # What JSON would not give back as it was is kept byte for byte.
    is_kept = isinstance(found, dict) and _is_given_back(found, value)
    return {"value": found} if is_kept else {"value_base64": base64.b64encode(value).decode()}


def _is_given_back(found: Any, value: bytes) -> bool:
    """Tell whether what was read of a JSON text says all that the text does."""
    try:
        return bool(_exactly(orjson.dumps(found)) == _exactly(value))
    except (orjson.JSONEncodeError, RecursionError):
        return False


def _exactly(value: bytes) -> Any:
    """Return what JSON says with every digit and every name, also one that comes twice."""
    return json.loads(value, parse_int=Decimal, parse_float=Decimal, object_pairs_hook=list)


def read_repairs(path: Path, letters: Sequence[Letter]) -> list[Record]:
    """Return a mended record for each line, of letters among these; raises BadRepair."""
    by_id = {letter.id: letter for letter in letters}
    try:
        # Some editors begin a file with a mark of their own.
        lines = path.read_bytes().removeprefix(codecs.BOM_UTF8).splitlines()
    except OSError as error:
        raise BadRepair(f"{path} cannot be read: {error.strerror}.") from error
    records: dict[str, Record] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"Line {number} of {path}"
        record = _record(where, line, by_id)
        if record.letter.id in records:
            raise BadRepair(f"{where} is about {record.letter.id} once more: keep one of them.")
        records[record.letter.id] = record
    return list(records.values())


def _record(where: str, line: bytes, letters: dict[str, Letter]) -> Record:
    try:
        said = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise BadRepair(f"{where} is no JSON: {error}.") from error
    if not _is_given_back(said, line):
        raise BadRepair(f"{where} says a name twice, or is too deep, or has a number of more digits than are kept.")
    if not isinstance(said, dict) or not said.keys() <= _FIELDS or not {"id", "headers"} <= said.keys():
        raise BadRepair(f'{where} must have "id", "headers" and "value" or "value_base64", and nothing else.')
    letter = letters.get(said["id"]) if isinstance(said["id"], str) else None
    if letter is None:
        raise BadRepair(f"{where} is about {said['id']!r}, which is not among the letters that were asked for.")
    return Record(letter, _bytes(where, said), _headers(where, said["headers"], letter))


def _bytes(where: str, said: dict[str, Any]) -> bytes | None:
    if ("value" in said) == ("value_base64" in said):
        raise BadRepair(f'{where} must have either "value" or "value_base64".')
    if "value" in said:
        return None if said["value"] is None else orjson.dumps(said["value"])
    return _decoded(where, "value_base64", said["value_base64"])


def _decoded(where: str, name: str, said: Any) -> bytes:
    try:
        return base64.b64decode(said, validate=True)
    except (ValueError, TypeError):
        raise BadRepair(f'{where}: its "{name}" is no base64.') from None


def _headers(where: str, said: Any, letter: Letter) -> Headers:
    pairs = list(said.items()) if isinstance(said, dict) else said
    if not isinstance(pairs, list) or not all(map(_is_header, pairs)):
        raise BadRepair(f'{where}: its "headers" must be texts by name, or a list of names with their texts.')
    headers = tuple((name, _bytes_of(where, value)) for name, value in pairs)
    before = [value for name, value in letter.headers if name == _KEPT]
    if before and [value for name, value in headers if name == _KEPT] != before:
        raise BadRepair(f"{where} changes {_KEPT}: an event keeps its id, so that it has its effect once.")
    return headers


def _is_header(pair: Any) -> bool:
    match pair:
        case (str() as name, str() | None | {"base64": str()}):
            # The client's names end there.
            return "\0" not in name
        case _:
            return False


def _bytes_of(where: str, said: Any) -> bytes | None:
    return (
        _decoded(where, "base64", said["base64"]) if isinstance(said, dict) else None if said is None else said.encode()
    )
