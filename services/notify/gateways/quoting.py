"""What may be kept of what a provider says: a code, an id, and a short line in which nothing of the message is left."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from services.notify.gateways.gateway import Email, Outcome

if TYPE_CHECKING:
    from services.notify.gateways.gateway import Answer, Sms

MASK: Final = "***"
_LONGEST: Final = 200
_MOST_READ: Final = 400
_LONGEST_ID: Final = 256
_OF_OTHER_SCRIPTS: Final = 2
_OF_ASCII: Final = 12
"""So many characters in a row that the message has, too, are a quotation; two of Chinese may be a name."""

_CODE: Final = re.compile(r"0x[0-9A-Fa-f]{8}|(?!.*\d{7})[A-Za-z0-9._:-]{1,40}")
_ADDRESS: Final = re.compile(r"\S*@\S*")
_ESCAPED: Final = re.compile(r"(?:(?:\\u|%u)[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}|%[0-9a-fA-F]{2}|&#\w+;|=[0-9A-F]{2}=)+")
_NUMBER: Final = re.compile(r"\+?\d(?:[ -]?\d){6,}|\d{4,}")
_ENCODED: Final = re.compile(r"[A-Za-z0-9+/=_-]{32,}")
_PATTERNS: Final = (_ADDRESS, _ESCAPED, _NUMBER, _ENCODED)
_SUCCESSES: Final = frozenset((Outcome.ACCEPTED, Outcome.DELIVERED))


def kept(answer: Answer, message: Sms | Email | None) -> Answer:
    """Return what may be recorded of an answer: our words with the provider's behind them, which may quote the message.

    Without the message nobody can tell what is quoted, and the provider's words are left out.
    """
    said = ""
    if answer.said and message is not None and answer.outcome not in _SUCCESSES:
        said = _without(message, _one_line(answer.said)[:_MOST_READ])[:_LONGEST]
    why = ": ".join(words for words in (answer.why, said) if words)[: 2 * _LONGEST]
    id_ = answer.provider_message_id
    return answer._replace(
        # A receipt could not name a longer one.
        provider_message_id=id_ if id_ and len(id_) <= _LONGEST_ID and "\0" not in id_ else None,
        code=kept_code(answer.code),
        why=why or None,
        said=None,
    )


def kept_code(code: str | None) -> str | None:
    """Return a provider's code, if it is one, and no sentence or number of somebody."""
    return code if code is not None and _CODE.fullmatch(code) else None


def _without(message: Sms | Email, said: str) -> str:
    content = f"{message.subject}\n{message.text}" if isinstance(message, Email) else message.text
    said = _without_quotations(_recipient(message.to).sub(MASK, said), content.casefold())
    for pattern in _PATTERNS:
        said = pattern.sub(MASK, said)
    return said


def _recipient(to: str) -> re.Pattern[str]:
    """Return what a phone number or a mail address looks like in others' writing, its parts too."""
    local_part, _, domain = to.partition("@")
    if not domain:
        # Without its country and its operator it is still that number.
        return re.compile(r"[\d().+ -]*" + r"\D{0,2}".join(re.findall(r"\d", to)[-8:]))
    parts = "|".join(re.escape(part) for part in (to, local_part, domain))
    return re.compile(rf"(?<!\w)(?:{parts})(?!\w)", re.IGNORECASE)


def _without_quotations(said: str, content: str) -> str:
    pieces, place = [], 0
    while place < len(said):
        length = _quoted(said, place, content)
        pieces.append(MASK if length else said[place])
        place += length or 1
    return "".join(pieces)


def _quoted(said: str, place: int, content: str) -> int:
    """Return how many characters from a place on are in the content, too, if they are a quotation."""
    end = place + (_OF_ASCII if said[place].isascii() else _OF_OTHER_SCRIPTS)
    if end > len(said) or said[place:end].casefold() not in content:
        return 0
    while end < len(said) and said[place : end + 1].casefold() in content:
        end += 1
    return end - place


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
