"""The one who may sign in to a local run's console from the start, with a password of its own."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Final

from local.private_files import write_privately
from ops.web.settings import USERS_FILE
from ops.web.users import Role, UserFile

if TYPE_CHECKING:
    from pathlib import Path

_NAME: Final = "operator"
_PASSWORD: Final = "console_password"  # noqa: S105 - the file's name


def ensure_user(home: Path) -> str:
    """Make the user where there is nobody yet; return how one signs in, the password only when it was just made."""
    if os.environ.get("SLUICE_CONSOLE_USERS"):
        return "whom SLUICE_CONSOLE_USERS names may sign in"
    users = UserFile(home / USERS_FILE)
    if not users.is_empty():
        kept = f"; the password of {_NAME} is in {home / _PASSWORD}" if (home / _PASSWORD).exists() else ""
        return f"`sluice console user ls` says who may sign in{kept}"
    password = secrets.token_urlsafe(12)
    # Whoever runs everything on one machine does everything; only four eyes takes a second one.
    users.put(_NAME, Role.REVIEWER, password)
    write_privately(home / _PASSWORD, password + "\n")
    return f"sign in as {_NAME} with {password} (shown this once; kept in {home / _PASSWORD})"
