"""The page's diagram of a closing's states is the model's."""

from __future__ import annotations

import re
from pathlib import Path

from services.closure.diagram import _WORDS, draw
from services.closure.model import TRANSITIONS

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"


def test_the_page_shows_the_transitions_of_the_model() -> None:
    section = PAGE.read_text("utf-8").partition("## A closing's states")[2].partition("\n## ")[0]
    shown = re.search(r"```mermaid\n(.*?)\n```", section, re.DOTALL)
    assert shown is not None
    assert shown[1] == draw(), "`python -m services.closure.diagram` draws it"


def test_every_word_is_of_a_transition() -> None:
    assert all(following in TRANSITIONS[status] for status, following in _WORDS)
