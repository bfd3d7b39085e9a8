"""What the console says has words in both languages: every code that can stand on a page, every refusal, every note."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import pytest

import ops.web.table
import ops.web.words
import schemas
from ops.errors import UserError
from ops.trace.story import What
from ops.web.saying import parts_in
from ops.web.words import codes_in, words_of
from schemas import closure as closing_words
from schemas import reasons
from schemas.registry import MODELS
from schemas.registry import TOPICS as TYPES
from services.closure import model as closings
from services.closure import records as closing_records
from services.closure.decide import accounts, cases, draining
from services.maintenance import records as window_records
from services.notify import model as notices
from services.notify import records as notice_records
from services.notify.broadcast.model import State as BroadcastState
from services.notify.gateways.gateway import Outcome
from services.notify.model import Locale
from services.runtime import dead_letters
from services.runtime.settings import SettingsError
from services.transfer import model as transfers
from services.transfer import records as transfer_records
from tests.ops.web.reading import english_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT: Final = Path(schemas.__file__).parents[1]
RECORDS: Final = (transfer_records, window_records, closing_records, notice_records)


def literals(folder: str, pattern: str) -> set[str]:
    """Return what code says that a pattern's group finds."""
    return {found[1] for path in ROOT.glob(folder) for found in re.finditer(pattern, path.read_text("utf-8"))}


CODES: Final = {
    "type": {*MODELS, "announcement"},
    "service": {topic.partition(".")[0] for topic in TYPES} | {"insight"},
    "what": {*get_args(What)},
    "reason": {
        code
        for literal in (
            *(reasons.ReasonCode, reasons.WindowReasonCode, reasons.ClosureRefusalCode, reasons.ClosingCode),
            closing_words.Deferred,
        )
        for code in get_args(literal)
    },
    "step_why": literals("services/closure/decide/*.py", r'(?:note\(case, |yield )"(\w+)"')
    | {cases.IDENTITY, cases.RISK, draining.AMOUNT, draining.CANCELLED, accounts.OTHER_HOLDER, closings.FORGETTING},
    "notice_why": {*notices.Why},
    "outcome": {*Outcome},
    "kind": {*transfers.Kind},
    "purpose": {*transfers.Purpose},
    "account_status": {*transfers.AccountStatus},
    "refund_status": {*transfers.RefundStatus},
    "reopening_status": {*closings.ReopeningStatus},
    "clearance_status": {*closings.ClearanceStatus},
    "broadcast_status": {*BroadcastState},
    "cause": {*get_args(closing_words.Cause)},
    "letter_reason": {*dead_letters.REASONS},
    "waits_for": {
        *(who for waits in closing_records._WAITS_FOR.values() for who in waits),
        *(who for waits in closing_records._COMING_BACK.values() for who in waits),
        *("timer", "transfer", "maintenance", "notify"),
    },
    "timer": literals("services/transfer/decide/*.py", r'set_timer\([^,]+, "(\w+)"')
    | {transfers.FORGET_TIMER, transfers.RELEASE_TIMER, transfers.DRAIN_TIMER, transfers.REPORT_TIMER}
    | {"release_debit", "release_credit"},
    "subject": literals("ops/trace/*.py", r'Subject\("(\w+)"')
    | literals("services/*/trail.sql", r"(?:^|\n)select '(\w+)'"),
    "trace_name": literals("ops/trace/*.py", r'name="([a-z ]+)"'),
    "act": literals("ops/**/*.py", r'what="([a-z ]+)",\s+about')
    | literals("ops/web/pages/*.py", r'_do\(visit, "([a-z ]+)"')
    | {f"windows {change}" for change in ops.web.pages.windows._CHANGES}
    | {"cases approve", "cases reject"},
    "rule": {rule for module in RECORDS for rule in module._RULES} | literals("ops/ledger.py", r'Finding\("([^"]+)"'),
}
"""Every code that a page may show, by its kind, as the schemas and the services name them."""


@pytest.mark.parametrize("kind", CODES)
def test_every_code_has_a_word_in_both_languages(kind: str) -> None:
    assert CODES[kind], kind
    for language in Locale:
        assert CODES[kind] <= codes_in(language)[kind].keys()
    chinese = codes_in(Locale.CHINESE)[kind]
    assert {code: word for code, word in chinese.items() if english_in(word)} == {}


def test_no_kind_of_code_has_the_name_of_a_page() -> None:
    for language in Locale:
        assert len(words_of(language)) == len(codes_in(language)) + len(_read(language))


def _read(language: Locale) -> dict[str, Any]:
    return ops.web.words._read(str(language))


# --- Sentences ---

_PLACE: Final = "\0"
"""What stands for whatever is filled in; a figure of seconds with its unit is one thing to whoever translates it."""


def skeleton(text: str) -> str:
    """Return a sentence without what is filled in."""
    return re.sub(f"{_PLACE}(?: s\\b)?(?:{_PLACE})*", _PLACE, text)


