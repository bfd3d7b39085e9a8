"""The keys of a local run: made once, and never made anew beside data that need the old ones."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from local.secrets import KeysLost, keys_of


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("SLUICE_MASTER_KEY", "SLUICE_NAME_KEY", "SLUICE_SMS_SANDBOX_SECRET", "SLUICE_CONSOLE_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_keys_are_made_once_and_only_their_owner_reads_them(home: Path) -> None:
    keys = keys_of(home)
    (home / "data").mkdir()
    assert keys_of(home) == keys
    assert stat.S_IMODE((home / "secrets.json").stat().st_mode) == 0o600


def test_keys_that_data_were_written_with_are_not_replaced(home: Path) -> None:
    (home / "data").mkdir()
    with pytest.raises(KeysLost, match=r"SLUICE_MASTER_KEY and SLUICE_NAME_KEY.*bring that file back"):
        keys_of(home)
    assert not (home / "secrets.json").exists()
    (home / "secrets.json").write_text(json.dumps({"SLUICE_MASTER_KEY": "m"}))
    with pytest.raises(KeysLost, match="does not hold SLUICE_NAME_KEY,"):
        keys_of(home)


def test_a_key_that_came_later_is_added_to_an_older_file(home: Path) -> None:
    (home / "data").mkdir()
    old = {"SLUICE_MASTER_KEY": "m", "SLUICE_NAME_KEY": "n"}
    (home / "secrets.json").write_text(json.dumps(old))
    assert keys_of(home).items() >= old.items()
    assert json.loads((home / "secrets.json").read_text()) == keys_of(home)


def test_the_environment_may_bring_the_keys(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "data").mkdir()
    monkeypatch.setenv("SLUICE_MASTER_KEY", "m")
    monkeypatch.setenv("SLUICE_NAME_KEY", "n")
    assert keys_of(home)["SLUICE_MASTER_KEY"] == "m"


def test_a_damaged_file_is_named(home: Path) -> None:
    (home / "secrets.json").write_text("{")
    with pytest.raises(KeysLost, match=r"secrets\.json cannot be read"):
        keys_of(home)
