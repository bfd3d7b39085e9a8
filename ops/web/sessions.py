"""Who is signed in: a signed cookie, a token that every form has to carry, and the sessions that were ended."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from services.notify.inbox import tokens
from services.notify.inbox.tokens import NotGranted

if TYPE_CHECKING:
    from ops.web.users import User, UserFile

LASTS: Final = timedelta(hours=10)
_PURPOSE: Final = b"sluice console session v1"
_FORMS: Final = b"sluice console forms v1"


class Session(NamedTuple):
    """A user who is signed in; `nonce` is what their forms' token is made from."""

    user: User
    nonce: str


class Sessions:
    """Makes and reads cookies; a session ends with its time, with sign-out, and with a new password or none at all."""

    def __init__(self, key: bytes, users: UserFile) -> None:
        self._key = key
        self._users = users
        self._ended: dict[str, float] = {}

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
        return user is not None and user.fingerprint == session.user.fingerprint and session.nonce not in self._ended

    def end(self, session: Session) -> None:
        """End a session before its time, also for whoever copied its cookie."""
        now = time.time()
        self._ended = {nonce: until for nonce, until in self._ended.items() if until > now}
        self._ended[session.nonce] = now + LASTS.total_seconds()

    def form_token(self, nonce: str) -> str:
        """Return what a form must carry so that it is known to be one of ours, made for this browser."""
        key = hmac.digest(self._key, _FORMS, hashlib.sha256)
        return hmac.new(key, nonce.encode(), hashlib.sha256).hexdigest()

    def is_form_token(self, nonce: str, given: str) -> bool:
        """Tell whether a form's token is that of this browser."""
        return hmac.compare_digest(self.form_token(nonce).encode(), given.encode())
