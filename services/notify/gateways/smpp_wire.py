"""Reads what SMPP message centres send, as they do and not only as the specification says.

PDUs are written with aiosmpplib. It reads only what it knows, and refuses a whole PDU for a status of the vendor's own,
a receipt's error in hex, a date with seconds, or an octet beyond ASCII in a parameter; real centres send all of these.
Source: SMPP 3.4, 3.2 (format), 4.6 (deliver_sm), 5.3.2 (parameters), appendix B (receipts).
"""

from __future__ import annotations

import re
import struct
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

HEADER_LENGTH: Final = 16
LONGEST_PDU: Final = 70_000
"""A message payload of 64 KiB and everything around it."""

_IS_RECEIPT: Final = 0b100
_TYPE_BITS: Final = 0b111100
_RECEIPTED_MESSAGE_ID: Final = 0x001E
_MESSAGE_PAYLOAD: Final = 0x0424
_DATE: Final = "%y%m%d%H%M%S"
_TO_THE_MINUTE: Final = 10
_FIELD: Final = re.compile(r"\b(id|stat|err|done date):(\S*)", re.IGNORECASE)


class BadPdu(ValueError):
    """What came is no PDU, or not one of its kind."""


class Header(NamedTuple):
    """What every PDU begins with; numbers, because centres have commands and statuses of their own."""

    length: int
    command: int
    status: int
    sequence: int


class DeliveryReceipt(NamedTuple):
    """What a receipt says, in the centre's words; `at` is None where it gives no moment that can be read."""

    id: str
    stat: str
    err: str | None
    at: datetime | None


def read_header(data: bytes) -> Header:
    """Read 16 octets; raises BadPdu when the length can be none."""
    header = Header(*struct.unpack("!4I", data))
    if not HEADER_LENGTH <= header.length <= LONGEST_PDU:
        raise BadPdu(f"a PDU of {header.length} octets")
    return header


def read_message_id(body: bytes) -> str:
    """Return the id in a submit_sm_resp's body; empty when a centre leaves it out, as it may when it refuses."""
    return body.partition(b"\0")[0].decode("ascii", "replace")


def read_receipt(body: bytes, zone: ZoneInfo) -> DeliveryReceipt | None:
    """Read a deliver_sm's body; None when it is no receipt but somebody's own message.

    Dates in receipts have no offset: they are in the centre's zone. Raises BadPdu for a receipt without id or state.
    """
    try:
        esm_class, text, parameters = _read_deliver_sm(body)
    except (ValueError, IndexError, struct.error) as error:
        raise BadPdu(f"no deliver_sm: {error}") from error
    if esm_class & _TYPE_BITS != _IS_RECEIPT:
        return None
    words = (text or parameters.get(_MESSAGE_PAYLOAD, b"")).decode("latin-1")
    # Only the first of each: what the message said follows after `text:`, and may say `id:` too.
    fields = {name.lower(): value for name, value in reversed(_FIELD.findall(words))}
    id_ = parameters.get(_RECEIPTED_MESSAGE_ID, b"").partition(b"\0")[0].decode("ascii", "replace")
    id_ = id_ or fields.get("id", "")
    if not id_ or not fields.get("stat"):
        raise BadPdu(f"a receipt without id or state: {sorted(fields)}")
    return DeliveryReceipt(id_, fields["stat"].upper(), fields.get("err") or None, _moment(fields, zone))


def normalise_message_id(id_: str) -> str:
    """Return the form in which ids are compared: centres answer `0A1F` and name the message `a1f` in its receipt."""
    return id_.strip().lower().lstrip("0") or "0"


def _read_deliver_sm(body: bytes) -> tuple[int, bytes, dict[int, bytes]]:
    """Return the class, the short message and the optional parameters."""
    place = _after_string(body, 0)
    place = _after_string(body, place + 2)
    place = _after_string(body, place + 2)
    esm_class = body[place]
    place = _after_string(body, place + 3)
    place = _after_string(body, place)
    length = body[place + 4]
    end = place + 5 + length
    return esm_class, body[place + 5 : end], _read_parameters(body, end)


def _after_string(body: bytes, place: int) -> int:
    return body.index(0, place) + 1


def _read_parameters(body: bytes, place: int) -> dict[int, bytes]:
    parameters: dict[int, bytes] = {}
    while place < len(body):
        tag, length = struct.unpack_from("!HH", body, place)
        parameters[tag] = body[place + 4 : place + 4 + length]
        place += 4 + length
    return parameters


def _moment(fields: dict[str, str], zone: ZoneInfo) -> datetime | None:
    text = fields.get("done date", "")
    # Most centres tell the minute; its last second is after whatever happened in it.
    text += "59" if len(text) == _TO_THE_MINUTE else ""
    try:
        return datetime.strptime(text, _DATE).replace(tzinfo=zone)
    except ValueError:
        return None
