"""Who reads in the demo, and what reached them by mail, by text message and in the app."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.markup import escape

from ops.database import connect
from ops.errors import UserError
from ops.offsets import collect
from ops.running import running_from
from services.notify import records

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from ops.running import Running
    from services.notify.records import Accounting

_LOOK_EVERY_S: Final = 0.3
_SHOWN: Final = 3
_MAINTENANCE: Final = {"zh-CN": "计划维护", "en": "We plan maintenance"}
"""What the notice of a window says in each language."""
"""So many mails and text messages of each reader are shown, the latest."""


class NotTold(UserError):
    """Somebody was not told in time; the text says how many notices wait, or of what."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Reader:
    """One of those whose messages are shown."""

    customer_id: str
    name: str
    locale: str
    phone: str

    @property
    def email(self) -> str:
        """Their address."""
        return f"{self.customer_id}@mail.example"

    def profile(self) -> dict[str, Any]:
        """Return their profile, as the identity system publishes it."""
        profile = {"customer_id": self.customer_id, "name": self.name, "locale": self.locale}
        return profile | {"phone": self.phone, "phone_verified": True, "email": self.email}


READERS: Final = (
    Reader("tea-shop-owner", "茶馆老板", "zh-CN", "+8613800000001"),
    Reader("courier", "Li Lei", "en", "+8613800000002"),
    Reader("student", "Han Meimei", "en", "+8613800000003"),
    Reader("landlord", "房东", "zh-CN", "+8613800000004"),
)


def show_messages(endpoints: dict[str, Any], console: Console, patience_s: float) -> int:
    """Wait until everybody was told everything, and show it; return how many messages came twice. Raises NotTold."""
    said = _wait_until_told(running_from(endpoints), patience_s)
    mails, texts = _messages(endpoints["mail_sandbox"]), _messages(endpoints["sms_sandbox"])
    for reader in READERS:
        own_mails = [mail["subject"] for mail in mails if reader.email in mail["to"]]
        own_texts = [text["body"] for text in texts if text["to"] == reader.phone]
        _show(console, f"{reader.name} ({reader.locale})", "mail", own_mails)
        _show(console, "", "SMS", own_texts)
    _show_window(console, mails)
    twice = sum(count - 1 for count in Counter(one["reference"] for one in (*mails, *texts)).values())
    parts = ("delivered", "sent", "failed", "suppressed", "pending")
    counts = ", ".join(f"{getattr(said, part):,} {part}" for part in parts if getattr(said, part))
    console.print(
        f"  {said.accepted:,} notices: {counts}; {len(mails)} mails and {len(texts)} text messages, {twice} twice"
    )
    return twice


def _show_window(console: Console, mails: Sequence[Mapping[str, Any]]) -> None:
    """Show what a window was announced with, once in each language."""
    for locale, words in _MAINTENANCE.items():
        addresses = {reader.email for reader in READERS if reader.locale == locale}
        read = [mail for mail in mails if words in (mail["text"] or "") and mail["to"] in addresses]
        if not read:
            raise NotTold(f"Nobody who reads {locale} got a mail about the maintenance.")
        console.print(f"  The upgrade in {locale}: {escape(read[0]['subject'])}", soft_wrap=True)
        console.print(f"      {escape(' '.join(read[0]['text'].split()))}", soft_wrap=True, style="dim")


def _show(console: Console, who: str, what: str, messages: Sequence[str]) -> None:
    console.print(f"  {who or ' ':<22}{len(messages):>3} {what}")
    for message in messages[-_SHOWN:]:
        console.print(f"      {escape(message)}", soft_wrap=True, style="dim")


def _messages(address: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{address}/messages?limit=100000", timeout=10) as answer:  # noqa: S310 - our own
        found: list[dict[str, Any]] = json.load(answer)
    return sorted(found, key=lambda message: message["handed_over_at"])


def _wait_until_told(running: Running, patience_s: float) -> Accounting:
    deadline = time.monotonic() + patience_s
    while (said := asyncio.run(_account(running))) is None or said.pending:
        if time.monotonic() > deadline:
            raise NotTold(
                "The notifier has not read everything that happened yet: `sluice offsets show` says how far it is."
                if said is None
                else f"{said.pending} notices are still pending after {patience_s:g} s: `sluice notices` says why."
            )
        time.sleep(_LOOK_EVERY_S)
    return said


async def _account(running: Running) -> Accounting | None:
    """Return how the notices stand; None while the notifier has not read everything that happened."""
    if any(row["lag"] for row in await collect(running) if row["service"] == "notify"):
        return None
    async with connect(running, "notify") as connection:
        return await records.account(connection, None, None, 0)
