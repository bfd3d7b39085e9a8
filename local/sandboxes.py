"""The sandboxes of a local run: the bank, the mail server and the SMS gateways, and how the notifier finds them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from local.daemon import free_port
from local.private_files import write_privately

if TYPE_CHECKING:
    from pathlib import Path

BANK: Final = "bank"
MAIL: Final = "mail_sandbox"
SMS: Final = "sms_sandbox"
MONITOR: Final = "monitor"
MODULES: Final = {BANK: "local.bank", MAIL: "local.mail_sandbox", SMS: "local.sms_sandbox"}
"""Every sandbox with its module; a process announces itself by the name."""

_GATEWAYS: Final = """\
# Written by `sluice up` each time it starts: the notifier's way to the sandboxes. SLUICE_GATEWAYS names another file.

[[smtp]]
name = "mail"
host = "127.0.0.1"
port = {smtp}
tls = "none"
from_address = "no-reply@sluice.example"
from_name = "Sluice"
"""
_SMS_GATEWAY: Final = """
[[http_sms]]
name = "{name}"
url = "http://127.0.0.1:{http}/gateways/{name}/messages"
auth = {{ kind = "hmac", secret = "{secret}" }}
inquiry = {{ url = "http://127.0.0.1:{http}/gateways/{name}/messages/inquire" }}
callback = {{ url = "http://127.0.0.1:{public}/receipts/{name}", secret = "{secret}" }}

[http_sms.codes]
throttled = {{ outcome = "temporary", why = "the gateway takes no more just now" }}
invalid_number = {{ outcome = "permanent", why = "there is no such number", is_dead = true }}
absent_subscriber = {{ outcome = "permanent", why = "the phone could not be reached" }}
"""
_SMS_GATEWAYS: Final = ("sms-a", "sms-b")


@dataclass(frozen=True, slots=True)
class Places:
    """The ports of a run's sandboxes, the notifier's public side, the console and the monitor.

    A process that takes another's place takes its port.
    """

    smtp: int
    mail_http: int
    sms_http: int
    smpp: int
    public: int
    console: int
    monitor: int

    @property
    def public_url(self) -> str:
        """Where the notifier takes receipts and serves inboxes."""
        return f"http://127.0.0.1:{self.public}"

    def environment(self, home: Path, secret: str) -> dict[str, str]:
        """Return what the sandboxes and the notifier are told, having written the notifier's file of gateways."""
        told = {
            "SLUICE_MAIL_SANDBOX": str(home / "mail.json"),
            "SLUICE_MAIL_SANDBOX_SMTP_PORT": str(self.smtp),
            "SLUICE_MAIL_SANDBOX_HTTP_PORT": str(self.mail_http),
            "SLUICE_SMS_SANDBOX": str(home / "sms.json"),
            "SLUICE_SMS_SANDBOX_HTTP_PORT": str(self.sms_http),
            "SLUICE_SMS_SANDBOX_SMPP_PORT": str(self.smpp),
            "SLUICE_SMS_SANDBOX_SECRET": secret,
            "SLUICE_PUBLIC_PORT": str(self.public),
            "SLUICE_CONSOLE_PORT": os.environ.get("SLUICE_CONSOLE_PORT") or str(self.console),
        }
        if not os.environ.get("SLUICE_PUBLIC_URL"):
            # Who reads a local run's mails does so on this machine.
            told["SLUICE_PUBLIC_URL"] = self.public_url
        if not os.environ.get("SLUICE_GATEWAYS"):
            path = home / "gateways.toml"
            write_privately(path, self._gateways(secret))
            told["SLUICE_GATEWAYS"] = str(path)
        return told

    def _gateways(self, secret: str) -> str:
        sms = [
            _SMS_GATEWAY.format(name=name, http=self.sms_http, public=self.public, secret=secret)
            for name in _SMS_GATEWAYS
        ]
        return _GATEWAYS.format(smtp=self.smtp) + "".join(sms)


def find_places() -> Places:
    """Return ports that are free now."""
    return Places(*(free_port() for _ in range(7)))
