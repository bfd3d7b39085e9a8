"""Style as a test: what a reader may rely on in every file."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
ROOMS = ("schemas", "services", "ops", "local", "benchmarks")
CODE = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
DECIDING = [path for path in CODE if path.parts[-2] == "decide" or path.stem in {"decide", "model"}]
NEVER_THE_SAME = {
    "now",
    "today",
    "utcnow",
    "time",
    "monotonic",
    "uuid1",
    "uuid4",
    "urandom",
    "token_hex",
    "token_bytes",
}
LONGEST_BODY = 60
SHORTEST_LOOK_S = 0.1
SQL = re.compile(r"\b(select\s.+\sfrom\s|insert\s+into\s|update\s.+\sset\s|delete\s+from\s)", re.IGNORECASE | re.DOTALL)
HAS_OWN_TABLES = {"local/bank.py", "services/runtime/database.py", "benchmarks/floor.py", "benchmarks/__main__.py"}
"""The sandbox bank remembers in SQLite, migrations have a table before any file, the floor is one file on purpose."""


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", [*CODE, *TESTS], ids=_name)
def test_a_module_begins_by_saying_what_it_is(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert docstring
    assert len(docstring.splitlines()[0]) > 20


@pytest.mark.parametrize("path", CODE, ids=_name)
def test_no_module_is_a_drawer_for_anything(path: Path) -> None:
    assert path.stem not in {"utils", "util", "common", "helpers", "manager", "base", "misc"}


@pytest.mark.parametrize("path", [*CODE, *TESTS], ids=_name)
def test_no_function_is_longer_than_a_screen(path: Path) -> None:
    for function in _functions(path):
        length = (function.end_lineno or 0) - function.lineno
        assert length <= LONGEST_BODY + 10, f"{function.name} has {length} lines"


def test_functions_are_short_at_the_median() -> None:
    lengths = [len(function.body) for path in CODE for function in _functions(path)]
    assert median(lengths) <= 5


@pytest.mark.parametrize("path", [path for path in CODE if _name(path) not in HAS_OWN_TABLES], ids=_name)
def test_sql_stands_in_sql_files(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not SQL.search(node.value), node.value[:80]


@pytest.mark.parametrize("path", DECIDING, ids=_name)
def test_decisions_depend_on_what_they_are_given_alone(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            assert called not in NEVER_THE_SAME, f"line {node.lineno}: the same again would be decided otherwise"


@pytest.mark.parametrize("path", [path for path in TESTS if path.name != "waiting.py"], ids=_name)
def test_tests_wait_for_conditions_and_never_for_a_time(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "sleep":
            assert not (isinstance(node.args[0], ast.Constant) and node.args[0].value > SHORTEST_LOOK_S)
