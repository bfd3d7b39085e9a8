"""The keys of a local run: made once, kept beside its data, never shown."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Final

from local.private_files import write_privately

if TYPE_CHECKING:
    from pathlib import Path

_NAMES: Final = ("SLUICE_MASTER_KEY", "SLUICE_NAME_KEY", "SLUICE_SMS_SANDBOX_SECRET")
_KEY_BYTES: Final = 32


def keys_of(home: Path) -> dict[str, str]:
    """Return the keys that services need, those of the environment first."""
    path = home / "secrets.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    if missing := [name for name in _NAMES if name not in kept]:
        kept |= {name: base64.b64encode(os.urandom(_KEY_BYTES)).decode() for name in missing}
        write_privately(path, json.dumps(kept))
    return {name: os.environ.get(name) or kept[name] for name in _NAMES}
