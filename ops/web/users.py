"""Who may sign in to the console, and what each may do: a file of names, roles and argon2 hashes."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Final

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from local.private_files import write_privately
from ops.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

LEAST_CHARACTERS: Final = 12
MOST_CHARACTERS: Final = 200
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_HASHER: Final = PasswordHasher()


class WrongUser(UserError):
    """The file of users cannot be used, or a name or password cannot be; the text says why."""


class Role(StrEnum):
    """What somebody may do; each may do what the one before may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    REVIEWER = "reviewer"

    def may(self, needed: Role) -> bool:
        """Tell whether who has this role may do what needs another."""
        roles = list(Role)
        return roles.index(self) >= roles.index(needed)


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may sign in; `fingerprint` is the password's, so that a new one ends the old one's sessions."""

    name: str
    role: Role
    fingerprint: str


class UserFile:
    """The file, read again each time: who is taken out of it is out at once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self, name: str) -> User | None:
        """Return a user by name; None where there is no such one. Raises WrongUser for a file that cannot be read."""
        entry = self._read().get(name)
        return None if entry is None else _user(name, entry)

    def sign_in(self, name: str, password: str) -> User | None:
        """Return the user whose name and password these are, None for anything else; takes some 50 ms."""
        entry = self._read().get(name)
        try:
            _HASHER.verify(_nobody() if entry is None else entry["password"], password[:MOST_CHARACTERS])
        except VerifyMismatchError:
            return None
        return None if entry is None else _user(name, entry)

    def is_empty(self) -> bool:
        """Tell whether nobody may sign in yet."""
        return not self._read()

    def put(self, name: str, role: Role, password: str) -> None:
        """Add a user, or give one another role and password; raises WrongUser."""
        if not _NAME.fullmatch(name):
            raise WrongUser(f"{name!r} is no name: small letters, digits, dots and dashes, at most 40.")
        if not LEAST_CHARACTERS <= len(password) <= MOST_CHARACTERS:
            raise WrongUser(f"A password has {LEAST_CHARACTERS} to {MOST_CHARACTERS} characters.")
        self._write(self._read() | {name: {"role": str(role), "password": _HASHER.hash(password)}})

    def remove(self, name: str) -> None:
        """Take a user out; raises WrongUser where there is no such one."""
        users = self._read()
        if users.pop(name, None) is None:
            raise WrongUser(f"There is no user {name!r} in {self._path}.")
        self._write(users)

    def all(self) -> list[User]:
        """Return every user, by name."""
        return [_user(name, entry) for name, entry in sorted(self._read().items())]

    def _write(self, users: dict[str, dict[str, str]]) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_privately(self._path, json.dumps(users, indent=2) + "\n")
        except OSError as error:
            raise WrongUser(f"{self._path} cannot be written: {error.strerror}.") from error

    def _read(self) -> dict[str, dict[str, str]]:
        try:
            users: dict[str, dict[str, str]] = json.loads(self._path.read_text("utf-8"))
            for entry in users.values():
                Role(entry["role"])
                _ = entry["password"]
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise WrongUser(f"{self._path} is not what `sluice console user add` writes.") from error
        return users


@cache
def _nobody() -> str:
    """Return the hash of a password that nobody knows: a name that is not there takes as long as one that is."""
    return _HASHER.hash(secrets.token_urlsafe())


def _user(name: str, entry: dict[str, str]) -> User:
    fingerprint = hashlib.sha256(entry["password"].encode()).hexdigest()[:16]
    return User(name, Role(entry["role"]), fingerprint)
