"""What the rules of every decision are drawn from, besides the facts: the policy and the key of the hashes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

from services.runtime.identity_hash import KeyedHashes

if TYPE_CHECKING:
    from pydantic import BaseModel

    from services.transfer.policy import Policy


@dataclass(frozen=True, slots=True)
class Rules:
    """The policy, and the key without which the hashes of names and contents, and our own ids, cannot be guessed."""

    policy: Policy
    name_key: bytes

    def hash_name(self, name: str) -> bytes:
        """Return the keyed hash of a holder's name, equal for spellings that a bank would take for equal.

        Width, case, spaces and punctuation (`欧阳·娜娜`, `Li, Na`) make no difference.
        """
        return KeyedHashes(self.name_key).name(name)

    def return_id(self, transfer_id: UUID) -> UUID:
        """Return the id by which a bank is asked to take a transfer's money back: always the same, foreseen by nobody.

        Publishers choose ids of refunds and withdrawals freely, and must not be able to choose this one beforehand.
        """
        digest = hashlib.blake2b(transfer_id.bytes, key=self.name_key, digest_size=16, person=b"return").digest()
        return UUID(bytes=digest, version=5)

    def hash_content(self, data: BaseModel, type_: str = "") -> bytes:
        """Return the keyed hash of what a command says: equal commands, equal hashes, whatever their spelling.

        With a type, commands of other types that say the same have other hashes. Fields that are not in the contract,
        or not given, are no part of it, so that a field added later leaves the hashes of what was said before as they
        are.
        """
        content = orjson.dumps(_said(data), default=_said, option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z)
        return hashlib.blake2b(type_.encode() + content, key=self.name_key, digest_size=16).digest()


def _said(data: BaseModel) -> dict[str, Any]:
    return {name: value for name, value in data.__dict__.items() if value is not None}
