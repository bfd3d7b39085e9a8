"""What the sandbox's SMS gateways have taken: every message, in the order in which it came, in little memory."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIRST_ID: Final = 0x0A000000
"""Ids have a leading zero and a letter, so that a reader who loses either is found out."""


class Status(StrEnum):
    """What a message has come to."""

    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    FAILED = "failed"
    EXPIRED = "expired"


_STATUSES: Final = tuple(Status)


class Message(NamedTuple):
    """A message as it arrived, in Unix seconds; only what came over HTTP has our reference."""

    gateway: str
    to: str
    body: str
    reference: str | None
    arrived_at: float


def id_of(place: int) -> str:
    """Return the gateway's own id of the message at a place."""
    return f"{_FIRST_ID + place:08X}"


class Mailbox:
    """All messages of all gateways, found by their place; a message that came twice is here twice."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._statuses = bytearray()
        self._codes: dict[int, str] = {}
        self._latest: dict[tuple[str, str], int] = {}

    def __len__(self) -> int:
        return len(self._messages)

    def __getitem__(self, place: int) -> Message:
        return self._messages[place]

    def take(self, gateway: str, to: str, body: str, reference: str | None) -> int:
        """Keep a message; return its place."""
        place = len(self._messages)
        self._messages.append(Message(gateway, to, body, reference, time.time()))
        self._statuses.append(0)
        if reference is not None:
            self._latest[gateway, reference] = place
        return place

    def settle(self, place: int, late_code: str | None) -> None:
        """Say that a message was delivered, or why it failed."""
        status = Status.DELIVERED
        if late_code:
            status = Status.EXPIRED if late_code == Status.EXPIRED else Status.FAILED
            self._codes[place] = late_code
        self._statuses[place] = _STATUSES.index(status)

    def find(self, gateway: str, reference: str) -> int | None:
        """Return the place of the latest message with a reference."""
        return self._latest.get((gateway, reference))

    def standing(self, place: int) -> tuple[Status, str | None]:
        """Return what a message has come to, and the code when it failed."""
        return _STATUSES[self._statuses[place]], self._codes.get(place)

    def listed(self, since: int, to: str | None, gateway: str | None) -> Iterator[dict[str, Any]]:
        """Return messages from a place on, as people and tests read them; to one number or of one gateway if asked."""
        for place in range(since, len(self._messages)):
            message = self._messages[place]
            if to in {None, message.to} and gateway in {None, message.gateway}:
                yield self._shown(place, message)

    def _shown(self, place: int, message: Message) -> dict[str, Any]:
        status, code = self.standing(place)
        return {
            "gateway": message.gateway,
            "to": message.to,
            "body": message.body,
            "reference": message.reference,
            "id": id_of(place),
            "handed_over_at": moment(message.arrived_at),
            "status": status,
            "code": code,
        }


def moment(seconds: float) -> str:
    """Return a moment in RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()
