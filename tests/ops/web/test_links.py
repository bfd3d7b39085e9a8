"""Links by which customers follow: good for one thing and until a day, and for nobody who changes them."""

from __future__ import annotations

import base64
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from ops.web.links import Followed, Kind, make_link, read_link
from ops.web.sessions import EndedFile, Sessions
from ops.web.users import Role, User, UserFile
from services.notify.inbox import tokens

if TYPE_CHECKING:
    from pathlib import Path

KEY = b"k" * 32
WEEK = timedelta(days=7)
ABOUT = Followed(Kind.TRANSFER, uuid.UUID(int=7))


def token(lasts: timedelta = WEEK, key: bytes = KEY) -> str:
    return make_link(key, "https://sluice.example", ABOUT, lasts).rpartition("/")[2]


def test_a_link_leads_to_what_it_was_made_for() -> None:
    assert make_link(KEY, "https://sluice.example", ABOUT, WEEK).startswith("https://sluice.example/follow/")
    assert read_link(KEY, token()) == ABOUT


@pytest.mark.parametrize(
    "given", [token(timedelta(seconds=-1)), token(key=b"x" * 32), "", "nonsense", "é", token()[:-4], token() + "AAAA"]
)
def test_a_link_that_is_over_cut_or_anothers_leads_nowhere(given: str) -> None:
    assert read_link(KEY, given) is None


def test_no_byte_of_a_link_can_be_changed() -> None:
    raw = base64.urlsafe_b64decode(token() + "=" * (-len(token()) % 4))
    for place in range(len(raw)):
        changed = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        assert read_link(KEY, base64.urlsafe_b64encode(changed).rstrip(b"=").decode()) is None


def test_what_is_signed_for_something_else_is_no_link(tmp_path: Path) -> None:
    session = Sessions(KEY, UserFile(tmp_path / "users"), EndedFile(tmp_path / "ended")).begin(
        User("li", Role.VIEWER, "f")
    )
    assert read_link(KEY, session) is None
    inbox = tokens.issue(KEY, "transfer/" + str(uuid.UUID(int=7)), tokens.datetime.now(tokens.UTC) + WEEK)
    assert read_link(KEY, inbox) is None
