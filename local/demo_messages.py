"""Who reads in the demo, and what reached them by mail, by text message and in the app."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rich.markup import escape

from ops.counts import count_text
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
"""So many mails and text messages of each reader are shown, the latest."""

_TOLD_OF: Final = {
    "The upgrade": {"zh-CN": "计划维护", "en": "We plan maintenance"},
    "What stands in the way": {"zh-CN": "暂时无法注销", "en": "To go on with closing"},
    "The clearance": {"zh-CN": "起注销您的钱包"},
    "The receipt": {"zh-CN": "您的个人信息现在将被删除", "en": "Your personal data is erased now"},
}
"""What notices of the window, of the clearance and of closings say, by what they are about and language."""


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
    id_number: str | None = None

    @property
    def email(self) -> str:
        """Their address."""
        return f"{self.customer_id}@mail.example"

    def profile(self) -> dict[str, Any]:
        """Return their profile, as the identity system publishes it."""
        profile = {"customer_id": self.customer_id, "name": self.name, "locale": self.locale}
        profile |= {} if self.id_number is None else {"id_number": self.id_number}
        return profile | {"phone": self.phone, "phone_verified": True, "email": self.email}

    def applicant(self) -> dict[str, Any]:
        """Return what they say of themselves when they apply for a closing."""
        return {"name": self.name, "id_number": self.id_number, "phone": self.phone}


class Told(NamedTuple):
    """How the notices stand, and how many of them are to people who are not known any more: nobody is told those."""

    accounting: Accounting
    to_nobody: int


READERS: Final = (
    Reader("tea-shop-owner", "茶馆老板", "zh-CN", "+8613800000001"),
    Reader("courier", "Li Lei", "en", "+8613800000002"),
    Reader("student", "Han Meimei", "en", "+8613800000003"),
    Reader("landlord", "房东", "zh-CN", "+8613800000004"),
    Reader("weaver", "织布匠", "zh-CN", "+8613800000010"),
    Reader("potter", "陶匠", "zh-CN", "+8613800000011", "110101194805120022"),
)
LEAVING: Final = (
    Reader("guide", "Jim Green", "en", "+8613800000005", "110101199003071241"),
    Reader("tailor", "裁缝", "zh-CN", "+8613800000006", "310104198506120035"),
    Reader("baker", "Lucy King", "en", "+8613800000007", "440306199211051017"),
    Reader("florist", "花店老板", "zh-CN", "+8613800000008", "110101198802141256"),
    Reader("cobbler", "Tom Cobb", "en", "+8613800000009", "110101199206111338"),
)
"""Those who close their wallets. ID numbers, the potter's too, are made up, and right in form and checksum."""


def show_messages(endpoints: dict[str, Any], console: Console, patience_s: float) -> int:
    """Wait until everybody was told everything, and show it; return how many messages came twice. Raises NotTold."""
    said, to_nobody = _wait_until_told(running_from(endpoints), patience_s)
    mails, texts = _messages(endpoints["mail_sandbox"]), _messages(endpoints["sms_sandbox"])
    for reader in (*READERS, *LEAVING):
        own_mails = [mail["subject"] for mail in mails if reader.email in mail["to"]]
        own_texts = [text["body"] for text in texts if text["to"] == reader.phone]
        _show(console, f"{reader.name} ({reader.locale})", "mail", own_mails)
        _show(console, "", "SMS", own_texts)
    for title, words in _TOLD_OF.items():
        _show_what_was_told(console, title, words, mails)
    twice = sum(count - 1 for count in Counter(one["reference"] for one in (*mails, *texts)).values())
    parts = ("delivered", "sent", "failed", "suppressed", "pending")
    counts = ", ".join(f"{getattr(said, part):,} {part}" for part in parts if getattr(said, part))
    console.print(
        f"  {count_text(said.accepted, 'notice')}: {counts}; {count_text(len(mails), 'mail')} and "
        f"{count_text(len(texts), 'text message')}, {twice} twice"
    )
    if to_nobody:
        console.print(
            f"  {to_nobody} of them are pending for people who are forgotten, and nobody will be told those",
            soft_wrap=True,
        )
    return twice


def _show_what_was_told(
    console: Console, title: str, words_of: Mapping[str, str], mails: Sequence[Mapping[str, Any]]
) -> None:
    """Show what people read of something, once in each language. Raises NotTold."""
    for locale, words in words_of.items():
        addresses = {reader.email for reader in (*READERS, *LEAVING) if reader.locale == locale}
        read = [mail for mail in mails if words in (mail["text"] or "") and mail["to"] in addresses]
        if not read:
            raise NotTold(f"Nobody who reads {locale} got a mail that says {words!r}.")
        console.print(f"  {title} in {locale}: {escape(read[0]['subject'])}", soft_wrap=True)
        console.print(f"      {escape(' '.join(read[0]['text'].split()))}", soft_wrap=True, style="dim")


def _show(console: Console, who: str, what: str, messages: Sequence[str]) -> None:
    console.print(f"  {who or ' ':<22}{len(messages):>3} {what}")
    for message in messages[-_SHOWN:]:
        console.print(f"      {escape(message)}", soft_wrap=True, style="dim")


def _messages(address: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{address}/messages?limit=100000", timeout=10) as answer:  # noqa: S310 - our own
        found: list[dict[str, Any]] = json.load(answer)
    return sorted(found, key=lambda message: message["handed_over_at"])


def _wait_until_told(running: Running, patience_s: float) -> Told:
    deadline = time.monotonic() + patience_s
    while (said := asyncio.run(_account(running))) is None or said.accounting.pending > said.to_nobody:
        if time.monotonic() > deadline:
            raise NotTold(
                "The notifier has not read everything that happened yet: `sluice offsets show` says how far it is."
                if said is None
                else f"{said.accounting.pending} notices are still pending after {patience_s:g} s: "
                "`sluice notices` says why."
            )
        time.sleep(_LOOK_EVERY_S)
    return said


async def _account(running: Running) -> Told | None:
    """Return how the notices stand; None while the notifier has not read everything that happened."""
    if any(row["lag"] for row in await collect(running) if row["service"] == "notify"):
        return None
    async with connect(running, "notify") as connection:
        to_nobody = 0
        for reader in LEAVING:
            own = await records.account(connection, None, reader.customer_id, 1_000)
            to_nobody += sum(one["status"] == "pending" and one["why"] == "profile_missing" for one in own.items)
        return Told(await records.account(connection, None, None, 0), to_nobody)
