"""Who is signed in: a signed cookie, a token that every form has to carry, and the sessions that were ended."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from local.private_files import write_privately
from ops.web.users import WrongUser
from services.notify.inbox import tokens
from services.notify.inbox.tokens import NotGranted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ops.web.users import User, UserFile

_T = TypeVar("_T")
LASTS: Final = timedelta(hours=10)
KNOWN_FOR: Final = timedelta(days=180)
"""So long a browser in which somebody has signed in counts its tries for itself."""
_PURPOSE: Final = b"sluice console session v1"
_BROWSERS: Final = b"sluice console browser v1"
_FORMS: Final = b"sluice console forms v1"


class Session(NamedTuple):
    """A user who is signed in; `nonce` is what their forms' token is made from."""

    user: User
    nonce: str


class EndedFile:
    """The sessions that were ended before their time, as hashes: also known to a console that is started later.

    It is only ever added to, and read again each time; a start leaves out what is over anyway.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        kept = [f"{until} {name}\n" for name, until in self._read().items() if until > time.time()]
        if kept or path.exists():
            self._doing(lambda: write_privately(path, "".join(kept)))

    def add(self, nonce: str) -> None:
        """Note a session; raises WrongUser where that cannot be kept."""
        line = f"{int(time.time() + LASTS.total_seconds())} {_hash(nonce)}\n"
        self._doing(lambda: self._append(line))

    def has(self, nonce: str) -> bool:
        """Tell whether a session was ended; raises WrongUser where that cannot be read."""
        return _hash(nonce) in self._read()

    def _append(self, line: str) -> None:
        # In one piece, whoever else writes there.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def _read(self) -> dict[str, int]:
        if not self._path.exists():
            return {}
        lines = self._doing(lambda: self._path.read_text("utf-8", "replace")).splitlines()
        pairs = (line.partition(" ") for line in lines)
        return {name: int(until) for until, _, name in pairs if until.isdecimal()}

    def _doing(self, act: Callable[[], _T]) -> _T:
        try:
            return act()
        except OSError as error:
            raise WrongUser(f"{self._path} cannot be used: {error.strerror}.") from error


def _hash(nonce: str) -> str:
    return hashlib.sha256(nonce.encode()).hexdigest()


class Sessions:
    """Makes and reads cookies; a session ends with its time, with sign-out, and with a new password or none at all."""

    def __init__(self, key: bytes, users: UserFile, ended: EndedFile) -> None:
        self._key = key
        self._users = users
        self._ended = ended

    def begin(self, user: User) -> str:
        """Return the cookie of a new session."""
        content = f"{user.name}/{user.fingerprint}/{secrets.token_urlsafe(16)}"
        return tokens.issue(self._key, content, datetime.now(UTC) + LASTS, _PURPOSE)

    def read(self, cookie: str) -> Session | None:
        """Return whose session a cookie is; None for one that is forged, over, or ended."""
        try:
            grant = tokens.check(self._key, cookie, datetime.now(UTC), _PURPOSE)
        except NotGranted:
            return None
        name, fingerprint, nonce = grant.customer_id.split("/")
        user = self._users.find(name)
        if user is None or user.fingerprint != fingerprint:
            return None
        session = Session(user, nonce)
        return session if self.is_open(session) else None

    def is_open(self, session: Session) -> bool:
        """Tell whether a session that was read has not ended since, by its user or with its user."""
        user = self._users.find(session.user.name)
        is_same = user is not None and user.fingerprint == session.user.fingerprint
        return is_same and not self._ended.has(session.nonce)

    def end(self, session: Session) -> None:
        """End a session before its time, also for whoever copied its cookie."""
        self._ended.add(session.nonce)

    def know_browser(self, name: str) -> str:
        """Return the cookie by which a browser is known again in which this user has signed in."""
        content = f"{name}/{secrets.token_urlsafe(16)}"
        return tokens.issue(self._key, content, datetime.now(UTC) + KNOWN_FOR, _BROWSERS)

    def known_browser(self, cookie: str, name: str) -> str | None:
        """Return what tells a browser from others in which this user has signed in before; None for any other."""
        try:
            grant = tokens.check(self._key, cookie, datetime.now(UTC), _BROWSERS)
        except NotGranted:
            return None
        known, _, nonce = grant.customer_id.partition("/")
        return nonce if known == name else None

    def form_token(self, nonce: str) -> str:
        """Return what a form must carry so that it is known to be one of ours, made for this browser."""
        key = hmac.digest(self._key, _FORMS, hashlib.sha256)
        return hmac.new(key, nonce.encode(), hashlib.sha256).hexdigest()

    def is_form_token(self, nonce: str, given: str) -> bool:
        """Tell whether a form's token is that of this browser."""
        return hmac.compare_digest(self.form_token(nonce).encode(), given.encode())
