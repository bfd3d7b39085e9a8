"""How the sandbox mail server behaves: as the environment and a file say, and the same for the same mail.

The file is JSON and is read again whenever it changes; what it does not say, `SLUICE_MAIL_SANDBOX_…` in the
environment says:

    {"delay_s": 0.5, "failure_rate": 0.1, "code": 550, "stage": "rcpt",
     "rules": [{"to": "*@full.test", "outcome": "refuse", "code": 552, "text": "5.2.2 The mailbox is full"},
               {"to": "li@example.test", "outcome": "silence", "stage": "data"}]}
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from local.behaviour import Seconds, Share, share_of

PREFIX: Final = "SLUICE_MAIL_SANDBOX_"

Code = Annotated[int, Field(ge=400, le=599)]
Stage = Literal["rcpt", "data"]
"""Where a mail is refused: when its recipient is named, or after its content."""
Outcome = Literal["accept", "refuse", "silence", "greylist"]
"""`silence` keeps the mail and hangs up without an answer; `greylist` refuses the first try only, with 451."""


class Conduct(NamedTuple):
    """What becomes of one mail at one stage, and what is said of it."""

    outcome: Outcome = "accept"
    said: str = ""
    delay_s: float = 0


class Rule(BaseModel):
    """How mails go to some recipients: an address or a pattern such as `*@full.test`. `text` follows the code."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    to: Annotated[str, Field(min_length=1)]
    outcome: Outcome
    code: Code = 550
    text: str = ""
    stage: Stage = "rcpt"
    delay_s: Seconds = 0

    def fits(self, to: str) -> bool:
        """Tell whether the rule is about a recipient."""
        return fnmatchcase(to.lower(), self.to.lower())

    def conduct_at(self, stage: Stage) -> Conduct:
        """Return what the rule has happen at a stage."""
        at = {"greylist": "rcpt", "silence": "data", "accept": "data", "refuse": self.stage}[self.outcome]
        return Conduct(self.outcome, _said(self.code, self.text), self.delay_s) if stage == at else Conduct()


class Behaviour(BaseSettings):
    """How mails go: by the first rule that fits, else by shares of all mails; without any, all are taken at once.

    `down` hangs up on everybody; `greylist` refuses every recipient's first mail.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=PREFIX, env_ignore_empty=True)

    delay_s: Seconds = 0
    failure_rate: Share = 0
    code: Code = 550
    text: str = ""
    stage: Stage = "rcpt"
    silence_rate: Share = 0
    greylist: bool = False
    down: bool = False
    rules: tuple[Rule, ...] = ()

    def at_recipient(self, to: str) -> Conduct:
        """Return what becomes of a recipient as soon as it is named."""
        if (rule := self._rule_for(to)) is not None:
            return rule.conduct_at("rcpt")
        if self.stage == "rcpt" and share_of(to) < self.failure_rate:
            return Conduct("refuse", _said(self.code, self.text))
        return Conduct("greylist") if self.greylist else Conduct()

    def at_content(self, to: str, reference: str) -> Conduct:
        """Return what becomes of a mail once it is here."""
        if (rule := self._rule_for(to)) is not None:
            return rule.conduct_at("data")
        luck = share_of(reference)
        if self.stage == "data" and (luck := luck - self.failure_rate) < 0:
            return Conduct("refuse", _said(self.code, self.text), self.delay_s)
        return Conduct("silence" if luck < self.silence_rate else "accept", "", self.delay_s)

    def _rule_for(self, to: str) -> Rule | None:
        return next((rule for rule in self.rules if rule.fits(to)), None)


def _said(code: int, text: str) -> str:
    return f"{code} {text or f'{code // 100}.0.0 The sandbox refuses'}"
