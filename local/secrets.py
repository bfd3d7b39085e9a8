"""The keys of a local run: made once, kept beside its data, never shown."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Final

from local.private_files import write_privately
from ops.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

_DATA_NEED: Final = ("SLUICE_MASTER_KEY", "SLUICE_NAME_KEY")
CONSOLE_KEY: Final = "SLUICE_CONSOLE_KEY"
_NAMES: Final = (*_DATA_NEED, "SLUICE_SMS_SANDBOX_SECRET", CONSOLE_KEY)
_KEY_BYTES: Final = 32


class KeysLost(UserError):
    """There are data and not the keys that they were written with; the text says what to do."""


def keys_of(home: Path) -> dict[str, str]:
    """Return the keys that services need, those of the environment first; what is missing is made.

    Raises KeysLost rather than make a key that existing data need: what they hold could never be read again.
    """
    path = home / "secrets.json"
    given = {name: value for name in _NAMES if (value := os.environ.get(name))}
    kept = _read(path)
    missing = [name for name in _NAMES if name not in kept and name not in given]
    if (home / "data").exists() and (lost := [name for name in _DATA_NEED if name in missing]):
        raise KeysLost(
            f"{path} does not hold {' and '.join(lost)}, which the data in {home / 'data'} were written with: bring "
            f"that file back, set them in the environment, or move {home} away to begin anew."
        )
    if missing:
        kept |= {name: base64.b64encode(os.urandom(_KEY_BYTES)).decode() for name in missing}
        write_privately(path, json.dumps(kept))
    return {name: given.get(name) or kept[name] for name in _NAMES}


def kept_keys(home: Path) -> dict[str, str]:
    """Return the keys that are there, those of the environment first; makes none. Raises KeysLost as `keys_of` does."""
    return _read(home / "secrets.json") | {name: value for name in _NAMES if (value := os.environ.get(name))}


def _read(path: Path) -> dict[str, str]:
    try:
        kept = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        kept = None
    if not isinstance(kept, dict):
        raise KeysLost(f"{path} cannot be read as a JSON object: bring the file with the keys back.")
    return kept