def said_by(node: ast.expr) -> list[str]:
    """Return the sentences that an expression may be, without what is filled in."""
    if isinstance(node, ast.Constant):
        return [skeleton(node.value)] if isinstance(node.value, str) else []
    if isinstance(node, ast.JoinedStr):
        return [skeleton("".join(part.value if isinstance(part, ast.Constant) else _PLACE for part in node.values))]
    if isinstance(node, ast.IfExp):
        return [*said_by(node.body), *said_by(node.orelse)]
    if isinstance(node, ast.BoolOp):
        return [text for value in node.values for text in said_by(value)]
    return []


def calls_in(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Yield every call of a module with the name of what is called."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            yield getattr(node.func, "id", "") or getattr(node.func, "attr", ""), node


def _given(call: ast.Call, name: str) -> list[ast.expr]:
    return [keyword.value for keyword in call.keywords if keyword.arg == name]


def raised() -> Iterator[tuple[str, str]]:
    """Yield what the modules behind the pages refuse, and where."""
    for name in sorted(needed_by("ops.web.table") - COMMANDS_ALONE):
        module = importlib.import_module(name)
        path = Path(inspect.getfile(module))
        for called, call in calls_in(path):
            kind = getattr(module, called, None)
            if inspect.isclass(kind) and issubclass(kind, (UserError, SettingsError)) and call.args:
                yield from ((f"{path.name}:{call.lineno}", text) for text in said_by(call.args[0]))


def needed_by(name: str) -> set[str]:
    """Return a module of `ops` and every other that it imports, or that these do."""
    found, waiting = set(), [name]
    while waiting:
        if (name := waiting.pop()) in found or not (path := ROOT / f"{name.replace('.', '/')}.py").exists():
            continue
        found.add(name)
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("ops"):
                waiting += [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
    return found


def refused() -> Iterator[tuple[str, str]]:
    """Yield what services say of a command that they refuse, and of a record that is none."""
    for path in (ROOT / "services/maintenance/decide.py", *ROOT.glob("services/closure/decide/*.py")):
        for called, call in calls_in(path):
            details = [*call.args[2:3], *_given(call, "detail")] if called == "Refusal" else []
            details += call.args[1:2] if called == "note" else []
            yield from ((f"{path.name}:{call.lineno}", text) for node in details for text in said_by(node))
    envelope = ROOT / "schemas/envelope.py"
    for called, call in calls_in(envelope):
        if called == "_Unreadable":
            yield from ((f"{envelope.name}:{call.lineno}", text) for text in said_by(call.args[0]))


def traced() -> Iterator[tuple[str, str]]:
    """Yield what a trace says in sentences."""
    for path in ROOT.glob("ops/trace/*.py"):
        for called, call in calls_in(path):
            is_note = called == "append" and "notes" in ast.unparse(call.func)
            nodes = [*_given(call, "detail"), *(call.args if is_note else ())]
            yield from ((f"{path.name}:{call.lineno}", text) for node in nodes for text in said_by(node))


COMMANDS_ALONE: Final = frozenset(
    {"ops.ledger", "ops.pausing", "ops.running", "ops.dlq.repairs", "ops.web.user_commands", "ops.web.users"}
)
"""Modules whose refusals only a command meets; what pages ask of them is refused by none of these."""


@pytest.mark.parametrize("source", [raised, refused, traced])
def test_every_sentence_of_ours_is_said_in_both_languages(source: Callable[[], Iterator[tuple[str, str]]]) -> None:
    places = re.compile(r"\{\w+\}")
    known = {skeleton(places.sub(_PLACE, text)) for text in words_of(Locale.ENGLISH)["sentences"].values()}
    found = {place: text for place, text in source() if english_in(text.replace(_PLACE, "1"))}
    assert len(found) > 5
    assert {place: text for place, text in found.items() if text not in known} == {}


def test_no_sentence_in_chinese_has_english_words() -> None:
    sentences = words_of(Locale.CHINESE)["sentences"]
    filled = {name: re.sub(r"\{\w+\}", "1", text) for name, text in sentences.items()}
    assert {name: text for name, text in filled.items() if english_in(text)} == {}


def test_no_template_has_a_text_of_its_own() -> None:
    for path in (ROOT / "ops/web/templates").glob("*.j2"):
        text = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", "", path.read_text("utf-8"), flags=re.DOTALL)
        assert english_in(text) == [], path.name
        assert "." not in re.sub(r"<[^>]*>", "", text), f"{path.name}: Chinese sentences end otherwise"
        # What is English alone is said by one macro, which the words above leave nothing to.
        assert path.name == "parts.html.j2" or not re.search(r'<(?!input)\w+[^>]* lang="en"', text), path.name
        # Ids, and raw data, are no language's; what an act was about may be a sentence.
        tags = re.findall(r'<pre[^>]*>|<\w+[^>]*class="(?:card )?id"[^>]*>', text)
        may_be_read = ['<span class="id">'] if path.name == "acts.html.j2" else []
        assert [tag for tag in tags if 'translate="no"' not in tag] == may_be_read, path.name


@pytest.mark.parametrize(
    "text", ["x: " * 400 + "x", "0 s; " * 400 + "0 s", "x" * 100_000], ids=["within", "behind", "long"]
)
def test_what_somebody_else_wrote_is_nobody_s_sentence_however_it_goes_on(text: str) -> None:
    said = parts_in(Locale.CHINESE, text)
    assert said is None or [part.text for part in said if part.is_given][-1].endswith(text[-300:])
